"""The page of a comparison: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from attrs import field, frozen

from accomp.core.comparison.blind import Answer, answers_told, listening_test, script
from accomp.core.comparison.curves import chunk_sizes, curves
from accomp.core.comparison.entries import Entry
from accomp.core.comparison.export import as_csv, as_json
from accomp.core.comparison.listening import listening
from accomp.core.comparison.paper_claims import findings
from accomp.core.comparison.region import region
from accomp.core.comparison.scores import scores, sorting, tests
from accomp.core.pages.claims import Claim, claims
from accomp.core.pages.document import document
from accomp.core.pages.html import Html, table, tag

UNKNOWN = "cannot be told"


@frozen(slots=False)  # so that what is worked out can be kept
class Comparison:
    """What a page shows.

    Attributes:
        notes: lines under the title: conditions, what is not there.
        seed: of intervals.
    """

    title: str
    entries: Sequence[Entry]
    notes: Sequence[str] = ()
    answers: Sequence[Answer] = ()
    credits: Sequence[str] = field(factory=list)
    seed: int = 0

    def rng(self) -> np.random.Generator:
        """The same numbers each time."""
        return np.random.default_rng(self.seed)

    @cached_property
    def found(self) -> list[Claim]:
        """What it shows of the papers' findings."""
        return findings(self.entries, self.rng())

    @cached_property
    def csv(self) -> str:
        """Every number as CSV."""
        return as_csv(self.entries)

    @cached_property
    def json(self) -> str:
        """Every number, and the findings, as JSON."""
        return as_json(self.entries, self.found)


def page(comparison: Comparison) -> str:
    """The whole document."""
    entries = comparison.entries
    sections: list[tuple[str, str, object]] = [
        ("findings", "Does it show what the papers found?", _findings(comparison.found)),
        ("curves", "Scores against future visibility", curves(entries)),
        ("region", "What can be played live", region(entries)),
        ("scores", "Scores", scores(entries)),
        ("tests", "Are the differences real?", tests(entries, comparison.rng())),
        ("listen", "Listen", listening(entries)),
        ("blind", "Listen blind", [*listening_test(), *answers_told(comparison.answers, comparison.rng())]),
        ("failed", "Failed clips and models", _failures(entries)),
        ("credits", "Models used for judging", _credits(entries)),
        ("data", "Data", _data(comparison)),
    ]
    links = [tag("a", name, href=f"#section-{id}") for id, name, _ in sections]
    header = [
        tag("h1", comparison.title),
        tag("p", _lead(entries), class_="lead"),
        [tag("p", note, class_="note") for note in comparison.notes],
        tag("nav", links, aria_label="Sections"),
    ]
    main = [
        tag("section", tag("h2", name, id=f"section-{id}"), part, aria_labelledby=f"section-{id}")
        for id, name, part in sections
    ]
    return document(f"accomp: {comparison.title}", header, main, scripts=(sorting(), script()))


def _lead(entries: Sequence[Entry]) -> str:
    kinds = {kind: [entry for entry in entries if entry.kind == kind] for kind in ("streaming", "offline", "anchor")}
    t_fs = sorted({entry.t_f for entry in kinds["streaming"] if entry.t_f is not None})
    told = [f"{len(found)} {kind}" for kind, found in kinds.items() if found]
    if t_fs:
        ks = ", ".join(f"{k:g}" for k in chunk_sizes(entries))
        told.append(f"t_f from {t_fs[0]:g} to {t_fs[-1]:g} s, k {ks} s")
    return " · ".join(told)


def _findings(found: Sequence[Claim]) -> Html:
    if not found:
        text = "Nothing to tell yet: models on both sides of t_f = 0 and anchors, judged clip by clip, are needed."
        return tag("p", text, class_="note")
    note = "A dot: the 95 % interval (bootstrap over clips) holds both answers."
    return tag("div", claims(found, unknown=UNKNOWN), tag("p", note, class_="note"), class_="card")


def _failures(entries: Sequence[Entry]) -> Html:
    """Everything that was asked for and is not there, by name, with the reason."""
    rows = [[entry.name, "", entry.why] for entry in entries if entry.why]
    for entry in entries:
        rows += [[entry.name, one["clip"], one["reason"]] for one in entry.left_out]
        for metric, record in entry.metrics.items():
            for what in ("empty", "failed"):
                rows += [
                    [f"{entry.name}, {metric}: {what}", one["clip"], one["reason"]] for one in record.get(what, ())
                ]
    if not rows:
        return tag("p", "None.", class_="note")
    return tag("div", table(["", "clip", "reason"], rows, caption="Without a result", style="words"), class_="card")


def _credits(entries: Sequence[Entry]) -> Html:
    told = [record["provenance"] for entry in entries for record in entry.metrics.values() if record.get("provenance")]
    return tag("ul", [tag("li", line) for line in dict.fromkeys(told)]) if told else tag("p", "None.", class_="note")


def _data(comparison: Comparison) -> Html:
    files = (("scores.csv", "text/csv", comparison.csv), ("scores.json", "application/json", comparison.json))
    links = [
        tag("a", name, download=name, href=f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}")
        for name, kind, text in files
    ]
    return tag("p", "Every number on this page, and of every clip: ", links[0], ", ", links[1], ".")
