"""The panel's server over real sockets: who may speak to it, what it takes, what it gives."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from realtime.cli import live
from realtime.panel.server import Panel
from tests.realtime.helpers import Clip, PlainEnhancer, picture
from tests.realtime.panels import HEIGHT, WIDTH, shown_panel, unpack


@pytest.fixture
def shown(tmp_path):
    before = set(threading.enumerate())
    with shown_panel(tmp_path) as shown:
        yield shown
    after = {thread for thread in threading.enumerate() if "(" not in thread.name}
    assert after <= before, "every thread has ended, besides those of the clients here"


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    """A panel for all requests that are refused; nothing of its run ever changes."""
    with shown_panel(tmp_path_factory.mktemp("unchanged")) as shown:
        yield shown
        assert shown.controls.changes == []
        assert list(shown.folder.iterdir()) == []


def test_the_page_and_its_files(unchanged):
    page = httpx.get(unchanged.panel.url)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "://" not in page.text, "nothing comes from elsewhere"
    for name, kind in (("panel.js", "text/javascript"), ("panel.css", "text/css")):
        assert httpx.get(unchanged.panel.url + name).headers["content-type"].startswith(kind)
    assert httpx.get(unchanged.panel.url[:-1]).headers["location"] in unchanged.panel.url
    missing = httpx.get(unchanged.panel.url + "server.py")
    assert (missing.status_code, "error" in missing.json()) == (404, True)


def test_only_loopback_listens(unchanged):
    port = int(unchanged.root.rpartition(":")[2])
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        other.connect(("127.0.0.2", port))


@pytest.mark.parametrize("path", ["/", "/wrong/", "/wrong/api/status", "/favicon.ico", "//"])
def test_without_the_token_there_is_nothing(unchanged, path):
    answer = httpx.get(unchanged.root + path)
    assert answer.status_code == 403
    assert "token" in answer.json()["error"]
    page = httpx.get(unchanged.root + path, headers={"accept": "text/html"})
    assert page.status_code == 403
    assert "does not open the panel" in page.text
    for answer in (page, httpx.get(unchanged.panel.url)):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil:80"])
def test_another_host_name_is_refused(unchanged, host):
    assert httpx.get(unchanged.panel.url, headers={"host": host}).status_code == 403


def test_localhost_is_a_name_of_its_own(unchanged):
    port = unchanged.root.rpartition(":")[2]
    assert httpx.get(unchanged.panel.url, headers={"host": f"localhost:{port}"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://127.0.0.1:1", None])
def test_another_origin_changes_and_sees_nothing(unchanged, origin):
    headers = {} if origin is None else {"origin": origin}
    for what, body in (("settings", {"strength": 0}), ("snapshot", {}), ("record", {"on": True})):
        answer = httpx.post(f"{unchanged.panel.url}api/{what}", json=body, headers=headers)
        assert answer.status_code == 403
    with pytest.raises(InvalidStatus, match="403"), unchanged.watch(origin=origin):
        pass
    assert unchanged.controls.changes == []
    assert list(unchanged.folder.iterdir()) == []


def test_changes_reach_the_controls(shown):
    answer = shown.post("settings", {"strength": 0.25, "scale": 4, "preset": "nano"})
    assert answer.json()["strength"] == 0.25
    shown.post("settings", {"enhance": False, "freeze": True, "governor": False, "max_faces": 1})
    settings = shown.controls.settings
    assert (settings.enhance, settings.freeze, settings.governor) == (False, True, False)
    tuning = settings.tuning
    assert (tuning.strength, tuning.scale, tuning.preset, tuning.max_faces) == (0.25, 4, "nano", 1)


def test_a_face_has_a_strength_of_its_own_until_null(shown):
    shown.post("settings", {"faces": {"3": 0, "7": 0.5}})
    answer = shown.post("settings", {"faces": {"7": None, "9": 1}})
    assert answer.json()["faces"] == {"3": 0, "9": 1}
    assert shown.controls.settings.tuning.strength_of == {3: 0, 9: 1}
    for first in range(100, 300, 50):  # people come and go for days
        shown.post("settings", {"faces": {str(face): 0 for face in range(first, first + 50)}})
    kept = shown.controls.settings.tuning.strength_of
    assert (len(kept), max(kept)) == (64, 299)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("{", 422, "not JSON"),
        ("[" * 10_000, 400, "parsing"),
        ("null", 422, "body: "),
        ("{}", 422, "nothing to change"),
        ('{"strength": 1.5}', 422, "strength: Input should be less than or equal to 1; got 1.5"),
        ('{"strength": NaN}', 422, "finite"),
        ('{"strength": "1"}', 422, "number"),
        ('{"scale": 3}', 422, "1, 2 or 4"),
        ('{"scale": true}', 422, "integer"),
        ('{"enhance": 1}', 422, "boolean"),
        ('{"enhance": null}', 422, "boolean"),
        ('{"preset": "huge"}', 422, "expected pico, nano"),
        ('{"max_faces": -1}', 422, "greater"),
        ('{"faces": {"x": 1}}', 422, "faces.x"),
        ('{"faces": {"1": 2}}', 422, "faces.1"),
        ('{"strength": 1, "sudo": 1}', 422, "sudo: Extra"),
        ('{"preset": "' + "x" * 20_000 + '"}', 413, "16384"),
    ],
)
def test_what_makes_no_sense_changes_nothing(unchanged, body, status, says):
    headers = {"origin": unchanged.root, "content-type": "application/json"}
    answer = httpx.post(f"{unchanged.panel.url}api/settings", content=body, headers=headers)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert says in error
    assert "\n" not in error
    assert len(error) < 200
    assert unchanged.controls.changes == []


def test_a_huge_body_is_not_taken(unchanged):
    headers = {"origin": unchanged.root, "content-type": "application/json"}
    address = f"{unchanged.panel.url}api/settings"
    with suppress(httpx.TransportError):  # it may hang up before all is sent
        answer = httpx.post(address, content=b"x" * 10_000_000, headers=headers)
        assert answer.status_code == 413
    assert httpx.get(unchanged.panel.url + "api/status").status_code == 200


def test_a_thousand_rapid_changes_become_a_few_and_the_last_one_wins(shown):
    host = shown.root.removeprefix("http://")
    path = shown.panel.url.removeprefix(shown.root) + "api/settings"
    headers = {"Origin": shown.root, "Content-Type": "application/json"}

    def one_browser(number):
        with closing(HTTPConnection(host, timeout=30)) as connection:
            for n in range(number, 1000, 40):
                connection.request("POST", path, json.dumps({"strength": n / 1000}), headers)
                with connection.getresponse() as answer:
                    yield answer.status, answer.read()

    began_s = time.monotonic()
    with ThreadPoolExecutor(40) as browsers:
        answers = list(browsers.map(lambda number: list(one_browser(number)), range(40)))
    assert [status for some in answers for status, _ in some] == [200] * 1000
    assert shown.post("settings", {"strength": 0.125}).status_code == 200
    most = (time.monotonic() - began_s) / 0.05 + 2
    assert len(shown.controls.changes) <= min(most, 500)
    assert shown.controls.settings.tuning.strength == 0.125


def test_snapshot_and_recording(shown):
    assert shown.post("snapshot", {}).status_code == 409
    shown.show()
    saved = shown.post("snapshot", {})
    assert saved.json()["file"].endswith("-after.png")
    assert shown.post("snapshot", {}).status_code == 429
    time.sleep(0.3)
    started = shown.post("record", {"on": True}).json()
    assert started["recording"]
    assert started == shown.post("record", {"on": True}).json(), "on stays on"
    status = httpx.get(shown.panel.url + "api/status").json()
    assert status["recording"] in started["file"]
    shown.live.recorder.write(shown.live.monitor.newest.frame)
    assert shown.post("record", {"on": False}).json()["file"] == started["file"]
    assert shown.post("record", {"on": False}).json() == {"recording": False, "file": None}
    assert len(list(shown.folder.iterdir())) == 3


def test_a_recording_without_a_frame_leaves_no_file(shown):
    path = Path(shown.post("record", {"on": True}).json()["file"])
    shown.post("record", {"on": False})
    shown.live.recorder.close()
    assert not path.exists()


def test_a_folder_that_cannot_be_written_is_one_line(shown):
    shown.show()
    for path in shown.folder.iterdir():
        path.unlink()
    shown.folder.rmdir()
    shown.folder.write_text("in the way")
    answer = shown.post("snapshot", {})
    assert (answer.status_code, "cannot be made" in answer.json()["error"]) == (422, True)
    shown.folder.unlink()


def test_who_asks_gets_the_status_and_the_newest_picture(shown):
    for number in range(30):
        shown.live.stats.captured(100 + number / 15)
    with shown.watch() as browser:
        browser.send("status")
        status = json.loads(browser.recv(timeout=5))
        assert status["presets"] == ["pico", "nano"]
        assert status["settings"]["strength"] == 1
        assert (status["stats"]["rate"], status["governor"]["level"]) == (25, 0)
        assert status["stats"]["captured_fps"] == 15
        assert "panel-pictures_0" not in {thread.name for thread in threading.enumerate()}
        for _ in range(5):
            shown.show()
        browser.send("picture")
        header, before, after = unpack(browser.recv(timeout=5))
        assert (header["number"], header["width"], header["height"]) == (5, WIDTH, HEIGHT)
        assert [face["id"] for face in header["faces"]] == [3, 7]
        assert header["faces"][0]["box"] == [0.1667, 0.1667, 0.25, 0.4167]
        assert before.shape == (HEIGHT, WIDTH, 3)
        assert after.shape == (2 * HEIGHT, 2 * WIDTH, 3)
        difference = before.astype(int) - picture(4, WIDTH, HEIGHT)
        assert np.abs(difference).mean() < 6, "in the right colours"
        browser.send("picture")
        with pytest.raises(TimeoutError):
            browser.recv(timeout=0.4)
        shown.show()
        assert unpack(browser.recv(timeout=5))[0]["number"] == 6


def test_large_pictures_come_smaller(shown):
    from cagface_core import Enhanced, Frame

    large = picture(0, 1920, 1080)
    shown.live.monitor.show(Frame(large), Enhanced(large), Frame(large))
    with shown.watch() as browser:
        browser.send("picture")
        header, before, after = unpack(browser.recv(timeout=5))
    assert (header["width"], before.shape, after.shape) == (1920, (540, 960, 3), (540, 960, 3))


def test_ten_browsers_one_of_which_never_reads(shown):
    shown.show()
    with ExitStack() as stack:
        silent, *others = (stack.enter_context(shown.watch()) for _ in range(10))
        silent.send("picture")
        silent.send("status")
        for number in range(2, 7):
            shown.show()
            for browser in others:
                browser.send("picture")
            messages = [browser.recv(timeout=5) for browser in others]
            assert len(set(messages)) == 1
            assert unpack(messages[0])[0]["number"] == number


def test_pictures_come_fifteen_times_a_second_at_most(shown):
    ended = threading.Event()

    def deliver():
        while not ended.wait(0.004):
            shown.show()

    feed = threading.Thread(target=deliver)
    feed.start()
    try:
        with shown.watch() as browser:
            times_s, numbers = [], []
            for _ in range(8):
                browser.send("picture")
                numbers.append(unpack(browser.recv(timeout=5))[0]["number"])
                times_s.append(time.monotonic())
    finally:
        ended.set()
        feed.join()
    assert times_s[-1] - times_s[0] > 6 / 15
    assert numbers == sorted(set(numbers))
    assert numbers[-1] - numbers[0] > 7, "those between are left out"


@pytest.mark.parametrize("word", ["", "pictures", b"picture", "x" * 2000])
def test_a_browser_that_says_something_else_is_put_out(unchanged, word):
    with unchanged.watch() as browser:
        browser.send(word)
        with pytest.raises(ConnectionClosed):
            browser.recv(timeout=5)
    assert httpx.get(unchanged.panel.url).status_code == 200


def test_browsers_come_and_go_and_leave_nothing(shown):
    shown.show()
    for index in range(50):  # more than may watch at once
        with shown.watch() as browser:
            browser.send("status")
            browser.send("picture")
            browser.recv(timeout=5)
            if index % 2:
                browser.socket.close()  # gone without a word
    ours = {thread.name for thread in threading.enumerate() if "(" not in thread.name}
    assert ours == {"MainThread", "panel", "panel-pictures_0"}, "besides those of the clients here"


def test_too_many_browsers_are_told_so(unchanged):
    with ExitStack() as stack:
        for _ in range(32):
            stack.enter_context(unchanged.watch())
        with pytest.raises(InvalidStatus, match="403"):
            stack.enter_context(unchanged.watch())


def test_closing_disconnects_everyone_at_once(shown):
    with ExitStack() as stack:
        browsers = [stack.enter_context(shown.watch()) for _ in range(3)]
        browsers[0].send("picture")  # it waits for one that never comes
        began_s = time.monotonic()
        shown.panel.close()
        assert time.monotonic() - began_s < 4
        for browser in browsers:
            with pytest.raises(ConnectionClosed):
                browser.recv(timeout=5)
    with pytest.raises(httpx.ConnectError):
        httpx.get(shown.panel.url)
    shown.panel.close()


def test_a_live_run_has_its_panel_and_takes_it_along(tmp_path, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(httpx.get(url)) is None)
    code = live(
        [
            *("--webcam", str(Clip().write(tmp_path / "in.mp4")), "--loop", "--seconds", "0.3"),
            *("--no-virtual-camera", "--panel-open"),
        ],
        make_enhancer=lambda options: PlainEnhancer(options.scale),
    )
    assert code == 0
    (page,) = opened
    assert page.status_code == 200
    assert f"panel {page.url}" in capsys.readouterr().err
    with pytest.raises(httpx.ConnectError):
        httpx.get(page.url)


def test_a_port_that_is_taken_is_one_line_before_the_run(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert live(["--panel", str(port)], make_enhancer=PlainEnhancer) == 2
    error = capsys.readouterr().err
    assert f"error: port {port} for --panel cannot be used" in error
    assert error.count("\n") == 1


def test_a_port_of_ones_own_is_used():
    first = Panel()
    port = int(first.url.split(":")[2].split("/")[0])
    first.close()
    second = Panel(port)
    second.close()
    assert f":{port}/" in second.url
    assert first.url != second.url, "a token is never used twice"


def test_a_missing_extra_is_one_line(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("realtime.panel")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert live(["--panel"], make_enhancer=PlainEnhancer) == 2
    assert "pip install 'cagface-live[panel]'" in capsys.readouterr().err


def test_a_port_that_is_none(capsys):
    with pytest.raises(SystemExit):
        live(["--panel", "70000"], make_enhancer=PlainEnhancer)
    assert "expected 1 to 65535" in capsys.readouterr().err
