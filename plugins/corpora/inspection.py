"""`accomp corpus inspect`: what a corpus holds, split by split, and what is wrong with it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accomp.core.audio import duration
from accomp.core.conditions import INSTRUMENT, labels_of
from accomp.core.console import progress, say
from accomp.core.errors import DataError
from accomp.core.registry import Registry
from accomp.core.types import Track

if TYPE_CHECKING:
    from accomp.core.interfaces import Corpus

_SHOWN = 20


def inspect(
    root: Annotated[Path, typer.Argument(help="The corpus's folder.")],
    corpus: Annotated[str, typer.Option(help="Name of the corpus plugin that reads it.")] = "slakh2100",
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Count songs, hours, stems per class and label, sample rates and licences of a corpus, and name what is wrong."""
    plugin = Registry().find("corpus", corpus).load()
    reader = plugin(plugin.Config(root=str(root)))
    report = {split: examine(reader, split) for split in reader.splits}
    if as_json:
        say(json.dumps(report, indent=1, ensure_ascii=False))
    else:
        say("\n".join(line for split, found in report.items() for line in _lines(split, found)))
    if not any(found["songs"] for found in report.values()):
        raise DataError(f"no split of this corpus can be used @ {root}")


def examine(corpus: Corpus, split: str) -> dict[str, Any]:
    """Counts of one split, from metadata and file headers alone; `problems` has a line for each thing that is wrong."""
    problems: list[str] = []
    before = len(corpus.problems)
    seconds: list[float] = []
    rates: Counter[int] = Counter()
    licences: Counter[str] = Counter()
    labels: dict[str, Counter[str]] = {}
    try:
        with progress(f"reading {split}", None) as advance:
            for track in corpus.tracks(split):
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
        "licences": dict(licences.most_common()),
        "problems": corpus.problems[before:] + problems,
    }


def _lengths(track: Track, rates: Counter[int], problems: list[str]) -> list[float]:
    """Seconds of each readable stem; notes unreadable ones and stems that are not equally long."""
    lengths = {}
    for name, stem in track.stems.items():
        try:
            samples, rate = duration(stem.path)
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


def _lines(split: str, found: dict[str, Any]) -> list[str]:
    def counts(of: dict[str, int], unit: str = "") -> str:
        return ", ".join(f"{name}{unit} {count}" for name, count in of.items()) or "none"

    stems = found["stems"]
    labelled = {
        name: f"{sum(texts.values())} of {stems} stems: {counts(texts)}" for name, texts in found["labels"].items()
    }
    problems = found["problems"]
    return [
        f"{split}: {found['songs']} songs, {found['hours']:.2f} h, {stems} stems",
        f"  classes: {counts(found['classes'])}",
        *(f"  label {name}: {told}" for name, told in labelled.items()),
        f"  sample rates: {counts(found['sample_rates'], ' Hz:')}",
        f"  licences: {counts(found['licences'])}",
        f"  problems: {len(problems)}",
        *(f"    {problem}" for problem in problems[:_SHOWN]),
        *([f"    and {len(problems) - _SHOWN} more (--json has all)"] if len(problems) > _SHOWN else []),
    ]
