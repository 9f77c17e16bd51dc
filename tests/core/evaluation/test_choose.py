"""Choice of a checkpoint by what it plays: scored as the report scores, kept, dropped by further training, borrowed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny

from accomp.core.cli.main import main
from accomp.core.errors import CheckpointError, SpecError
from accomp.core.evaluation import choose as stage
from accomp.core.evaluation.choose import choose
from accomp.core.runs.checkpoint_folders import checkpoint_folder, checkpoint_steps
from accomp.core.runs.choice import FILE, chosen_step
from accomp.core.runs.folder import borrow_model
from accomp.core.runs.history import best_step
from accomp.core.runs.player import playing_checkpoint
from accomp.core.training.trainer import train

FEW: dict[str, Any] = {"generate": {"takes": 2, "seconds": 0.5}, "evaluate": {"anchors": 3}}


@pytest.fixture
def own(trained: tiny.Trained, tmp_path: Path) -> tiny.Trained:
    """A trained run of this test's own, with several checkpoints."""
    made = trained.copy(tmp_path / "run")
    assert len(checkpoint_steps(made.run)) > 1
    return made


def record(number: float, **more: Any) -> dict[str, Any]:
    """A scored clip set whose metric has this number."""
    return {"metrics": {"fit": {"numbers": {"fit": {"value": number}}, **more}}}


def scored(monkeypatch: pytest.MonkeyPatch, true: dict[str, Any], random: dict[str, Any], *takes: Any) -> list[Path]:
    """Let `choose` find these records: of the anchors, and of each checkpoint's takes; returns where takes are made."""
    left, folders = list(takes), []

    def found(spec: Any, registry: Any, folder: Path) -> dict[str, Any]:
        if "model" not in spec.evaluate.cells:
            return {"true_stem": true, "random_pairing": random}
        return {"model": left.pop(0)}

    monkeypatch.setattr(stage, "_scored", found)
    monkeypatch.setattr(stage, "generate", lambda spec, registry, folder: folders.append(folder))
    return folders


def test_each_checkpoint_plays_and_the_one_nearest_to_the_true_stem_is_chosen(
    own: tiny.Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    """By this test's own arithmetic, of the records of the evaluations."""
    steps = checkpoint_steps(own.run)
    chosen = choose(own.spec(**FEW), own.registry, own.run)

    def number(path: Path, cell: str) -> float:
        cells = json.loads((path / "metrics.json").read_text())["cells"]
        return float(cells[cell]["metrics"]["envelopes"]["numbers"]["envelopes"]["value"])

    folder = own.run / "choice"
    true, random = (number(folder, cell) for cell in ("true_stem", "random_pairing"))
    shares = {}
    for step in steps:
        played = json.loads((folder / f"step_{step:06d}" / "takes.json").read_text())
        assert played["checkpoint"]["step"] == step
        assert len(played["takes"]) == 2
        share = (number(folder / f"step_{step:06d}", "model") - random) / (true - random)
        shares[step] = min(max(share, -1), 1)
    assert chosen == max(steps, key=lambda step: shares[step])
    kept = json.loads((own.run / FILE).read_text())
    assert kept["step"] == chosen_step(own.run) == playing_checkpoint(own.run).step == chosen
    assert {int(step): one["mean"] for step, one in kept["candidates"].items()} == pytest.approx(shares)
    assert f"the checkpoint of step {chosen} plays from now on" in capsys.readouterr().out


def test_what_is_made_already_is_kept(own: tiny.Trained) -> None:
    choose(own.spec(**FEW), own.registry, own.run)
    before = {path: path.stat().st_mtime_ns for path in own.run.rglob("stem.wav")}
    assert before
    choose(own.spec(**FEW), own.registry, own.run)
    assert {path: path.stat().st_mtime_ns for path in own.run.rglob("stem.wav")} == before


@pytest.mark.parametrize(("true", "random"), [(1.0, 0.0), (0.0, 1.0)])
def test_better_is_where_the_true_stem_is(
    own: tiny.Trained, monkeypatch: pytest.MonkeyPatch, true: float, random: float
) -> None:
    steps = checkpoint_steps(own.run)
    values = [0.3] * len(steps)
    values[1] = 0.7 * true + 0.3 * random
    values[0] = 0.3 * true + 0.7 * random
    folders = scored(monkeypatch, record(true), record(random), *map(record, values))
    chosen = choose(own.spec(), own.registry, own.run)
    assert chosen == steps[1]
    assert [folder.name for folder in folders] == [f"step_{step:06d}" for step in steps]


def test_no_number_outweighs_the_others_and_those_without_a_question_do_not_count(
    own: tiny.Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def takes(time: float, sound: float, other: float) -> dict[str, Any]:
        numbers = {"time": {"value": time}, "sound": {"value": sound}, "other": {"value": other}}
        return {"metrics": {"fit": {"numbers": numbers, "answers": {"time": "in time", "sound": "as it sounds"}}}}

    steps = checkpoint_steps(own.run)
    rest = [takes(0.0, 10.0, 0.0)] * (len(steps) - 2)
    scored(monkeypatch, takes(1, 0, 1), takes(0, 10, 0), takes(0.5, 900, 1.0), takes(0.4, 15, 0.0), *rest)
    assert choose(own.spec(), own.registry, own.run) == steps[1]
    kept = json.loads((own.run / FILE).read_text())["candidates"]
    assert kept[str(steps[0])]["shares"] == {"time": 0.5, "sound": -1.0}
    assert kept[str(steps[1])]["shares"] == {"time": 0.4, "sound": -0.5}


def test_without_anchors_there_is_no_choice(own: tiny.Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    scored(monkeypatch, record(1.0), record(1.0), record(0.5))
    with pytest.raises(SpecError, match=r"for both anchors @ \[\[metric\]\]"):
        choose(own.spec(), own.registry, own.run)
    assert chosen_step(own.run) is None


def test_without_metrics_nothing_is_played(own: tiny.Trained) -> None:
    with pytest.raises(SpecError, match="no metric to choose by"):
        choose(own.spec(metric=[]), own.registry, own.run)
    assert not (own.run / "choice").exists()


def test_further_training_drops_the_choice(own: tiny.Trained, capsys: pytest.CaptureFixture[str]) -> None:
    other = next(step for step in checkpoint_steps(own.run) if step != best_step(own.run))
    (own.run / FILE).write_text(json.dumps({"step": other}))
    train(own.spec(), own.registry, own.run)
    assert playing_checkpoint(own.run).step == other, "a finished training leaves it alone"
    train(own.spec(train={**own.plain()["train"], "steps": 25}), own.registry, own.run)  # type: ignore[dict-item]
    assert chosen_step(own.run) is None
    assert "the choice of a checkpoint is dropped" in capsys.readouterr().out


def test_a_borrowed_model_plays_by_the_lenders_choice_or_by_the_step_it_names(
    own: tiny.Trained, tmp_path: Path
) -> None:
    first, *_, last = checkpoint_steps(own.run)
    (own.run / FILE).write_text(json.dumps({"step": first}))
    borrower = tmp_path / "borrower"
    borrower.mkdir()
    borrow_model(borrower, own.run)
    assert playing_checkpoint(borrower).step == first
    borrow_model(borrower, own.run, last)
    assert playing_checkpoint(borrower).step == last
    shutil.rmtree(checkpoint_folder(own.run, last))
    with pytest.raises(CheckpointError, match=f"step_{last:06d}"):
        playing_checkpoint(borrower)


def test_the_newest_plays_where_the_chosen_one_is_gone(own: tiny.Trained) -> None:
    first, *_, last = checkpoint_steps(own.run)
    (own.run / FILE).write_text(json.dumps({"step": first}))
    shutil.rmtree(checkpoint_folder(own.run, first))
    assert playing_checkpoint(own.run).step == last


@pytest.mark.parametrize("text", ["{", "[]", '{"step": "5"}', '{"step": -1}', '{"step": true}', "{}"])
def test_a_damaged_choice_is_named_with_the_cure(own: tiny.Trained, text: str) -> None:
    (own.run / FILE).write_text(text)
    with pytest.raises(CheckpointError, match=r"run `accomp choose SPEC` again.*chosen\.json"):
        playing_checkpoint(own.run)


def test_one_checkpoint_is_no_choice(own: tiny.Trained) -> None:
    first, *others = checkpoint_steps(own.run)
    for step in others:
        shutil.rmtree(checkpoint_folder(own.run, step))
    with pytest.raises(CheckpointError, match=rf"step {first} alone; expected two or more; .*train\.keep"):
        choose(own.spec(), own.registry, own.run)
    borrower = own.run.parent / "borrower"
    borrower.mkdir()
    borrow_model(borrower, own.run)
    with pytest.raises(CheckpointError, match="choose among the checkpoints there"):
        choose(own.spec(), own.registry, borrower)


def test_the_command_refuses_a_run_that_is_not_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["choose", "quickstart", "--run", str(tmp_path / "run")]) == 2
    assert "checkpoints to choose from: none" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
