"""From a spec file to the report, on the command line: killed in the middle, started again, done."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from accomp.core.report.page import toml
from accomp.core.runs.history import read_losses


def accomp(environment: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        tiny.command(*words), env=environment, cwd=folder, capture_output=True, text=True, check=False
    )


def test_a_run_that_is_killed_and_started_again_does_everything(trained: tiny.Trained, tmp_path: Path) -> None:
    environment = tiny.install_at(tmp_path / "site")
    run = tmp_path / "run"
    data = tiny.Trained(run, trained.corpus, tmp_path / "store.zarr").plain()
    (tmp_path / "tiny.toml").write_text(toml(data))

    killed = accomp({**environment, "TINY_KILL": "15"}, tmp_path, "run", "tiny.toml")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [record["step"] for record in read_losses(run) if record["kind"] == "train"] == [5, 10, 15]
    assert not (run / "takes.json").exists()

    done = accomp(environment, tmp_path, "run", "tiny.toml")
    assert done.returncode == 0, done.stderr
    for words in ("0 replaced", "trained 20 steps", "3 of 3 takes", "true stem", "report:"):
        assert words in done.stdout, words
    assert "resumed at step 10" in done.stderr

    steps = [(record["kind"], record["step"]) for record in read_losses(run)]
    assert len(steps) == len(set(steps))
    ours, theirs = (load_file(r / "checkpoints" / "step_000020" / "weights.safetensors") for r in (run, trained.run))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    takes = json.loads((run / "takes.json").read_text())
    for id in takes["takes"]:
        record = json.loads((run / "takes" / id / "take.json").read_text())
        assert record["streamed_equals_offline"]
    cells = json.loads((run / "metrics.json").read_text())["cells"]
    value = {name: cell["metrics"]["envelopes"]["numbers"]["envelopes"]["value"] for name, cell in cells.items()}
    assert value["true_stem"] > value["random_pairing"]
    page = (run / "report.html").read_text()
    assert page.count("<audio") == 12
    for name in ("spec.json", "versions.json"):
        assert (run / name).is_file()


@pytest.mark.parametrize(("instrument", "told"), [("Bas", "did you mean 'Bass'"), ("Bass", "nothing is trained yet")])
def test_mistakes_end_with_code_2_and_no_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], instrument: str, told: str
) -> None:
    from accomp.core.cli.main import main

    words = ["stream", str(tmp_path), "--input", "a.wav", "--output", str(tmp_path / "b.wav")]
    assert main([*words, "--instrument", instrument]) == 2
    error = capfd.readouterr().err
    assert told in error
    assert "Traceback" not in error
