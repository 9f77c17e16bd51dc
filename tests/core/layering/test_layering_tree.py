"""A tree of layers on disk: mixes rebuilt from dry stems, whole nodes or none, and words for what does not belong."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import soundfile
from fakes import RATE, tone

from accomp.core.audio import io as audio
from accomp.core.audio.loudness import loudness
from accomp.core.errors import DataError, UserError
from accomp.core.files import hash_file
from accomp.core.layering import tree as module
from accomp.core.layering.mixing import listening_mix, model_mix
from accomp.core.layering.page import page
from accomp.core.layering.recipe import ROOT, Recipe
from accomp.core.layering.tree import Node, Tree

LSB = 1 / 32768


def recipe(parent: str = ROOT, **changes: Any) -> Recipe:
    usual = Recipe(
        parent=parent, title="Bass", conditions={"instrument": "Bass"}, seed=0, session=1, variation=0,
        sampler={"plugin": "top_k", "k": 8}, guidance={}, weights="a" * 64, objective={"plugin": "ar"},
        clock={"t_f": 2, "k": 1}, window=50, tokenizer="loud",
    )  # fmt: skip
    return attrs.evolve(usual, **changes)


def grow(tree: Tree, stem: np.ndarray, parent: str = ROOT, rate: int = RATE, **changes: Any) -> Node:
    return tree.add(recipe(parent, **changes), stem, rate, run=tree.folder, step=20, gain=1.0)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "song.wav"
    audio.write(path, 0.8 * tone(0.5, 1), RATE)
    return path


@pytest.fixture
def tree(tmp_path: Path, context: Path) -> Tree:
    return Tree.begin(tmp_path / "tree", context)


# ---------------------------------------------------------------------------------------------------- mixing


def test_the_model_hears_the_mean_of_all_stems() -> None:
    parts = [np.sin(np.arange(100) * step, dtype=np.float32) for step in (0.1, 0.2, 0.3)]
    np.testing.assert_allclose(model_mix(parts, stems=1), np.mean(parts, axis=0), atol=1e-7)
    np.testing.assert_allclose(model_mix(parts, stems=4), (4 * parts[0] + parts[1] + parts[2]) / 6, atol=1e-7)
    np.testing.assert_allclose(model_mix(parts[:1], stems=3), parts[0], atol=1e-7)
    assert model_mix([np.float32([1, -1])] * 5, stems=2).dtype == np.float32


@pytest.mark.parametrize("stems", [1, 4])
def test_people_hear_each_stem_as_loud_as_each_of_the_context(stems: int) -> None:
    """By projection on each of four tones, which are loud and soft before."""
    time = np.arange(RATE) / RATE
    tones = [np.sin(2 * np.pi * hertz * time) for hertz in (300, 400, 500, 600)]
    levels = np.array([0.01, 0.9, 0.05, 0.3])
    mix = listening_mix([tone * level for tone, level in zip(tones, levels, strict=True)], RATE, stems=stems)
    amplitude = np.array([2 * (mix * tone).mean() for tone in tones])
    even = [2 * (mix_of * tone).mean() for mix_of, tone in ((listening_mix([t], RATE, stems=1), t) for t in tones)]
    relative = amplitude / even  # of tones that are equally loud alone
    np.testing.assert_allclose(relative[1:] / relative[0], stems**-0.5, rtol=0.03)
    assert loudness(mix, RATE) == pytest.approx(-18, abs=0.1)


def test_silence_stays_silence_and_nothing_clips() -> None:
    silent, stem = np.zeros(RATE // 2, np.float32), tone(0.5, 1)
    assert not listening_mix([silent, silent], RATE, stems=1).any()
    alone = listening_mix([silent, stem], RATE, stems=1)
    np.testing.assert_allclose(alone / np.abs(alone).max(), stem / np.abs(stem).max(), atol=1e-6)
    clicks = np.zeros(RATE // 2, np.float32)
    clicks[::4000] = 1.0
    assert np.abs(listening_mix([clicks] * 4, RATE, stems=1)).max() <= 0.99 + 1e-6


# ------------------------------------------------------------------------------------------------------ nodes


def test_contexts_and_mixes_are_made_from_the_stems_of_the_path(tree: Tree, context: Path) -> None:
    stems = [tone(0.5, seed) for seed in (2, 3, 4)]
    parent, parts = ROOT, [audio.read(context, RATE)]
    for stem in stems:
        aside = grow(tree, 0.3 * stem[::-1], parent, variation=1)  # makes no difference to what comes after
        node = grow(tree, stem, parent)
        parts.append(audio.read(tree.folder / "nodes" / node.id / "stem.wav", RATE))
        np.testing.assert_allclose(parts[-1], stem, atol=LSB)
        mix = audio.read(tree.folder / "nodes" / node.id / "mix.wav", RATE)
        np.testing.assert_allclose(mix, listening_mix(parts, RATE, stems=1), atol=LSB)
        np.testing.assert_allclose(tree.context(node.id, RATE), np.mean(parts, axis=0), atol=1e-6)
        assert tree.nodes()[node.id] == node != aside
        parent = node.id
    assert [one.parent for one in tree.path(parent)] == [ROOT, *(one.id for one in tree.path(parent)[:-1])]
    assert [one.id for one in tree.path(parent)][-1] == parent


def test_a_node_says_all_of_itself(tree: Tree) -> None:
    node = grow(tree, tone(0.5, 2), seed=7, guidance={"context": 2.0}, clock=None)
    folder = tree.folder / "nodes" / node.id
    told = json.loads((folder / "node.json").read_text())
    assert told["files"] == {name: hash_file(folder / name) for name in ("stem.wav", "mix.wav")}
    assert told["recipe"] == attrs.asdict(recipe(seed=7, guidance={"context": 2.0}, clock=None))
    assert (told["chosen"], told["step"], told["sample_rate"], told["samples"]) == (None, 20, RATE, RATE // 2)
    assert told["run"] == "."  # seen from the tree, so that it says nothing of the machine
    assert told["accomp"]
    assert told["made"].endswith("+00:00")


def test_the_id_follows_from_each_thing_that_decides_the_sound() -> None:
    changes: dict[str, Any] = {
        "parent": "bass-0", "title": "Piano", "conditions": {"instrument": "Piano"}, "seed": 1, "session": 2,
        "variation": 1, "sampler": {"plugin": "top_k", "k": 9}, "guidance": {"context": 2.0}, "weights": "b" * 64,
        "objective": {"plugin": "prefix"}, "clock": None, "window": 51, "tokenizer": "soft",
    }  # fmt: skip
    assert set(changes) == {one.name for one in attrs.fields(Recipe)}
    ids = [recipe(**{name: value}).id for name, value in changes.items()]
    assert len({recipe().id, *ids}) == 1 + len(changes)
    assert recipe(title="../Synth Lead / 2").id.startswith("synth-lead-2-")


def test_stems_of_another_rate_are_resampled_to_that_of_the_model(tmp_path: Path) -> None:
    time = np.arange(31412) / 44100
    sound = np.stack([0.5 * np.sin(2 * np.pi * hertz * time) * np.hanning(31412) for hertz in (440, 1000)], axis=1)
    soundfile.write(tmp_path / "in.flac", sound, 44100)
    tree = Tree.begin(tmp_path / "tree", tmp_path / "in.flac", stems=2)
    assert (tree.root.channels, tree.root.sample_rate, tree.root.samples) == (2, 44100, len(sound))
    first = tree.context(ROOT, RATE)
    node = grow(tree, 0.5 * first, rate=RATE)
    again = tree.context(node.id, 48000)
    expected = audio.read(tmp_path / "in.flac", 48000)
    np.testing.assert_allclose(again, expected * (2 + 0.5) / 3, atol=1e-4)
    next = grow(tree, again, node.id, rate=48000)
    assert soundfile.info(str(tree.folder / "nodes" / next.id / "mix.wav")).samplerate == 48000
    assert len(tree.context(next.id, 16000)) == len(audio.read(tmp_path / "in.flac", 16000))


def test_a_context_above_full_scale_is_scaled(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hot.wav", 1.9 / np.abs(tone(0.5, 1)).max() * tone(0.5, 1), RATE, subtype="FLOAT")
    tree = Tree.begin(tmp_path / "tree", tmp_path / "hot.wav")
    assert np.abs(tree.context(ROOT, RATE)).max() == pytest.approx(0.99, abs=1e-6)
    assert tree.root.gain < 1


def test_a_stem_of_another_length_is_refused_and_leaves_nothing(tree: Tree) -> None:
    with pytest.raises(DataError, match=f"{RATE // 4} samples, its context {RATE // 2}"):
        grow(tree, tone(0.25, 2))
    assert list((tree.folder / "nodes").iterdir()) == []


# -------------------------------------------------------------------------------------------- several processes


@pytest.mark.alone
def test_a_killed_process_leaves_a_readable_tree_that_grows_on(tree: Tree) -> None:
    grow(tree, tone(0.5, 2))
    child = os.fork()
    if not child:
        try:
            module.hash_file = lambda path: os.kill(os.getpid(), 9) if path.name == "mix.wav" else hash_file(path)
            grow(tree, tone(0.5, 2), variation=1)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert any(path.name.startswith(".") for path in (tree.folder / "nodes").iterdir()), "it was killed while it wrote"
    assert [node.recipe.variation for node in tree.nodes().values()] == [0]
    grow(tree, tone(0.5, 2), variation=1)
    assert [node.recipe.variation for node in Tree(tree.folder).nodes().values()] == [0, 1]
    assert page(tree)


def test_the_first_of_two_who_make_a_node_wins(tree: Tree) -> None:
    first = grow(tree, tone(0.5, 2))
    tree.choose(first.id)
    before = files_of(tree.folder)
    assert grow(tree, tone(0.5, 3)).files == first.files
    assert files_of(tree.folder) == before
    assert tree.nodes()[first.id].chosen


@pytest.mark.alone
def test_many_processes_grow_one_tree(tree: Tree) -> None:
    children = []
    for number in range(3):
        child = os.fork()
        if not child:
            try:
                for variation in range(2):
                    grow(Tree(tree.folder), tone(0.5, variation), variation=variation)
                    tree.choose(grow(tree, tone(0.5, 9), seed=number).id)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 3
    nodes = tree.nodes().values()
    assert sorted((node.recipe.seed, node.recipe.variation) for node in nodes) == [
        (0, 0), (0, 1), (1, 0), (2, 0)
    ]  # fmt: skip
    for node in nodes:
        for name, sha256 in node.files.items():
            assert hash_file(tree.folder / "nodes" / node.id / name) == sha256


# --------------------------------------------------------------------------------------------- names and choices


def test_nodes_are_found_by_the_beginning_of_their_names(tree: Tree) -> None:
    a, b = grow(tree, tone(0.5, 2)), grow(tree, tone(0.5, 2), title="Piano")
    assert (tree.find("pia"), tree.find(a.id), tree.find(ROOT)) == (b.id, a.id, ROOT)
    c = grow(tree, tone(0.5, 2), variation=1)
    with pytest.raises(UserError, match="beginning of several nodes") as told:
        tree.find("bass")
    assert a.id in str(told.value)
    assert c.id in str(told.value)
    for name in ("", "pino-1234"):
        with pytest.raises(UserError, match=f"no node is called '{name}'.*{b.id}"):
            tree.find(name)


def test_the_last_choice_is_remembered(tree: Tree) -> None:
    a, b = grow(tree, tone(0.5, 2)), grow(tree, tone(0.5, 2), title="Piano")
    assert tree.find("last") == ROOT
    for node in (a, b, a):
        assert tree.choose(node.id).chosen
        assert tree.find("last") == node.id
    assert tree.nodes()[b.id].chosen, "another choice takes none back"


# ------------------------------------------------------------------------------------------------------- mistakes


def test_what_is_no_tree_is_told(tmp_path: Path, tree: Tree, context: Path) -> None:
    with pytest.raises(DataError, match=r"no tree of layers here; begin one with --context"):
        Tree(tmp_path)
    with pytest.raises(DataError, match="not a tree of layers"):
        Tree.begin(tmp_path, context)
    with pytest.raises(DataError, match="not a tree of layers"):
        Tree.begin(context, context)
    with pytest.raises(DataError, match="cannot begin a tree here"):
        Tree.begin(context / "below", context)
    assert Tree.begin(tree.folder, context) == tree
    with pytest.raises(DataError, match="begun with --stems 1, now it is 2"):
        Tree.begin(tree.folder, context, stems=2)
    other = tmp_path / "other.wav"
    audio.write(other, tone(0.5, 5), RATE)
    with pytest.raises(DataError, match=r"begins with other audio \(song.wav"):
        Tree.begin(tree.folder, other)


def test_a_context_that_cannot_be_heard_is_told_and_begins_nothing(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.full(1000, np.nan), RATE, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("words")
    for name, words in {
        "none.wav": "no such audio file", "text.wav": "cannot read audio", "nan.wav": "NaN",
        "empty.wav": "holds no sound",
    }.items():  # fmt: skip
        with pytest.raises(DataError, match=words):
            Tree.begin(tmp_path / "tree", tmp_path / name)
    assert not (tmp_path / "tree").exists()


def test_damage_is_told_with_its_place(tree: Tree) -> None:
    node = grow(tree, tone(0.5, 2))
    child = grow(tree, tone(0.5, 3), node.id)
    folder = tree.folder / "nodes" / node.id
    whole = (folder / "stem.wav").read_bytes()
    (folder / "stem.wav").write_bytes(whole[:-2] + b"xx")
    with pytest.raises(DataError, match="its hash differs"):
        tree.context(child.id, RATE)
    (folder / "stem.wav").unlink()
    with pytest.raises(DataError, match=r"No such file.*stem\.wav"):
        tree.context(child.id, RATE)
    card = json.loads((folder / "node.json").read_text())
    for damaged, words in (
        ("{", "cannot read the record: JSONDecodeError"),
        ("[]", "cannot read the record"),
        (json.dumps({**card, "format": 2}), "in a format that this one cannot read"),
        (json.dumps({**card, "steps": 2}), "its keys are"),
        (json.dumps({**card, "recipe": {"title": "Bass"}}), "not the record of a node"),
        (json.dumps({**card, "id": "piano"}), "lies in another folder"),
    ):
        (folder / "node.json").write_text(damaged)
        with pytest.raises(DataError, match=words) as told:
            tree.nodes()
        assert node.id in str(told.value)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.raises(DataError, match=f"node {node.id}, the parent of {child.id}, is gone"):
        tree.path(child.id)


# ----------------------------------------------------------------------------------------------------------- page


def test_the_page_plays_every_sound_of_the_tree_and_nothing_else(tmp_path: Path) -> None:
    context = tmp_path / "<b> & c.wav"
    audio.write(context, tone(0.5, 1), RATE)
    tree = Tree.begin(tmp_path / "tree", context)
    a, b = grow(tree, tone(0.5, 2)), grow(tree, tone(0.5, 3), variation=1)
    c = grow(tree, tone(0.5, 4), b.id, title="<i>Piano", conditions={"genre": "jazz"}, guidance={"genre": 3.0})
    tree.choose(b.id)
    text = page(tree)
    sources = set(text.split('src="')[i].split('"')[0] for i in range(1, text.count('src="') + 1))
    assert sources == {
        "root/context.wav",
        *(f"nodes/{node.id}/{name}.wav" for node in (a, b, c) for name in ("stem", "mix")),
    }
    assert all((tree.folder / source).is_file() for source in sources)
    assert text.count("✓ chosen") == 1
    assert "Layers on &lt;b&gt; &amp; c.wav" in text
    assert "Played to the context + Bass" in text
    assert "genre jazz · guidance of genre 3" in text
    assert "<i>" not in text
    assert "http" not in text
    assert text.index(f"{b.id}/mix") < text.index(f"{c.id}/mix")


def test_the_page_shows_what_has_lost_its_parent(tree: Tree) -> None:
    a = grow(tree, tone(0.5, 2))
    b = grow(tree, tone(0.5, 3), a.id)
    c = grow(tree, tone(0.5, 4), b.id)
    for path in (tree.folder / "nodes" / a.id).iterdir():
        path.unlink()
    (tree.folder / "nodes" / a.id).rmdir()
    text = page(tree)
    assert f"Played to {a.id} (missing)" in text
    assert f"nodes/{c.id}/mix.wav" in text
