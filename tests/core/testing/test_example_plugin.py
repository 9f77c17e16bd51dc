"""The example of a third-party package: really installed, listed, checked, and used from a spec."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from accomp.core.cli.main import main
from accomp.core.component import KINDS
from accomp.core.keyed_random import KeyedRandom
from accomp.core.registry import Registry
from accomp.core.spec.build import build_sampler
from accomp.core.spec.schema import load_spec
from accomp.core.types import TokenSpace

EXAMPLE = Path(__file__).parents[2] / "example_plugin"
CONTRIBUTING = Path(__file__).parents[3] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder into which pip has installed the package."""
    work = tmp_path_factory.mktemp("example")
    source = shutil.copytree(
        EXAMPLE, work / "source", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    )
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--target", str(work / "site"), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return work / "site"


@pytest.fixture
def installed(site, monkeypatch):
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "accomp_argmax", raising=False)
    return Registry()


def test_it_is_listed_by_a_fresh_process(site):
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "accomp.core.cli.main", "plugins", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {
        "kind": "sampler",
        "name": "argmax",
        "provider": "accomp-argmax 0.1.0",
        "summary": "greedy decoding",
    } in rows
    assert all(set(row) == {"kind", "name", "provider", "summary"} for row in rows)
    assert len(rows) == 1 + len(Registry(third_party=False).components())


def test_it_passes_the_conformance_kit_from_the_command_line(installed, capsys):
    assert main(["check-plugin", "sampler", "argmax"]) == 0
    out = capsys.readouterr().out
    assert "ok  pick: logits [B, K, C] -> codes [B, K] int64 in [0, C)" in out


def test_a_spec_names_it(installed):
    spec = load_spec("quickstart", installed, ['sampler={plugin="argmax"}'])
    sampler = build_sampler(spec, TokenSpace(8000, 160, codebooks=2, codebook_size=5, latent_dim=1), installed)
    logits = torch.tensor([[[0.0, 1, 0, 0, 0], [0, 0, 0, 5, 0]]])
    assert sampler.pick(logits, KeyedRandom.seeded(0)).tolist() == [[1, 3]]


def test_its_hooks_are_called(installed, tmp_path, capsys):
    installed.pm.hook.accomp_step(run=tmp_path, step=10, losses={"train/loss": 2.5, "train/level_0": 2.25})
    installed.pm.hook.accomp_step(run=tmp_path, step=20, losses={"train/loss": 2.0})
    assert (tmp_path / "losses.csv").read_text() == "10,train/loss,2.5\n10,train/level_0,2.25\n20,train/loss,2.0\n"
    installed.pm.hook.accomp_report(run=tmp_path, report=tmp_path / "report.html")
    assert capsys.readouterr().out == f"open file://{tmp_path}/report.html\n"


def test_the_guide_quotes_it_word_for_word():
    guide = CONTRIBUTING.read_text()
    for name, language in (("pyproject.toml", "toml"), ("accomp_argmax.py", "python")):
        assert f"```{language}\n{(EXAMPLE / name).read_text()}```" in guide, f"{name} differs from CONTRIBUTING.md"


def test_the_guide_names_files_that_are_there_and_every_kind():
    guide = CONTRIBUTING.read_text()
    named = set(re.findall(r"\b(?:core|plugins|zarr_store|tests)/[\w/]*\w\.(?:py|toml)\b", guide))
    named |= set(re.findall(r"\]\(([^)]+)\)", guide))
    missing = sorted(path for path in named if "KIND" not in path and not (CONTRIBUTING.parent / path).exists())
    assert not missing
    assert len(named) > 20
    for kind in KINDS:
        assert f"| `{kind}` |" in guide


def test_it_needs_accomp_plugin_alone_and_forty_lines():
    source = (EXAMPLE / "accomp_argmax.py").read_text()
    assert len(source.splitlines()) < 40
    assert re.findall(r"accomp[.\w]*(?= import)", source) == ["accomp.plugin"]
