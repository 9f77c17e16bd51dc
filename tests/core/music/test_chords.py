"""Chords by name, against pitch classes counted by hand and against mir_eval where it is there."""

import pytest

from accomp.core.music.chords import Chord, chord_named

C, D, E, F, G, A, B = 0, 2, 4, 5, 7, 9, 11


@pytest.mark.parametrize(
    ("names", "notes", "bass"),
    [
        (("C", "C:maj", "CM", "Cmaj"), {C, E, G}, C),
        (("Am", "A:min", "A-", "Amin"), {A, C, E}, A),
        (("Cmaj7", "C^7", "CΔ", "C:maj7"), {C, E, G, B}, C),
        (("Dm7", "D-7", "D:min7"), {D, F, A, C}, D),
        (("G7", "G:7"), {G, B, D, F}, G),
        (("Bb/D", "B♭/D", "Bb:maj/3"), {10, D, F}, D),
        (("F#m7b5", "F#ø", "F#:hdim7"), {6, A, C, E}, 6),
        (("Edim7", "E°7", "E:dim7"), {E, G, 10, 1}, E),
        (("G7sus4", "G7sus"), {G, C, D, F}, G),
        (("C/F", "C:maj/4"), {C, E, G, F}, F),
        (("C6/9", "C69"), {C, E, G, A, D}, C),
        (("C(maj9)", "C:maj9"), {C, E, G, B, D}, C),
        (("D:min(9)",), {D, F, A, E}, D),
        (("C:maj(*5)",), {C, E}, C),
        (("C5",), {C, G}, C),
        (("Cb", "B"), {B, 3, 6}, B),
    ],
)
def test_names_are_pitch_classes_and_a_bass(names, notes, bass):
    for name in names:
        assert chord_named(name) == Chord(tuple(sorted(notes)), bass), name


@pytest.mark.parametrize("name", ["N", "N.C.", "NC", "X"])
def test_no_chord_has_no_notes(name):
    assert chord_named(name) == Chord((), None)
    assert chord_named(name).values() == [0.0] * 24


def test_values_are_twelve_notes_and_twelve_basses():
    values = chord_named("Am/E").values()
    assert [i for i, v in enumerate(values) if v] == [0, 4, 9, 12 + 4]


@pytest.mark.parametrize("name", ["", "H", "C:what", "Cfoo", "c", "C/H", "C:maj/99", "C:maj(x)", "7", "C//E"])
def test_what_is_no_chord_is_named(name):
    with pytest.raises(ValueError, match="no chord is called"):
        chord_named(name)


@pytest.mark.parametrize("quality", ["maj", "min7", "7", "dim7", "hdim7", "maj9", "sus4", "minmaj7", "aug", "maj6"])
def test_qualities_are_those_of_mir_eval(quality):
    chord = pytest.importorskip("mir_eval.chord")
    for root in ("C", "F#", "Bb"):
        number, bitmap, _ = chord.encode(f"{root}:{quality}", reduce_extended_chords=False)
        rotated = {(i + number) % 12 for i, on in enumerate(bitmap) if on}
        assert rotated <= set(chord_named(f"{root}:{quality}").notes)
