"""`accomp compile`: the steps that play are compiled in a folder of their own, kept, and used from then on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from accomp.core.errors import UserError
from accomp.core.generation.compile_run import compile_run
from accomp.core.runs.compiled import FOLDER
from accomp.core.runs.player import load_player
from accomp.core.spec.runtime import Runtime

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configuration and torch's cache in a folder of the test -> that cache."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torch"))
    for module in ("generation.compile_run", "spec.runtime"):
        monkeypatch.setattr(f"accomp.core.{module}.lacking", lambda _: "")
    return tmp_path / "torch"


def test_what_a_run_compiles_is_kept_and_used(
    trained: Any, tmp_path: Path, places: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    made, rows = trained.copy(tmp_path / "run"), []

    def captured(step: Any, *_: Any) -> Any:
        rows.append(step.__self__.rows)
        Path(os.environ["TORCHINDUCTOR_CACHE_DIR"], f"graph{len(rows)}").write_text("compiled")
        return step

    monkeypatch.setattr("accomp.core.streaming.step.captured_step", captured)
    monkeypatch.setattr("accomp.core.training.random_init.compile_loss", lambda *_: rows.append("loss"))
    compile_run(made.run, made.registry, slots=(2, 3), training=True)
    assert rows == [1, 2, 3, "loss"], "a session, two servers, training"
    assert "compiled in " in capsys.readouterr().out
    assert not places.exists(), "torch's own cache was left alone"

    load_player(made.run, made.registry, CPU, runtime=Runtime(compile="off"))
    assert capsys.readouterr().out == ""
    load_player(made.run, made.registry, CPU, runtime=Runtime(compile="on"))
    assert f"compiled steps @ {made.run / FOLDER}" in capsys.readouterr().out
    assert {"graph1", "graph2", "graph3"} <= {path.name for path in places.iterdir()}


def test_where_nothing_can_be_compiled_nothing_is_lost(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trained.copy(tmp_path / "run")
    (made.run / FOLDER).mkdir()
    (made.run / FOLDER / "cache.json").write_text("{}")
    monkeypatch.setattr("accomp.core.generation.compile_run.lacking", lambda _: "this machine has no C++ compiler")
    with pytest.raises(UserError, match=r"no C\+\+ compiler; nothing can be compiled here"):
        compile_run(made.run, made.registry)
    assert (made.run / FOLDER / "cache.json").exists()
