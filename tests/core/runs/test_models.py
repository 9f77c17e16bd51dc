"""Models by name: what is found, what is told of it, and that it plays and begins a training as a run folder does."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from accomp.core.cli.model_commands import models
from accomp.core.component import Component
from accomp.core.errors import CheckpointError, PluginError, UserError
from accomp.core.registry import Registry
from accomp.core.runs.checkpoint import latest_checkpoint
from accomp.core.runs.export import export
from accomp.core.runs.folder import borrow_model, model_folder
from accomp.core.runs.models import CARD, card_of, find_model
from accomp.core.runs.player import load_player
from accomp.core.training.trainer import train

CPU = torch.device("cpu")


class Lending(Registry):
    """A registry in which one model, "lent", comes along."""

    lends: Path

    def names(self, kind: str) -> list[str]:
        return ["lent"] if kind == "model" else super().names(kind)

    def components(self, kind: str | None = None) -> list[Component]:
        return [self.find("model", "lent")] if kind == "model" else super().components(kind)

    def find(self, kind: str, name: str) -> Component:
        if kind != "model":
            return super().find(kind, name)
        lends = self.lends

        class Lent(Component):
            def load(self):
                return lambda: lends

        return Lent("model", name, "x:y", "tiny", provider="a package")


def lending(folder: Path) -> Lending:
    registry = Lending()
    registry.lends = folder
    return registry


def test_a_folder_is_itself_and_a_name_is_what_comes_along(trained: tiny.Trained, tmp_path: Path):
    registry = lending(trained.run)
    assert find_model(str(tmp_path), registry) == tmp_path
    assert find_model("lent", registry) == trained.run
    with pytest.raises(UserError, match="did you mean 'lent'"):
        find_model("lend", registry)
    with pytest.raises(UserError, match=r"expected hub:owner/repo"):
        find_model("hub:nobody", registry)
    with pytest.raises(PluginError, match="gives no folder"):
        find_model("lent", lending(tmp_path / "gone"))


def test_what_is_known_of_a_model_is_told(trained: tiny.Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    copy = trained.copy(tmp_path / "run").run
    (copy / CARD).write_text(json.dumps({"summary": "hums", "data": ["noise"]}))
    models(lending(copy))
    assert "lent  hums" in capsys.readouterr().out
    models(lending(copy), "lent")
    told = capsys.readouterr().out
    assert all(words in told for words in ("hums", "noise", "t_f = 0.04 s, k = 1", "energy")), told
    models(lending(copy), "lent", as_json=True)
    assert json.loads(capsys.readouterr().out)["steps"] == 20
    (copy / CARD).write_text("[")
    with pytest.raises(UserError, match="unreadable card"):
        card_of(copy)


def test_a_run_that_borrows_it_plays_its_weights(trained: tiny.Trained, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    borrow_model(tmp_path / "mine", find_model("lent", lending(trained.run)))
    assert model_folder(tmp_path / "mine") == trained.run.resolve()
    player = load_player(tmp_path / "mine", trained.registry, CPU)
    assert player.step == 20


def test_training_begins_with_its_weights_and_says_where_they_do_not_fit(trained: tiny.Trained, tmp_path: Path):
    spec = trained.spec()
    kept = spec.train.steps
    going_on = attrs.evolve(
        spec,
        run=attrs.evolve(spec.run, folder=str(tmp_path)),
        train=attrs.evolve(spec.train, steps=1, lr=1e-9, warmup=0, start=str(trained.run)),
    )
    train(going_on, trained.registry, tmp_path)
    first, after = (latest_checkpoint(run) for run in (trained.run, tmp_path))
    assert first is not None
    assert after is not None
    assert (first.step, after.step) == (kept, 1)
    old, new = (load_file(one.folder / "weights.safetensors") for one in (first, after))
    assert all(torch.allclose(old[name], new[name], atol=1e-6) for name in old)
    other = attrs.evolve(going_on, model=attrs.evolve(spec.model, width=2 * spec.model.width))
    with pytest.raises(CheckpointError, match="has shape"):
        train(other, trained.registry, tmp_path / "other")


def test_an_exported_model_plays_as_its_run_does_and_is_half_as_large(trained: tiny.Trained, tmp_path: Path):
    (tmp_path / "card.json").write_text('{"data": 1}')
    with pytest.raises(UserError, match='with a "summary"'):
        export(trained.run, tmp_path / "out", card=tmp_path / "card.json")
    (tmp_path / "card.json").write_text('{"summary": "hums"}')
    export(trained.run, tmp_path / "out", card=tmp_path / "card.json")
    assert card_of(tmp_path / "out")["summary"] == "hums"
    export(trained.run, tmp_path / "whole", whole=True)
    players = [load_player(run, trained.registry, CPU) for run in (trained.run, tmp_path / "out", tmp_path / "whole")]
    own, half, whole = (dict(player.model.named_parameters()) for player in players)
    assert all(torch.equal(own[name], whole[name]) for name in own)
    assert all(torch.allclose(own[name], half[name], atol=1e-3) for name in own)
    sizes = [sum(p.stat().st_size for p in (tmp_path / one).rglob("*.safetensors")) for one in ("out", "whole")]
    assert 0.4 < sizes[0] / sizes[1] < 0.6
    assert not list((tmp_path / "out").rglob("training.pt"))
    with pytest.raises(UserError, match="is there already"):
        export(trained.run, tmp_path / "out")


def test_weights_too_large_for_half_precision_are_named(trained: tiny.Trained, tmp_path: Path):
    copy = trained.copy(tmp_path / "run").run
    folder = latest_checkpoint(copy).folder  # type: ignore[union-attr]
    weights = load_file(folder / "weights.safetensors")
    name = next(iter(weights))
    weights[name].view(-1)[0] = 1e6
    save_file(weights, folder / "weights.safetensors")
    with pytest.raises(UserError, match=f"weight '{name}' has numbers that float16 does not"):
        export(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()
