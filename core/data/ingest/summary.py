"""Summary of an ingest: contents of the store, and everything that was left out or changed, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import field, frozen

SHOWN = 20
"""Number of detail lines that are printed; the rest is counted, and is in the store by name."""


@frozen
class Skipped:
    """A track, or a stem of an otherwise used track, that was left out. `stem` is "" for a whole track."""

    split: str
    track: str
    stem: str
    reason: str

    def __str__(self) -> str:
        return f"{'/'.join(filter(None, (self.split, self.track, self.stem)))}: {self.reason}"


@frozen
class Padded:
    """A stem that was shorter than the others and was padded with `seconds` of silence at its end."""

    split: str
    track: str
    stem: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.split}/{self.track}/{self.stem}: {self.seconds:.3f} s"


@frozen
class IngestSummary:
    """Contents of the store for a corpus; the same after an uninterrupted ingest and a resumed one.

    Attributes:
        store: its path.
        tracks: complete songs, by split.
        seconds: of music (a song counts once).
        parts: tokenized stems and mixtures.
        pairs: (mixture, target) pairs to train on.
        added, replaced: songs that this run stored, and those it stored again because their audio had changed.
        relabelled: songs that this run gave other labels, their tokens untouched.
        others: songs in the store that this corpus does not have.
        annotated: "beats", "bar", "chords" -> number of tracks with these annotations.
        context_only: instrument class -> stems that are in mixtures but never a target.
        skipped, padded: everything left out or lengthened, in this run or an earlier one.
        problems: exclusions by the corpus itself, as it reports them.
        notes: assumptions of the corpus, as it reports them.
    """

    store: str | Path
    tracks: dict[str, int]
    seconds: float
    parts: int
    pairs: int
    added: int = field(eq=False)
    replaced: int = field(eq=False)
    others: int
    skipped: tuple[Skipped, ...]
    padded: tuple[Padded, ...]
    problems: tuple[str, ...] = ()
    relabelled: int = field(default=0, eq=False)
    notes: tuple[str, ...] = ()
    context_only: Mapping[str, int] = field(factory=dict)
    annotated: Mapping[str, int] = field(factory=dict)

    def __str__(self) -> str:
        splits = ", ".join(f"{count} {split}" for split, count in self.tracks.items())
        lines = [
            f"{self.store}: {sum(self.tracks.values())} tracks ({splits}), {self.seconds / 60:.1f} minutes, "
            f"{self.parts} tokenized parts, {self.pairs} pairs; {self.added} tracks new, {self.replaced} replaced",
        ]
        if self.relabelled:
            lines.append(f"{self.relabelled} tracks got other labels or annotations; their tokens stay as they are")
        if any(self.annotated.values()):
            beats, bars, chords = (self.annotated[what] for what in ("beats", "bar", "chords"))
            lines.append(f"known of these tracks: beats of {beats}, bars of {bars}, chords of {chords}")
        whole = [skip for skip in self.skipped if not skip.stem]
        lines += _listing(f"{len(whole)} tracks skipped", whole)
        stems = Counter("silent" if "silent" in skip.reason else "other" for skip in self.skipped if skip.stem)
        silent = f" ({stems['silent']} of them silent throughout)" if stems["silent"] else ""
        lines += _listing(f"{stems.total()} stems left out{silent}", [skip for skip in self.skipped if skip.stem])
        if self.context_only:
            counts = ", ".join(f"{name} {count}" for name, count in sorted(self.context_only.items()))
            lines.append(
                f"{sum(self.context_only.values())} stems are input only, never targets (pairs.never_targets): {counts}"
            )
        lines += _listing(f"{len(self.padded)} stems lengthened with silence", self.padded)
        lines += _listing(f"{len(self.problems)} problems in the corpus", self.problems)
        lines += self.notes
        if self.others:
            lines.append(f"{self.others} tracks in this store are not in this corpus; they are trained on all the same")
        return "\n".join(lines)


def _listing(title: str, items: Sequence[object]) -> list[str]:
    lines = [f"{title}:"] + [f"  {item}" for item in items[:SHOWN]]
    if len(items) > SHOWN:
        lines.append(f"  ... and {len(items) - SHOWN} more")
    return lines if items else []
