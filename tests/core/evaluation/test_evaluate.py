"""Judging: anchors are what they say, numbers and intervals are right, nothing stale is scored, failures are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import tiny

from accomp.core.audio import io as audio
from accomp.core.errors import DataError, WorkError
from accomp.core.evaluation.anchors import NO_PARTNER, anchor_cells
from accomp.core.evaluation.clip_sets import SongClip, TakeClip
from accomp.core.evaluation.evaluate import RECORD, evaluate
from accomp.core.evaluation.summary import summary
from accomp.core.generation.generate import generate
from accomp.core.music.instruments import CLASSES
from accomp.core.types import Take


@pytest.fixture
def made(generated: tiny.Trained, tmp_path: Path) -> tiny.Trained:
    """A run with takes of this test's own."""
    return generated.copy(tmp_path / "run")


def judged(made: tiny.Trained, **sections: Any) -> dict[str, Any]:
    evaluate(made.spec(**sections), made.registry, made.run)
    return json.loads((made.run / RECORD).read_text())


def envelopes(context: np.ndarray, stem: np.ndarray) -> float:
    """The tiny metric once more: correlation of mean |x| in 20 ms at 16 kHz."""
    sounds = [np.abs(audio.resample(sound, 32000, 16000)) for sound in (context, stem)]
    a, b = ([block.mean() for block in np.split(sound, len(sound) // 320)] for sound in sounds)
    return float(np.corrcoef(a, b)[0, 1])


def test_numbers_are_those_of_the_takes_and_the_songs(made: tiny.Trained) -> None:
    found = judged(made)
    takes = json.loads((made.run / "takes.json").read_text())["takes"]
    model = found["cells"]["model"]["metrics"]["envelopes"]
    assert sorted(model["takes"]) == sorted(takes)
    for id in takes:
        context, stem = (audio.read(made.run / "takes" / id / f"{name}.wav", 32000) for name in ("context", "stem"))
        assert model["takes"][id]["envelopes"] == pytest.approx(envelopes(context, stem), abs=1e-5)
    mean = np.mean([take["envelopes"] for take in model["takes"].values()])
    assert model["numbers"]["envelopes"]["value"] == pytest.approx(mean)
    true = found["cells"]["true_stem"]["metrics"]["envelopes"]
    assert set(takes) < set(true["takes"])
    assert len(true["takes"]) == 5
    for id in takes:
        context, stem = (audio.read(made.run / "takes" / id / f"{name}.wav", 32000) for name in ("context", "true"))
        assert true["takes"][id]["envelopes"] == pytest.approx(envelopes(context, stem), abs=1e-3)


def test_the_anchors_come_out_in_order(made: tiny.Trained) -> None:
    cells = judged(made, evaluate={"anchors": 8})["cells"]
    assert list(cells) == ["model", "true_stem", "random_pairing", "codec"]
    true, random, codec = (cells[name]["metrics"]["envelopes"]["numbers"]["envelopes"] for name in list(cells)[1:])
    assert min(true["low"], codec["low"]) > random["high"]
    assert codec["value"] != true["value"]
    for number in (true, random, codec):
        assert number["low"] <= number["value"] <= number["high"]


def test_random_pairs_are_of_other_songs_and_the_same_class(trained: tiny.Trained) -> None:
    spec = trained.spec(evaluate={"anchors": 12, "cells": ["random_pairing", "true_stem"]})
    true, random = anchor_cells(spec, trained.registry, Path("nowhere"))
    assert len(true.clips) == len(random.clips) == 12
    assert len({clip.id for clip in true.clips}) == 12
    for clip in random.clips:
        assert isinstance(clip, SongClip)
        assert clip.stem.track is not clip.context.track
        assert clip.stem.instrument == clip.context.instrument
    for clip in true.clips:
        assert isinstance(clip, SongClip)
        assert clip.stem is clip.context
    homes = {clip.context.track.stems["s0"].path.parent.parent.name for clip in true.clips}  # type: ignore[union-attr]
    assert homes == {"test", "validation"}


def test_a_clip_without_partner_is_counted_by_name(made: tiny.Trained, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(made.corpus, corpus)
    for path in (corpus / "test" / "test0").iterdir():
        name, _, number = path.stem.partition("-")
        path.rename(path.with_name(f"{name}-{int(number) + 1}.flac"))
    spec = made.spec(corpus={"plugin": "shelf", "root": str(corpus)}, evaluate={"anchors": 12})
    generate(spec, made.registry, made.run)
    evaluate(spec, made.registry, made.run)
    cells = json.loads((made.run / RECORD).read_text())["cells"]
    lonely = cells["random_pairing"]["left_out"]
    assert lonely
    assert all(one["reason"] == NO_PARTNER and one["clip"].startswith("test0-") for one in lonely)
    assert cells["random_pairing"]["clips"] == 12 - len(lonely)
    assert cells["true_stem"]["clips"] == 12


def test_what_a_metric_cannot_judge_is_named_and_counted(made: tiny.Trained) -> None:
    takes = json.loads((made.run / "takes.json").read_text())["takes"]
    for path, sound in (("stem", np.zeros(64000)), ("context", None)):
        file = made.run / "takes" / takes[0 if sound is not None else 1] / f"{path}.wav"
        if sound is None:
            file.write_bytes(b"broken")
        else:
            audio.write(file, sound, 32000)
    tiny.vouch_for(made.run)
    model = judged(made)["cells"]["model"]["metrics"]["envelopes"]
    assert model["scored"] == len(takes) - 2
    assert model["empty"] == [{"clip": takes[0], "reason": "too quiet to judge"}]
    (failed,) = model["failed"]
    assert failed["clip"] == takes[1]
    assert "cannot read audio" in failed["reason"]
    assert set(model["takes"]) == set(takes[2:])
    lines = summary(json.loads((made.run / RECORD).read_text()))
    assert any("model" in line and "1 scored, 1 empty, 1 failed, 0 left out" in line for line in lines)


def test_each_class_has_its_numbers(made: tiny.Trained) -> None:
    cells = judged(made, evaluate={"anchors": 8})["cells"]
    for cell in cells.values():
        one = cell["metrics"]["envelopes"]
        of = {CLASSES[4 * k]: [id for id in one["takes"] if f"-s{k}-" in id] for k in range(3)}
        assert sum(part["scored"] for part in one["classes"].values()) == one["scored"]
        for label, part in one["classes"].items():
            assert part["scored"] == len(of[label]) > 0
            mean = np.mean([one["takes"][id]["envelopes"] for id in of[label]])
            number = part["numbers"]["envelopes"]
            assert number["value"] == pytest.approx(mean)
            assert (number["low"] is None) == (part["scored"] == 1)


def test_a_metric_judges_only_what_carries_what_it_needs(made: tiny.Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nowhere: it does not apply there, and no clip has failed. Here and there: the others have failed, by name."""
    monkeypatch.setattr(tiny.Envelopes, "needs", frozenset({"truth"}), raising=False)
    load = TakeClip.load
    kept = json.loads((made.run / "takes.json").read_text())["takes"][1:]

    def without(self: TakeClip, rate: int) -> Take:
        take = load(self, rate)
        return take if take.id in kept else attrs.evolve(take, truth=None)

    monkeypatch.setattr(TakeClip, "load", without)
    cells = judged(made)["cells"]
    model, true = (cells[name]["metrics"]["envelopes"] for name in ("model", "true_stem"))
    assert model["applies"]
    assert model["scored"] == len(kept)
    assert [one["reason"] for one in model["failed"]] == ["the clip has no truth"]
    assert true["applies"]
    assert not true["failed"]
    kept.clear()
    (made.run / RECORD).unlink()
    found = judged(made)
    model = found["cells"]["model"]["metrics"]["envelopes"]
    assert not model["applies"]
    assert (model["scored"], model["empty"], model["failed"], model["numbers"]) == (0, [], [], {})
    assert "does not apply, its clips have no truth" in summary(found)[0]


def test_numbers_that_these_takes_do_not_give_are_told_not_fatal(
    made: tiny.Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = tiny.Envelopes.result

    def of_four(self: tiny.Envelopes, takes: Sequence[str] | None = None) -> dict[str, float]:
        if len(takes or ()) < 4:
            raise ValueError("four takes at least")
        return original(self, takes)

    monkeypatch.setattr(tiny.Envelopes, "result", of_four)
    found = judged(made)
    model, true = (found["cells"][name]["metrics"]["envelopes"] for name in ("model", "true_stem"))
    assert (model["scored"], model["numbers"]) == (3, {})
    assert true["numbers"]
    assert "envelopes, model: four takes at least (3 scored" in summary(found)[0]


def test_a_crash_inside_a_metric_is_a_failed_clip_and_nonsense_an_error(
    made: tiny.Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = tiny.Envelopes.update

    def crashing(self: tiny.Envelopes, take: Take) -> None:
        if take.id.startswith("test0"):
            raise ZeroDivisionError("by the beat")
        original(self, take)

    monkeypatch.setattr(tiny.Envelopes, "update", crashing)
    failed = judged(made)["cells"]["model"]["metrics"]["envelopes"]["failed"]
    assert [one["reason"] for one in failed] == ["ZeroDivisionError: by the beat"]
    monkeypatch.setattr(tiny.Envelopes, "result", lambda self, takes=None: {"envelopes": float("nan")})
    (made.run / RECORD).unlink()
    with pytest.raises(WorkError, match="gave nan for envelopes"):
        judged(made)


def test_judged_once_and_again_where_something_changed(made: tiny.Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    original, seen = tiny.Envelopes.update, []

    def counting(self: tiny.Envelopes, take: Take) -> None:
        seen.append(take.id)
        original(self, take)

    monkeypatch.setattr(tiny.Envelopes, "update", counting)
    first = judged(made)
    assert len(seen) == 3 + 5 + 5 + 5
    assert judged(made) == first
    assert len(seen) == 18
    for file in (made.run / "takes").rglob("*.wav"):
        file.touch()  # the same sound, by its hash
    assert judged(made) == first
    assert len(seen) == 18
    other = {"sampler": {"plugin": "top_k", "k": 2}}
    generate(made.spec(**other), made.registry, made.run)
    judged(made, **other)
    assert len(seen) == 21


def test_a_killed_evaluation_goes_on_with_the_next_cell(made: tiny.Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = judged(made)
    (made.run / RECORD).unlink()
    original, seen = tiny.Envelopes.update, []

    def dying(self: tiny.Envelopes, take: Take) -> None:
        seen.append(take.id)
        if len(seen) == 6:
            raise KeyboardInterrupt
        original(self, take)

    monkeypatch.setattr(tiny.Envelopes, "update", dying)
    with pytest.raises(KeyboardInterrupt):
        judged(made)
    assert not (made.run / RECORD).exists()
    assert judged(made) == expected
    assert len(seen) == 6 + 15
    assert not (made.run / "metrics.part.json").exists()


def test_stale_takes_are_refused(made: tiny.Trained) -> None:
    with pytest.raises(DataError, match=r"the spec says .*'takes': 2"):
        judged(made, generate={"takes": 2, "seconds": 1.0})
    path = made.run / "takes.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "checkpoint": {"step": 10, "weights": "another"}}))
    with pytest.raises(DataError, match=r"made by the model of step 10, the run's best is now that of step 20"):
        judged(made)
    path.write_text(json.dumps({**record, "takes": [*record["takes"], "gone"]}))
    with pytest.raises(WorkError, match=r"take 'gone': take.json is gone or broken(.|\n)*run `accomp generate SPEC`"):
        judged(made)
    path.unlink()
    with pytest.raises(DataError, match="no takes to score yet"):
        judged(made)


def test_metrics_that_share_what_they_know(made: tiny.Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric with `fresh` is built once and asked for an empty one for each further cell."""
    built, renewed = [], []
    original = tiny.Envelopes.__init__

    def counting(self: tiny.Envelopes, config: Any, space: Any) -> None:
        built.append(self)
        original(self, config, space)

    def fresh(self: tiny.Envelopes) -> tiny.Envelopes:
        renewed.append(self)
        return tiny.Envelopes(tiny.Envelopes.Config(), None)  # type: ignore[arg-type]

    monkeypatch.setattr(tiny.Envelopes, "__init__", counting)
    monkeypatch.setattr(tiny.Envelopes, "fresh", fresh, raising=False)
    cells = judged(made)["cells"]
    assert len(renewed) == 3
    assert cells["model"]["metrics"]["envelopes"]["scored"] == 3
