"""Anchors: those that are asked for, with or without a model, each judged as a cell like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from fakes import EnergyTokenizer

from accomp.core.audio import io as audio
from accomp.core.errors import SpecError
from accomp.core.evaluation.anchors import anchor_cells
from accomp.core.evaluation.clip_sets import CodecClip
from accomp.core.evaluation.evaluate import RECORD, evaluate, evaluate_anchors

RATE = 32000


def cells_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / RECORD).read_text())["cells"]


def test_the_codec_s_anchor_is_the_true_stem_encoded_and_decoded_once(
    trained: tiny.Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = trained.spec(evaluate={"anchors": 2, "cells": ["codec"]})
    (cell,) = anchor_cells(spec, trained.registry, tmp_path)
    codec = EnergyTokenizer()
    made = {}
    for clip in cell.clips:
        take = clip.load(RATE)
        assert take.truth is not None
        through = codec.decode(codec.encode(torch.from_numpy(take.truth)[None]))[0, : len(take.truth)]
        np.testing.assert_allclose(take.stem, through.numpy(), atol=1e-6)
        made[clip.id] = take.stem

    def never(self: EnergyTokenizer, audio: torch.Tensor) -> torch.Tensor:
        raise AssertionError("encoded again")

    monkeypatch.setattr(EnergyTokenizer, "encode", never)
    (cell,) = anchor_cells(spec, trained.registry, tmp_path)
    for clip in cell.clips:
        np.testing.assert_array_equal(clip.load(RATE).stem, made[clip.id])
    clip = cell.clips[0]
    assert isinstance(clip, CodecClip)
    assert clip.codec == "loud"
    assert not list(tmp_path.glob("*.part"))


def test_anchors_are_judged_without_any_model(trained: tiny.Trained, tmp_path: Path) -> None:
    folder = tmp_path / "anchors"
    spec = trained.spec(evaluate={"anchors": 3})
    evaluate_anchors(spec, trained.registry, folder)
    alone = cells_of(folder)
    assert list(alone) == ["true_stem", "random_pairing", "codec"]
    assert not (folder / "checkpoints").exists()
    asked = trained.spec(evaluate={"anchors": 3, "cells": ["true_stem"]})
    evaluate(asked, trained.registry, tmp_path / "other")
    other = cells_of(tmp_path / "other")
    assert list(other) == ["true_stem"]
    assert other["true_stem"]["metrics"] == alone["true_stem"]["metrics"]


def test_the_model_is_judged_alone_where_that_is_asked(generated: tiny.Trained, tmp_path: Path) -> None:
    made = generated.copy(tmp_path / "run")
    shutil.rmtree(made.run / "cache", ignore_errors=True)
    evaluate(made.spec(evaluate={"cells": ["model"]}), made.registry, made.run)
    assert list(cells_of(made.run)) == ["model"]


def test_a_prompt_s_length_is_not_judged_in_the_anchors_either(trained: tiny.Trained, tmp_path: Path) -> None:
    spec = trained.spec(
        evaluate={"anchors": 2, "cells": ["true_stem"]}, generate={"takes": 2, "seconds": 1.0, "prompt": "0.4s"}
    )
    (cell,) = anchor_cells(spec, trained.registry, tmp_path)
    evaluate_anchors(spec, trained.registry, tmp_path)
    found = cells_of(tmp_path)["true_stem"]["metrics"]["envelopes"]["takes"]
    for clip in cell.clips:
        take = clip.load(RATE)
        sounds = [np.abs(audio.resample(sound[20 * 640 :], RATE, 16000)) for sound in (take.context, take.stem)]
        a, b = (sound.reshape(-1, 320).mean(1) for sound in sounds)
        assert found[clip.id]["envelopes"] == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-4)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"evaluate": {"cells": ["true_stem", "true_stem"]}}, "none twice"),
        ({"evaluate": {"cells": []}}, "expected at least one of model, deaf, true_stem"),
        ({"evaluate": {"cells": ["truestem"]}}, "did you mean 'true_stem'"),
        ({"evaluate": {"loudness": "loud"}}, "loudness"),
        ({"generate": {"input": "none"}}, "expected"),
        ({"generate": {"prompt": "0.41s"}}, "prompt"),
    ],
)
def test_what_cannot_be_asked_for_is_said(trained: tiny.Trained, sections: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        trained.spec(**sections)


def test_a_prompt_must_leave_something_to_play(trained: tiny.Trained) -> None:
    from accomp.core.errors import CombinationError
    from accomp.core.spec.build import check_combination

    spec = trained.spec(generate={"seconds": 1.0, "prompt": 50})
    with pytest.raises(CombinationError, match=r"generate.prompt = 50 frames leaves nothing to play .* 50 frames"):
        check_combination(spec, trained.registry)
    check_combination(trained.spec(generate={"seconds": 1.0, "prompt": 49}), trained.registry)
