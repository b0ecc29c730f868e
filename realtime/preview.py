"""Enhanced frames go out to a window here."""

from __future__ import annotations

import os
import sys

import cv2

from cagface_core import DeviceError, Frame
from realtime.sink import EndOfDelivery

_TITLE = "CAGFace Live (q or Esc ends)"
_KEYS_THAT_END = (27, ord("q"))


class PreviewSink:
    """A window; q, Esc or closing it ends the run.

    Raises:
        DeviceError: there is no screen, or this OpenCV was built without windows.
    """

    description = "preview window"

    def __init__(self) -> None:
        # Qt ends the whole process when it finds no display, so it must not be asked.
        if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
            raise DeviceError(
                "no screen for --preview (DISPLAY is not set); run it in a desktop session, "
                "or leave --preview out"
            )
        try:
            cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise DeviceError(
                "this OpenCV has no windows for --preview (a headless build); install "
                "opencv-contrib-python instead of the headless package, or leave --preview out"
            ) from error
        self._open = True
        self._shown = False

    def write(self, frame: Frame) -> None:
        """Show one frame. Raises `EndOfDelivery` when the user has ended the preview."""
        if not self._shown:
            height, width = frame.rgb.shape[:2]
            cv2.resizeWindow(_TITLE, min(width, 1280), min(width, 1280) * height // width)
            self._shown = True
        cv2.imshow(_TITLE, cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1) & 0xFF
        if key in _KEYS_THAT_END or cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1:
            raise EndOfDelivery

    def finish(self) -> None:
        """Nothing to make permanent."""

    def close(self) -> None:
        """Close the window."""
        if self._open:
            self._open = False
            cv2.destroyAllWindows()
