"""What users say of metronome and chart: what is understood, and what is refused with what to say instead."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from fakes import Drone, Pulse, with_followers
from small import space_with

from accomp.core.clock import Clock
from accomp.core.errors import DataError, PluginError, UserError
from accomp.core.generation.followers import follow_report
from accomp.core.generation.timeline_options import TimelineOptions, read_metronome
from accomp.core.model.conditions import Conditions, TimelineCondition
from accomp.core.music.chords import chord_named
from accomp.core.music.timelines import metronome
from accomp.core.registry import Registry
from accomp.core.streaming.followed_timeline import FollowedTimeline

REGISTRY = Registry(third_party=False)


def player(*timelines: str, heard: float = 0.0):
    """50 frames a second."""
    tokenizer = SimpleNamespace(space=space_with())
    conditions = Conditions(timelines={name: TimelineCondition(heard=heard) for name in timelines})
    model = SimpleNamespace(timelines=dict.fromkeys(timelines), conditions=conditions)
    return SimpleNamespace(model=model, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("asked", "beat", "meter", "first"),
    [
        ("120bpm", 0.5, 4, 0.0),
        ("120", 0.5, 4, 0.0),
        ("90BPM/3", 60 / 90, 3, 0.0),
        ("100bpm@0.35", 0.6, 4, 0.35),
        ("60/2@1.5s", 1.0, 2, 1.5),
        ("120bpm@-0.25", 0.5, 4, -0.25),
    ],
)
def test_a_tempo_is_a_grid_that_never_ends(asked, beat, meter, first):
    found = read_metronome(asked)
    times = first + np.array([0.0, beat, 1000 * meter * beat])
    values = metronome(found, times)
    np.testing.assert_allclose(values[:, 2], 1, atol=1e-3)  # on a beat
    np.testing.assert_allclose(values[[0, 2], 12], 1, atol=1e-3)  # on a downbeat
    assert values[0, 9] == pytest.approx(2 * np.log2(beat / 0.5), abs=1e-5)
    assert values[0, 15] == pytest.approx((meter - 4) / 4)


def test_beats_may_come_from_a_file_of_a_song(tmp_path):
    table = {"beats": [0.1, 0.6, 1.1, 1.6], "beats_per_bar": 2}
    (tmp_path / "metadata.yaml").write_text(yaml.safe_dump({"annotations": table, "stems": {}}))
    (tmp_path / "beats.json").write_text(json.dumps(table))
    for name in ("metadata.yaml", "beats.json"):
        assert read_metronome(str(tmp_path / name)).beats.times == (0.1, 0.6, 1.1, 1.6)


def test_a_session_is_told_what_was_asked_for():
    told = TimelineOptions("120bpm/4@0.2", "C Am").sources(player("metronome", "chart"), REGISTRY)
    assert set(told) == {"metronome", "chart"}
    assert told["metronome"](10, 3).shape == (3, 16)
    assert told["chart"](10, 1)[0].tolist() == [1.0, *chord_named("C").values()]
    assert told["chart"](110, 1)[0].tolist() == [1.0, *chord_named("Am").values()]
    assert TimelineOptions("off", "off").sources(player("metronome", "chart"), REGISTRY) == {}
    assert TimelineOptions("off", "off").sources(player(), REGISTRY) == {}


def test_a_chart_may_lie_in_a_file(tmp_path, capsys):
    (tmp_path / "song.txt").write_text("| C | F G |\n|: Am :|\n")
    told = TimelineOptions("60bpm", str(tmp_path / "song.txt")).sources(player("metronome", "chart"), REGISTRY)
    assert "chart: 4 bars, which begin again where the music goes on" in capsys.readouterr().out
    assert told["chart"](0, 1)[0].tolist() == [1.0, *chord_named("C").values()]


@pytest.mark.parametrize(
    ("conducting", "timelines", "told"),
    [
        (("120bpm", "off"), (), "the model takes no metronome; it takes neither metronome nor chart. Train one with"),
        (("off", "C F"), ("metronome",), "the model takes no chart; it takes metronome"),
        (("fast", "off"), ("metronome",), "neither a tempo nor a file @ --metronome fast; expected 120bpm, 90bpm/3"),
        (("0bpm", "off"), ("metronome",), "@ --metronome 0bpm; expected 120bpm"),
        (("9000bpm", "off"), ("metronome",), "expected 0.1 to 5.0 s.* @ --metronome 9000bpm"),
        (("120bpm/30", "off"), ("metronome",), "beats_per_bar is 30; expected 1 to 16 @ --metronome 120bpm/30"),
        (("off", "C F"), ("metronome", "chart"), "a chart needs a metronome with bars"),
        (("120bpm", "C Fx"), ("metronome", "chart"), "'Fx'.* @ line 1, character 3 of the chart @ --chart C Fx"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_say(conducting, timelines, told):
    with pytest.raises(UserError, match=told):
        TimelineOptions(*conducting).sources(player(*timelines), REGISTRY)


@pytest.mark.parametrize("text", ["[1, 2", "beats: [3, 1]", "tempo: 120", "just words"])
def test_a_file_without_beats_is_named(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(DataError, match=r"x\.yaml"):
        read_metronome(str(tmp_path / "x.yaml"))


def live_player(*timelines: str, heard: float = 0.0):
    """A player whose model has a clock, and what else a follower has to know of it."""
    live = player(*timelines, heard=heard)
    live.model.clock, live.objective = Clock(-2, 1), "ar"
    return live


def test_the_input_may_be_followed_and_what_came_of_it_is_said():
    registry = with_followers(Registry(third_party=False), Pulse)
    for asked in ("follow", "follow:pulse"):
        told = TimelineOptions(asked).sources(live_player("metronome"), registry)
        source = told["metronome"]
        source.begin()
        source.listen(np.zeros(40 * 8, np.float32))
        assert not source(0, 40).any()
        assert follow_report(told) == ["metronome: no beat was found in 0.7 s of input; it was withheld all the time"]
        source.listen(np.ones(10 * 8, np.float32))
        np.testing.assert_array_equal(source(40, 10)[:, 0] == 1, np.arange(40, 50) >= 43)
        (line,) = follow_report(told)
        assert line == "metronome: followed from 0.8 s on, withheld before; at the end 120.0 beats a minute"


def test_a_follower_that_is_not_there_is_named():
    registry = with_followers(Registry(third_party=False), Pulse)
    with pytest.raises(PluginError, match="no follower of the metronome is called 'pulsar'; did you mean 'pulse'"):
        TimelineOptions("follow:pulsar").sources(live_player("metronome"), registry)
    with pytest.raises(UserError, match="the model takes no metronome"):
        TimelineOptions("follow").sources(live_player(), registry)
    with pytest.raises(PluginError, match="no follower of the metronome"):
        TimelineOptions("follow").sources(live_player("metronome"), with_followers(registry))


def test_what_nobody_says_is_followed_where_it_can_be(capsys):
    registry = with_followers(Registry(third_party=False), Pulse)
    told = TimelineOptions().sources(live_player("metronome"), registry)
    assert list(told) == ["metronome"]
    assert isinstance(told["metronome"], FollowedTimeline)
    assert (
        "metronome: followed in the input; set --metronome to give the metronome, or to off" in capsys.readouterr().out
    )
    assert TimelineOptions().sources(live_player(), registry) == {}
    assert capsys.readouterr() == ("", "")
    assert TimelineOptions().sources(live_player("metronome"), with_followers(registry)) == {}
    assert "the metronome is withheld, so the model plays worse than it can" in capsys.readouterr().err
    assert TimelineOptions("off").sources(live_player("metronome"), registry) == {}


def test_a_model_with_an_ear_is_told_nothing_unless_somebody_says_so(capsys):
    registry = with_followers(Registry(third_party=False), Pulse)
    listening = live_player("metronome", heard=0.8)
    assert TimelineOptions().sources(listening, registry) == {}
    out, err = capsys.readouterr()
    assert "metronome: heard by the model's own ear; set --metronome to give the metronome, or to follow" in out
    assert err == ""
    assert isinstance(TimelineOptions("follow").sources(listening, registry)["metronome"], FollowedTimeline)
    assert list(TimelineOptions("120bpm").sources(listening, registry)) == ["metronome"]


@pytest.mark.parametrize("metronome", ["off", "120bpm", "follow"])
def test_chords_may_be_followed_with_or_without_a_metronome(metronome):
    registry = with_followers(Registry(third_party=False), Pulse, Drone)
    told = TimelineOptions(metronome, "follow").sources(live_player("metronome", "chart"), registry)
    assert set(told) == {"chart"} | ({"metronome"} if metronome != "off" else set())
    sound = np.concatenate([np.zeros(40 * 8), np.ones(10 * 8)]).astype(np.float32)
    for source in told.values():
        if isinstance(source, FollowedTimeline):
            source.begin()
            source.listen(sound)
    values = told["chart"](0, 50)
    assert not values[:43].any()
    assert values[43:].tolist() == [[1.0, *chord_named("Em").values()]] * 7
    assert follow_report(told)[-1] == "chart: followed from 0.8 s on, withheld before; at the end E:min"
