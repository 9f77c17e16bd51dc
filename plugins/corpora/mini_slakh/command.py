"""`accomp corpus mini-slakh`: collect music, plan the splits, render, report.

The command can be interrupted: songs are written atomically, and the same command resumes with the missing ones.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import soundfile
import typer
from attrs import evolve

from accomp.core.compute.cores import cores
from accomp.core.console import progress, say, warn
from accomp.core.errors import DataError
from accomp.core.files import hash_file
from accomp.core.trouble import raise_trouble
from accomp.plugins.corpora import debian
from accomp.plugins.corpora.mini_slakh import plan, sources, synth
from accomp.plugins.corpora.mini_slakh.midi import MidiError
from accomp.plugins.corpora.mini_slakh.record import RECORD, same_request, source_of, write_record
from accomp.plugins.corpora.mini_slakh.render import Source, add_known, render_song, song_of
from accomp.plugins.corpora.mini_slakh.variants import Variant, variants_of
from accomp.plugins.corpora.pool import each

_RECIPE = 1
"""Version; increase it with every change of the audio, so that a folder never mixes versions."""


def mini_slakh(
    out: Annotated[Path, typer.Argument(help="Output folder, a Slakh2100 root.")],
    midi: Annotated[
        Path | None, typer.Option(help="Folder of MIDI (or WAD) files to use; subfolders become the label `style`.")
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Licence of the music in --midi, written into the metadata.")
    ] = "unstated",
    minutes: Annotated[
        float | None, typer.Option(min=0.25, help="Minutes of mix; all available music by default.")
    ] = None,
    longest: Annotated[
        float, typer.Option(min=plan.SHORTEST, help="Longest song in seconds; longer ones are cut.")
    ] = 240.0,
    source: Annotated[
        str,
        typer.Option(
            help="debian (freedoom and openttd-openmsx, or one of them), composer, mma (grooves), or auto: debian, "
            "else composer."
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of composer and mma; recorded music does not depend on it.")] = 0,
    font: Annotated[
        list[Path] | None,
        typer.Option(help="General MIDI sound font (.sf2) instead of TimGM6mb; further ones are for variants."),
    ] = None,
    transpose: Annotated[
        list[int] | None,
        typer.Option(metavar="SEMITONES", help="Also render train songs transposed by semitones; repeatable."),
    ] = None,
    tempo: Annotated[
        list[float] | None,
        typer.Option(metavar="FACTOR", help="Also render train songs at a tempo factor; repeatable."),
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Where Debian packages are unpacked.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core if not given.")] = None,
) -> None:
    """Render multi-track MIDI into Slakh2100's folder layout: 32 kHz mono stems, split by song.

    --transpose, --tempo and several --font render variants of every train song beside it, at every combination of
    transposition and tempo; --minutes counts the songs themselves.
    """
    fonts = _checked(font or [synth.carried_font()])
    variants = variants_of(transpose or [], tempo or [], len(fonts))
    longest = plan.longest_song(longest, minutes)
    music = sources.gather(
        source,
        folder=midi,
        licence=licence,
        cache=cache or debian.default_cache(),
        minutes=minutes,
        seed=seed,
        longest=longest,
    )
    for notice in music.notices:
        warn(notice)
    request: dict[str, Any] = {
        "recipe": _RECIPE,
        "minutes": minutes,
        "longest": longest,
        "music": music.digest(),
        "font": hash_file(fonts[0]),
    }
    if variants:
        request |= {"variants": [v.suffix for v in variants], "fonts": [hash_file(path) for path in fonts]}
    record = same_request(out, request)
    if record is not None:
        _add_missing_labels(out, record, music, longest)
    if record and all((out / song["folder"]).is_dir() for song in record["songs"]):
        say(f"{out} is complete already: {len(record['songs'])} songs")
        return
    workers = workers or cores()
    planned, problems = _plan(music, longest, minutes, workers)
    planned += _varied(planned, variants, problems, longest, workers)
    write_record(out, request, music, fonts, planned, problems)
    for stale in out.glob("*/.Track*"):  # unfinished songs of a killed run
        shutil.rmtree(stale)
    _render([song for song in planned if not (out / song.folder).is_dir()], problems, workers, out, fonts, longest)
    planned = [song for song in planned if (out / song.folder).is_dir()]
    if not planned:
        raise DataError(f"no song could be rendered: {'; '.join(f'{name}: {why}' for name, why in problems[:5])}")
    write_record(out, request, music, fonts, planned, problems)
    _summary(out, music, fonts, planned, problems, minutes)


_ODD = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)
"""Exceptions caused by the content of a file; only this file is skipped."""


def look(source: Source, *, longest: float) -> plan.Candidate | MidiError:
    """Return the candidate of a file, or the reason for skipping it. Runs in a worker process."""
    try:
        return plan.survey(source, song_of(source, longest=longest))
    except MidiError as error:
        return error
    except OSError as error:
        raise_trouble(error)
        return MidiError(f"cannot be read: {error.strerror or error}")
    except _ODD as error:
        return MidiError(f"cannot be read as a song: {type(error).__name__}: {error}")


def render_planned(song: plan.Planned, *, out: Path, fonts: Sequence[Path], longest: float) -> MidiError | None:
    """Render one song; return an error or None. Runs in a worker process."""
    try:
        render_song(song.candidate.source, out / song.folder, fonts, longest=longest)
    except MidiError as error:
        return error
    except _ODD as error:
        return MidiError(f"cannot be rendered: {type(error).__name__}: {error}")
    return None


def _plan(
    music: sources.Music, longest: float, minutes: float | None, workers: int
) -> tuple[list[plan.Planned], list[tuple[str, str]]]:
    """Return the songs to render, and (name, reason) for all skipped ones."""
    candidates, problems = [], list(music.problems)
    with progress("reading MIDI", len(music.sources)) as advance:
        for source, found in each(partial(look, longest=longest), music.sources, workers):
            advance(1, note=source.name)
            if isinstance(found, MidiError):
                problems.append((source.name, str(found)))
            else:
                candidates.append(found)
    songs, twice = plan.distinct(candidates)
    problems += [(left.source.name, f"the same music as {kept.source.name}") for left, kept in twice]
    if not songs:
        raise DataError(
            f"none of {len(music.sources)} MIDI files can be used: {'; '.join(f'{n}: {w}' for n, w in problems[:5])}"
        )
    return plan.choose(songs, minutes), problems


def _checked(fonts: Sequence[Path]) -> list[Path]:
    for font in fonts:
        if not font.is_file():
            raise DataError(f"--font {font}: no such file; expected a .sf2 sound font")
        synth.check(font)
    return list(dict.fromkeys(fonts))


def _varied(
    planned: Sequence[plan.Planned],
    variants: Sequence[Variant],
    problems: list[tuple[str, str]],
    longest: float,
    workers: int,
) -> list[plan.Planned]:
    """Return the variants of the train songs, each with its folder; add impossible ones to the problems."""
    beside = {}
    for song in planned:
        if song.folder.startswith("train/"):
            for variant in variants:
                beside[song.folder + variant.suffix] = evolve(song.candidate.source, variant=variant)
    found = [result for _, result in each(partial(look, longest=longest), list(beside.values()), workers)]
    problems += [
        (f"{source.name}, {folder}", str(result))
        for (folder, source), result in zip(beside.items(), found, strict=True)
        if isinstance(result, MidiError)
    ]
    return [
        plan.Planned(result, folder)
        for folder, result in zip(beside, found, strict=True)
        if not isinstance(result, MidiError)
    ]


def _render(
    songs: list[plan.Planned],
    problems: list[tuple[str, str]],
    workers: int,
    out: Path,
    fonts: Sequence[Path],
    longest: float,
) -> None:
    work = partial(render_planned, out=out, fonts=fonts, longest=longest)
    with progress("rendering songs", len(songs)) as advance:
        try:
            for song, error in each(work, songs, workers):
                advance(1, note=song.candidate.source.name)
                if error is not None:
                    problems.append((song.candidate.source.name, str(error)))
        except (OSError, soundfile.LibsndfileError) as error:
            raise DataError(
                f"cannot write: {error}; free some space and run the same command again: finished songs are kept"
            ) from error


def _add_missing_labels(out: Path, record: dict[str, Any], music: sources.Music, longest: float) -> None:
    """Add labels and annotations to songs of an earlier version; their audio stays."""
    known = {source.name: source for source in music.sources}
    given = [add_known(out / song["folder"], source_of(song, known), longest=longest) for song in record["songs"]]
    if any(given):
        say(f"{sum(given)} songs of an earlier run received labels or annotations; `accomp ingest` passes them on")


def _summary(
    out: Path,
    music: sources.Music,
    fonts: Sequence[Path],
    planned: list[plan.Planned],
    problems: list[tuple[str, str]],
    minutes: float | None,
) -> None:
    length = {split: 0.0 for split in plan.SPLITS}
    for song in planned:
        length[song.folder.split("/")[0]] += song.candidate.seconds / 60
    songs = Counter(song.folder.split("/")[0] for song in planned)
    say(f"{len(planned)} songs, {sum(length.values()):.1f} minutes of mix in {out}")
    for split in plan.SPLITS:
        say(f"  {split:<10} {songs[split]:4d} songs {length[split]:7.1f} min")
    for line in music.used:
        say(f"  music: {line}")
    if several := sum(song.candidate.source.variant is not None for song in planned):
        say(f"  variants: {several} of the songs of train")
    for font in fonts:
        own = " (GPL-2.0, comes with pretty_midi)" if font == synth.carried_font() else ""
        say(f"  sound font: {font.name}{own}")
    if problems:
        say(f"  left out: {len(problems)}, named with the reason in {out / RECORD}")
        for name, why in problems[:10]:
            say(f"    {name}: {why}")
    for split in plan.SPLITS:
        if not songs[split]:
            warn(f"no song falls to {split}; more songs are needed (a song's notes decide its split)")
    written = sum(song.candidate.seconds for song in planned if song.candidate.source.variant is None) / 60
    if minutes is not None and written < minutes:
        warn(f"the music holds only {written:.1f} of the {minutes:g} minutes asked for")
