"""What the page hears and counts, in JavaScript, is what the schedule of the command line does in Python."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from midi_ports import ticks
from page_files import packed, unpacked

from accomp.core.realtime.audio_bridge import AudioBridge
from accomp.core.realtime.concealment import GapConcealer
from accomp.core.realtime.midi_clock import MidiClock

QUANTUM = 128  # samples that a browser asks for at a time


def sound_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, count).astype(np.float32)


def random_arrivals(rng: np.random.Generator, blocks: int, block: int, first: int) -> list[list]:
    """Blocks that are taken, and pieces of any length that come between them: in time, late, in bursts."""
    steps, written, taken = [], 0, first
    for _ in range(blocks):
        steps.append(["take", block])
        taken += block
        if rng.random() < 0.7:
            until = max(written, taken + int(rng.integers(-3 * block, 4 * block)))
            steps.append(["put", written, until])
            written = until
    return steps


@pytest.mark.parametrize("seed", range(4))
def test_random_arrivals_are_heard_and_counted_as_in_python(node, seed):
    rng = np.random.default_rng(seed)
    chunk, delay, first = int(rng.integers(50, 900)), int(rng.integers(0, 300)), int(rng.integers(0, 200))
    steps = random_arrivals(rng, 200, QUANTUM, first)
    sound = sound_of(QUANTUM * 240)
    settings = {"rate": 48000, "chunk": chunk, "delay": delay, "first": first}
    python = AudioBridge(rate=48000, block=QUANTUM, chunk=chunk, delay=delay, first=first, ahead=48000)
    heard = []
    for what, a, *b in steps:
        if what == "put":
            assert python.write_output(sound[a : b[0]]) == b[0] - a
        else:
            heard.append(np.empty(a, dtype=np.float32))
            python.exchange(None, heard[-1])
    fade = QUANTUM  # Python's fades are a block at most
    page = node.ask("schedule", settings={**settings, "fade": fade}, sound=packed(sound), steps=steps)
    np.testing.assert_array_equal(unpacked(page["heard"]), np.concatenate(heard))
    counts = python.counts()
    assert page["counts"] == {name: getattr(counts, name) for name in page["counts"]}
    assert counts.missing > 0 < counts.delivered
    assert counts.dropped > 0
    assert sum(end - begin for begin, end in page["ranges"]) == counts.missing
    assert len(page["ranges"]) == counts.gaps


@pytest.mark.parametrize("seed", range(3))
def test_a_fade_longer_than_the_browsers_blocks_is_that_of_longer_blocks(node, seed):
    """5 ms at 48 kHz are 240 samples: in blocks of 128 they come out as Python's do in blocks of 256."""
    rng = np.random.default_rng(seed)
    there = [int(rng.choice([0, 256, rng.integers(0, 257)])) for _ in range(60)]
    sound = sound_of(256 * len(there), seed)
    python, seams = sound.copy(), GapConcealer(240, 256)
    for number, count in enumerate(there):
        seams.fill(python[256 * number : 256 * (number + 1)], count)
    halves = [part for count in there for part in (min(count, 128), max(0, count - 128))]
    page = node.ask("seams", fade=240, sound=packed(sound), there=halves, block=128)
    np.testing.assert_array_equal(unpacked(page["heard"]), python)


def test_the_fade_is_5_ms_and_a_hole_leaves_all_behind_it_in_place(node):
    """Frames of 480 samples, of which one never comes: silence there, and every other sample where it belongs."""
    sound = sound_of(480 * 10)
    steps = [["put", 480 * n, 480 * (n + 1)] for n in range(10) if n != 4] + [["take", 128]] * 37
    page = node.ask("schedule", settings={"rate": 48000, "chunk": 960}, sound=packed(sound), steps=steps)
    heard = unpacked(page["heard"])
    np.testing.assert_array_equal(heard[: 4 * 480], sound[: 4 * 480])
    fall = 1 - np.arange(1, 241, dtype=np.float32) / 240
    np.testing.assert_array_equal(heard[1920:2160], sound[1919:1679:-1] * fall)
    assert not heard[2160:2400].any()
    back = -(-2400 // 128) * 128  # from the next block on
    np.testing.assert_array_equal(heard[back + 240 :], sound[back + 240 : len(heard)])
    assert page["ranges"] == [[1920, back]]
    assert (page["counts"]["late"], page["counts"]["gaps"]) == (1 + (back > 2880), 1)


def test_what_lies_beyond_the_ring_is_left_out_and_missing_when_its_time_comes(node):
    sound = sound_of(1000 * 6)
    steps = [["put", 0, 6000], *[["take", 100]] * 60]
    page = node.ask("schedule", settings={"rate": 1000, "chunk": 100}, sound=packed(sound), steps=steps)
    np.testing.assert_array_equal(unpacked(page["heard"])[:4000], sound[:4000])
    assert (page["counts"]["delivered"], page["counts"]["missing"]) == (4000, 2000)


def test_nothing_is_missing_before_the_first_place_nor_after_the_last(node):
    sound = sound_of(1000)
    steps = [["put", 300, 700], *[["take", 100]] * 10]
    page = node.ask(
        "schedule",
        settings={"rate": 1000, "chunk": 100, "from": 300, "fade": 1},
        sound=packed(sound),
        steps=steps,
        end=700,
    )
    heard = unpacked(page["heard"])
    np.testing.assert_array_equal(heard[301:700], sound[301:700])
    assert not heard[:300].any()
    assert not heard[701:].any()
    assert (page["counts"]["missing"], page["counts"]["gaps"], page["ranges"]) == (0, 0, [])


def test_sound_that_is_late_from_the_beginning_is_a_gap(node):
    sound = sound_of(1000)
    steps = [*[["take", 100]] * 5, ["put", 300, 800], *[["take", 100]] * 3]
    settings = {"rate": 1000, "chunk": 100, "from": 300, "delay": -300}
    counts = node.ask("schedule", settings=settings, sound=packed(sound), steps=steps)["counts"]
    assert (counts["missing"], counts["gaps"], counts["late"], counts["dropped"]) == (200, 1, 2, 200)


@pytest.mark.parametrize("by", [240, -240])
def test_a_shift_by_ear_moves_what_is_heard_and_counts_nothing_twice(node, by):
    sound = sound_of(4800)
    steps = [["put", 0, 4800], *[["take", 120]] * 10, ["shift", by], *[["take", 120]] * 10]
    page = node.ask("schedule", settings={"rate": 48000, "chunk": 480}, sound=packed(sound), steps=steps)
    heard = unpacked(page["heard"])
    np.testing.assert_array_equal(heard[1200 + 480 :], sound[1200 + by + 480 : 2400 + by])
    assert (page["counts"]["missing"], page["counts"]["delivered"]) == (0, 2400 + min(0, by))
    assert np.abs(heard).max() <= 2


def test_what_is_not_a_number_is_silent(node):
    sound = sound_of(480)
    sound[100] = np.nan
    sound[200] = np.inf
    page = node.ask(
        "schedule", settings={"rate": 48000, "chunk": 480}, sound=packed(sound), steps=[["put", 0, 480], ["take", 480]]
    )
    np.testing.assert_array_equal(unpacked(page["heard"]), np.where(np.isfinite(sound), sound, 0))
    assert page["counts"]["missing"] == 0


def test_a_frame_is_what_the_protocol_says(node):
    sound, place = sound_of(480), 2**40 + 12345
    page = node.ask("frames", kind=2, flags=3, number=2**32 + 7, place=place, sound=packed(sound))
    header = bytes([2, 3, 0, 0]) + (7).to_bytes(4, "little") + place.to_bytes(8, "little")
    raw = np.frombuffer(header + sound.tobytes(), np.uint8)
    assert base64.b64decode(page["bytes"]) == raw.tobytes()
    assert page["header"] == {"kind": 2, "flags": 3, "number": 7, "place": place}
    np.testing.assert_array_equal(unpacked(page["back"]), sound)
    assert "18 bytes" in page["refused"]


def test_a_socket_that_does_not_keep_up_loses_the_oldest_and_says_so(node):
    """Frames of 100 samples, 416 bytes; 1000 may wait in the socket, as many in the queue."""
    busy = [0, 5000, 5000, 5000, 5000, 0, 0]
    page = node.ask("queue", most=1000, size=100, buffered=busy)
    assert page["sent"] == [[0, 0], [3, 1], [4, 0], [5, 0], [6, 0]]
    assert (page["dropped"], page["waiting"]) == (2, 0)


def test_without_a_socket_nothing_is_kept(node):
    page = node.ask("queue", most=1000, size=100, buffered=[0, None, None, 0])
    assert page["sent"] == [[0, 0], [3, 1]]
    assert page["dropped"] == 2


BYTES = {"clock": [0xF8], "start": [0xFA], "continue": [0xFB], "stop": [0xFC]}


@pytest.mark.parametrize("seed", range(4))
def test_a_midi_clock_gives_the_same_beats_as_in_python(node, seed):
    """Over tempi that change, stops, song positions and gaps."""
    rng = np.random.default_rng(seed)
    messages, now = [], 1.0
    for number in range(30):
        kinds = ["", "start", "continue", "stop", "songpos"] if number % 3 else ["", "start"]
        kind = kinds[rng.integers(len(kinds))]
        if kind:
            messages.append((now, kind, int(rng.integers(0, 500)) if kind == "songpos" else 0))
        bpm = rng.uniform(50, 200)
        messages += [(time, "clock", 0) for time in ticks(bpm, rng.uniform(1, 6), now, 0.004, number)]
        now = messages[-1][0] + rng.choice([0.02, 0.3])
    python, pulses = MidiClock(), []
    for time, kind, position in messages:
        python.receive(kind, time, position)
        pulses.append(python.pulse)
    sent = [[time, *BYTES.get(kind, [0xF2, position % 128, position // 128])] for time, kind, position in messages]
    page = node.ask("clock", messages=sent)["pulses"]
    assert [pulse and pulse["beat"] for pulse in page] == [pulse and pulse.beat for pulse in pulses]
    for mine, theirs in zip(pulses, page, strict=True):
        if mine is not None:
            assert (theirs["bpm"], theirs["time"]) == (pytest.approx(mine.bpm), pytest.approx(mine.time))
    assert 0.3 < np.mean([pulse is not None for pulse in pulses]) < 0.95
