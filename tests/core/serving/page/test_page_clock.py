"""`accomp jam --device --midi-clock`: the page shows the clock of the server's machine and follows it."""

from __future__ import annotations

import mido
from page_browser import visiting
from serving_small import TOKEN


def test_the_machines_clock_is_chosen_shown_and_followed(browser, clocked):
    running, ports = clocked
    with visiting(browser, f"http://127.0.0.1:{running.port}", token=TOKEN) as visit:
        visit.until("Ready")
        visit.open_folds()
        assert visit.page.get_by_label("It follows a MIDI clock").is_checked()
        assert not visit.page.locator("#count-in").is_checked()
        visit.page.get_by_text("MIDI clock: 100.0 bpm.").wait_for()
        visit.page.locator("#start").click()
        visit.until("Playing")
        visit.page.locator("#now-said").get_by_text("beat").wait_for()
        (session,) = running.server.sessions.values()
        assert session.live.timelines.clocked == 4
        visit.page.locator("#per-bar").fill("3")
        visit.page.locator("#per-bar").press("Tab")
        visit.page.locator("#applied").get_by_text("Tempo").wait_for(state="attached")
        assert session.live.timelines.clocked == 3
        ports.send(mido.Message("stop"))
        visit.page.get_by_text("Waiting for a MIDI clock.").wait_for()
        running.server.clock._midi.gone = True
        visit.page.locator("#metronome-said").get_by_text("The MIDI input 'DAW' has vanished").wait_for()
        visit.stop()
