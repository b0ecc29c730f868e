"""The demo clip in; docs/panel.png out: the panel's page as a browser shows it.

    python tools/panel_picture.py docs/panel.png

Needs Chromium (apt-get install chromium).
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

CLIP = Path("assets/demo.mp4")
WATCHED_S = 25.0  # so that the plots have something to show
LOOP = "from realtime.cli import live; import sys; sys.exit(live())"


def picture(target: Path) -> None:
    """Run live, open the panel, and keep what it looks like."""
    from tests.realtime.chromium import Chromium

    words = ["--webcam", str(CLIP), "--loop", "--no-virtual-camera", "--panel"]
    with (
        tempfile.TemporaryDirectory() as profile,
        subprocess.Popen(
            [sys.executable, "-c", LOOP, *words], stderr=subprocess.PIPE, text=True
        ) as live,
    ):
        assert live.stderr is not None
        found = (re.match(r"panel (\S+)", line) for line in live.stderr)
        address = next(match[1] for match in found if match)
        with closing(Chromium(Path(profile))) as browser, closing(browser.tab()) as tab:
            tab.open(address, 1200, 1000)
            time.sleep(WATCHED_S)
            tab.screenshot(target)
        live.send_signal(signal.SIGINT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, help="the .png to write")
    sys.path.insert(0, str(Path(__file__).parents[1]))
    picture(parser.parse_args().target)
