"""What is rendered sounds when the notes say so, and the composer's music is what it says it is."""

import io
from itertools import pairwise

import mido
import numpy as np
import pytest
from midi_files import RESOLUTION, control, midi_file, note, program

from accomp.core.errors import DataError, PluginError
from accomp.plugins.corpora.mini_slakh import composer, synth
from accomp.plugins.corpora.mini_slakh.midi import read

NAMES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
SCALES = {"major": {0, 2, 4, 5, 7, 9, 11}, "minor": {0, 2, 3, 5, 7, 8, 10}}
TRIADS = {"maj": (0, 4, 7), "min": (0, 3, 7), "dim": (0, 3, 6)}


@pytest.fixture(scope="module")
def font():
    return synth.carried_font()


def rises(audio, rate=synth.RATE, gap=0.08):
    """Times (s) at which sound sets in: the short-time level climbs over a tenth of its maximum after being below."""
    hop = rate // 500
    level = np.sqrt(np.mean(audio[: len(audio) // hop * hop].reshape(-1, hop) ** 2, axis=1))
    loud = level > 0.1 * level.max()
    starts = np.flatnonzero(loud & ~np.concatenate([[False], loud[:-1]])) * hop / rate
    return [t for i, t in enumerate(starts) if i == 0 or t - starts[i - 1] > gap]


def part_of(data, longest=60.0):
    return read(data, longest=longest).parts[0]


def test_every_note_sounds_at_its_own_time(font):
    """A rim click every 0.75 s: heard 0.75 s apart. A sequencer called twice would halve it."""
    ticks = [i * 720 for i in range(12)]
    part = part_of(midi_file([e for tick in ticks for e in note(tick, 37, channel=9)]))
    heard = rises(synth.render(part, font, 10 * synth.RATE))
    assert heard == pytest.approx([i * 0.75 for i in range(12)], abs=0.005)


def test_a_busy_part_does_not_fall_behind(font):
    """3000 controllers between two clicks: rounding each gap up to a sample would add 0.05 s."""
    events = note(0, 37, channel=9) + note(16 * RESOLUTION, 37, channel=9)
    for i in range(3000):
        events += control(2 * i + 1, 11, 127 - i % 2, channel=9)
    heard = rises(synth.render(part_of(midi_file(events)), font, 9 * synth.RATE))
    assert heard == pytest.approx([0.0, 8.0], abs=0.005)


def test_pitch_volume_and_bends_are_heard(font):
    def spectrum_peak(events):
        part = part_of(midi_file(program(80) + events + note(0, 69, length=4 * RESOLUTION)))
        audio = synth.render(part, font, 2 * synth.RATE)[synth.RATE // 2 : synth.RATE]
        spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 8 * len(audio)))
        low = spectrum[: len(spectrum) // 16]
        return np.argmax(low) * synth.RATE / (8 * len(audio)), np.abs(audio).max()

    pitch, peak = spectrum_peak([])
    assert pitch == pytest.approx(440, rel=0.02)
    bent, _ = spectrum_peak([(0, mido.Message("pitchwheel", pitch=8191))])
    assert bent / pitch == pytest.approx(2 ** (2 / 12), rel=0.02)
    _, softer = spectrum_peak(control(0, 7, 40))
    assert softer < 0.5 * peak


def test_a_program_chooses_the_sound_and_a_kit_the_drums(font):
    def sound(*events):
        return synth.render(part_of(midi_file([e for group in events for e in group])), font, synth.RATE)

    piano, organ = sound(program(0), note(0, 60)), sound(program(19), note(0, 60))
    assert np.abs(piano - organ).max() > 0.01
    standard = sound(note(0, 36, channel=9))
    electronic = sound(program(25, channel=9), note(0, 36, channel=9))
    assert np.abs(standard - electronic).max() > 0.01


def test_the_end_fades_out_and_the_length_is_exact(font):
    audio = synth.render(part_of(midi_file(program(19) + note(0, 60, length=100 * RESOLUTION))), font, 64_001)
    assert audio.shape == (64_001,)
    assert audio.dtype == np.float32
    assert audio[-1] == 0
    assert np.abs(audio[-800:]).max() < 0.06 * np.abs(audio).max()


def test_the_same_part_gives_the_same_samples(font):
    part = read(composer.compose(0, 0).midi, longest=5).parts[0]
    assert np.array_equal(synth.render(part, font, 160_000), synth.render(part, font, 160_000))


def test_a_font_that_is_none_is_refused(tmp_path):
    (tmp_path / "x.sf2").write_bytes(b"RIFFnothing")
    with pytest.raises(DataError, match=r"cannot read sound font.*\.sf2 file @"):
        synth.check(tmp_path / "x.sf2")


def test_missing_libraries_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(synth, "find_spec", lambda name: None)
    with pytest.raises(PluginError, match=r"pip install 'accomp\[music\]'"):
        synth.carried_font()
    with pytest.raises(PluginError, match="pip install --no-deps tinysoundfont"):
        synth.check(tmp_path)


def played(song):
    """role -> [(start s, end s, pitch)], read from the MIDI with mido alone."""
    file = mido.MidiFile(file=io.BytesIO(song.midi))
    beat = next(m.tempo for m in file.tracks[0] if m.type == "set_tempo") / 1e6
    roles = {}
    for track in file.tracks[1:]:
        notes, open_notes, tick = [], {}, 0
        for message in track:
            tick += message.time
            seconds = tick / file.ticks_per_beat * beat
            if message.type == "note_on":
                open_notes[message.note] = seconds
            elif message.type == "note_off":
                notes.append((open_notes.pop(message.note), seconds, message.note))
        roles[track.name] = notes
    return roles


@pytest.mark.parametrize("number", range(12))
def test_composed_chords_and_beats_are_the_ones_played(number):
    song = composer.compose(7, number)
    known, roles = song.annotations, played(song)
    beat = 60 / known["tempo"]
    assert np.diff(known["beats"]) == pytest.approx(beat, abs=1e-5)
    assert [start for start, _, _ in known["chords"]] == pytest.approx(known["beats"][:: known["beats_per_bar"]])
    assert all(a[1] == b[0] for a, b in pairwise(known["chords"]))
    assert known["beats"][-1] + beat >= composer.SHORTEST
    tonic, mode = known["key"].split(":")
    scale = {(NAMES.index(tonic) + step) % 12 for step in SCALES[mode]}
    assert {pitch % 12 for role, notes in roles.items() if role != "drums" for _, _, pitch in notes} <= scale
    for start, end, name in known["chords"]:
        root, quality = name.split(":")
        tones = {(NAMES.index(root) + step) % 12 for step in TRIADS[quality]}
        for role in ("keys", "pad", "guitar"):
            heard = {pitch % 12 for on, _, pitch in roles.get(role, []) if start - 1e-3 <= on < end - 1e-3}
            assert heard <= tones, role
            assert heard or role != "keys"
        first_bass = [pitch % 12 for on, _, pitch in roles["bass"] if abs(on - start) < 1e-3]
        assert first_bass in ([], [NAMES.index(root)])
    assert min(on for notes in roles.values() for on, _, _ in notes) == 0.0
    off_grid = {round(on / beat * 4, 3) % 1 for notes in roles.values() for on, _, _ in notes}
    assert max(min(x, 1 - x) for x in off_grid) < 0.01


def test_the_same_seed_and_number_give_the_same_song():
    assert composer.compose(3, 5) == composer.compose(3, 5)
    assert len({composer.compose(seed, number).midi for seed in (0, 1) for number in range(4)}) == 8


def test_the_rendered_drums_are_on_the_known_beats(font):
    """By energy alone: what the drums do on the beats is louder than half-way between two sixteenths."""
    song = composer.compose(0, 0)
    read_song = read(song.midi, longest=20.0)
    drums = next(part for part in read_song.parts if part.is_drum)
    audio = synth.render(drums, font, 20 * synth.RATE)
    beat = 60 / song.annotations["tempo"]

    def attack(time):
        at = round((time - read_song.begin) * synth.RATE)
        after, before = audio[at : at + 320], audio[max(at - 320, 0) : at]
        return np.sum(after**2) - (np.sum(before**2) if len(before) else 0.0)

    beats = [b for b in song.annotations["beats"] if read_song.begin + 0.1 < b < read_song.begin + 19]
    on = np.mean([attack(b) for b in beats])
    off = np.mean([abs(attack(b + beat / 8)) for b in beats])
    assert on > 10 * off
