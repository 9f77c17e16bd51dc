"""accomp layer: rounds that a user, a list or a later command chooses from, with models of every kind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import tiny
import torch

from accomp.core.audio import io as audio
from accomp.core.cli.main import main
from accomp.core.errors import CheckpointError, CombinationError, DataError, UserError, WorkError
from accomp.core.layering import LayerRequest, band, layer
from accomp.core.layering.recipe import ROOT
from accomp.core.layering.tree import Node, Tree
from accomp.core.runs.checkpoint import read_checkpoint
from accomp.core.runs.player import Player, playing_checkpoint

RATE = 32000
TRIO = ("Bass", "drums", "Piano")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("context") / "song.wav"
    audio.write(path, tiny.tone(0.4, 1), RATE)
    return path


@pytest.fixture(scope="module")
def grown(trained: tiny.Trained, context: Path, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """Three layers of `--auto`; not to be changed."""
    folder = tmp_path_factory.mktemp("grown") / "tree"
    layer(trained.run, trained.registry, LayerRequest(folder, context, auto=TRIO, variations=2))
    return Tree(folder)


@pytest.fixture(scope="module")
def offline(trained: tiny.Trained, tmp_path_factory: pytest.TempPathFactory) -> tiny.Trained:
    """A masked model that hears whole clips, trained on the same store."""
    from accomp.core.training.trainer import train

    made = tiny.Trained(tmp_path_factory.mktemp("offline") / "run", trained.corpus, trained.store)
    plain = made.plain(
        fuser={"plugin": "concat"}, objective={"plugin": "mlm"}, sampler={"plugin": "vampnet", "steps": [3, 2]}
    )
    del plain["clock"]
    plain["train"] = {**trained.plain()["train"], "steps": 5}  # type: ignore[dict-item]
    made.run.mkdir()
    train(tiny.spec_of(plain), made.registry, made.run)
    return made


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `perform` was given, call by call."""
    calls: list[dict[str, Any]] = []
    original = band.perform

    def noting(player: Player, sound: np.ndarray, **named: Any) -> Any:
        calls.append({"player": player, "sound": sound, **named})
        return original(player, sound, **named)

    monkeypatch.setattr(band, "perform", noting)
    return calls


def sound(tree: Tree, node: Node, name: str = "stem") -> np.ndarray:
    return audio.read(tree.folder / "nodes" / node.id / f"{name}.wav", RATE)


def answers(*words: str) -> Any:
    """Answers one question after the other, then the input ends."""
    left: Iterator[str] = iter(words)

    def ask(question: str) -> str:
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    return ask


def hashes(tree: Tree) -> list[str]:
    return [node.files["stem.wav"] for node in tree.nodes().values()]


# ------------------------------------------------------------------------------------------------------ a list


def test_auto_builds_a_path_of_first_variations(grown: Tree, trained: tiny.Trained, context: Path) -> None:
    path = grown.path(grown.find("last"))
    assert [node.recipe.title for node in path] == ["Bass", "Percussive", "Piano"]
    assert [node.recipe.variation for node in path] == [0, 0, 0]
    nodes = grown.nodes().values()
    assert len(nodes) == 6
    assert {node.id for node in nodes if node.chosen} == {node.id for node in path}
    assert len(set(hashes(grown))) == 6
    weights = playing_checkpoint(trained.run).files["weights.safetensors"]["sha256"]
    for node in nodes:
        recipe = node.recipe
        assert recipe.conditions == {"instrument": recipe.title}
        assert (recipe.weights, recipe.tokenizer, recipe.window) == (weights, "loud", 50)
        assert recipe.sampler == {"plugin": "top_k", "k": 8, "temperature": 1.0}
        assert (recipe.clock, recipe.objective["plugin"]) == ({"t_f": 2, "k": 1}, "ar")
        assert len(sound(grown, node)) == len(sound(grown, node, "mix")) == len(audio.read(context, RATE))
        assert 0 < np.abs(sound(grown, node)).max() <= 1
    assert (grown.folder / "index.html").read_text().count("✓ chosen") == 3


def test_every_layer_hears_the_mean_of_all_before_it(
    trained: tiny.Trained, context: Path, tmp_path: Path, played: list[dict[str, Any]]
) -> None:
    layer(trained.run, trained.registry, LayerRequest(tmp_path / "tree", context, auto=TRIO, stems=3, seed=4))
    tree = Tree(tmp_path / "tree")
    parts = [3 * audio.read(context, RATE)]
    for number, (call, node) in enumerate(zip(played, tree.path(tree.find("last")), strict=True)):
        np.testing.assert_allclose(call["sound"], np.sum(parts, axis=0) / (3 + number), atol=1e-6)
        assert call["labels"] == {"instrument": (4, 14, 0)[number]}
        assert (call["seed"], call["session"]) == (4, node.recipe.session)
        parts.append(sound(tree, node))


def test_the_same_tree_and_seed_give_the_same_stems(
    grown: Tree, trained: tiny.Trained, context: Path, tmp_path: Path
) -> None:
    for seed in (0, 1):
        layer(
            trained.run,
            trained.registry,
            LayerRequest(tmp_path / str(seed), context, auto=TRIO, variations=2, seed=seed),
        )
    assert hashes(Tree(tmp_path / "0")) == hashes(grown)
    assert list(Tree(tmp_path / "0").nodes()) == list(grown.nodes())
    assert not set(hashes(Tree(tmp_path / "1"))) & set(hashes(grown))


def test_an_interrupted_list_goes_on_and_makes_nothing_twice(
    grown: Tree, trained: tiny.Trained, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    played: list[dict[str, Any]],
) -> None:  # fmt: skip
    wish = LayerRequest(tmp_path / "tree", context, auto=TRIO, variations=2)
    noting, count = band.perform, 0

    def interrupted(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return noting(*arguments, **named)

    monkeypatch.setattr(band, "perform", interrupted)
    with pytest.raises(KeyboardInterrupt):
        layer(trained.run, trained.registry, wish)
    tree = Tree(wish.folder or Path())
    assert len(tree.nodes()) == 3
    assert (tree.folder / "index.html").read_text().count("<article") == 3
    layer(trained.run, trained.registry, wish)
    layer(trained.run, trained.registry, wish)
    assert len(played) == 6
    assert hashes(tree) == hashes(grown)


# -------------------------------------------------------------------------------------------------- round by round


def test_a_round_now_a_choice_later(
    trained: tiny.Trained, context: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    played: list[dict[str, Any]],
) -> None:  # fmt: skip
    folder = tmp_path / "tree"
    layer(trained.run, trained.registry, LayerRequest(folder, context, instrument="Guitar", variations=2))
    tree = Tree(folder)
    first, second = tree.nodes().values()
    assert tree.find("last") == ROOT
    told = capsys.readouterr().out
    assert f"1  {first.id}  {folder / 'nodes' / first.id / 'mix.wav'}" in told
    layer(None, trained.registry, LayerRequest(folder, choose=second.id[:-1]))
    assert f"chosen: {second.id}, song.wav + Guitar" in capsys.readouterr().out
    layer(trained.run, trained.registry, LayerRequest(folder, instrument="Bass", variations=1))
    layer(trained.run, trained.registry, LayerRequest(folder, choose=first.id, instrument="Bass", variations=1))
    layer(trained.run, trained.registry, LayerRequest(folder, parent=ROOT, instrument="Bass", variations=1))
    assert [node.parent for node in tree.nodes().values()] == [ROOT, ROOT, second.id, first.id, ROOT]
    layer(trained.run, trained.registry, LayerRequest(folder, parent=ROOT, instrument="Bass", variations=3))
    assert len(played) == 7, "only those that were missing"


def test_a_song_is_built_by_questions(
    trained: tiny.Trained, context: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = answers("Bas", "Bass", "7", "two", "again", " 3 ", "Vocal", "Piano", "None", "Organ", "1", "stop")
    layer(trained.run, trained.registry, LayerRequest(tmp_path / "tree", context, variations=2), ask=ask)
    tree = Tree(tmp_path / "tree")
    assert [(node.recipe.title, node.recipe.variation) for node in tree.path(tree.find("last"))] == [
        ("Bass", 2), ("Organ", 0),
    ]  # fmt: skip
    assert [node.recipe.title for node in tree.nodes().values()] == ["Bass"] * 4 + ["Piano"] * 2 + ["Organ"] * 2
    told = capsys.readouterr().out
    assert "did you mean 'Bass'?" in told
    assert "'7' is not one of these" in told
    assert "'two' is not one of these" in told
    assert "no model learns to play 'Vocal'" in told
    assert "the song so far: song.wav + Bass + Organ" in told
    for ending in (answers(""), answers("Reed", "stop"), answers("Reed")):
        layer(trained.run, trained.registry, LayerRequest(tree.folder, variations=1), ask=ending)
    assert len(tree.nodes()) == 9
    assert [node.recipe.title for node in tree.path(tree.find("last"))] == ["Bass", "Organ"]


# ------------------------------------------------------------------------------------------------ models and settings


def test_models_of_different_kinds_play_in_one_song(
    trained: tiny.Trained, offline: tiny.Trained, context: Path, tmp_path: Path
) -> None:
    """A streaming model, a masked one that hears whole clips, and the first one again at another step."""
    folder = tmp_path / "tree"
    layer(trained.run, trained.registry, LayerRequest(folder, context, auto=("Bass",)))
    layer(offline.run, offline.registry, LayerRequest(folder, parent="last", auto=("Piano",)))
    copy = trained.copy(tmp_path / "run")
    other = read_checkpoint(copy.run / "checkpoints" / "step_000015")
    (copy.run / "losses.jsonl").unlink()
    for path in (copy.run / "checkpoints" / "step_000020").iterdir():
        path.unlink()
    (copy.run / "checkpoints" / "step_000020").rmdir()
    layer(copy.run, copy.registry, LayerRequest(folder, parent="last", auto=("Organ",)))
    path = Tree(folder).path(Tree(folder).find("last"))
    piano, organ = path[1:]
    assert len({node.recipe.weights for node in path}) == 3
    assert [node.step for node in path] == [20, 5, 15]
    assert organ.recipe.weights == other.files["weights.safetensors"]["sha256"]
    assert [node.run for node in path] == [os.path.relpath(run, folder) for run in (trained.run, offline.run, copy.run)]
    assert piano.recipe.clock is None
    assert piano.recipe.objective["plugin"] == "mlm"
    assert np.abs(sound(Tree(folder), piano)).max() > 0


def test_conditions_and_guidance_are_used_and_kept(
    trained: tiny.Trained, context: Path, tmp_path: Path, played: list[dict[str, Any]]
) -> None:
    wish = LayerRequest(tmp_path / "tree", context, auto=("instrument=bass",), guidance={"context": 3.0})
    layer(trained.run, trained.registry, wish)
    layer(trained.run, trained.registry, attrs.evolve(wish, guidance=None))
    guided, plain = Tree(tmp_path / "tree").nodes().values()
    assert [call["player"].guidance.scales for call in played] == [{"context": 3.0}, {}]
    assert (guided.recipe.guidance, plain.recipe.guidance) == ({"context": 3.0}, {})
    assert guided.recipe.title == plain.recipe.title == "Bass"
    assert guided.recipe.session == plain.recipe.session


def test_a_model_that_is_told_other_things(trained: tiny.Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stem category instead of an instrument, beside a genre that is the same for all layers."""
    from accomp.core.model.conditions import Conditions, LabelCondition
    from accomp.core.runs.player import load_player

    player = load_player(trained.run, trained.registry, torch.device("cpu"))
    one = band.Band(trained.run, player, {}, fixed=["genre=electronic"])
    labels = {"genre": LabelCondition(("Rock", "Electronic")), "category": LabelCondition(("Melodic", "Percussive"))}
    monkeypatch.setattr(player.model, "conditions", Conditions(labels=labels))
    assert one.layer("category=percussive") == band.Layer(
        "Percussive", {"genre": "Electronic", "category": "Percussive"}
    )
    assert one.layer(" Bass ") == band.Layer("Bass", {"genre": "Electronic"})
    with pytest.raises(UserError, match="no category is called 'Bass'"):
        one.layer("category=Bass")


# ------------------------------------------------------------------------------------------------------ hard cases


def test_a_silent_context_is_said_and_played_to(
    trained: tiny.Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio.write(tmp_path / "silence.wav", np.zeros(RATE // 4), RATE)
    layer(trained.run, trained.registry, LayerRequest(tmp_path / "tree", tmp_path / "silence.wav", auto=("Bass",)))
    assert "the song is silent so far" in capsys.readouterr().out
    tree = Tree(tmp_path / "tree")
    (node,) = tree.nodes().values()
    assert np.isfinite(sound(tree, node, "mix")).all()


def test_another_rate_and_two_channels_are_said(
    trained: tiny.Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stereo = np.stack([tiny.tone(0.3, seed, rate=44100) for seed in (1, 2)], axis=1)
    audio.write(tmp_path / "in.wav", stereo, 44100)
    layer(trained.run, trained.registry, LayerRequest(tmp_path / "tree", tmp_path / "in.wav", auto=("Bass", "Piano")))
    told = capsys.readouterr().out
    assert "0.30 s at 44100 Hz; 2 channels are averaged to one" in told
    assert "44100 Hz resampled to 32000 Hz" in told
    tree = Tree(tmp_path / "tree")
    expected = audio.read(tmp_path / "in.wav", RATE)
    assert [len(sound(tree, node)) for node in tree.nodes().values()] == [len(expected)] * 2


@pytest.mark.parametrize(("sample", "peak"), [(3.0, 0.99), (np.nan, None), (np.inf, None)])
def test_a_stem_is_scaled_below_full_scale_and_refused_if_it_is_no_sound(
    trained: tiny.Trained, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: float,
    peak: float | None,
) -> None:  # fmt: skip
    original, count = band.perform, 0

    def broken(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        made, count = original(*arguments, **named), count + 1
        if count == 2:
            made.audio = made.audio.copy()
            made.audio[5] = sample
        return made

    monkeypatch.setattr(band, "perform", broken)
    tree = Tree.begin(tmp_path / "tree", context)
    wish = LayerRequest(tree.folder, instrument="Bass", variations=3)
    if peak is None:
        with pytest.raises(WorkError, match="Bass, variation 2: the decoded stem holds NaN or Inf; it was not written"):
            layer(trained.run, trained.registry, wish)
        assert [node.recipe.variation for node in tree.nodes().values()] == [0]
    else:
        layer(trained.run, trained.registry, wish)
        node = list(tree.nodes().values())[1]
        assert np.abs(sound(tree, node)).max() == pytest.approx(peak, abs=1e-3)
        assert node.gain == pytest.approx(peak / sample)


# -------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"auto": ("Bass", "Pino")}, "no instrument is called 'Pino'; did you mean 'Piano'"),
        ({"instrument": "Vocal"}, "no model learns to play 'Vocal'; it is context only"),
        ({"instrument": "Bass", "conditions": ["genre=rock"]}, "has no condition 'genre'"),
        ({"instrument": "Bass", "conditions": ["instrument=Piano"]}, "'instrument' is given twice"),
        ({"instrument": "Bass", "auto": ("Bass",)}, "give one of them"),
        ({"auto": ("Bass", " ")}, "an instrument has no name"),
        ({"instrument": ""}, "an instrument has no name"),
        ({"choose": "bass", "parent": "root"}, "give --parent or --choose, not both"),
        ({"choose": "root"}, "the context needs no choosing"),
        ({"choose": "bas-123"}, "no node is called 'bas-123'"),
        ({"instrument": "Bass", "parent": "pino"}, "no node is called 'pino'"),
        ({}, r"the input is not a terminal, so it cannot prompt; give --auto"),
        ({"instrument": "Bass", "folder": None}, r"give --context WAV to begin .* or --out FOLDER"),
        ({"instrument": "Bass", "stems": 2}, "--stems is the number of stems in --context"),
    ],
)
def test_mistakes_are_told_before_anything_is_played(
    trained: tiny.Trained, context: Path, tmp_path: Path, wish: dict[str, Any], words: str,
    played: list[dict[str, Any]],
) -> None:  # fmt: skip
    Tree.begin(tmp_path / "tree", context)
    with pytest.raises(UserError, match=words):
        layer(trained.run, trained.registry, LayerRequest(**{"folder": tmp_path / "tree", **wish}))
    assert not played


def test_what_is_missing_is_told(trained: tiny.Trained, context: Path, tmp_path: Path) -> None:
    wish = LayerRequest(tmp_path / "tree", context, instrument="Bass")
    with pytest.raises(UserError, match="name the run whose model is to play"):
        layer(None, trained.registry, wish)
    with pytest.raises(CheckpointError, match="nothing is trained yet"):
        layer(tmp_path, trained.registry, wish)
    with pytest.raises(DataError, match="no tree of layers here"):
        layer(trained.run, trained.registry, LayerRequest(tmp_path, instrument="Bass"))
    with pytest.raises(CombinationError, match=r"guidance\.genre: there is no such condition"):
        layer(trained.run, trained.registry, attrs.evolve(wish, guidance={"genre": 2.0}))


# ---------------------------------------------------------------------------------------------------- command line


def test_the_command_line_says_it_all(
    context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from accomp.core import layering

    monkeypatch.chdir(tmp_path)
    Path("RUN").mkdir()
    wishes: list[tuple[Path | None, LayerRequest]] = []
    monkeypatch.setattr(layering, "layer", lambda run, registry, wish, ask: wishes.append((run, wish)))
    line = f"layer RUN --context {context} --out F --auto Bass,Piano --parent last --variations 3 --stems 2 --seed 5"
    assert main([*line.split(), "--condition", "genre=jazz", "--guidance", "context=2"]) == 0
    assert main(["layer", "--out", "F", "--choose", "bass"]) == 0
    assert wishes == [
        (
            Path("RUN"),
            LayerRequest(
                Path("F"), context, 2, auto=["Bass", "Piano"], parent="last", variations=3, seed=5,
                conditions=["genre=jazz"], guidance={"context": 2.0},
            ),
        ),
        (None, LayerRequest(Path("F"), choose="bass", auto=[])),
    ]  # fmt: skip
    assert main(["layer", "RUN", "--variations", "0"]) == 2


def test_without_a_terminal_the_command_line_does_not_wait(
    trained: tiny.Trained, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", None)
    assert main(["layer", str(trained.run), "--context", str(context)]) == 2
    assert "error: the input is not a terminal" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_tree_is_named_after_its_context(
    trained: tiny.Trained, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    layer(trained.run, trained.registry, LayerRequest(context=context), ask=answers("stop"))
    assert Tree(Path("layers/song")).root.name == "song.wav"
