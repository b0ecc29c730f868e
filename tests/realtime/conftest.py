"""Fixtures of the runtime's tests."""

import pytest
import pyvirtualcam

from tests.realtime.recording import RecordingBackend


@pytest.fixture
def cameras():
    """The virtual cameras that are opened, in order; they keep what they are sent."""
    pyvirtualcam.register_backend("recording", RecordingBackend)
    RecordingBackend.cameras.clear()
    yield RecordingBackend.cameras
    del pyvirtualcam.camera.BACKENDS["recording"]
