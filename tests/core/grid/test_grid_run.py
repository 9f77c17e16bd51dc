"""Running a grid: what is shared is done once, what is done is not done again, what fails stops nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import grids
import pytest
import tiny

from accomp.core.errors import DataError, SpecError
from accomp.core.grid import running, tasks
from accomp.core.grid.record import Ledger
from accomp.core.grid.running import turn
from accomp.core.grid.work import work_of
from accomp.core.spec.grid import load_grid
from accomp.core.training.trainer import train

HERE = Path(__file__).parents[1]


@pytest.fixture
def copied(ran: Path, tmp_path: Path) -> Path:
    """The grid that has been run, elsewhere; its file says so."""
    folder = tmp_path / "moved"
    shutil.copytree(ran, folder)
    path = folder / "grid.toml"
    path.write_text(path.read_text().replace(f'folder = "{ran}', f'folder = "{folder}'))
    return path


@pytest.fixture
def performed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Titles of the work that is really done."""
    titles: list[str] = []

    def watched(work: Any) -> Any:
        titles.append(work.title)
        return tasks.perform(work)

    monkeypatch.setattr(running, "perform", watched)
    return titles


def record_of(path: Path) -> dict[str, Any]:
    return json.loads((path.parent / "grid" / "grid.json").read_text())


def numbers(path: Path) -> Any:
    """All of grid.json that is a result: what two runs of the same grid must agree on."""
    record = record_of(path)
    cells = {
        cell["name"]: (cell["metrics"], cell["hashes"], cell["takes"], cell["training"]["validation"])
        for cell in record["cells"]
    }
    return cells, [anchors["cells"] for anchors in record["anchors"]]


def test_a_grid_is_run_and_its_record_holds_the_numbers(ran: Path) -> None:
    record = record_of(ran / "grid.toml")
    assert [cell["name"] for cell in record["cells"]] == ["t_f=-2", "t_f=2", "greedy"]
    assert {cell["status"] for cell in record["cells"]} == {"done"}
    behind, _, greedy = record["cells"]
    assert record["axes"] == [{"key": "clock.t_f", "label": "t_f", "values": [-2, 2]}]
    assert behind["clock"]["t_f"] == {"frames": -2, "seconds": -0.04}
    assert greedy["axes"] == {}
    assert not greedy["swept"]
    for cell in record["cells"]:
        assert sum(cell["metrics"]["envelopes"][what] for what in ("scored", "empty", "failed")) == 2
        assert cell["takes"]["made"] == 2
        assert cell["timing"]["step"]["limit_ms"] == 20
        assert cell["training"]["steps"] == 6
        for key in ("folder", "model", "anchors"):
            assert (ran / "grid" / cell[key]).is_dir()
    (anchors,) = record["anchors"]
    cells = anchors["cells"].items()
    value = {name: cell["metrics"]["envelopes"]["numbers"]["envelopes"]["value"] for name, cell in cells}
    assert value["true_stem"] > value["random_pairing"]


def test_a_model_is_trained_once_for_all_that_play_it(ran: Path) -> None:
    _, ahead, greedy = record_of(ran / "grid.toml")["cells"]
    assert ahead["model"] == greedy["model"]
    assert ahead["folder"] != greedy["folder"]
    assert len(list((ran / "grid" / "models").iterdir())) == 2
    assert not (ran / "grid" / greedy["folder"] / "checkpoints").exists()
    takes = [json.loads((ran / "grid" / cell["folder"] / "takes.json").read_text()) for cell in (ahead, greedy)]
    assert takes[0]["checkpoint"] == takes[1]["checkpoint"]
    assert takes[0]["settings"]["sampler"] != takes[1]["settings"]["sampler"]


def test_nothing_is_trained_where_a_model_is_borrowed(ran: Path) -> None:
    one = grids.work(ran / "grid.toml").cells[0]
    with pytest.raises(
        SpecError, match=r"this run plays the model of .*; train that, or give the training a run\.folder of its own"
    ):
        train(one.cell.spec, tiny.registry(), one.judged.folder)


def test_nothing_is_done_twice_even_in_another_place(copied: Path, performed: list[str]) -> None:
    assert grids.run_inline(copied) == 0
    assert performed == []


def test_only_what_changed_is_done_again(copied: Path, performed: list[str]) -> None:
    before = record_of(copied)["cells"]
    copied.write_text(copied.read_text().replace('greedy" }', 'top_k", k = 2 }'))
    assert grids.run_inline(copied) == 0
    assert performed == ["cell greedy"]
    after = record_of(copied)["cells"]
    assert after[:2] == before[:2]
    assert after[2]["model"] == before[2]["model"]
    assert after[2]["folder"] != before[2]["folder"]
    assert [folder.name for folder in grids.work(copied).leftovers()] == [Path(before[2]["folder"]).name]


def test_a_renamed_cell_finds_its_work(copied: Path, performed: list[str]) -> None:
    copied.write_text(copied.read_text().replace('name = "greedy"', 'name = "the likeliest code"'))
    assert grids.run_inline(copied) == 0
    assert performed == []
    assert record_of(copied)["cells"][2]["name"] == "the likeliest code"


def test_other_metrics_judge_the_same_takes(copied: Path, performed: list[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.parent.glob("grid/cells/*/takes/*/stem.wav")}
    copied.write_text(copied.read_text().replace("[sweep]", "[set]\nmetric = []\n[sweep]"))
    assert grids.run_inline(copied) == 0
    assert sorted(performed) == ["anchors", "cell greedy", "cell t_f=-2", "cell t_f=2"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert all(cell["metrics"] == {} for cell in record_of(copied)["cells"])


@pytest.mark.parametrize("lost", ["metrics.json", "takes.json", "done.json"])
def test_what_is_gone_is_made_again_to_the_same_numbers(copied: Path, performed: list[str], lost: str) -> None:
    before = numbers(copied)
    (copied.parent / "grid" / record_of(copied)["cells"][0]["folder"] / lost).unlink()
    assert grids.run_inline(copied) == 0
    assert performed == ["cell t_f=-2"]
    assert numbers(copied) == before


def test_numbers_of_work_that_is_not_done_are_not_shown(copied: Path) -> None:
    work = grids.work(copied)
    (work.cells[0].judged.folder / "done.json").unlink()
    content = Ledger(work, tiny.registry()).content({})
    assert [cell["metrics"] is None for cell in content["cells"]] == [True, False, False]


def test_a_failed_cell_stops_no_other(
    music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], performed: list[str]
) -> None:
    path = grids.write_grid(tmp_path, music, grids.SWEEP + "[anchors]\ncells = []\n", steps=2)
    broken = grids.work(path).cells[0]
    broken.training.folder.mkdir(parents=True)
    (broken.training.folder / "spec.json").write_text("[]")
    assert grids.run_inline(path) == 1
    error = capsys.readouterr().err
    assert "failed: training t_f=-2: expected a JSON object, got list" in error
    assert "needed by t_f=-2\n" in error
    behind, ahead = record_of(path)["cells"]
    assert (behind["status"], ahead["status"]) == ("blocked", "done")
    assert behind["error"].startswith("training t_f=-2 failed: expected a JSON object")
    (training,) = [one for one in record_of(path)["work"] if one["status"] == "failed"]
    assert training["name"] == "t_f=-2"

    (broken.training.folder / "spec.json").unlink()
    performed.clear()
    assert grids.run_inline(path) == 0
    assert [title for title in performed if "store" not in title] == ["training t_f=-2", "cell t_f=-2"]


def test_what_is_done_stays_done_when_what_it_needed_fails(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_store(work: Any) -> Any:
        if work.kind == "store":
            raise DataError("the corpus is gone")
        return tasks.perform(work)

    monkeypatch.setattr(running, "perform", no_store)
    copied.write_text(copied.read_text().replace("[-2, 2]", "[-2, 2, 3]"))
    assert grids.run_inline(copied) == 1
    states = {cell["name"]: (cell["status"], cell["error"]) for cell in record_of(copied)["cells"]}
    (store,) = [one for one in record_of(copied)["work"] if one["kind"] == "store"]
    assert store["error"] == "the corpus is gone"
    done, blocked = ("done", None), ("blocked", f"store {store['name']} failed: the corpus is gone")
    assert states == {"t_f=-2": done, "t_f=2": done, "t_f=3": blocked, "greedy": done}


def test_killed_wherever_it_is_it_ends_with_the_same_numbers(ran: Path, music: Path, tmp_path: Path) -> None:
    path = grids.write_grid(tmp_path, music)
    program = [sys.executable, str(HERE / "grids.py"), str(tmp_path), "5"]
    killed = subprocess.run(program, capture_output=True, text=True, check=False)
    assert killed.returncode == 0, killed.stderr
    assert int(killed.stdout) >= grids.KILLS // 2  # one that comes through early has nothing left to be killed at
    theirs = json.dumps(numbers(ran / "grid.toml"))
    hashes = record_of(ran / "grid.toml")["cells"], record_of(path)["cells"]
    for cell, other in zip(*hashes, strict=True):
        for stage in cell["hashes"]:  # they differ by the paths of store and corpus
            theirs = theirs.replace(cell["hashes"][stage], other["hashes"][stage])
    assert json.dumps(numbers(path)) == theirs


def test_the_longest_training_is_begun_first_and_cells_before_any(tmp_path: Path) -> None:
    """Otherwise the longest may be left over, and all other workers wait for it."""
    longer = """
[[extra]]
name = "longer"
like = "t_f=2"
set.train = { steps = 60 }
"""
    path = grids.write_grid(tmp_path, tmp_path / "corpus", grids.SWEEP + longer + grids.ANCHORS)
    pieces = work_of(load_grid(path, tiny.registry())).pieces.values()
    order = sorted(pieces, key=turn)
    assert [piece.kind for piece in order] == ["store", *["cell"] * 3, "anchors", *["training"] * 3]
    assert order[5].name == "longer"
