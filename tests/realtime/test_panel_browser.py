"""The panel's page in a real Chromium: what its user sees, clicks and drags."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from tests.realtime.chromium import Chromium, found
from tests.realtime.panels import shown_panel

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(found() is None, reason="needs Chromium: apt-get install chromium"),
]

ARRIVED = "Number(document.querySelector('#stage').dataset.number || 0)"
READY = (
    "document.querySelector('#enhance').checked "
    "&& document.querySelectorAll('#faces li').length === 2"
)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    chromium = Chromium(tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.close()


@pytest.fixture
def tab(chromium):
    tab = chromium.tab()
    yield tab
    tab.open("about:blank")
    tab.close()


@pytest.fixture
def shown(tmp_path):
    """A panel whose run delivers 50 pictures a second."""
    with shown_panel(tmp_path) as shown:
        ended = threading.Event()

        def deliver():
            while not ended.wait(0.02):
                shown.show()

        feed = threading.Thread(target=deliver)
        feed.start()
        try:
            yield shown
        finally:
            ended.set()
            feed.join()


def test_the_page_shows_a_run_that_goes_on(shown, tab):
    tab.open(shown.panel.url)
    tab.wait_for(READY)
    first = tab.wait_for(ARRIVED)
    tab.wait_for(f"{ARRIVED} > {first}")
    assert tab.run("document.querySelector('#state').textContent") == "live"
    assert tab.run("document.querySelector('#figure-latency').textContent") == "20 ms"
    assert tab.run("document.querySelector('#picture').width") == 192
    assert tab.troubles == []
    # Every control has a name for those who do not see it.
    nameless = tab.run("""[...document.querySelectorAll('input, button, [role=slider], canvas')]
        .filter(one => !(one.labels?.length || one.ariaLabel || one.textContent.trim()))
        .map(one => one.outerHTML)""")
    assert nameless == []


def test_a_dock_is_never_wider_than_it_is(shown, tab):
    tab.open(shown.panel.url, 300, 700, dark=True)
    tab.wait_for(READY)
    assert tab.run("document.documentElement.scrollWidth") == 300
    assert tab.run("getComputedStyle(document.body).backgroundColor") != "rgb(243, 245, 246)"
    assert tab.troubles == []


def test_controls_change_the_run(shown, tab):
    tab.open(shown.panel.url)
    tab.wait_for(READY)
    settings = shown.controls.settings
    assert settings.tuning.strength == 1
    tab.run("document.querySelector('#strength').focus()")
    tab.key("ArrowLeft")
    tab.click("#scale input[value='4']")
    tab.click("#preset input[value='nano']")
    tab.click("#max_faces input[value='1']")
    tab.click("#governor")
    tab.wait_for("document.querySelector('#strength-value').textContent === '99 %'")
    wait_until(lambda: not shown.controls.settings.governor)
    tuning = shown.controls.settings.tuning
    assert (tuning.strength, tuning.scale, tuning.preset, tuning.max_faces) == (0.99, 4, "nano", 1)
    tab.click("#enhance")
    wait_until(lambda: not shown.controls.settings.enhance)
    assert tab.troubles == []


def test_what_others_change_is_shown(shown, tab):
    tab.open(shown.panel.url)
    tab.wait_for(READY)
    shown.controls.change(strength=0.5, preset="nano")
    tab.wait_for("document.querySelector('#strength').value === '0.5'")
    tab.wait_for("document.querySelector('#preset input[value=nano]').checked")


def test_a_face_is_switched_off_and_on_by_clicking_it(shown, tab):
    tab.open(shown.panel.url)
    tab.wait_for(READY)
    box = "#boxes button[data-id='7']"
    tab.wait_for(f'document.querySelector("{box}").ariaPressed === "true"')
    tab.click(box)
    wait_until(lambda: shown.controls.settings.tuning.strength_of == {7: 0})
    tab.wait_for(f'document.querySelector("{box}").ariaPressed === "false"')
    assert "off" in tab.run(f'document.querySelector("{box}").textContent')
    tab.click(box)
    wait_until(lambda: shown.controls.settings.tuning.strength_of == {})


def test_the_divider_follows_mouse_and_keys(shown, tab):
    tab.open(shown.panel.url)
    tab.wait_for(ARRIVED)
    share = "Number(document.querySelector('#divider').ariaValueNow)"
    x, y, width = tab.run("""(() => {
        const area = document.querySelector('#stage').getBoundingClientRect();
        return [area.x, area.y + area.height * 0.9, area.width];
    })()""")
    tab.drag((x + width / 2, y), (x + width / 4, y))
    assert tab.run(share) == 25
    left_x, left_y = tab.middle("#boxes button[data-id='3']")
    tab.drag((left_x, left_y), (x + 0.75 * width, left_y))
    assert tab.run(share) == 75, "a face can be dragged over"
    assert shown.controls.changes == [], "which is no click"
    tab.run("document.querySelector('#divider').focus()")
    tab.key("ArrowRight")
    assert tab.run(share) == 77
    tab.key("End")
    assert tab.run(share) == 100


def test_freeze_holds_the_picture(shown, tab):
    tab.open(shown.panel.url)
    tab.wait_for(READY)
    tab.click("#freeze")
    tab.wait_for("document.querySelector('#state').textContent === 'frozen'")
    assert shown.controls.settings.freeze
    number = shown.live.monitor.newest.number
    tab.wait_for(f"{ARRIVED} === {number}")
    tab.click("#freeze")
    tab.wait_for(f"{ARRIVED} > {number}")


def test_snapshot_and_record_say_where(shown, tab):
    tab.open(shown.panel.url)
    tab.wait_for(READY)
    tab.click("#snapshot")
    tab.wait_for("document.querySelector('#message').textContent.endsWith('-after.png')")
    shown.folder.joinpath("nothing").touch()
    tab.run("new Promise(done => setTimeout(done, 300))")
    tab.click("#record")
    tab.wait_for("document.querySelector('#record-label').textContent.startsWith('Stop')")
    newest = shown.live.monitor.newest
    shown.live.recorder.write(replace(newest.frame, rgb=newest.rgb))
    tab.click("#record")
    tab.wait_for("document.querySelector('#record-label').textContent === 'Record'")
    assert any(path.suffix == ".mp4" for path in shown.folder.iterdir())


def test_a_wrong_token_has_a_page_that_says_so(shown, tab):
    tab.open(f"{shown.root}/wrong/")
    assert "does not open the panel" in tab.run("document.querySelector('h1').textContent")
    assert tab.run("getComputedStyle(document.querySelector('h1')).fontSize") == "21.6px"


def test_the_page_tells_when_the_run_has_ended(shown, tab):
    tab.open(shown.panel.url)
    tab.wait_for(READY)
    shown.panel.close()
    tab.wait_for("!document.querySelector('#banner').hidden")
    assert tab.run("document.querySelector('#state').textContent") == "not connected"


def wait_until(condition):
    """Wait for what the server does in its own thread."""
    pause = threading.Event()
    for _ in range(200):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("not in time")
