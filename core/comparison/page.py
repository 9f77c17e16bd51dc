"""The page of a comparison: one HTML file that loads nothing."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from attrs import field, frozen

from accomp.core.comparison.blind import Answer, answer_tables, listening_test, script
from accomp.core.comparison.curves import chunk_sizes, curves
from accomp.core.comparison.entries import Entry
from accomp.core.comparison.export import as_csv, as_json
from accomp.core.comparison.listening import listening
from accomp.core.comparison.paper_claims import findings
from accomp.core.comparison.questions import NOTE, questions
from accomp.core.comparison.region import region
from accomp.core.comparison.scores import scores, sorting, tests
from accomp.core.pages.claims import Claim, claims
from accomp.core.pages.document import Section, document
from accomp.core.pages.html import Html, table, tag

UNKNOWN = "cannot be told"


@frozen(slots=False)  # cached properties need a __dict__
class Comparison:
    """The content of a page.

    Attributes:
        notes: lines under the title: conditions, cells that are missing.
        seed: of the bootstrap.
    """

    title: str
    entries: Sequence[Entry]
    notes: Sequence[str] = ()
    answers: Sequence[Answer] = ()
    credits: Sequence[str] = field(factory=list)
    seed: int = 0

    def rng(self) -> np.random.Generator:
        """Return a new generator, always of the same seed."""
        return np.random.default_rng(self.seed)

    @cached_property
    def found(self) -> list[Claim]:
        """The findings of the papers, checked on these entries."""
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
    """Return the document: players, answers and curves; below them the details, folded."""
    entries = comparison.entries
    blind = [*listening_test(), *answer_tables(comparison.answers, comparison.rng())]
    sections = [
        Section("section-listen", "Listen", listening(entries)),
        Section(
            "section-answers", "Answers", [[one.html for one in questions(entries)], tag("p", NOTE, class_="note")]
        ),
        Section("section-scores", "Scores", scores(entries)),
        Section("section-curves", "Scores against future visibility", curves(entries)),
        Section("section-region", "Clocks that could be played live", region(entries)),
        Section("section-findings", "Findings of the papers", _findings(comparison.found)),
        Section("section-blind", "Blind listening", blind, folded=not comparison.answers),
        Section("section-tests", "Significance of the differences", tests(entries, comparison.rng()), folded=True),
        Section("section-failed", "Failed clips and models", _failures(entries), folded=True),
        Section("section-credits", "Models used for scoring", _credits(entries), folded=True),
        Section("section-data", "Data", _data(comparison), folded=True),
    ]
    scripts = (sorting(), script())
    return document(comparison.title, sections, lead=_lead(entries), notes=comparison.notes, scripts=scripts)


def _lead(entries: Sequence[Entry]) -> str:
    kinds = {kind: [entry for entry in entries if entry.kind == kind] for kind in ("streaming", "offline", "anchor")}
    t_fs = sorted({entry.t_f for entry in kinds["streaming"] if entry.t_f is not None})
    told = [f"{len(found)} {kind}" for kind, found in kinds.items() if found]
    if t_fs:
        ks = ", ".join(f"{k:g}" for k in chunk_sizes(entries))
        span = f"{t_fs[0]:g}" if len(t_fs) == 1 else f"from {t_fs[0]:g} to {t_fs[-1]:g}"
        told.append(f"t_f {span} s, k {ks} s")
    return " · ".join(told)


def _findings(found: Sequence[Claim]) -> Html:
    if not found:
        text = "No result yet: this needs models on both sides of t_f = 0 and anchors, scored clip by clip."
        return tag("p", text, class_="note")
    note = "Question mark: the 95 % interval (bootstrap over clips) holds both answers."
    return tag("div", claims(found, unknown=UNKNOWN), tag("p", note, class_="note"), class_="card")


def _failures(entries: Sequence[Entry]) -> Html:
    """Every model and clip without a result, by name, with the reason."""
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
