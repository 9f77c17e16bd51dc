"""The online beat tracker: in phase with what it hears, back in phase soon, and silent where there is no beat."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from accomp.core.clock import Clock
from accomp.core.music.annotations import NOTHING
from accomp.core.streaming.followed_timeline import FollowedTimeline
from accomp.core.testing import check_plugin
from accomp.core.types import TokenSpace
from accomp.plugins.followers.lock import AGAIN, BEATS, FIRST, HEARD, NEAR, Guess, Lock
from accomp.plugins.followers.madmom_beats import MadmomBeats
from accomp.plugins.followers.resampling import RATE, STEP, Resampler

pytestmark = pytest.mark.filterwarnings("ignore:Passing more than 2 positional arguments:DeprecationWarning")

SPACE = TokenSpace(32000, 640, codebooks=2, codebook_size=4, latent_dim=2)
CLOCK = Clock(t_f=-10, k=1)


def clicks(times, seconds: float, rate: int = SPACE.sample_rate) -> np.ndarray:
    """A sine of 1.5 kHz, decaying within 10 ms, from each of these times on."""
    sound, t = np.zeros(round(seconds * rate), np.float32), np.arange(rate // 20) / rate
    for time in times:
        rest = sound[round(time * rate) :][: len(t)]
        rest += (np.sin(2 * np.pi * 1500 * t) * np.exp(-t / 0.01)).astype(np.float32)[: len(rest)]
    return sound


def two_tempi(first: float, then: float, change: float, seconds: float) -> np.ndarray:
    """Beats (s) at one tempo (a minute), from the last one before `change` at another."""
    before = np.arange(0.3, change, 60 / first)
    return np.concatenate([before, np.arange(before[-1] + 60 / then, seconds, 60 / then)])


def told(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every frame that a model of CLOCK plays to a sound: its time (s), and the 16 numbers."""
    source = FollowedTimeline("metronome", MadmomBeats(MadmomBeats.Config(), SPACE.sample_rate), CLOCK, SPACE)
    source.begin()
    source.listen(sound)
    frames = len(sound) // SPACE.hop
    return np.arange(frames) / SPACE.frame_rate, source(0, frames)


@cache
def a_change() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """100 beats a minute to 130 at 10 s: the beats, and what is told."""
    beats = two_tempi(100, 130, 10.0, 17.0)
    return beats, *told(clicks(beats, 17.0))


def off(beats: np.ndarray, times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Seconds by which the told phase is ahead of the true one; NaN where it is withheld or there is no truth."""
    at = np.clip(np.searchsorted(beats, times, side="right") - 1, 0, len(beats) - 2)
    length = beats[at + 1] - beats[at]
    phase = np.arctan2(values[:, 1], values[:, 2]) / (2 * np.pi)
    ahead = ((phase - (times - beats[at]) / length + 0.5) % 1 - 0.5) * length
    return np.where((values[:, 0] > 0) & (times >= beats[0]) & (times < beats[-1]), ahead, np.nan)


def test_told_beats_fall_on_the_clicks():
    """0.2 s before they are heard, within a hundredth of a second on average."""
    beats, times, values = a_change()
    ahead = off(beats, times, values)[(times > 4) & (times < 9.8)]
    assert np.abs(ahead).max() < 0.02
    assert abs(ahead.mean()) < 0.01
    assert 60 / (0.5 * 2 ** (values[(times > 4) & (times < 9.8), 9] / 2)) == pytest.approx(100, abs=1.5)


def test_after_another_tempo_it_is_back_in_phase_within_four_beats():
    beats, times, values = a_change()
    changed = beats[np.searchsorted(beats, 10.0) - 1]
    ahead = np.abs(off(beats, times, values))
    assert ahead[(times > changed + 0.6) & (times < changed + 1)].max() > 0.06, "there was nothing to follow"
    later = ahead[(times > changed + 4 * 60 / 130) & (times < beats[-1])]
    assert later.max() < 0.06
    assert np.abs(later[-100:]).mean() < 0.02


def test_until_it_has_found_a_beat_it_says_nothing():
    _, times, values = a_change()
    first = times[values[:, 0] > 0][0]
    assert 1.0 < first < 4.0
    assert (values[times < first] == 0).all()
    assert (values[times >= first, 0] == 1).all()
    assert (values[:, 10:] == 0).all(), "bars are not known"


@pytest.mark.parametrize("what", ["silence", "noise", "tone"])
def test_where_nothing_can_be_followed_nothing_is_told(what):
    n, rng = 12 * SPACE.sample_rate, np.random.default_rng(3)
    sound = {
        "silence": np.zeros(n),
        "noise": 0.2 * rng.standard_normal(n),
        "tone": 0.3 * np.sin(2 * np.pi * 220 * np.arange(n) / SPACE.sample_rate),
    }[what]
    _, values = told(sound.astype(np.float32))
    assert not values.any()


def test_it_goes_on_counting_where_the_band_is_silent_for_a_bar():
    beats = np.arange(0.3, 12.0, 0.5)
    heard = beats[(beats < 7) | (beats > 9.2)]
    times, values = told(clicks(heard, 12.0))
    assert np.nanmax(np.abs(off(beats, times, values)[times > 4])) < 0.06


def test_it_keeps_the_promises_of_its_kind():
    assert len(check_plugin("follower", "madmom_beats")) >= 7


# ------------------------------------------------------------------------------------------------ its parts


def guesses(interval: float, frames: int, start: float = 0.0):
    return [Guess((start + i / interval) % 1, interval) for i in range(frames)]


def test_a_guess_is_believed_once_it_has_held_and_was_heard():
    lock, interval = Lock(), 50.0
    frame, ahead = 0, iter(guesses(interval, 1000))
    while lock.grid is None:
        guess = next(ahead)
        lock.update(guess, 0.5 if guess.position < 0.02 else 0.0)
        frame += 1
    assert frame / interval >= max(FIRST, BEATS - 1)
    assert frame / interval < max(FIRST, BEATS) + 1
    at, beat = lock.grid
    assert beat == interval
    assert (at / interval) % 1 == pytest.approx(0, abs=1e-9)


def test_a_guess_without_activations_is_not_believed():
    lock = Lock()
    for guess in guesses(50.0, 2000):
        lock.update(guess, HEARD - 0.01)
    assert lock.grid is None


def test_another_guess_takes_over_only_when_it_has_held():
    lock = Lock()
    for guess in guesses(50.0, 600):
        lock.update(guess, 0.5)
    before, number, ahead = lock.grid, 0, iter(guesses(40.0, 200, start=0.5))
    while lock.grid == before:
        lock.update(next(ahead), 0.5)
        number += 1
    assert lock.grid[1] == 40.0
    assert AGAIN <= number / 40.0 <= AGAIN + 2 * NEAR + 0.1, "once held, and between beats"


@pytest.mark.parametrize("rate", [32000, 44100, 48000, 24000, 22050, 16000, 400])
def test_sound_is_brought_to_one_rate_whatever_its_pieces(rate):
    pitch = min(440.0, rate / 8)
    sound = np.sin(2 * np.pi * pitch * np.arange(rate) / rate).astype(np.float32)
    resampler = Resampler(rate)
    blocks = resampler.push(sound)
    assert all(len(block) % STEP == 0 or rate == RATE for block in blocks)
    whole = np.concatenate(blocks)
    expected = np.sin(2 * np.pi * pitch * np.arange(len(whole)) / RATE)
    inner = slice(int(RATE * 20 / rate), len(whole) - int(RATE * 20 / rate))
    np.testing.assert_allclose(whole[inner], expected[inner], atol=2e-3)
    resampler.begin()
    pieces = [block for piece in np.split(sound, [1, 1, rate // 3]) for block in resampler.push(piece)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_nothing_is_known_before_anything_was_heard():
    assert MadmomBeats(MadmomBeats.Config(networks=1), 32000).known() == NOTHING
