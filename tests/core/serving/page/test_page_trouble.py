"""What may happen while one plays: sound interrupted, a hidden tab, a MIDI clock, dropped files, an end from afar."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import soundfile
from page_browser import FRAME, RATE, music, visiting

WATCHED = """
window.AudioContext = class extends AudioContext { constructor(...all) { super(...all); window.context = this } }
window.said = []
addEventListener('DOMContentLoaded', () => new MutationObserver(() => said.push(performance.now()))
  .observe(document.getElementById('status'), { childList: true, characterData: true, subtree: true }))
"""
HIDE = """hidden => {
  Object.defineProperty(document, 'hidden', { value: hidden, configurable: true })
  document.dispatchEvent(new Event('visibilitychange'))
}"""
MIDI = """
const input = {}
navigator.requestMIDIAccess = async () => ({ inputs: new Map([['in', input]]) })
window.tick = (byte, timeStamp) => input.onmidimessage({ data: [byte], timeStamp })
"""
DROP = """text => {
  const bytes = Uint8Array.from(atob(text), one => one.charCodeAt(0)), dataTransfer = new DataTransfer()
  dataTransfer.items.add(new File([bytes], 'dropped.wav'))
  const how = { dataTransfer, bubbles: true, cancelable: true }
  const fire = name => document.body.dispatchEvent(new DragEvent(name, how))
  fire('dragover')
  window.wasShown = !document.getElementById('drop').hidden
  fire('drop')
}"""


def test_interrupted_sound_goes_on_with_one_button_and_a_hidden_tab_plays_on(browser, stub, address):
    """Nor is the status said more often than every two seconds."""
    with visiting(browser, address, script=WATCHED) as visit:
        visit.choose("Use the built-in song")
        visit.start()
        visit.page.evaluate("() => context.suspend()")
        visit.page.get_by_text("The browser paused the sound").wait_for()
        visit.button("Continue").click()
        visit.page.locator("#notice").wait_for(state="hidden")
        assert visit.page.evaluate("() => context.state") == "running"
        visit.page.evaluate(HIDE, True)
        visit.page.get_by_text("The tab is in the background").wait_for()
        before = len(stub.heard)
        visit.page.wait_for_timeout(300)
        assert len(stub.heard) > before
        visit.page.evaluate(HIDE, False)
        visit.page.locator("#notice").wait_for(state="hidden")
        visit.page.wait_for_function("() => said.length >= 2")
        visit.stop()
        times = visit.page.evaluate("() => said")
    assert min(later - sooner for sooner, later in pairwise(times)) > 1900
    for (_, _, sooner, _), (_, flags, later, _) in pairwise(stub.heard):
        assert later - sooner == FRAME or flags & 1  # whatever a busy machine leaves out is marked


def metronome(visit, stub, fits: Callable[[Any], bool]) -> Any:
    """The page's last metronome, once it fits."""
    for _ in range(100):
        last = [message["value"] for message in stub.of_type("metronome")][-1:]
        if last and fits(last[0]):
            return last[0]
        visit.page.wait_for_timeout(50)
    raise AssertionError(stub.of_type("metronome"))


def test_a_midi_clock_and_taps_set_the_tempo_and_the_beat(browser, stub, address):
    with visiting(browser, address, script=MIDI) as visit:
        visit.choose("Use the built-in song")
        visit.open_folds()
        visit.page.get_by_label("It follows a MIDI clock").check()
        visit.start()
        clock = "now => { tick(0xfa, 0); for (let n = 0; n <= 96; n++) tick(0xf8, now + n * 20) }"
        visit.page.evaluate(clock, 1000)  # 24 ticks of 20 ms a beat: 125 a minute
        visit.page.get_by_text("MIDI clock: 125.0 bpm.").wait_for()
        ticked = metronome(visit, stub, lambda value: value != "off" and round(value["bpm"], 3) == 125)
        visit.page.evaluate("() => tick(0xfc, 0)")
        metronome(visit, stub, lambda value: value == "off")
        visit.page.get_by_text("Waiting for a MIDI clock.").wait_for()
        assert stub.of_type("chart")[-1]["value"] == "off"
        again = "now => { tick(0xfa, 0); for (let n = 0; n <= 24; n++) tick(0xf8, now - 10 * (24 - n)) }"
        visit.page.evaluate(
            again, visit.page.evaluate("() => performance.now()")
        )  # 250 a minute, whose first beat was a quarter of a second ago
        song = metronome(visit, stub, lambda value: value != "off" and round(value["bpm"]) == 250)
        visit.page.wait_for_timeout(200)
        chart = stub.of_type("chart")[-1]
        assert (chart["value"], chart["place"]) == ("C | Am | F | G", song["place"])
        assert abs(stub.heard[-1][2] - song["place"]) < 2 * RATE
        visit.page.locator("h1").click()
        for _ in range(3):
            visit.page.keyboard.press("t")
            visit.page.wait_for_timeout(400)
        visit.stop()
    assert ticked["beats_per_bar"] == 4
    last = stub.of_type("metronome")[-1]["value"]
    assert 60 < last["bpm"] <= 150
    assert abs(last["place"] - stub.heard[-1][2]) < 3 * RATE


def test_a_dropped_file_is_the_song(browser, stub, address):
    file = io.BytesIO()
    soundfile.write(file, music(1), RATE, format="WAV")
    with visiting(browser, address) as visit:
        visit.until("Choose a source")
        visit.page.evaluate(DROP, base64.b64encode(file.getvalue()).decode())
        visit.until("Ready")
        assert visit.page.evaluate("() => wasShown")
        assert visit.page.locator("#song-name").inner_text() == "dropped.wav"
        assert not visit.page.locator("#drop").is_visible()


def test_a_session_that_the_server_ends_says_why_and_gives_its_recording(browser, stub, address):
    with visiting(browser, address) as visit:
        visit.choose("Use the built-in song")
        visit.start()
        stub.farewell = {"type": "ended", "why": "a session lasts 60 min at most", "files": []}
        visit.until("Ended")
        assert visit.page.locator("#takes-said").inner_text() == "A session lasts 60 min at most."
        assert visit.button("Start again").is_enabled()


def test_without_motion_meters_stand_still_and_numbers_go_on(browser, stub, address):
    with visiting(browser, address, reduced_motion="reduce") as visit:
        visit.choose("Play it myself")
        said = visit.page.locator("#level-said")
        said.get_by_text("dB").wait_for()
        assert visit.page.locator("#level").evaluate("meter => meter.value") == -60
