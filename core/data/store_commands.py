"""`accomp store`: contents of a token store, and its verification.

Beside ingest and loader this module opens a store: as it is on the disk, without its corpus and its tokenizer.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from attrs import frozen

from accomp.core.console import progress, say
from accomp.core.data.stored_songs import windows_of
from accomp.core.errors import DataError
from accomp.core.music.labels import INSTRUMENT, all_labels
from accomp.core.spec.pairs import INGESTED, PairRules
from accomp.zarr_store.layout import StoreError, TrackRecord
from accomp.zarr_store.reader import Store
from accomp.zarr_store.verify import Checked, remove
from accomp.zarr_store.verify import verify as every_track

REFERENCE_BYTES = 164_000
"""Bytes of an example of the published code: 20 s of both streams, ten levels."""
EXAMPLE_SECONDS = 20.0
SHOWN = 20


def inspect(path: str, *, as_json: bool = False) -> None:
    """Print the contents of a store: counts, hours, tokenizer, songs a split, labels, bytes an example.

    Raises DataError for any other folder.
    """
    found = _contents(path)
    say(json.dumps(found, indent=1) if as_json else _described(found))


def verify(path: str, *, mend: bool = False) -> int:
    """Print the damaged songs, which must be ingested again; return 1 where there are any, else 0.

    `mend` removes them, so that the next ingest tokenizes them again. Raises DataError for any other folder, and for
    removal while another process is writing.
    """
    try:
        store = Store(path)
        checked = []
        with progress("verify", None) as advance:
            for track in every_track(store):
                checked.append(track)
                advance(1, note=f"{track.split}/{track.id}")
        broken = [track for track in checked if track.problems]
        left_out = _left_out(store)
        if mend and broken:
            remove(store, broken)
    except StoreError as error:
        raise DataError(str(error)) from error
    say(_verdict(store, checked, broken, left_out, mend=mend))
    return 1 if broken else 0


def _left_out(store: Store) -> int:
    """Count the songs that the last ingest left out; 0 where that is unreadable, which is reported among the
    damages.
    """
    try:
        return len(store.skipped())
    except StoreError:
        return 0


def _verdict(store: Store, checked: list[Checked], broken: list[Checked], left_out: int, *, mend: bool) -> str:
    by_checksum = sum(track.by_checksum for track in checked if not track.problems)
    fine = len(checked) - len(broken)
    lines = [f"{store.path}: {len(checked)} songs; {by_checksum} are what was written, by checksum"]
    if fine > by_checksum:
        lines.append(f"{fine - by_checksum} have no checksums, from before version 3; they can be decoded")
    if not store.finished:
        lines.append("the ingest into it has not ended")
    if left_out:
        lines.append(f"{left_out} songs were left out by the last ingest, which tries them again each time")
    if not broken:
        return "\n".join(lines)
    lines.append(f"{len(broken)} must be ingested again:")
    lines += [f"  {track.split}/{track.id}: {'; '.join(track.problems)}" for track in broken]
    if mend:
        lines.append("they are taken out; run `accomp ingest SPEC` to make them again")
    else:
        lines.append(
            f"`accomp store verify {store.path} --remove` takes them out, `accomp ingest SPEC` makes them again"
        )
    return "\n".join(lines)


@frozen
class _Disk:
    """Disk space of the songs of a store."""

    bytes: int
    examples: int


def _contents(path: str) -> dict[str, Any]:
    """Collect the output of `inspect`, JSON-able."""
    try:
        store = Store(path)
        records = store.records()
        disk = _disk(store)
        skipped = Counter(record.reason.partition(":")[0].partition("(")[0].strip() for record in store.skipped())
    except StoreError as error:
        raise DataError(str(error)) from error
    rate = store.identity.space["sample_rate"]
    splits = {
        split: {
            "songs": len(stored),
            "hours": sum(record.samples for record in stored) / rate / 3600,
            "stems": sum(len(record.stems) for record in stored),
            "mixtures": sum(len(record.parts) - len(record.stems) for record in stored),
            "pairs": sum(len(record.pairs) for record in stored),
        }
        for split in sorted({record.split for record in records})
        for stored in [[record for record in records if record.split == split]]
    }
    return {
        "path": str(store.path),
        "version": store.version,
        "made_with": store.made_with,
        "finished": store.finished,
        "tokenizer": {
            "name": store.identity.tokenizer, "fingerprint": store.identity.fingerprint, **store.identity.space
        },
        "ingest": store.ingest,
        "splits": splits,
        "labels": {name: dict(counts.most_common()) for name, counts in _labels(records).items()},
        "sources": dict(Counter(f"{record.source} ({record.licence})" for record in records)),
        "left_out": {"songs": dict(skipped), "stems": sum(len(record.skipped) for record in records)},
        "bytes": disk.bytes,
        "examples": disk.examples,
        "bytes_an_example": disk.bytes / disk.examples if disk.examples else None,
    }  # fmt: skip


def _disk(store: Store) -> _Disk:
    """Measure the bytes of all songs with their metadata, and the number of examples of 20 s that they hold."""
    frames = round(EXAMPLE_SECONDS * store.identity.space["sample_rate"] / store.identity.space["hop"])
    stored = {**PairRules().ingested(), **store.ingest}
    rules = PairRules(**{name: stored[name] for name in INGESTED})
    size = examples = 0
    for split in store.splits:
        for track in store.tracks(split):
            size += track.bytes()
            examples += sum(len(starts) for starts, _ in windows_of(track, frames, rules))
    return _Disk(size, examples)


def _labels(records: list[TrackRecord]) -> dict[str, Counter[str]]:
    """Count label -> text -> stems."""
    counts: dict[str, Counter[str]] = {INSTRUMENT: Counter()}
    for record in records:
        for part in record.stems:
            for name, text in all_labels(record.labels, part.labels, int(part.instrument or 0)).items():
                counts.setdefault(name, Counter())[text] += 1
    return counts


def _described(found: dict[str, Any]) -> str:
    tokenizer = dict(found["tokenizer"])
    name = tokenizer.pop("name")
    lines = [
        f"{found['path']}: token store of format version {found['version']}, made with {found['made_with']}"
        + ("" if found["finished"] else "; the ingest into it has not ended"),
        f"tokenizer {name}: " + ", ".join(f"{key} {value}" for key, value in tokenizer.items()),
        "pairs: " + ", ".join(f"{key} {_value(value)}" for key, value in found["ingest"].items()),
    ]
    for split, counts in found["splits"].items():
        lines.append(
            f"{split}: {counts['songs']} songs, {counts['hours']:.2f} hours, {counts['stems']} stems, "
            f"{counts['mixtures']} mixtures, {counts['pairs']} pairs"
        )
    if not found["splits"]:
        lines.append("no song yet")
    for label, counts in found["labels"].items():
        shown = [f"{text} {count}" for text, count in list(counts.items())[:SHOWN]]
        more = f", and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
        if shown:
            lines.append(f"stems by {label}: {', '.join(shown)}{more}")
    for source, count in found["sources"].items():
        lines.append(f"from {source}: {count} songs")
    left = found["left_out"]
    if left["songs"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left["songs"].items())
        lines.append(f"left out: {sum(left['songs'].values())} songs ({reasons})")
    if left["stems"]:
        lines.append(f"left out: {left['stems']} stems of songs that are there")
    lines.append(_size(found))
    return "\n".join(lines)


def _size(found: dict[str, Any]) -> str:
    each = found["bytes_an_example"]
    if each is None:
        return f"{found['bytes'] / 1e6:.2f} MB; no example of {EXAMPLE_SECONDS:g} s can be cut from it"
    return (
        f"{found['bytes'] / 1e6:.2f} MB for {found['examples']} examples of {EXAMPLE_SECONDS:g} s: "
        f"{each / 1000:.2f} kB an example, 1/{REFERENCE_BYTES / each:.0f} of the "
        f"reference's {REFERENCE_BYTES // 1000} kB"
    )


def _value(value: Any) -> str:
    return " and ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
