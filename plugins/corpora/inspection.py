"""`accomp corpus inspect`: contents and defects of a corpus for each split."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from accomp.plugin import DataError, Registry, Track, progress, say
from accomp.plugin.corpora import INSTRUMENT, labels_of
from accomp.plugin.sound import bandwidth, duration, read
from accomp.plugin.specs import corpus_at

if TYPE_CHECKING:
    from accomp.plugin import Corpus

SECONDS = 10.0
"""Seconds of a song analysed for bandwidth."""
_SHOWN = 20


def inspect(
    root: Annotated[Path, typer.Argument(help="The corpus's folder.")],
    corpus: Annotated[str, typer.Option(help="Name of the corpus plugin that reads it.")] = "slakh2100",
    listen: Annotated[
        int, typer.Option(min=0, help="Songs of each split whose bandwidth is measured; 0 for none.")
    ] = 8,
    config: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A further key of the plugin's Config, in TOML.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Count songs, hours, stems per class and label, rates, bandwidth, licences of a corpus, and list its defects."""
    reader = corpus_at(root, corpus, config or (), Registry())
    report = {split: examine(reader, split, listen=listen) for split in reader.splits}
    notes = list(getattr(reader, "notes", ()))
    if as_json:
        say(json.dumps({**report, "notes": notes} if notes else report, indent=1, ensure_ascii=False))
    else:
        say("\n".join([*(line for split, found in report.items() for line in _lines(split, found)), *notes]))
    if not any(found["songs"] for found in report.values()):
        read_as = f"read as a corpus of {corpus!r}; --corpus folder reads any folder of songs with a file for each stem"
        raise DataError(f"no split of this corpus can be used{'' if corpus == 'folder' else f', {read_as}'} @ {root}")


def examine(corpus: Corpus, split: str, *, listen: int = 8) -> dict[str, Any]:
    """Count the contents of one split from metadata and file headers; `problems` has a line for each defect.

    `bandwidth` (Hz by song) is measured on the mean of all stems, SECONDS from the middle of up to `listen` songs.
    """
    problems: list[str] = []
    before = len(corpus.problems)
    tracks: list[Track] = []
    seconds: list[float] = []
    rates: Counter[int] = Counter()
    licences: Counter[str] = Counter()
    labels: dict[str, Counter[str]] = {}
    try:
        with progress(f"reading {split}", None) as advance:
            for track in corpus.tracks(split):
                tracks.append(track)
                lengths = _lengths(track, rates, problems)
                seconds.append(max(lengths, default=0.0))
                licences[track.licence] += 1
                for stem in track.stems:
                    for name, text in labels_of(track, stem).items():
                        labels.setdefault(name, Counter())[text] += 1
                advance(1)
    except DataError as error:
        problems += error.problems
    classes = labels.pop(INSTRUMENT, Counter())
    return {
        "songs": len(seconds),
        "hours": round(sum(seconds) / 3600, 4),
        "stems": sum(classes.values()),
        "classes": dict(classes.most_common()),
        "labels": {name: dict(texts.most_common()) for name, texts in sorted(labels.items())},
        "sample_rates": dict(rates.most_common()),
        "bandwidth": _bandwidths(tracks, listen, problems),
        "licences": dict(licences.most_common()),
        "problems": corpus.problems[before:] + problems,
    }


def _lengths(track: Track, rates: Counter[int], problems: list[str]) -> list[float]:
    """Return the length (s) of each readable stem; add problems for unreadable stems and unequal lengths."""
    lengths = {}
    for name, stem in track.stems.items():
        try:
            samples, rate = duration(stem.files)
        except DataError as error:
            problems += error.problems
            continue
        rates[rate] += 1
        lengths[name] = samples / rate
    if len(set(lengths.values())) > 1:
        short, long = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        problems.append(
            f"stems of unequal length: {short} {lengths[short]:.3f} s, {long} {lengths[long]:.3f} s @ {track.id}"
        )
    return list(lengths.values())


def _bandwidths(tracks: list[Track], count: int, problems: list[str]) -> dict[str, int]:
    """Return the bandwidth (Hz) of songs chosen by a hash, to avoid a bias to the first ones."""
    chosen = sorted(tracks, key=lambda track: hashlib.sha256(track.id.encode()).digest())[:count]
    found = {}
    for track in chosen:
        try:
            headers = [duration(stem.files) for stem in track.stems.values()]
            rate = max(native for _, native in headers)
            start = max(0.0, min(samples / native for samples, native in headers) / 2 - SECONDS / 2)
            sounds = [read(stem.files, rate, start=start, seconds=SECONDS) for stem in track.stems.values()]
        except DataError as error:
            problems += [problem for problem in error.problems if problem not in problems]
            continue
        length = max(map(len, sounds))
        found[track.id] = round(bandwidth(np.sum([np.pad(s, (0, length - len(s))) for s in sounds], axis=0), rate))
    return found


def _lines(split: str, found: dict[str, Any]) -> list[str]:
    def counts(of: dict[str, int], unit: str = "") -> str:
        return ", ".join(f"{name}{unit} {count}" for name, count in of.items()) or "none"

    stems = found["stems"]
    labelled = {
        name: f"{sum(texts.values())} of {stems} stems: {counts(texts)}" for name, texts in found["labels"].items()
    }
    problems = found["problems"]
    reach = sorted(found["bandwidth"].values())
    told = (
        f"{reach[0]} to {reach[-1]} Hz, median {reach[len(reach) // 2]} ({len(reach)} songs analysed)"
        if reach
        else "not measured"
    )
    return [
        f"{split}: {found['songs']} songs, {found['hours']:.2f} h, {stems} stems",
        f"  classes: {counts(found['classes'])}",
        *(f"  label {name}: {told}" for name, told in labelled.items()),
        f"  sample rates: {counts(found['sample_rates'], ' Hz:')}",
        f"  bandwidth: {told}",
        f"  licences: {counts(found['licences'])}",
        f"  problems: {len(problems)}",
        *(f"    {problem}" for problem in problems[:_SHOWN]),
        *([f"    and {len(problems) - _SHOWN} more (--json has all)"] if len(problems) > _SHOWN else []),
    ]
