"""What takes are told besides the sound: the song's annotations, or nothing, as [generate] says."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
import tiny
import torch
from fakes import Drone, EnergyTokenizer, FolderCorpus, Pulse, with_followers

from accomp.core.errors import CombinationError, SpecError
from accomp.core.evaluation.clip_sets import deaf_cells, take_cell
from accomp.core.generation import generate as module
from accomp.core.generation.generate import generate, settings_of
from accomp.core.music.annotations import read_annotations
from accomp.core.runs.player import Player
from accomp.core.spec.build import build_model, build_sampler, check_combination

KNOWN = read_annotations({"beats": [0.1 + 0.4 * i for i in range(9)], "beats_per_bar": 2, "chords": [[0, 4, "Am"]]})[0]


class Annotated(FolderCorpus):
    """Every song is told to have these annotations."""

    def tracks(self, split):
        return (attrs.evolve(track, annotations=KNOWN) for track in super().tracks(split))


@pytest.fixture
def told(trained: tiny.Trained, tmp_path, monkeypatch):
    """told(conditions, **generate): the records of takes that a model of these timelines, random within, has played."""
    run = trained.copy(tmp_path / "run")

    def make(timelines: tuple[str, ...], **asked: Any) -> list[dict[str, Any]]:
        conditions = {"instrument": {"classes": 18}} | {name: {"drop": 0.2} for name in timelines}
        asked = {"takes": 2, "seconds": 1.0} | asked
        spec = run.spec(generate=asked, conditions=conditions)
        tokenizer = EnergyTokenizer()
        model = build_model(spec, tokenizer.space, run.registry).eval()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            for weight in model.parameters():
                weight.data += 0.3 * torch.randn_like(weight)
        sampler: Any = build_sampler(spec, tokenizer.space, run.registry)
        player = Player(tokenizer, model, sampler, 50, 1, "w", "ar")
        monkeypatch.setattr(module, "load_player", lambda *a, **k: player)
        monkeypatch.setattr(module, "build_corpus", lambda *a: Annotated(Annotated.Config(str(run.corpus))))
        generate(spec, with_followers(run.registry, Pulse, Drone), run.run)
        made = json.loads((run.run / "takes.json").read_text())
        make.title = take_cell(run.run, made).title  # type: ignore[attr-defined]
        return [json.loads((run.run / "takes" / id / "take.json").read_text()) for id in made["takes"]]

    make.run = run.run  # type: ignore[attr-defined]
    return make


def sounds(told) -> list[bytes]:
    return [path.read_bytes() for path in sorted(told.run.glob("takes/*/stem.wav"))]


def test_what_is_known_is_told_unless_it_is_withheld(told):
    both = ("metronome", "chart")
    heard = {}
    for asked, names, keys in (
        ({}, ["chart", "metronome"], {"start", "by", "beats", "bar", "meter", "chords"}),
        ({"metronome": "off"}, ["chart"], {"start", "by", "chords"}),
        ({"chart": "off"}, ["metronome"], {"start", "by", "beats", "bar", "meter"}),
    ):
        for record in told(both, **asked):
            assert record["told"] == names
            assert set(record["made_from"]["told"]) == keys
            assert record["streamed_equals_offline"]
        heard[str(asked)] = sounds(told)
        assert told.title == "model" + "".join(f", {name} off" for name in asked)
    for record in told(both, metronome="off", chart="off"):
        assert record["told"] == []
        assert "told" not in record["made_from"]
    heard["nothing"] = sounds(told)
    played = list(heard.values())
    assert all(played[i] != played[j] for i in range(4) for j in range(i))


def test_a_model_without_timelines_is_told_nothing_and_nobody_complains(told, capsys):
    for record in told(()) + told((), metronome="off"):
        assert record["told"] == []
        assert "told" not in record["made_from"]
    assert "metronome" not in "".join(capsys.readouterr())


def test_takes_of_before_there_was_a_choice_were_told_the_annotations():
    made = {"settings": {"generate": {"takes": 2}}}
    assert settings_of(made)["generate"]["metronome"] == settings_of(made)["generate"]["chart"] == "annotations"


def test_another_word_is_refused(trained: tiny.Trained):
    with pytest.raises(SpecError, match=r"generate\.metronome"):
        trained.spec(generate={"metronome": "120bpm"})


def test_a_deaf_twin_hears_another_song_and_is_judged_with_the_context_it_missed(told):
    for record in told((), deaf=True):
        folder = told.run / "takes" / record["id"]
        assert record["deaf"]["track"] != record["track"] == record["heard"]["track"]
        stem, deaf = ((folder / f"{name}.wav").read_bytes() for name in ("stem", "deaf"))
        assert len(deaf) == len(stem)
        assert deaf != stem
    made = json.loads((told.run / "takes.json").read_text())
    (cell,) = deaf_cells(told.run, made)
    assert (cell.name, cell.title) == ("deaf", "model, hearing another song")
    (kept,) = take_cell(told.run, made).clips[:1]
    twin, own = cell.clips[0].load(8000), kept.load(8000)
    assert (twin.context == own.context).all()
    assert not (twin.stem == own.stem).all()
    assert cell.clips[0].identity() != kept.identity()
    told(())
    assert deaf_cells(told.run, json.loads((told.run / "takes.json").read_text())) == []


def test_what_is_followed_is_told_from_when_it_was_heard_and_remembered(told):
    records = told(("metronome", "chart"), metronome="follow")
    followed = sounds(told)
    assert told.title == "model, metronome follow"
    for record in records:
        assert record["told"] == ["chart", "metronome"]
        assert set(record["made_from"]["told"]) == {"start", "by", "chords"}
        assert record["made_from"]["followed"] == {"metronome": "pulse 1"}
        assert 0 < record["followed"]["metronome"] < 1
        assert record["streamed_equals_offline"]
    told(("metronome", "chart"), metronome="off")
    assert sounds(told) != followed
    told(("metronome", "chart"), metronome="follow")
    assert sounds(told) == followed


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({}, 'generate.metronome = "follow", but the model takes no metronome'),
        (
            {"conditions": {"metronome": {"drop": 0.2}}, "objective": {"plugin": "mlm"}, "clock": None},
            "needs whole clips",
        ),
    ],
)
def test_nobody_can_follow_for_a_model_that_takes_no_metronome_or_hears_all_at_once(trained, sections, why):
    plain = trained.plain(generate={"metronome": "follow"}, **sections)
    spec = tiny.spec_of({name: section for name, section in plain.items() if section is not None})
    with pytest.raises(CombinationError, match=why):
        check_combination(spec, trained.registry)


def test_chords_are_followed_by_the_beats_of_the_annotations(told):
    for record in told(("metronome", "chart"), chart="follow"):
        assert record["told"] == ["chart", "metronome"]
        assert set(record["made_from"]["told"]) == {"start", "by", "beats", "bar", "meter"}
        assert record["made_from"]["followed"] == {"chart": "drone 1"}
        assert record["followed"]["chart"] > 0
        assert record["streamed_equals_offline"]
