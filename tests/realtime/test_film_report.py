"""A film through the real networks by the Python call, and the page about its faces."""

import re

import av
import pytest

from realtime.run_video import VideoJob, enhance_video


@pytest.fixture(scope="module")
def made(tmp_path_factory, demo_clip):
    """A second of the demo clip, enhanced, with its page."""
    folder = tmp_path_factory.mktemp("report")
    short = folder / "in.mp4"
    with av.open(str(demo_clip)) as old, av.open(str(short), "w") as new:
        video = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None and packet.dts * packet.time_base < 1:
                packet.stream = video
                new.mux(packet)
    summary = enhance_video(VideoJob(short, folder / "out.mp4", 2, report=folder / "out.html"))
    return summary, folder


def test_a_video_by_one_call(made):
    summary, folder = made
    assert summary.frames >= 20
    assert summary.faces == summary.frames
    assert summary.passthrough == 0
    with av.open(str(folder / "out.mp4")) as container:
        video = container.streams.video[0]
        assert (video.width, video.height) == (640, 480)
    assert sorted(p.name for p in folder.iterdir()) == ["in.mp4", "out.html", "out.mp4"]


def test_the_page_tells_of_every_frame_and_is_whole_in_itself(made):
    summary, folder = made
    page = (folder / "out.html").read_text(encoding="utf-8")
    rows = dict(re.findall(r"<tr><th>([^<]+)</th><td>([^<]*)</td></tr>", page))
    assert rows["frames"] == rows["enhanced"] == str(summary.frames)
    assert rows["frames passed through"] == rows["frames without a face"] == "0"
    assert page.count("data:image/jpeg;base64,") == 2
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    detail, drift = re.search(
        r"detail ([\d.]+) times that of the plain upscale, ([\d.]+) levels off", page
    ).groups()
    assert float(detail) > 1
    assert float(drift) < 8
