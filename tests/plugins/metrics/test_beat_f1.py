"""beat_f1: the F-measure against three other implementations, silence, failures, and the trackers themselves."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from accomp.core.errors import EmptyClip, PluginError
from accomp.core.types import Take
from accomp.plugins.libraries import madmom_import
from accomp.plugins.metrics import beat_f1
from accomp.plugins.metrics.beat_f1 import BeatF1, f_measure

if importlib.util.find_spec("madmom") is None:
    pytest.skip("madmom is not installed", allow_module_level=True)


def clicks(bpm: float, seconds: float, rate: int = 44100, offset: float = 0.0, seed: int = 0) -> np.ndarray:
    """Decaying noise bursts on every beat."""
    rng = np.random.default_rng(seed)
    audio = np.zeros(round(seconds * rate), dtype=np.float32)
    burst = (0.3 * rng.standard_normal(2000) * np.exp(-np.arange(2000) / 300)).astype(np.float32)
    for beat in np.arange(offset, seconds - 2000 / rate, 60 / bpm):
        audio[round(beat * rate) :][:2000] += burst
    return audio


def take(id: str, context: np.ndarray, stem: np.ndarray, rate: int = 44100) -> Take:
    return Take(id=id, context=context, stem=stem, sample_rate=rate, instrument=0)


@pytest.fixture(scope="module")
def tracked() -> BeatF1:
    """One metric with its networks loaded, from which tests take fresh ones."""
    return BeatF1(BeatF1.Config())


def brute_force(a: np.ndarray, b: np.ndarray, tolerance: float) -> float:
    """The definition: the largest one-to-one pairing, by augmenting paths."""
    near = [[j for j in range(len(b)) if abs(x - b[j]) <= tolerance] for x in a]
    partner: dict[int, int] = {}

    def augment(i: int, seen: set[int]) -> bool:
        for j in near[i]:
            if j not in seen:
                seen.add(j)
                if j not in partner or augment(partner[j], seen):
                    partner[j] = i
                    return True
        return False

    hits = sum(augment(i, set()) for i in range(len(a)))
    if len(a) + len(b) == 0:
        return 1.0
    precision, recall = hits / max(len(a), 1), hits / max(len(b), 1)
    return 2 * precision * recall / (precision + recall) if hits else 0.0


@pytest.mark.parametrize("seed", range(40))
def test_f_measure_agrees_with_definition_madmom_and_mir_eval(seed: int) -> None:
    mir_eval = pytest.importorskip("mir_eval")
    with madmom_import.madmom_importable():
        from madmom.evaluation.beats import BeatEvaluation
        from madmom.evaluation.onsets import OnsetEvaluation
    rng = np.random.default_rng(seed)
    a = np.sort(rng.uniform(0, 10, rng.integers(1, 60)))
    b = np.sort(np.concatenate([a + rng.normal(0, 0.06, len(a)), rng.uniform(0, 10, rng.integers(0, 20))]))
    b = b[(b > 0) & (rng.uniform(size=len(b)) < 0.8)]
    ours = f_measure(a, b)
    assert ours == pytest.approx(f_measure(b, a))
    assert ours == pytest.approx(brute_force(a, b, 0.07))
    assert ours == pytest.approx(OnsetEvaluation(b, a, window=0.07).fmeasure)
    if len(b):
        assert ours == pytest.approx(mir_eval.beat.f_measure(a, b, f_measure_threshold=0.07))
    if len(a) > 1 and len(b) > 40:
        assert ours == pytest.approx(BeatEvaluation(b, a, fmeasure_window=0.07).fmeasure)


def test_tolerance_is_inclusive_whatever_the_rounding() -> None:
    grid = np.arange(0, 30, 0.5)
    assert f_measure(grid, grid + 0.07) == 1.0
    assert f_measure(grid, grid - 0.07) == 1.0
    assert f_measure(grid, grid + 0.0701) == 0.0


def test_no_beats() -> None:
    none, some = np.zeros(0), np.array([1.0])
    assert f_measure(none, none) == 1.0
    assert f_measure(none, some) == f_measure(some, none) == 0.0


def test_same_beat_scores_high_and_another_tempo_low(tracked: BeatF1) -> None:
    metric = tracked.fresh()
    metric.update(take("same", clicks(120, 6), clicks(120, 6, seed=1)))
    metric.update(take("other", clicks(120, 6), clicks(87, 6, offset=0.2)))
    values = metric.per_take()
    assert values["same"]["beat_f1"] > 0.95
    assert values["other"]["beat_f1"] < 0.5
    assert values["same"]["context_beats"] == pytest.approx(12, abs=1)
    assert metric.result()["beat_f1"] == pytest.approx((values["same"]["beat_f1"] + values["other"]["beat_f1"]) / 2)


def test_beats_lie_on_the_clicks(tracked: BeatF1) -> None:
    assert f_measure(tracked.beats(clicks(100, 8, offset=0.3)), np.arange(0.3, 7.9, 0.6)) > 0.95


def test_silence_is_not_judged() -> None:
    silence = np.zeros(2 * 44100, dtype=np.float32)
    noise = (1e-4 * np.random.default_rng(0).standard_normal(2 * 44100)).astype(np.float32)
    metric = BeatF1(BeatF1.Config())
    with pytest.raises(EmptyClip, match="the context is silent"):
        metric.update(take("both", noise, clicks(120, 2)))
    with pytest.raises(EmptyClip, match="the stem is silent"):
        metric.update(take("one", clicks(120, 2), silence))
    assert metric.per_take() == {}


def test_sounds_without_beats_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both without: they agree; one without: they do not."""
    monkeypatch.setattr(beat_f1, "_madmom", lambda: lambda audio: np.arange(audio[0] > 0.5, dtype=np.float64))
    with_beat, without = np.full(44100, 0.9, dtype=np.float32), np.full(44100, 0.1, dtype=np.float32)
    metric = BeatF1(BeatF1.Config())
    metric.update(take("both", without, without))
    metric.update(take("one", with_beat, without))
    assert metric.result() == {"beat_f1": 0.5}
    assert metric.result(["both", "both", "one"])["beat_f1"] == pytest.approx(2 / 3)


def test_each_sound_is_tracked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def track(audio: np.ndarray) -> np.ndarray:
        calls.append(len(audio))
        return np.array([0.5, 1.0])

    monkeypatch.setattr(beat_f1, "_madmom", lambda: track)
    metric = BeatF1(BeatF1.Config())
    context = clicks(120, 2)
    metric.update(take("a", context, clicks(120, 2, seed=1)))
    metric.update(take("b", context.copy(), clicks(120, 2, seed=2)))
    other = metric.fresh()
    other.update(take("a", context, clicks(120, 2, seed=3)))
    assert len(calls) == 4
    assert set(metric.per_take()) == {"a", "b"}
    assert set(other.per_take()) == {"a"}


def test_a_context_is_tracked_once_for_all_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another process finds the beats of the context on the disk, and does not even load the tracker for it."""
    calls: list[int] = []
    monkeypatch.setattr(beat_f1, "_madmom", lambda: lambda audio: calls.append(1) or np.array([0.5, 1.0]))
    context, stem = clicks(120, 2), clicks(120, 2, seed=1)
    first = BeatF1(BeatF1.Config())
    first.cache_in(tmp_path)
    first.update(take("a", context, stem))
    assert len(calls) == 2
    monkeypatch.setattr(beat_f1, "_madmom", lambda: pytest.fail("the tracker was loaded"))
    later = BeatF1(BeatF1.Config())
    later.cache_in(tmp_path)
    later.update(take("b", context, stem))
    assert later.result() == first.result()
    assert later.fresh().beats(context).tolist() == [0.5, 1.0]


@pytest.mark.parametrize("change", ["tracker", "version", "weights"])
def test_beats_of_another_tracker_are_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str) -> None:
    monkeypatch.setattr(beat_f1, "_madmom", lambda: lambda audio: np.array([0.5]))
    monkeypatch.setattr(beat_f1, "_beat_this", lambda weights: lambda audio: np.array([0.7]))
    paths = [tmp_path / f"{name}.ckpt" for name in ("one", "two")]
    for path in paths:
        path.write_text(path.name)
    configs = [BeatF1.Config(weights=str(path)) for path in paths]
    first, second = (configs if change == "weights" else [BeatF1.Config(), configs[0]])[:2]
    if change == "version":
        second = first
    metrics = []
    for config in (first, second):
        metrics.append(BeatF1(config))
        monkeypatch.setattr(beat_f1, "madmom_version", lambda: "9.9")
    assert metrics[0]._identity != metrics[1]._identity
    for metric in metrics:
        metric.cache_in(tmp_path / "cache")
        metric.beats(clicks(120, 2))
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 2


def test_order_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beat_f1, "_madmom", lambda: lambda audio: np.arange(0.2, 1.0, abs(audio[0]) + 0.1))
    rng = np.random.default_rng(0)
    takes = [take(str(i), *(rng.uniform(0.2, 0.9, (2, 44100)).astype(np.float32))) for i in range(5)]
    forwards, backwards = BeatF1(BeatF1.Config()), BeatF1(BeatF1.Config())
    for one, other in zip(takes, reversed(takes), strict=True):
        forwards.update(one)
        backwards.update(other)
    assert forwards.per_take() == backwards.per_take()
    assert forwards.result() == pytest.approx(backwards.result())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (lambda a: a[:1000], "lasts 0.02 s"),
        (lambda a: np.where(np.arange(len(a)) == 7, np.nan, a).astype(np.float32), "NaN"),
    ],
)
def test_what_cannot_be_judged_is_refused_with_the_reason(changed, words: str) -> None:
    good = clicks(120, 2)
    metric = BeatF1(BeatF1.Config())
    with pytest.raises(ValueError, match=words):
        metric.update(take("x", good, changed(good)))
    with pytest.raises(ValueError, match="no take"):
        metric.result()


def test_wrong_rate_and_double_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beat_f1, "_madmom", lambda: lambda audio: np.array([0.5]))
    metric = BeatF1(BeatF1.Config())
    with pytest.raises(ValueError, match="expected 44100"):
        metric.update(take("x", clicks(120, 2), clicks(120, 2), rate=32000))
    metric.update(take("x", clicks(120, 2), clicks(120, 2)))
    with pytest.raises(ValueError, match="twice"):
        metric.update(take("x", clicks(120, 2), clicks(120, 2)))


def test_missing_library_and_missing_weights_are_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"no Beat This checkpoint at '.*none\.ckpt'"):
        BeatF1(BeatF1.Config(weights=str(tmp_path / "none.ckpt")))
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(b"not a checkpoint")
    with pytest.raises(PluginError, match="not a Beat This checkpoint"):
        BeatF1(BeatF1.Config(weights=str(broken))).beats(clicks(120, 2, rate=22050))
    monkeypatch.setattr(madmom_import.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PluginError, match="pip install 'accomp"):
        BeatF1(BeatF1.Config())


def test_the_alias_leaves_nothing_behind() -> None:
    finders, lookup = list(sys.meta_path), importlib.metadata.distribution
    with madmom_import.alias_of_distribution("a-name-nobody-has", "numpy"):
        assert importlib.metadata.version("a-name-nobody-has") == np.__version__
        with pytest.raises(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version("another-name-nobody-has")
        assert importlib.metadata.version("attrs")
    assert sys.meta_path == finders
    assert importlib.metadata.distribution is lookup
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("a-name-nobody-has")


def test_beat_this_from_a_checkpoint(tmp_path: Path) -> None:
    """A random, tiny checkpoint in the published form gives the beats that the package itself finds with it."""
    pytest.importorskip("beat_this")
    from beat_this.inference import Audio2Beats
    from beat_this.model.beat_tracker import BeatThis

    sizes = {"transformer_dim": 64, "n_layers": 1, "stem_dim": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BeatThis(**sizes)
    path = tmp_path / "tiny.ckpt"
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"hyper_parameters": sizes, "state_dict": weights}, path)
    audio = clicks(120, 4, rate=22050)

    before = torch.random.get_rng_state()
    metric = BeatF1(BeatF1.Config(weights=str(path)))
    metric.update(take("x", audio, audio, rate=22050))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert metric.result()["beat_f1"] == 1.0
    np.testing.assert_array_equal(metric.beats(audio), Audio2Beats(str(path), dbn=False)(audio, 22050)[0])
