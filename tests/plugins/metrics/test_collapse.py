"""silence_share and diversity: what a model that has collapsed looks like, and that levels do not matter."""

from __future__ import annotations

import numpy as np
import pytest

from accomp.core.errors import EmptyClip
from accomp.core.types import Take
from accomp.plugins.metrics.diversity import BANDS, Diversity, entropy
from accomp.plugins.metrics.silence_share import SilenceShare

RATE = 16000


def tone(frequency: float, seconds: float = 2.0, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def take(id: str, stem: np.ndarray, truth: np.ndarray | None = None) -> Take:
    return Take(id, stem, stem, RATE, 0, truth)


SILENCE = np.zeros(RATE, dtype=np.float32)


def test_shares_are_those_of_the_seconds_in_which_one_rests() -> None:
    judge = SilenceShare(SilenceShare.Config())
    second = tone(440, 1.0)
    true = np.concatenate([second, second, SILENCE, SILENCE])
    judge.update(take("half", np.concatenate([second, SILENCE, second, SILENCE]), true))
    found = judge.result()
    assert found["silence_share"] == pytest.approx(0.5, abs=0.02)
    assert found["intrusion_share"] == pytest.approx(0.5, abs=0.02)
    judge.update(take("silent", np.zeros_like(true), true))
    assert judge.per_take()["silent"] == {"silence_share": 1.0, "intrusion_share": 0.0}
    assert judge.result(["silent", "silent"])["silence_share"] == 1.0
    judge.update(take("throughout", second, second))
    assert judge.per_take()["throughout"] == {"silence_share": 0.0}
    assert judge.result()["silence_share"] == pytest.approx(0.5, abs=0.02)
    assert judge.result(["throughout", "silent"])["intrusion_share"] == 0.0


def test_where_the_musicians_are_silent_there_is_nothing_to_miss() -> None:
    judge = SilenceShare(SilenceShare.Config())
    with pytest.raises(EmptyClip, match="the true stem is silent"):
        judge.update(take("a", tone(440, 1.0), SILENCE))
    with pytest.raises(ValueError, match="no true stem"):
        judge.update(take("a", SILENCE))
    with pytest.raises(ValueError, match="NaN"):
        judge.update(take("a", tone(440, 1.0) * np.nan, tone(440, 1.0)))
    assert judge.per_take() == {}


def test_the_threshold_is_the_config_s() -> None:
    quiet, loud = tone(1000, 1.0, 3e-3), tone(1000, 1.0)
    for threshold, share in ((-60.0, 0.0), (-40.0, 1.0)):
        judge = SilenceShare(SilenceShare.Config(silence_db=threshold))
        judge.update(take("a", quiet, loud))
        assert judge.result()["silence_share"] == pytest.approx(share, abs=0.05)


def judged(**stems: np.ndarray) -> Diversity:
    judge = Diversity()
    for id, stem in stems.items():
        judge.update(take(id, stem))
    return judge


def test_one_sound_for_ever_is_no_diversity_at_all() -> None:
    found = judged(a=tone(440), b=tone(440), c=tone(440)).result()
    assert found == pytest.approx({"over_time": 0.0, "between_takes": 0.0}, abs=1e-3)


def test_two_sounds_in_turn_are_one_bit_and_so_are_two_takes_of_one_each() -> None:
    """Tones three octaves apart share no band; only windows across the change hold both."""
    low, high = tone(300, 10.0), tone(2400, 10.0)
    turn = np.concatenate([low, high])
    found = judged(a=turn, b=turn).result()
    assert found["over_time"] == pytest.approx(1.0, abs=0.03)
    assert found["between_takes"] == pytest.approx(0.0, abs=1e-6)
    found = judged(a=low, b=high).result()
    assert found["over_time"] == pytest.approx(0.0, abs=1e-3)
    assert found["between_takes"] == pytest.approx(1.0, abs=1e-3)
    assert judged(a=low, b=high).result(["a", "a", "a", "b"])["between_takes"] == pytest.approx(
        float(entropy(np.array([0.75, 0.25]))), abs=1e-3
    )


def test_levels_and_rests_change_nothing_and_silence_is_empty() -> None:
    music = np.concatenate([tone(200 * 2**k, 0.7) for k in range(5)])
    hiss = (2e-4 * np.random.default_rng(0).standard_normal(3 * RATE)).astype(np.float32)
    with_rest = np.concatenate([music, hiss])
    plain, soft, rest = (judged(a=stem).result()["over_time"] for stem in (music, 0.05 * music, with_rest))
    assert plain > 1.5
    assert soft == pytest.approx(plain, rel=1e-4)
    assert rest == pytest.approx(plain, rel=0.05)
    with pytest.raises(EmptyClip, match="the stem is silent"):
        judged(a=SILENCE)
    with pytest.raises(ValueError, match=r"lasts 0.06 s"):
        judged(a=tone(440, 0.06))
    with pytest.raises(ValueError, match="NaN"):
        judged(a=tone(440) * np.nan)


def test_the_bound_is_the_number_of_bands() -> None:
    assert entropy(np.full(BANDS, 1 / BANDS)) == pytest.approx(np.log2(22))
    assert entropy(np.eye(BANDS)[3]) == 0
    noise = (0.2 * np.random.default_rng(0).standard_normal((4, 2 * RATE))).clip(-1, 1).astype(np.float32)
    found = judged(**{str(i): row for i, row in enumerate(noise)}).result()
    assert 0 < found["over_time"] < 0.5
    assert 0 < found["between_takes"] < found["over_time"]
