"""`accomp jam --device`: the page as remote control of a sound device of the server's machine."""

from __future__ import annotations

import numpy as np
import pytest
from page_browser import visiting
from serving_small import TOKEN, serving, small_player
from turned_device import BLOCK, Turned, audio_at, noise, turning


@pytest.fixture(scope="module")
def jam(tmp_path_factory):
    """A server with a device that hears what it plays 1234 samples later."""
    device = Turned(first=640, loop=1234)
    device.hold(180)
    audio = audio_at(device)
    record = tmp_path_factory.mktemp("jams")
    with serving(players=[("small", small_player(timelines=("metronome",)))], record=record) as running:
        running.server.device = audio
        with turning(device, audio, 0.05 * noise(400 * BLOCK, 5)):
            yield running, device


def test_the_page_measures_starts_turns_and_stops_the_device(browser, jam):
    running, device = jam
    with visiting(browser, f"http://127.0.0.1:{running.port}", token=TOKEN) as visit:
        visit.until("Ready")
        text = visit.page.locator("#machine").inner_text()
        assert text.startswith("Sound device of the server")
        assert text.endswith("Loft, 32000 Hz")
        assert visit.button("Try it with a song file").is_hidden()
        assert visit.page.evaluate("() => document.activeElement.id") == "measure-do"
        visit.page.keyboard.press("Enter")
        visit.until("Measuring")
        visit.until("Ready", seconds=60)
        assert "Sound takes 39 ms around" in visit.page.locator("#measure-said").inner_text()  # 1234 / 32000 s
        visit.open_folds()
        visit.page.locator("#bpm").fill("240")
        visit.start(count_in=True)
        visit.page.locator("#applied").wait_for(state="attached")
        visit.page.locator("#volume").fill("50")
        visit.page.locator("#instrument").select_option(index=2)
        visit.page.locator("#applied").get_by_text("Instrument: heard").wait_for()
        visit.page.locator("#health").wait_for()
        visit.page.keyboard.press("m")
        visit.page.wait_for_timeout(1500)
        assert not device.played[-BLOCK:].any()
        visit.page.keyboard.press("m")
        visit.page.wait_for_timeout(1500)
        assert running.server.device.volume == 0.5
        played = device.played[-20 * BLOCK :]
        assert np.abs(played).max() > 0
        visit.stop()
        visit.page.get_by_label("Mix", exact=True).wait_for()
    clicks = np.abs(device.played).max()
    assert clicks > 0.3
