"""What cocola and coherence have in common: windows, silence, means, and what is kept of contexts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from accomp.core.errors import EmptyClip
from accomp.core.types import Take
from accomp.plugins.metrics.coherence.hpss_mels import SAMPLE_RATE, features, masked, windows
from accomp.plugins.metrics.window_scores import WindowScores


class Levels:
    """Scores a window by the mean level of its parts, context less stem; counts what it is asked."""

    def __init__(self) -> None:
        self.heard = 0

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        self.heard += len(features)
        return features.mean((1, 2, 3))[:, None]

    def pair(self, context: torch.Tensor, stem: torch.Tensor) -> torch.Tensor:
        return (context - stem)[:, 0]


def judge(modes=("both",), scorer=None) -> WindowScores:
    return WindowScores("fit", scorer or Levels(), "0", modes, -60.0)


def noise(seconds: float, seed: int, loud: float = 0.1) -> np.ndarray:
    return (loud * np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def take(id: str, context: np.ndarray, stem: np.ndarray, rate: int = SAMPLE_RATE) -> Take:
    return Take(id, context, stem, rate, 0)


def level(sound: np.ndarray, mode: str = "both") -> float:
    return float(masked(features(sound), mode).mean())


def test_a_takes_score_is_the_mean_of_its_windows_in_every_mode():
    context, stem = noise(7, 0), noise(7, 1) * np.linspace(0.2, 1, 7 * SAMPLE_RATE, dtype=np.float32)
    metric = judge(("both", "harmonic", "percussive"))
    metric.update(take("a", context, stem))
    for mode, name in (("both", "fit"), ("harmonic", "fit_harmonic"), ("percussive", "fit_percussive")):
        scores = [level(a, mode) - level(b, mode) for a, b in zip(windows(context), windows(stem), strict=True)]
        assert len(scores) == 2
        assert metric.result()[name] == pytest.approx(np.mean(scores), abs=1e-3)


def test_takes_count_alike_however_long_they_are_and_may_be_drawn_again():
    metric = judge()
    metric.update(take("long", noise(11, 0), noise(11, 1)))
    metric.update(take("short", noise(2, 2), noise(2, 3)))
    each = {id: values["fit"] for id, values in metric.per_take().items()}
    assert metric.result()["fit"] == pytest.approx((each["long"] + each["short"]) / 2)
    drawn = metric.result(["short", "long", "short"])["fit"]
    assert drawn == pytest.approx((each["long"] + 2 * each["short"]) / 3)
    assert metric.result(["long"])["fit"] == each["long"]


def test_windows_without_sound_on_either_side_are_not_judged_and_their_share_is_told():
    context, stem = noise(10, 0), noise(10, 1)
    stem[: 5 * SAMPLE_RATE] = 0.0
    context[round(7.5 * SAMPLE_RATE) :] *= 1e-5
    metric = judge()
    metric.update(take("a", context, stem))
    judged = slice(round(2.5 * SAMPLE_RATE), round(7.5 * SAMPLE_RATE)), slice(5 * SAMPLE_RATE, 10 * SAMPLE_RATE)
    expected = np.mean([level(context[part]) - level(stem[part]) for part in judged])
    assert metric.result()["fit"] == pytest.approx(expected, abs=1e-3)
    assert metric.result()["silent_windows"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("context", "stem", "said"), [(1.0, 0.0, "^stem silent"), (1e-5, 1.0, "^context silent")])
def test_a_take_with_nothing_to_judge_is_empty(context, stem, said):
    metric = judge()
    with pytest.raises(EmptyClip, match=f"{said}.*-60 dB"):
        metric.update(take("a", noise(3, 0, 0.1 * context), noise(3, 1, 0.1 * stem)))
    with pytest.raises(ValueError, match="given no take"):
        metric.result()


def test_what_cannot_be_judged_is_refused_with_the_reason():
    metric = judge()
    sound = noise(2, 0)
    metric.update(take("a", sound, sound))
    broken = sound.copy()
    broken[5] = np.nan
    for given, said in (
        (take("a", sound, sound), "given twice"),
        (take("b", sound, sound, 8000), "8000 Hz; expected 16000 Hz"),
        (take("c", sound, sound[:-1]), "32000 samples, the stem 31999"),
        (take("d", sound[:8000], sound[:8000]), "lasts 0.50 s; expected 1 s or more"),
        (take("e", sound, broken), "the stem holds NaN or Inf"),
    ):
        with pytest.raises(ValueError, match=said):
            metric.update(given)
    assert list(metric.per_take()) == ["a"]


def test_a_context_is_heard_once_however_often_it_is_played_to(tmp_path: Path):
    scorer = Levels()
    metric = judge(scorer=scorer)
    metric.cache_in(tmp_path)
    metric.update(take("a", noise(3, 0), noise(3, 1)))
    assert scorer.heard == 2
    other = metric.fresh()
    assert other.per_take() == {}
    other.update(take("a", noise(3, 0), noise(3, 2)))
    assert scorer.heard == 3
    elsewhere = judge(scorer=scorer)
    elsewhere.cache_in(tmp_path)
    elsewhere.update(take("a", noise(3, 0), noise(3, 2)))
    assert scorer.heard == 4
    assert elsewhere.result() == other.result()
    judge(scorer=scorer).update(take("a", noise(3, 0), noise(3, 2)))
    assert scorer.heard == 6
