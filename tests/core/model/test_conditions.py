"""Labels by name: what may be one, which class of a model it is, and what is said where it is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from accomp.core.errors import UserError
from accomp.core.model.conditions import LabelCondition, class_names, class_numbers, labels_of, parse_conditions
from accomp.core.music.instruments import CLASSES
from accomp.core.music.labels import check_labels, read_labels
from accomp.core.types import Stem, Track

CONDITIONS = {
    "genre": LabelCondition(("rock", "jazz", "Jazz", "bossa nova")),
    "instrument": LabelCondition(18),
    "mood": LabelCondition(3),
}


def problems_of(call, *arguments) -> list[str]:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    return list(caught.value.problems)


def test_what_is_a_label_is_kept_and_what_is_none_is_named():
    given = {"genre": "rock", "year": 1999, "live": False, "context": "studio", "instrument": "Bass", "": "x", 3: "x",
             "a=b": "x", "empty": " "}  # fmt: skip
    labels, problems = read_labels(given)
    assert labels == {"genre": "rock"}
    assert [problem.split(": ")[0].split(" is ")[0] for problem in problems] == [
        f"label {name!r}" for name in given if name != "genre"
    ]
    assert "label 'year' is 1999; expected text" in problems[0]
    assert "means something else" in problems[2]
    assert read_labels(["rock"]) == (
        {},
        ["labels is ['rock']; expected a table of names and texts, such as genre: rock"],
    )
    assert read_labels({}) == ({}, [])
    with pytest.raises(ValueError, match=r"'year' is 1999.*'live' is False"):
        check_labels(given)


@pytest.mark.parametrize(
    "make", [lambda labels: Track("t", {}, labels=labels), lambda labels: Stem(Path(), 0, "", labels)]
)
def test_no_song_or_stem_has_anything_else_for_a_label(make):
    assert make({"genre": "rock"}).labels == {"genre": "rock"}
    for wrong in ({"genre": 3}, {"instrument": "Bass"}, "rock"):
        with pytest.raises(ValueError, match="label"):
            make(wrong)


def test_a_stem_has_its_songs_labels_its_own_before_them_and_its_instrument():
    stems = {"a": Stem(Path(), 4, "", {"role": "low", "genre": "funk"}), "b": Stem(Path(), 0)}
    track = Track("t", stems, labels={"genre": "rock", "key": "C"})
    assert labels_of(track, "a") == {"genre": "funk", "key": "C", "role": "low", "instrument": "Bass"}
    assert labels_of(track, "b") == {"genre": "rock", "key": "C", "instrument": "Piano"}


def test_a_class_is_the_place_of_its_name():
    assert class_names("genre", CONDITIONS["genre"]) == ("rock", "jazz", "Jazz", "bossa nova")
    assert class_names("instrument", LabelCondition(5)) == CLASSES[:5]
    assert class_names("instrument", LabelCondition(("Bass", "Reed"))) == ("Bass", "Reed")
    assert class_names("mood", CONDITIONS["mood"]) == ("0", "1", "2")
    for name, condition in CONDITIONS.items():
        assert len(class_names(name, condition)) == condition.count
    labels = {"genre": "bossa nova", "instrument": "Reed", "key": "C"}
    assert class_numbers(labels, CONDITIONS) == {"genre": 3, "instrument": 8}
    assert class_numbers(labels, {"instrument": LabelCondition(("Bass", "Reed"))}) == {"instrument": 1}
    assert class_numbers(labels, {}) == {}


def test_labels_that_are_no_class_of_the_model_are_told_together():
    told = problems_of(
        class_numbers, {"genre": "rok", "instrument": "Reed"}, CONDITIONS | {"instrument": LabelCondition(8)}
    )
    assert told[0] == "genre is 'rok', which is no class of the model; did you mean 'rock'?"
    assert told[1].startswith("instrument is 'Reed', which is no class of the model; ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["genre=jazz"], {"genre": 1}),
        (["genre=Jazz"], {"genre": 2}),
        (["genre=ROCK", "mood=2"], {"genre": 0, "mood": 2}),
        ([" genre = bossa nova ", "instrument=bass"], {"genre": 3, "instrument": 4}),
        (["instrument=Drums"], {"instrument": 14}),
        (["instrument=alto sax"], {"instrument": 8}),
    ],
)
def test_what_a_user_asks_for_is_found(words, expected):
    assert parse_conditions(words, CONDITIONS) == expected


def test_what_a_user_cannot_ask_for_is_told_together_with_what_is_near():
    words = [
        "genre",
        "genre=",
        "=jazz",
        "gender=jazz",
        "tempo=fast",
        "genre=rokc",
        "genre=JAZZ",
        "mood=7",
        "mood=1",
        "mood=2",
    ]
    told = problems_of(parse_conditions, words, CONDITIONS)
    form = "expected NAME=VALUE, as in genre=jazz @ --condition "
    assert told == [
        form + "genre",
        form + "genre=",
        form + "=jazz",
        "the model has no condition 'gender'; did you mean 'genre'? @ --condition gender=jazz",
        "the model has no condition 'tempo'; its conditions: genre, instrument, mood @ --condition tempo=fast",
        "no genre is called 'rokc'; did you mean 'rock'? @ --condition genre=rokc",
        "no genre is called 'JAZZ'; known: Jazz, bossa nova, jazz, rock @ --condition genre=JAZZ",
        "no mood is called '7'; known: 0, 1, 2 @ --condition mood=7",
        "'mood' is given twice @ --condition mood=2",
    ]
    duo = {"instrument": LabelCondition(("Bass", "Piano"))}
    told = problems_of(parse_conditions, ["instrument=drums"], duo)
    assert told == ["no instrument is called 'drums'; instruments: Bass, Piano @ --condition instrument=drums"]
    (alone,) = problems_of(parse_conditions, ["genre=jazz"], {})
    assert "has no condition 'genre', nor any other; it plays from the audio alone" in alone
