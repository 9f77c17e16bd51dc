"""Instrument classes: from General MIDI, and from what people call things."""

import json

import pytest
from reference_fixtures import fixture_path

from accomp.core.music.instruments import CLASSES, DRUMS, MEMBERS, from_name, from_program, readable
from accomp.core.names import nearest_class

CORRECTED = {
    "contrabass": "Bass",
    "double bass": "Bass",
    "bass_guitar": "Bass",
    "flutes": "Pipe",
    "Mandolin": "Ethnic",
    "other_plucked": "Ethnic",
}
"""Names that the reference takes for something else, or for nothing."""
NO_NAMES = {"other", "unknown", "other_wind", "other_sounds_(hapischord,_melotron_etc)"}
"""Names that say what only the corpus that has them knows."""


def named(name):
    found = from_name(name)
    return None if found is None else CLASSES[found]


@pytest.mark.parametrize("name", CLASSES[:-1])
def test_every_class_is_known_by_its_own_name(name):
    assert named(name) == named(name.upper()) == named(name.replace(" ", "_")) == name


@pytest.mark.parametrize(
    ("name", "instrument"),
    [
        ("bass", "Bass"),
        ("Bass_01", "Bass"),
        ("BassGuitar", "Bass"),
        ("bass drum", "Percussive"),
        ("Bass Clarinet", "Reed"),
        ("bass trombone", "Brass"),
        ("synth bass", "Bass"),
        ("double-bass (pizz.)", "Bass"),
        ("flute", "Pipe"),
        ("pan flute", "Pipe"),
        ("electric guitar L", "Guitar"),
        ("lead guitar", "Guitar"),
        ("guitar lead", "Guitar"),
        ("leadVox", "Vocal"),
        ("backing vocals", "Vocal"),
        ("SYNTH PAD 2", "Synth Pad"),
        ("lead", "Synth Lead"),
        ("synth strings", "Ensemble"),
        ("Strings", "Strings"),
        ("english horn", "Reed"),
        ("french horns", "Brass"),
        ("hi-hat", "Percussive"),
        ("kick", "Percussive"),
        ("overheads", "Percussive"),
        ("steel drums", "Percussive"),
        ("el. piano", "Piano"),
        ("keys", "Piano"),
        ("tuba (bass of brass)", "Brass"),
        ("bassoon (bass of woodwind)", "Reed"),
        ("banjo, mandolin, ukulele, harp etc", "Ethnic"),
        ("vibes", "Chromatic Percussion"),
        ("fx/processed sound", "Sound Effects"),
        ("01", None),
        ("", None),
        ("basso continuo", None),
        ("Passenger", None),
        ("Übergang", None),
    ],
)
def test_a_name_is_understood(name, instrument):
    assert named(name) == instrument


def test_the_members_shown_beside_a_class_mean_it():
    for name, members in MEMBERS.items():
        assert [named(member) for member in members.split(", ")] == [name] * len(members.split(", "))
    assert (readable("Percussive"), readable("Bass")) == ("Percussive (drums)", "Bass")


@pytest.mark.parametrize(
    ("name", "names", "hint"),
    [
        ("Drums", CLASSES, "did you mean 'Percussive'?"),
        ("gitar", CLASSES, "did you mean 'Guitar'?"),
        ("drums", ("Bass", "Reed"), "instruments: Bass, Reed (saxophone, clarinet)"),
    ],
)
def test_a_name_that_is_no_class_is_answered_by_what_it_means(name, names, hint):
    assert nearest_class(name, names) == f"; {hint}"


def test_names_are_those_of_the_reference_but_for_its_wrong_ones():
    told = json.loads(fixture_path("instrument_classes.json").read_text())
    names = {name: CLASSES[c] for c, names in enumerate(told["categories"]) for name in names}
    names |= {name: CLASSES[c] for name, c in told["name_examples"].items()}
    names |= CORRECTED
    assert {name: named(name) for name in names} == names | dict.fromkeys(NO_NAMES & names.keys())


def test_programs_are_those_of_the_reference():
    told = json.loads(fixture_path("instrument_classes.json").read_text())["gm_program_1based"]
    assert {int(program): from_program(int(program) - 1) for program in told} == {int(p): c for p, c in told.items()}
    assert from_program(999, is_drum=True) == DRUMS
