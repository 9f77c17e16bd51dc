"""Labels from a corpus to a model: nothing in core knows their names, and none is lost or made up on the way."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import tiny
import torch
from fakes import EnergyTokenizer, FolderCorpus, tone, write_corpus, write_labels, write_track

from accomp.core.compute.devices import number_of
from accomp.core.data.ingest.encode import PartEncoder
from accomp.core.data.ingest.stage import ingest, ingest_corpus
from accomp.core.data.ingest.summary import IngestSummary
from accomp.core.data.labels import describe
from accomp.core.data.loader import ClipLoader
from accomp.core.errors import DataError, SpecError
from accomp.core.model.conditions import LabelCondition
from accomp.core.runs.checkpoint import latest_checkpoint, load_run
from accomp.core.runs.folder import open_run
from accomp.core.training.trainer import train
from accomp.zarr_store.reader import Store

TOKENIZER = EnergyTokenizer()
GENRE = LabelCondition(("jazz", "rock", "folk"))


def fill(corpus: Path, store: Path, encode: PartEncoder | None = None) -> IngestSummary:
    opened = FolderCorpus(FolderCorpus.Config(str(corpus)))
    return ingest_corpus(opened, encode or PartEncoder(TOKENIZER), store, submixes=2, seed=0)


def loader(store: Path, split: str = "train", **labels: LabelCondition) -> ClipLoader:
    return ClipLoader(store, split, TOKENIZER, frames=50, batch=4, labels=labels)


def contents(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


class NoEncoder(PartEncoder):
    """For an ingest that has nothing to encode."""

    def __call__(self, *_):
        pytest.fail("a song was encoded again")


@pytest.fixture
def corpus(tmp_path) -> Path:
    """Train: t0 rock (its s1 folk), t1 jazz, t2 without; s0 has a role everywhere. Validation: t0 rock."""
    root = write_corpus(tmp_path / "c", {"train": 3, "validation": 1}, seconds=2.0)
    write_labels(root / "train/t0", {"genre": "rock"}, s0={"role": "low"}, s1={"genre": "folk"})
    write_labels(root / "train/t1", {"genre": "jazz"}, s0={"role": "low"})
    write_labels(root / "train/t2", {}, s0={"role": "low"})
    write_labels(root / "validation/t0", {"genre": "rock"})
    return root


@pytest.fixture
def store(corpus, tmp_path) -> Path:
    fill(corpus, tmp_path / "s")
    return tmp_path / "s"


def test_a_clip_has_the_labels_of_the_stem_that_is_to_be_played(store):
    role = LabelCondition(("high", "low"))
    clips = loader(store, genre=GENRE, role=role, instrument=LabelCondition(("Reed", "Piano", "Bass")))
    named, row = clips.fixed_clips(99), 0
    for batch in clips.fixed(99):
        assert set(batch.labels) == {"genre", "role", "instrument"}
        for place in range(len(batch.context)):
            pair = named[row].pair
            genre = {"t0": 2 if pair.target == "s1" else 1, "t1": 0, "t2": -1}[pair.track]
            assert batch.labels["genre"][place] == genre
            assert batch.labels["role"][place] == (1 if pair.target == "s0" else -1)
            assert batch.labels["instrument"][place] == {"s0": 1, "s1": 2, "s2": 0}[pair.target]
            row += 1
        assert {labels.dtype for labels in batch.labels.values()} == {torch.int64}
    assert row == len(clips)


def test_it_is_told_how_many_clips_have_a_label(store):
    clips = loader(store, genre=LabelCondition(("rock", "jazz", "folk", "polka")), instrument=LabelCondition(18))
    counts = clips.label_counts()
    found = Counter(
        {"t0": "folk" if clip.pair.target == "s1" else "rock", "t1": "jazz", "t2": None}[clip.pair.track]
        for clip in clips.fixed_clips(999)
    )
    assert counts["genre"] == {"rock": found["rock"], "jazz": found["jazz"], "folk": found["folk"], "polka": 0}
    assert list(counts["genre"]) == ["jazz", "rock", "folk", "polka"], "the commonest first"
    assert counts["instrument"].total() == len(clips)
    genre, instrument = describe(counts, len(clips))
    labelled = len(clips) - found[None]
    assert genre == (
        f"genre: {labelled} of {len(clips)} clips labelled: jazz {found['jazz']}, rock {found['rock']}, "
        f"folk {found['folk']}; in no clip: polka"
    )
    assert instrument.startswith(f"instrument: {len(clips)} of {len(clips)} clips labelled: Piano ")
    assert "in no clip" not in instrument
    (none,) = describe(loader(store, "validation", role=LabelCondition(("low",))).label_counts(), 7)
    assert none == "role: 0 of 7 clips labelled: none; in no clip: low"


def test_all_that_does_not_fit_is_told_at_once_with_what_would(store):
    write = {"genre": LabelCondition(("rok", "rock")), "role": LabelCondition(2), "mood": LabelCondition(("sad",))}
    with pytest.raises(DataError) as caught:
        loader(store, **write, instrument=LabelCondition(5))
    assert [problem.replace(f" @ {store}", "") for problem in caught.value.problems] == [
        "genre is 'folk' in song t0; [conditions] genre has rok, rock",
        "genre is 'jazz' in song t1; [conditions] genre has rok, rock",
        'right for all of it: genre = { classes = ["rock", "folk", "jazz"] }',
        "role is 'low' in songs t0, t1, t2; [conditions] role has 0, 1",
        'right for all of it: role = { classes = ["low"] }',
        "no song has the label 'mood' of [conditions]; there is genre, instrument, role. Where the corpus gives it by "
        "now, `accomp ingest SPEC` adds it without encoding anything again",
        "instrument is 'Reed' in songs t0, t1, t2; [conditions] instrument has "
        "Piano, Chromatic Percussion, Organ, Guitar, Bass",
        "right for all of it: instrument = { classes = 18 }",
    ]


def test_what_would_fit_counts_the_other_splits_too(corpus, tmp_path):
    write_labels(corpus / "train/t0", {"genre": "polka"})
    fill(corpus, tmp_path / "s")
    with pytest.raises(DataError, match=r'is \'rock\' in song t0;.*\n.*classes = \["jazz", "polka", "rock"\]'):
        loader(tmp_path / "s", "validation", genre=LabelCondition(("jazz",)))


def test_changed_labels_reach_the_store_without_encoding_anything(corpus, store, tmp_path):
    write_labels(corpus / "train/t0", {"genre": "jazz", "key": "C"})
    write_labels(corpus / "train/t2", {}, s0={"role": "high"})
    before = contents(store)
    summary = fill(corpus, store, NoEncoder(TOKENIZER))
    assert (summary.added, summary.replaced, summary.relabelled) == (0, 0, 2)
    assert "2 tracks got other labels or annotations; their tokens stay as they are" in str(summary)
    after = contents(store)
    assert {name for name in after if after[name] != before.get(name)} == {
        "tracks/train/t0/zarr.json",
        "tracks/train/t2/zarr.json",
    }
    fill(corpus, tmp_path / "fresh")
    assert after == contents(tmp_path / "fresh")
    again = fill(corpus, store, NoEncoder(TOKENIZER))
    assert (again, again.relabelled) == (summary, 0)
    assert "other labels" not in str(again)


def test_a_song_whose_audio_changed_too_is_done_again(corpus, store, tmp_path):
    write_labels(corpus / "train/t0", {"genre": "jazz"})
    write_track(corpus / "train/t0", {"s1-4": tone(2.0, 77)})
    summary = fill(corpus, store)
    assert (summary.replaced, summary.relabelled) == (1, 0)
    fill(corpus, tmp_path / "fresh")
    assert contents(store) == contents(tmp_path / "fresh")


def test_training_does_not_go_on_with_other_labels(corpus, store):
    def fresh() -> ClipLoader:
        return loader(store, genre=GENRE)

    state, without = fresh().state_dict(), loader(store).state_dict()
    write_labels(corpus / "train/t2", {"genre": "rock"})
    fill(corpus, store)
    with pytest.raises(DataError, match="has changed since the checkpoint"):
        fresh().load_state_dict(state)
    loader(store).load_state_dict(without)


def without_labels(store: Path) -> None:
    """Makes a store one of format version 1, which knew no labels."""
    for path in store.rglob("zarr.json"):
        group = json.loads(path.read_text())
        attributes = group.get("attributes", {})
        for name in ("labels", "checksums") if "format" in attributes else ("labels", "checksums", "version"):
            attributes.pop(name, None)
        for part in attributes.get("parts", ()):
            part.pop("labels")
        if "version" in attributes:
            attributes["version"], attributes["made_with"] = 1, "accomp 0.1.0"
        path.write_text(json.dumps(group, indent=2))


def test_a_store_from_before_labels_is_read_and_gets_them(corpus, store, tmp_path):
    expected, rows = contents(store), [batch.target for batch in loader(store).fixed(9)]
    digest = loader(store, instrument=LabelCondition(18)).state_dict()["digest"]
    without_labels(store)
    old = loader(store, instrument=LabelCondition(18))
    assert old.state_dict()["digest"] == digest, "a run that was begun with it goes on"
    assert all(torch.equal(batch.target, row) for batch, row in zip(old.fixed(9), rows, strict=True))
    with pytest.raises(DataError, match=r"no song has the label 'genre'.*there is instrument\. .*accomp ingest SPEC"):
        loader(store, genre=GENRE)
    assert fill(corpus, store, NoEncoder(TOKENIZER)).relabelled == 4
    assert contents(store) == expected
    assert Store(store).finished


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> tiny.Trained:
    """The tiny experiment's store, its songs labelled by a corpus that core has never heard of; nothing trained yet."""
    folder = tmp_path_factory.mktemp("labelled")
    made = tiny.Trained(folder / "run", tiny.corpus(folder / "corpus"), folder / "store.zarr")
    for number, song in enumerate(sorted(made.corpus.glob("*/*"))):
        write_labels(song, {"genre": ("rock", "jazz")[number % 2]} if number else {}, s0={"role": "low"})
    ingest(made.spec(), made.registry)
    return made


def spec_of(labelled: tiny.Trained, run: Path, genre: list[str], steps: int = 3):
    data = tiny.plain(labelled.corpus, run, labelled.store)
    data["conditions"] = {
        "role": {"classes": ["low"]},
        "instrument": {"classes": 18, "drop": 0.1},
        "genre": {"classes": genre, "drop": 0.2},
    }
    data["train"] = {**data["train"], "steps": steps}
    return tiny.spec_of(data)


def test_a_model_learns_labels_that_core_does_not_name(labelled, tmp_path, capsys):
    """From the spec alone. Only the rows of labels that clips have are learned; the checkpoint knows their names."""
    run = tmp_path / "run"
    spec = spec_of(labelled, run, ["rock", "polka", "jazz"])
    open_run(spec)
    train(spec, labelled.registry, run)
    said = capsys.readouterr().out
    assert "genre: " in said
    assert "in no clip: polka" in said
    assert "role: " in said

    trained = load_run(run, labelled.registry)
    assert trained.spec.conditions.labels["genre"].classes == ("rock", "polka", "jazz")
    assert latest_checkpoint(run).spec["conditions"]["genre"]["classes"] == ["rock", "polka", "jazz"]
    assert trained.model.vocabulary.classes == {"genre": 3, "instrument": 18, "role": 1}

    from accomp.core.spec.build import build_model

    untrained = build_model(spec, trained.tokenizer.space, labelled.registry)
    first = trained.model.vocabulary.first_class("genre")
    levels = trained.tokenizer.space.codebooks
    tables = [
        model.table.weight.detach().unflatten(0, (levels, -1))[:, first : first + 3]
        for model in (trained.model, untrained)
    ]
    moved = (tables[0] - tables[1]).abs().amax((0, 2))
    assert (moved > 1e-4).tolist() == [True, False, True]


def test_takes_are_played_with_their_songs_labels(labelled, tmp_path, monkeypatch):
    """One that a song lacks is withheld; with other labels a take is made again; a text the model lacks is refused."""
    from accomp.core.generation import play_twice
    from accomp.core.generation.generate import generate

    own = tiny.Trained(tmp_path / "run", tmp_path / "corpus", labelled.store)
    shutil.copytree(labelled.corpus, own.corpus)
    spec = spec_of(own, own.run, ["rock", "jazz"], steps=1)
    open_run(spec)
    train(spec, own.registry, own.run)
    told, play = {}, play_twice.play

    def listening(*arguments, labels, session, **named):
        told[session] = labels
        return play(*arguments, labels=labels, session=session, **named)

    def generated() -> list[dict]:
        told.clear()
        generate(spec, own.registry, own.run)
        ids = json.loads((own.run / "takes.json").read_text())["takes"]
        return [json.loads((own.run / "takes" / name / "take.json").read_text()) for name in ids]

    monkeypatch.setattr(play_twice, "play", listening)
    takes = generated()
    assert len(takes) == len(told) == 3
    for take in takes:
        known = json.loads((own.corpus / "test" / take["track"] / "labels.json").read_text())
        expected = {"instrument": take["instrument"]}
        if known["song"]:
            expected["genre"] = ["rock", "jazz"].index(known["song"]["genre"])
        if take["stem"] == "s0":
            expected["role"] = 0
        assert told[number_of(take["id"])] == expected

    generated()
    assert not told, "nothing has changed"
    first, second, _ = (own.corpus / "test" / take["track"] for take in takes)
    now = json.loads((first / "labels.json").read_text())["song"].get("genre")
    write_labels(first, {"genre": "rock" if now == "jazz" else "jazz"}, s0={"role": "low"})
    write_labels(second, {"genre": "polka"}, s0={"role": "low"})
    assert len(generated()) == 2
    assert list(told) == [number_of(takes[0]["id"])]
    (failed,) = json.loads((own.run / "takes.json").read_text())["failed"]
    assert failed["clip"] == takes[1]["id"]
    assert failed["reason"] == "genre is 'polka', which is no class of the model; it has: jazz, rock"


def test_names_in_another_order_are_another_model_and_tables_in_another_order_the_same(labelled, tmp_path):
    (open_run(spec_of(labelled, tmp_path / "run", ["rock", "jazz"])) / "checkpoints" / "step_000001").mkdir(
        parents=True
    )
    with pytest.raises(
        SpecError, match=r"conditions\.genre\.classes is \['jazz', 'rock'\] now, \['rock', 'jazz'\] there"
    ):
        open_run(spec_of(labelled, tmp_path / "run", ["jazz", "rock"]))
    data = tiny.plain(labelled.corpus, tmp_path / "run", labelled.store)
    tables = [("mood", {"classes": 2}), ("genre", {"classes": ["a"]}), ("context", {"drop": 0.5})]
    orders = [tiny.spec_of({**data, "conditions": dict(order)}).conditions for order in (tables, tables[::-1])]
    assert [list(order.labels) for order in orders] == [["genre", "mood"]] * 2


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ([], r"classes is \[\]; expected names, at least one"),
        (["a", "a"], r"classes is \['a', 'a'\]; expected names, at least one, none of them twice"),
        (["a", " "], "expected names"),
        (0, "classes is 0; expected at least 1, or a list of their names"),
        (["a", 3], r"expected str, got int 3 @ spec: conditions\.genre\.classes\[1\]"),
        ("rock", "expected int or a list, got str 'rock'"),
        (True, "expected int or a list, got bool True"),
    ],
)
def test_classes_are_a_number_or_names(labelled, tmp_path, classes, told):
    data = tiny.plain(labelled.corpus, tmp_path, labelled.store)
    with pytest.raises(SpecError, match=told):
        tiny.spec_of({**data, "conditions": {"genre": {"classes": classes}}})


def test_instruments_are_those_that_there_are(labelled, tmp_path):
    data = tiny.plain(labelled.corpus, tmp_path, labelled.store)
    with pytest.raises(SpecError, match=r"there are 18 instrument classes @ spec: conditions\.instrument\.classes"):
        tiny.spec_of({**data, "conditions": {"instrument": {"classes": 19}}})
    with pytest.raises(
        SpecError, match=r"called 'Bas'; did you mean 'Bass'\? @ spec: conditions\.instrument\.classes\[1\]"
    ):
        tiny.spec_of({**data, "conditions": {"instrument": {"classes": ["Piano", "Bas"]}}})
    spec = tiny.spec_of({**data, "conditions": {"instrument": {"classes": ["Bass", "Piano"]}}})
    assert spec.conditions.labels["instrument"].count == 2
