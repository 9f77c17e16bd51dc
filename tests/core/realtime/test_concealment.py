"""GapConcealer: sound that is there is heard as it is, and where it ends or begins again nothing clicks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accomp.core.realtime.concealment import GapConcealer


def heard(sound: np.ndarray, there: list[int], *, fade: int, block: int) -> np.ndarray:
    """What comes of `sound` in blocks, of each of which the first so many samples are there."""
    seams, out = GapConcealer(fade, block), sound.astype(np.float32)
    for number, count in enumerate(there):
        piece = out[number * block : (number + 1) * block]
        piece[count:] = np.nan  # nobody may use what is not there
        seams.fill(piece, min(count, len(piece)))
    return out


def test_the_picture_in_the_docstring():
    a, b, c, d, k, l, m, n, o = 0.9, -0.3, 0.5, 0.7, 0.2, -0.8, 0.4, 0.6, 0.1  # noqa: E741
    sound = np.array([a, b, c, d, 9, 9, 9, 9, 9, 9, k, l, m, n, o])
    out = heard(sound, [4, 0, 5], fade=4, block=5)
    tail = [0.75 * d, 0.5 * c, 0.25 * b, 0]
    np.testing.assert_allclose(out, [a, b, c, d, *tail, 0, 0, 0.25 * k, 0.5 * l, 0.75 * m, n, o], atol=1e-7)


def test_an_echo_that_is_cut_off_is_heard_together_with_the_sound_that_rises():
    """Blocks of 4, a fade of 4, and a gap of one sample: three samples of the echo lie over the new sound."""
    sound = np.array([0.4, 0.8, -0.6, 9, 0.5, -0.5, 0.3, 0.7])
    out = heard(sound, [3, 4], fade=4, block=4)
    echo = [0.75 * -0.6, 0.5 * 0.8, 0.25 * 0.4, 0]
    rising = [0.25 * 0.5, 0.5 * -0.5, 0.75 * 0.3, 0.7]
    expected = [0.4, 0.8, -0.6, echo[0], rising[0] + echo[1], rising[1] + echo[2], rising[2] + echo[3], rising[3]]
    np.testing.assert_allclose(out, expected, atol=1e-7)


blocks = st.lists(st.one_of(st.just(50), st.integers(0, 50)), min_size=1, max_size=20)


@settings(deadline=None)
@given(blocks)
def test_sound_in_time_is_untouched_and_long_silence_is_silence(there):
    sound = np.random.default_rng(0).uniform(-1, 1, 50 * len(there)).astype(np.float32)
    out = heard(sound, there, fade=10, block=50)
    in_time = np.concatenate([np.arange(50) < count for count in there])
    since = np.zeros(len(sound), dtype=int)  # samples since the last change between sound and silence
    for place in range(1, len(sound)):
        since[place] = 0 if in_time[place] != in_time[place - 1] else since[place - 1] + 1
    changes = np.flatnonzero(in_time[1:] != in_time[:-1]) + 1
    start = changes[0] if len(changes) else len(sound)
    np.testing.assert_array_equal(out[:start][in_time[:start]], sound[:start][in_time[:start]])
    later = (np.arange(len(sound)) >= start) & (since >= 10)
    np.testing.assert_array_equal(out[later & in_time], sound[later & in_time])
    np.testing.assert_array_equal(out[later & ~in_time], 0)


@settings(deadline=None)
@given(blocks)
def test_nothing_clicks(there):
    """However the gaps lie, no two neighbours differ by more than a slow sound and the slopes of both fades explain."""
    sound = np.sin(np.arange(50 * len(there)) / 40)
    out = heard(sound, there, fade=40, block=50)
    assert np.abs(np.diff(out)).max() <= 2 / 40 + 3 / 40


@pytest.mark.parametrize("fade", [0, 6])
def test_a_fade_longer_than_a_block_or_none_is_refused(fade):
    with pytest.raises(ValueError, match="expected 1 to 5, the size of a block"):
        GapConcealer(fade, 5)
