"""Reading MIDI as songs: time, parts, cuts, fingerprints, and everything that can be wrong with a file."""

import contextlib
import io

import mido
import pytest
from midi_files import RESOLUTION, band, control, midi_file, note, program, tempo, wad_file

from accomp.core.music.instruments import CLASSES, DRUMS
from accomp.plugins.corpora.mini_slakh.midi import TAIL, MidiError, read
from accomp.plugins.corpora.mini_slakh.midi_writer import write
from accomp.plugins.corpora.mini_slakh.wad import music_lumps


def onsets(part):
    return [(round(e.seconds, 6), e.message.note) for e in part.events if e.message.type == "note_on"]


def test_time_starts_at_the_first_note_and_follows_tempo_changes():
    # 2 beats of silence at 0.5 s a beat; a beat at 0.5 s; then 0.25 s a beat
    song = read(
        midi_file(
            tempo(0, 500_000) + tempo(3 * RESOLUTION, 250_000),
            note(2 * RESOLUTION, 60) + note(3 * RESOLUTION, 62) + note(5 * RESOLUTION, 64, length=RESOLUTION),
        ),
        longest=100,
    )
    assert onsets(song.parts[0]) == [(0.0, 60), (0.5, 62), (1.0, 64)]
    assert song.seconds == pytest.approx(1.25 + TAIL)
    assert song.begin == pytest.approx(1.0)
    assert song.tempos == ((0, 500_000), (RESOLUTION, 250_000))


def test_a_part_is_a_program_wherever_it_is_written():
    song = read(
        midi_file(
            program(30, 0) + note(0, 60, channel=0),
            program(30, 3) + note(0, 64, channel=3),  # the doubled guitar
            program(33, 1) + note(0, 40, channel=1) + program(0, 1, tick=480) + note(480, 50, channel=1),
            note(0, 38, channel=9) + program(25, 9) + note(240, 42, channel=9),
        ),
        longest=100,
    )
    assert [(part.program, part.notes) for part in song.parts] == [(0, 1), (30, 2), (33, 1), (128, 2)]
    assert [part.instrument for part in song.parts] == [
        *(CLASSES.index(n) for n in ("Piano", "Guitar", "Bass")),
        DRUMS,
    ]
    assert song.is_band


def test_a_note_ends_in_the_part_that_began_it():
    song = read(midi_file(program(0) + note(0, 60, length=960) + program(40, tick=480) + note(600, 70)), longest=100)
    for part in song.parts:
        kinds = [e.message.type for e in part.events if e.message.type.startswith("note")]
        assert kinds == ["note_on", "note_off"]


def test_controllers_reach_every_part_of_their_channel_and_no_other():
    song = read(
        midi_file(
            program(0, 0) + control(0, 7, 99, channel=0) + note(0, 60) + program(5, 0, tick=480) + note(480, 60),
            program(33, 1) + note(0, 40, channel=1),
        ),
        longest=100,
    )
    volumes = {p.program: [e.message.value for e in p.events if e.message.type == "control_change"] for p in song.parts}
    assert volumes == {0: [99], 5: [99], 33: []}


def test_the_bank_is_not_selected():
    """TimGM6mb has one bank; a song written for a larger set falls back to it."""
    song = read(midi_file(control(0, 0, 8) + control(0, 32, 1) + note(0, 60)), longest=100)
    assert [e.message.type for e in song.parts[0].events] == ["note_on", "note_off"]


def test_every_note_ends_even_where_the_file_forgets():
    hanging = [(0, mido.Message("note_on", note=60, velocity=90))]
    song = read(midi_file(hanging + note(480, 62)), longest=100)
    assert sorted(e.message.note for e in song.parts[0].events if e.message.type == "note_off") == [60, 62]


def test_a_long_song_is_cut_where_most_parts_play():
    """20 s of piano alone, then 20 s of piano and bass, at 0.5 s a beat: 15 s start at the first bar of both."""
    piano = program(0) + [e for b in range(80) for e in note(b * RESOLUTION, 60)]
    bass = program(33, 1) + [e for b in range(40, 80) for e in note(b * RESOLUTION, 40, channel=1)]
    song = read(midi_file(piano, bass), longest=15)
    assert song.begin == pytest.approx(20.0)
    assert song.seconds == 15
    for part in song.parts:
        times = onsets(part)
        assert (times[0][0], times[-1][0]) == (0.0, 14.5)
        kinds = [e.message.type for e in part.events]
        assert kinds.count("note_on") == kinds.count("note_off") == 30
        assert max(e.seconds for e in part.events) <= 15


def test_a_note_that_sounds_across_the_beginning_of_the_cut_is_left_out_whole():
    held = program(48, 2) + note(0, 72, length=60 * RESOLUTION, channel=2) + note(44 * RESOLUTION, 72, channel=2)
    piano = program(0) + [e for b in range(40, 80) for e in note(b * RESOLUTION, 60)]
    song = read(midi_file(piano, held), longest=15)
    strings = next(part for part in song.parts if part.program == 48)
    assert [e.message.type for e in strings.events] == ["note_on", "note_off"]


def test_a_song_that_fits_is_not_cut():
    song = read(band(beats=20), longest=10 + TAIL)
    assert (song.begin, song.seconds) == (0.0, pytest.approx(9.5 + 0.25 + TAIL))


def test_what_is_set_before_the_beginning_holds():
    events = control(0, 7, 50) + [e for b in range(100) for e in note(b * RESOLUTION, 60)]
    extra = program(33, 1) + [e for b in range(60, 100) for e in note(b * RESOLUTION, 40, channel=1)]
    song = read(midi_file(tempo(0, 400_000) + tempo(10 * RESOLUTION, 450_000), events, extra), longest=15)
    assert song.begin > 20
    assert song.tempos == ((0, 450_000),)
    piano = song.parts[0].events
    assert (piano[0].message.type, piano[0].tick, piano[0].message.value) == ("control_change", 0, 50)


@pytest.mark.parametrize(
    "other",
    [
        band(shift=3),
        band(bpm=90),
        band(programs=(5, 35)),
        band(velocity=40),
        band(pause=3),
    ],
    ids=["transposed", "slower", "re-orchestrated", "softer", "later"],
)
def test_a_song_in_other_clothes_has_the_same_fingerprint(other):
    assert read(other, longest=100).fingerprint == read(band(), longest=100).fingerprint


def test_another_song_has_another_fingerprint():
    melody = [e for b in range(8) for e in note(b * RESOLUTION, 60 + b % 3)]
    changed = [e for b in range(8) for e in note(b * RESOLUTION, 60 + (b + (b == 7)) % 3)]
    assert read(midi_file(melody), longest=9).fingerprint != read(midi_file(changed), longest=9).fingerprint


def test_the_fingerprint_does_not_depend_on_the_cut():
    assert read(band(80), longest=15).fingerprint == read(band(80), longest=100).fingerprint


def test_drums_alone_have_a_fingerprint():
    first = midi_file([e for b in range(8) for e in note(b * RESOLUTION, 36, channel=9)])
    second = midi_file([e for b in range(8) for e in note(b * 360, 36, channel=9)])
    assert read(first, longest=9).fingerprint != read(second, longest=9).fingerprint


def test_what_is_written_plays_at_the_same_times():
    song = read(
        midi_file(
            tempo(0, 500_000) + tempo(1440, 300_000) + tempo(4000, 700_000),
            program(12) + [e for b in range(12) for e in note(100 + b * RESOLUTION, 60 + b)],
            program(40, 1) + [e for b in range(12) for e in note(333 + b * RESOLUTION, 50 + b, channel=1)],
        ),
        longest=100,
    )
    again = read(write(song, song.parts), longest=100)
    assert [onsets(part) for part in again.parts] == [onsets(part) for part in song.parts]
    assert [part.program for part in again.parts] == [12, 40]
    played = mido.MidiFile(file=io.BytesIO(write(song, song.parts)))
    assert played.length == pytest.approx(song.seconds - TAIL)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a MIDI file"),
        (b"hello", "not a MIDI file: starts with b'hell'"),
        (b"MUS\x1a" + bytes(20), "MUS score"),
        (b"MThd" + bytes(3), "broken MIDI"),
        (midi_file(note(0, 60))[:-12], "broken MIDI"),
        (midi_file(program(3)), "no notes"),
        (midi_file(), "no notes"),
        (midi_file(note(0, 60), kind=2), "type 2"),
    ],
)
def test_an_unusable_file_says_why(data, why):
    with pytest.raises(MidiError, match=why):
        read(data, longest=100)


def test_no_damage_goes_unnamed():
    """Cut anywhere or with any one byte turned, a file is read or refused: nothing else is ever raised."""
    whole = band(4)
    damaged = [whole[:end] for end in range(len(whole))]
    damaged += [whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :] for i in range(len(whole))]
    refused = 0
    for data in damaged:
        with contextlib.suppress(MidiError):
            read(data, longest=100)
            continue
        refused += 1
    assert refused > len(whole) / 2


def test_music_is_found_in_a_wad_file():
    tune = band(4)
    wad = wad_file(("MAP01", b"geometry"), ("D_RUNNIN", tune), ("EMPTY", b""), ("D_STALKS", b"MUS\x1a" + bytes(8)))
    assert list(music_lumps(wad)) == [("D_RUNNIN", tune), ("D_STALKS", b"MUS\x1a" + bytes(8))]


@pytest.mark.parametrize("wad", [b"", b"PWAD", b"ZWAD" + bytes(8), wad_file(("D_RUNNIN", band(4)))[:-1]])
def test_a_file_that_is_no_whole_wad_is_refused(wad):
    with pytest.raises(MidiError, match="WAD"):
        list(music_lumps(wad))


# ------------------------------------------------------------------------------------------------ far events


FAR = 500_000_000_000_000  # ticks: more than a delta time holds, so it takes many


def far(message: mido.MetaMessage | mido.Message) -> list:
    """The message, FAR ticks later, through deltas of the largest size."""
    step = 2**28 - 1
    return [*(mido.MetaMessage("text", text="", time=step) for _ in range(2000)), message.copy(time=step)]


def beyond(*messages) -> bytes:
    """Four notes, then whatever comes half a million million ticks later."""
    file = mido.MidiFile(type=1, ticks_per_beat=RESOLUTION)
    track = mido.MidiTrack()
    for _ in range(4):
        track.append(mido.Message("note_on", note=60, velocity=90, time=0))
        track.append(mido.Message("note_off", note=60, time=RESOLUTION))
    for message in messages:
        track.extend(far(message))
    file.tracks.append(track)
    out = io.BytesIO()
    file.save(file=out)
    return out.getvalue()


def test_a_note_that_is_far_away_leaves_the_file_out_by_name():
    with pytest.raises(MidiError, match=r"hours .* from the beginning; expected at most 6 hours"):
        read(beyond(mido.Message("note_on", note=64, velocity=90)), longest=15)


@pytest.mark.parametrize(
    "message",
    [
        mido.MetaMessage("set_tempo", tempo=1),
        mido.MetaMessage("time_signature", numerator=7, denominator=8),
        mido.Message("control_change", control=7, value=100),
        mido.Message("note_off", note=60),
        mido.MetaMessage("end_of_track"),
    ],
)
def test_nothing_else_that_is_far_away_costs_anything(message):
    song = read(beyond(message), longest=15)
    assert song.seconds == pytest.approx(2.0 + TAIL)
    assert len(song.beats) <= 8


def test_a_tempo_without_end_makes_no_beats_without_end():
    with pytest.raises(MidiError, match="quarter notes"):
        read(midi_file(tempo(0, 1), note(0, 60) + note(RESOLUTION * 10**6, 62)), longest=15)
