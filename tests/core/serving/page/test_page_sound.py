"""The page's sound, end to end in a browser: what it sends is what it hears, what it plays is in its place."""

from __future__ import annotations

import numpy as np
import soundfile
from page_browser import FRAME, RATE, TAPPED, Visit, music, visiting
from page_stub import Stub

FADE = round(0.005 * RATE)


def wait_for(visit: Visit, stub: Stub, seconds: float) -> None:
    """Until so much sound has come to the server since the start."""
    for _ in range(200):
        visit.page.wait_for_timeout(100)
        frames = [place for kind, _, place, _ in stub.heard if kind == 1]
        if frames and frames[-1] - frames[0] > seconds * RATE:
            return
    raise AssertionError(f"only {len(stub.heard)} frames have come")


def compared(stub: Stub, played: tuple[int, np.ndarray], *, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(what was played, what had to be played) wherever the page says that nothing was missing, but for the fades."""
    begin, sound = played
    sent_from, sent = stub.sound()
    places = begin + np.arange(len(sound)) + first  # output places
    source = places - stub.delay_ms * RATE // 1000 - sent_from
    good = (source >= FADE) & (source < len(sent))  # the beginning fades in
    for message in stub.of_type("counts"):
        for hole, count in message["ranges"]:
            good &= (places < hole) | (places >= hole + count + 2 * FADE)
    for skipped in np.flatnonzero(np.isnan(sound)):
        good[skipped : skipped + 1 + FADE] = False
    # what came after the last counts is not told of
    good &= places < max(message["place"] for message in stub.of_type("counts"))
    return sound[good], sent[source[good]]


def test_what_the_microphone_hears_is_sent_and_what_comes_back_is_played_in_its_place(browser, stub, address):
    with visiting(browser, address, script=TAPPED) as visit:
        visit.choose("Play it myself")
        visit.start()
        wait_for(visit, stub, 2)
        visit.stop()
        played, source = visit.tapped("played"), music(8)
    assert visit.page is not None
    (start,) = stub.of_type("start")
    first = round(start["first_ms"] * RATE / 1000)
    assert first > 0
    was, had_to_be = compared(stub, played, first=first)
    assert len(was) > RATE
    np.testing.assert_array_equal(was, had_to_be)
    # a piece of what was sent is a piece of the file
    sent = stub.sound()[1]
    piece = sent[RATE : RATE + 8192]
    spectrum = np.fft.rfft(source, 1 << 20) * np.conj(np.fft.rfft(piece, 1 << 20))
    at = int(np.argmax(np.fft.irfft(spectrum)[: len(source) - len(piece)]))
    assert np.abs(source[at : at + len(piece)] - piece).max() < 1e-4
    assert stub.hellos[0]["rate"] == RATE
    assert stub.hellos[0]["frame"] == FRAME
    assert {len(samples) for _, _, _, samples in stub.heard} == {FRAME}


def test_a_song_file_is_heard_as_if_live_and_ends_by_itself(browser, stub, address, tmp_path):
    song = np.stack([music(2, seed=1), music(2, seed=2)], axis=1) / 2
    soundfile.write(tmp_path / "song.wav", song, RATE, subtype="FLOAT")
    with visiting(browser, address, script=TAPPED) as visit:
        visit.until("Choose a source")
        with visit.page.expect_file_chooser() as chooser:
            visit.button("Try it with a song file").click()
        chooser.value.set_files(tmp_path / "song.wav")
        visit.until("Ready")
        visit.page.keyboard.press("Space")
        visit.until("Playing")
        visit.until("Ended")
        visit.page.get_by_label("Mix", exact=True).wait_for()
        assert visit.page.locator("audio").count() == 3
        with visit.page.expect_download() as download:
            visit.page.get_by_role("link", name="mix.wav").click()
        kept, _ = soundfile.read(download.value.path())
        played = visit.tapped("played")
    (start,) = stub.of_type("start")
    assert (start["first_ms"], start["count_in"], start["metronome"], start["chart"]) == (0, None, "follow", "follow")
    sent = stub.sound()[1]
    np.testing.assert_array_equal(kept, sent)
    begin = int(np.flatnonzero(sent)[0])
    np.testing.assert_allclose(
        sent[begin : begin + len(song) - RATE // 10], song.mean(1)[: len(song) - RATE // 10], atol=2e-6
    )
    was, had_to_be = compared(stub, played)
    np.testing.assert_array_equal(was, had_to_be)
    assert np.abs(had_to_be).max() > 0.1


def test_frames_that_never_come_are_gaps_and_all_others_are_in_place(browser, stub, address):
    with visiting(browser, address, script=TAPPED) as visit:
        visit.choose("Use the built-in song")
        stub.drop = range(100, 106)
        visit.start()
        wait_for(visit, stub, 2)
        visit.stop()
        played = visit.tapped("played")
    was, had_to_be = compared(stub, played)
    np.testing.assert_array_equal(was, had_to_be)
    last = stub.of_type("counts")[-1]
    assert last["missing"] >= 6 * FRAME
    assert last["gaps"] >= 1
    assert sum(count for message in stub.of_type("counts") for _, count in message["ranges"]) == last["missing"]


def test_a_cut_connection_comes_back_and_the_places_go_on(browser, stub, address):
    with visiting(browser, address, script=TAPPED) as visit:
        visit.choose("Use the built-in song")
        visit.start()
        stub.cut = True
        visit.until("Reconnecting")
        visit.until("Playing")
        before = len(stub.heard)
        visit.page.wait_for_timeout(1000)
        visit.stop()
        played = visit.tapped("played")
    assert len(stub.hellos) == 2
    assert stub.hellos[1]["resume"] == "secret of session-1"
    frames = stub.heard
    broken = [i for i in range(1, len(frames)) if frames[i][2] != frames[i - 1][2] + FRAME]
    assert len(broken) >= 1
    assert all(frames[i][1] & 1 for i in broken)  # marked as a discontinuity
    assert len(frames) > before
    was, had_to_be = compared(stub, played)
    np.testing.assert_array_equal(was, had_to_be)


def test_mute_is_silent_within_10_ms_and_freeze_and_panic_reach_the_server(browser, stub, address):
    with visiting(browser, address, script=TAPPED) as visit:
        visit.choose("Use the built-in song")
        visit.start()
        wait_for(visit, stub, 2)
        visit.page.keyboard.press("m")
        visit.page.wait_for_timeout(300)
        visit.page.keyboard.press("m")
        visit.page.keyboard.press("f")
        visit.page.wait_for_timeout(300)
        visit.page.keyboard.press("Escape")
        visit.page.wait_for_timeout(300)
        assert visit.button("Mute").get_attribute("aria-pressed") == "true"
        visit.stop()
        sound = visit.tapped("played")[1]
    told = [(message["type"], message.get("on")) for message in stub.messages]
    dials = [one for one in told if one[0] in ("mute", "freeze", "panic")]
    assert dials == [("mute", True), ("mute", False), ("freeze", True), ("panic", None), ("mute", True)]
    loud = np.abs(sound).reshape(-1, 128).max(1) > 0
    first, last = np.flatnonzero(loud)[[0, -1]]
    quiet = np.flatnonzero(~loud[first:last]) + first  # the muted part
    assert len(quiet) * 128 > 0.2 * RATE
    before = sound[(quiet[0] - 2) * 128 : quiet[0] * 128]
    assert np.abs(before[-16:]).max() < 0.2 * max(0.05, np.abs(sound).max())  # faded, not cut


def test_the_measurement_sends_what_is_heard_in_place_and_takes_the_answer(browser, stub, address):
    with visiting(browser, address) as visit:
        visit.choose("Play it myself")
        visit.button("Measure").click()
        visit.until("Measuring")
        visit.until("Ready")
        said = visit.page.locator("#measure-said").inner_text()
        visit.button("Start").click()
        visit.until("Count-in")
        visit.stop()
    assert said == "Sound takes 61 ms around. The model pretrained fits, with 38 ms to spare."
    assumed, measured = stub.of_type("calibrate")
    assert assumed["assumed_ms"] >= 30
    assert measured["frame_ms"] == 1000 * FRAME / RATE
    assert assumed["block_ms"] == measured["block_ms"] >= 1000 * 128 / RATE
    assert set(measured["rtt_ms"]) == {"p50", "p99"}
    place, sound = stub.sound(kind=2)
    assert place <= measured["place"] < measured["place"] + 0.6 * RATE + 0.9 * RATE < place + len(sound)
    pings = stub.of_type("ping")
    assert len(pings) >= 20
    assert stub.of_type("start")[0]["first_ms"] == 61.2
