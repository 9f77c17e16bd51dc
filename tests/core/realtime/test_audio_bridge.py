"""Real time with a session that stalls: every sample once and at its place, gaps counted, the audio side never waiting.

At 100 Hz a fade is one sample long, which changes nothing: what is heard is then what was delivered, and else silence.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import Constant, session_of, small_model
from traced_memory import least_peak

from accomp.core.clock import Clock, LatencyBudget, block_waits
from accomp.core.realtime.audio_bridge import INPUT_BUFFER, AudioBridge, ModelWorker
from accomp.core.streaming.audio_session import AudioSession

RATE, BLOCK = 100, 4
NEVER = threading.Event()


class Numbers:
    """Plays sample n as n + 1, `ahead` samples before it hears them, and keeps what it heard; a push does `stall`."""

    def __init__(self, ahead: int, stall: Callable[[], object] = lambda: None):
        self.ahead, self.stall = ahead, stall
        self.heard: list[float] = []
        self.played = 0

    def push(self, audio: torch.Tensor) -> None:
        assert audio.shape[0] == 1
        self.stall()
        self.heard += audio[0].tolist()

    def pull(self, *, ahead: bool = False) -> torch.Tensor:
        assert ahead
        until = len(self.heard) + self.ahead
        numbers, self.played = torch.arange(self.played, until) + 1.0, until
        return numbers[None]


def numbered(block: int, size: int = BLOCK) -> np.ndarray:
    """A block of input in which sample n is n + 1."""
    return np.arange(block * size, (block + 1) * size, dtype=np.float32) + 1


def schedule_of(ahead: int, chunk: int = 6, **more: int) -> AudioBridge:
    return AudioBridge(rate=RATE, block=BLOCK, chunk=chunk, ahead=ahead, **more)


def check(schedule: AudioBridge, out: np.ndarray, *, first: int = 0, chunk: int = 6, delay: int = 0, made: int) -> None:
    """What was heard, out [N] from place `first` on, against its counts; each counted anew from the sound alone."""
    places = np.arange(first, first + len(out))
    missing = out == 0
    np.testing.assert_array_equal(out[~missing], places[~missing] + 1)
    counts = schedule.counts()
    assert counts.place == first + len(out)
    assert (counts.delivered, counts.missing) == ((~missing).sum(), missing.sum())
    assert counts.gaps == (missing & ~np.concatenate([[False], missing[:-1]])).sum()
    assert counts.late == len(np.unique((places[missing] + delay) // chunk))
    assert counts.dropped == (missing & (places < made)).sum()
    assert counts.buffered == max(0, made - counts.place)
    assert counts.lost == BLOCK * counts.overruns


def check_heard(schedule: AudioBridge, heard: list[float]) -> None:
    """The session has heard every sample at its place, or a zero there; no more zeros than were lost."""
    found = np.array(heard)
    places = np.arange(len(found))
    np.testing.assert_array_equal(found[found != 0], places[found != 0] + 1)
    assert (found == 0).sum() <= schedule.counts().lost


stalls = st.lists(st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 120)), max_size=25)


@settings(max_examples=40, deadline=None)
@given(stalls, st.integers(0, 30), st.integers(0, 30), st.integers(1, 20), st.integers(0, 9))
def test_with_any_stalls_every_sample_is_heard_once_at_its_place_or_counted(pauses, ahead, first, chunk, delay):
    """The model works off all it has after each block, but while it stalls: for so many blocks at a time."""
    schedule = schedule_of(ahead, chunk, first=first, delay=delay)
    session = Numbers(ahead)
    model = ModelWorker(schedule, session)
    model.begin()
    heard_blocks, outs, waits = 0, [], iter(pauses)
    stalled, expected, lost = 0, [], 0
    for _ in range(sum(pauses) + 60):
        made, out = session.played, np.empty(BLOCK, dtype=np.float32)
        schedule.exchange(numbered(heard_blocks), out)
        expected += [n + 1 if n < made else 0 for n in range(first + len(expected), first + len(expected) + BLOCK)]
        heard_blocks += 1
        outs.append(out)
        lost = max(lost, schedule.counts().lost)
        if stalled:
            stalled -= 1
            continue
        while model.step(NEVER):
            pass
        stalled = next(waits, 0)
    out = np.concatenate(outs)
    np.testing.assert_array_equal(out, expected)
    check(schedule, out, first=first, chunk=chunk, delay=delay, made=session.played)
    check_heard(schedule, session.heard)
    patience = max(INPUT_BUFFER * RATE, 2 * chunk)
    longest = BLOCK * (max(pauses, default=0) + 1)
    assert (lost > 0) == (longest > patience + BLOCK)
    assert (np.array(session.heard) == 0).sum() == schedule.counts().lost
    if ahead >= first + BLOCK:
        assert out[-1] == first + len(out)  # the stalls are over, and output belongs to its input again


def test_a_chunk_that_is_late_is_heard_to_the_end_of_what_is_there_then_fades_then_is_silent_then_fades_in():
    """The whole policy in numbers: 1000 Hz, blocks of 20 samples, fades of 5."""
    schedule = AudioBridge(rate=1000, block=20, chunk=20, ahead=60)
    rng = np.random.default_rng(0)
    sound = rng.uniform(-1, 1, 100).astype(np.float32)
    heard = []

    def exchange() -> None:
        out = np.empty(20, dtype=np.float32)
        schedule.exchange(None, out)
        heard.append(out)

    assert schedule.write_output(sound[:33]) == 33
    exchange()
    exchange()  # 13 samples are there
    exchange()  # none
    assert schedule.write_output(sound[33:]) == 67  # 27 come too late
    exchange()
    exchange()
    out = np.concatenate(heard)
    np.testing.assert_array_equal(out[:33], sound[:33])
    np.testing.assert_allclose(out[33:38], sound[32:27:-1] * [0.8, 0.6, 0.4, 0.2, 0], atol=1e-6)
    np.testing.assert_array_equal(out[38:60], 0)
    np.testing.assert_allclose(out[60:65], sound[60:65] * [0.2, 0.4, 0.6, 0.8, 1], atol=1e-6)
    np.testing.assert_array_equal(out[65:], sound[65:])
    counts = schedule.counts()
    assert (counts.delivered, counts.missing, counts.dropped) == (73, 27, 27)
    assert (counts.gaps, counts.late) == (1, 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_two_threads_with_random_stalls_keep_every_sample_at_its_place(seed):
    """The audio side runs on while the model's thread sleeps now and then, for longer than the ring is patient."""
    rng = np.random.default_rng(seed)
    session = Numbers(12, stall=lambda: time.sleep(rng.choice([0, 0.0005, 0.002, 0.15], p=[0.6, 0.25, 0.1, 0.05])))
    schedule, ended = schedule_of(12), threading.Event()
    model = ModelWorker(schedule, session)
    model.begin()
    thread = threading.Thread(target=model.run, args=(ended,), daemon=True)
    thread.start()
    outs = []
    for block in range(600):
        outs.append(np.empty(BLOCK, dtype=np.float32))
        schedule.exchange(numbered(block - 1) if block else None, outs[-1])
        time.sleep(0.001)
    ended.set()
    thread.join(timeout=60)
    assert not thread.is_alive()
    check(schedule, np.concatenate(outs), made=session.played)
    check_heard(schedule, session.heard)
    counts = schedule.counts()
    assert counts.missing > 0 < counts.delivered


def test_the_audio_side_goes_on_while_the_model_hangs_for_ever():
    hangs = threading.Event()
    session = Numbers(10, stall=hangs.wait)
    schedule = schedule_of(10)
    model = ModelWorker(schedule, session)
    model.begin()
    threading.Thread(target=model.run, args=(NEVER,), daemon=True).start()
    out = np.empty((1000, BLOCK), dtype=np.float32)

    def play() -> None:
        for block in range(1000):
            schedule.exchange(numbered(block), out[block])

    audio = threading.Thread(target=play, daemon=True)
    audio.start()
    audio.join(timeout=60)
    assert not audio.is_alive()
    np.testing.assert_array_equal(out.flatten()[:10], np.arange(10) + 1)
    np.testing.assert_array_equal(out.flatten()[10:], 0)
    counts = schedule.counts()
    assert (counts.delivered, counts.missing, counts.gaps, counts.dropped) == (10, 3990, 1, 0)
    assert 900 < counts.overruns < 1000


def test_the_audio_side_takes_no_memory_for_sound():
    """Whatever happens in it: sound in time, a gap, the way back, a full ring."""
    size = 8192
    schedule = AudioBridge(rate=32000, block=size, chunk=size, ahead=4 * size)
    heard, out, made = (np.ones(size, dtype=np.float32) for _ in range(3))

    def exchanges() -> None:
        for there in (size, size, size // 2, 0, size, size + size // 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0):
            schedule.write_output(made[:there])
            schedule.exchange(heard, out)

    exchanges()
    assert least_peak(exchanges) < size  # bytes: a quarter of a block
    assert schedule.counts().overruns > 0


@settings(max_examples=15, deadline=None)
@given(
    st.integers(-14, 3), st.integers(1, 4), st.integers(1, 3), st.integers(0, 9), st.integers(0, 9), st.integers(1, 20)
)
def test_what_the_budget_allows_is_played_without_a_gap_and_what_it_forbids_is_not(
    t_f, k, codebooks, lookahead, delay, block
):
    """A machine that is done just before the next sample comes, against the latency budget of such a machine."""
    codec = Constant(Constant.Config(codebooks, lookahead, delay))
    space = codec.space
    heard, taken = block_waits(space, block)
    budget = LatencyBudget(
        Clock(t_f, k), space, encode=0, first=1e-4 / space.sample_rate, chunk=0, decode=0, input=heard, output=taken
    )
    model = small_model(t_f, k, space=space)
    schedule = AudioBridge(
        rate=space.sample_rate, block=block, chunk=k * space.hop, delay=space.delay, ahead=max(0, -t_f) * space.hop
    )
    side = ModelWorker(schedule, AudioSession(codec, session_of(model, 1)))
    side.begin()
    sound = np.random.default_rng(0).uniform(-1, 1, (240 // block + 1, block)).astype(np.float32)
    out = np.empty(block, dtype=np.float32)
    for number in range(len(sound)):
        schedule.exchange(sound[number - 1] if number else None, out)
        while side.step(NEVER):
            pass
    missing = schedule.counts().missing
    if budget.deployable:
        assert missing == 0
    elif space.hop % block == 0:  # else the two waits for a block need not be at their worst together
        assert missing > 0
