"""The questions that a report answers, each with one sentence: the verdict, then the numbers beside the anchors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import frozen

from accomp.core.evaluation.statistics import differences, share_of_way
from accomp.core.pages.charts import Interval, interval_chart
from accomp.core.pages.claims import Claim, claims, sign, style_of
from accomp.core.pages.html import Html, tag
from accomp.core.report.data import RunData
from accomp.core.report.numbers import STYLES, cell_number, clip_numbers

FEWEST = 6
"""Clips below which nothing is claimed: of five pairs not even five of a sign are unlikely (2 / 2^5 = 0.06)."""
QUESTIONS = {
    "in time": "Does it fit in time?",
    "in key": "Does it fit in harmony?",
    "as its instrument sounds": "Does it sound like the instrument?",
    "together with its context": "Does it fit together with its context?",
}
"""What a metric's number answers (`answers` in core/interfaces/metric.py) -> the question on the page."""
ASKED = ("in time", "in key", "as its instrument sounds")
"""Asked of every run, measured or not."""
LISTENS = "Does it listen?"
LIVE = "Could it be played live?"
NOTE = (
    "Brackets hold 95 % intervals over clips. Yes: the interval of the model lies entirely on the better side of that "
    f"of random pairing; no: entirely on the other side. Otherwise, and below {FEWEST} clips, it cannot be told. "
    "Percentages: the share (model - random) / (true - random), whose interval is that of the model with the anchors "
    "taken as exact. The model listens where takes made with their own context score better than takes made with "
    "another song's, all else being equal, by an interval without zero."
)


@frozen
class Question:
    """A question with its answer.

    Attributes:
        holds: True (yes), False (no), or None where it is undecided or not measured.
        answer: one sentence.
        parts: the measurements behind an answer that has several.
        chart: the model beside the anchors.
    """

    question: str
    holds: bool | None
    answer: str
    parts: tuple[Claim, ...] = ()
    chart: Html | None = None

    @property
    def html(self) -> Html:
        """The question as a card."""
        word = {True: "yes", False: "no", None: "cannot be told"}[self.holds]
        parts = claims(self.parts, unknown="cannot be told") if self.parts else None
        text = tag("div", tag("h3", sign(self.holds, word), self.question), tag("p", self.answer), parts)
        return tag("article", text, self.chart, class_=f"card question {style_of(self.holds)}")


def questions(data: RunData) -> list[Question]:
    """Return the questions in order: those that metrics answer, then listening and live playing."""
    return [*_answered(data.metrics), _listens(data.metrics), _live(data)]


def _answered(metrics: dict[str, Any] | None) -> list[Question]:
    found: dict[str, list[Question]] = {}
    for what, metric, number in _numbers(metrics):
        found.setdefault(what, []).append(_beside_random(metrics or {}, what, metric, number))
    missing = "not evaluated yet: accomp evaluate" if metrics is None else "no metric of this run answers it"
    for what in ASKED:
        found.setdefault(what, [Question(QUESTIONS[what], None, f"Not measured: {missing}.")])
    order = [*ASKED, *(what for what in found if what not in ASKED)]
    return [question for what in order for question in found[what]]


def _numbers(metrics: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    """Return (answer, metric, number) of each number that answers something."""
    cell: dict[str, Any] = next(iter((metrics or {"cells": {}})["cells"].values()), {"metrics": {}})
    return [
        (what, metric, number)
        for metric, one in cell["metrics"].items()
        for number, what in one.get("answers", {}).items()
    ]


def _beside_random(metrics: dict[str, Any], what: str, metric: str, number: str) -> Question:
    """Better than another song's stem: the intervals of the two do not touch. Better is where the true stem is."""
    question = QUESTIONS.get(what, f"Does it play {what}?")
    cells = ("model", "random_pairing", "true_stem")
    model, random, true = (cell_number(metrics, cell, metric, number) for cell in cells)
    if model is None or random is None or true is None:
        needed = f"{metric} of the model, of random pairing and of the true stem is needed"
        return Question(question, None, f"Not measured: {needed}.")
    text = (
        f"{number} is {span(model)}, that of random pairing {span(random)} and that of the true stem "
        f"{true['value']:.2f}{_share(model, random['value'], true['value'])}."
    )
    clips = metrics["cells"]["model"]["metrics"][metric]["scored"]
    better, worse = sides(model, random, true["value"] > random["value"])
    holds = verdict(clips, better=better, worse=worse)
    return Question(question, holds, f"{in_words(holds, clips)}: {text}", chart=_chart(metrics, metric, number))


def sides(model: Mapping[str, Any], random: Mapping[str, Any], up: bool) -> tuple[bool, bool]:
    """Return whether a model's interval lies entirely on the better side of random pairing's; and on the worse side.

    `up`: greater is better.
    """
    if model["low"] is None or random["low"] is None:
        return False, False
    lower, upper = (random, model) if up else (model, random)
    return lower["high"] < upper["low"], upper["high"] < lower["low"]


def _share(model: dict[str, Any], random: float, true: float) -> str:
    """The share of the way from random pairing to the true stem, with its interval."""
    if true == random:
        return ", and the anchors are equal"

    def share(at: float) -> float:
        return 100 * share_of_way(at, random, true)

    text = f": {share(model['value']):.0f} % of the way from random to true"
    if model["low"] is None:
        return text
    low, high = sorted(share(model[end]) for end in ("low", "high"))
    return f"{text} [{low:.0f}, {high:.0f}]"


def verdict(clips: int, *, better: bool, worse: bool) -> bool | None:
    """Return True for surely better, False for surely worse, None where the clips do not decide."""
    return better if clips >= FEWEST and (better or worse) else None


def in_words(holds: bool | None, clips: int) -> str:
    """Return a verdict as the beginning of a sentence."""
    return f"Cannot be told with {clips} clips" if holds is None else "Yes" if holds else "No"


def span(number: Mapping[str, Any]) -> str:
    """Return a value with its interval."""
    text = f"{number['value']:.2f}"
    return text if number["low"] is None else f"{text} [{number['low']:.2f}, {number['high']:.2f}]"


def _chart(metrics: dict[str, Any], metric: str, number: str) -> Html | None:
    """The model and the two anchors that the answer names."""
    rows = [
        Interval(cell.replace("_", " "), value["value"], value["low"], value["high"], STYLES[cell])
        for cell in ("model", "random_pairing", "true_stem")
        if (value := cell_number(metrics, cell, metric, number)) and value["low"] is not None
    ]
    if not rows:
        return None
    low, high = min(0.0, *(row.low for row in rows)), max(row.high for row in rows)
    title = f"{number}: mean and 95 % interval"
    return interval_chart(title, rows, x="", low=low, high=high if high > low else low + 1, narrow=True)


def _listens(metrics: dict[str, Any] | None) -> Question:
    """Worse by the same context when the model was given another song's: it uses its own."""
    if metrics is None or "deaf" not in metrics["cells"]:
        why = "it takes twins of the takes that were given another song's context, [generate] deaf = true"
        return Question(LISTENS, None, f"Not measured: {why}.")
    found = [_context_worth(metrics, *one) for one in _numbers(metrics)]
    parts = tuple(one for one in found if one is not None)
    if not parts:
        return Question(LISTENS, None, "Not measured: no metric scores takes one by one.")
    yes, no = ([part.claim for part in parts if part.holds is verdict] for verdict in (True, False))
    holds = None if bool(yes) == bool(no) else bool(yes)
    clips = max(len(clip_numbers(metrics, "model", metric, number)) for _, metric, number in _numbers(metrics))
    text = "with its own context instead of another song's, takes surely score"
    return Question(LISTENS, holds, f"{in_words(holds, clips)}: {text} {_scored(yes, no, len(parts))}.", parts)


def _scored(yes: list[str], no: list[str], count: int) -> str:
    better = f"better {_listed(yes)}" if yes else ""
    worse = f"worse {_listed(no)}" if no else ""
    neither = f"neither better nor worse by any of {count} numbers"
    return " and ".join(filter(None, [better, worse])) or neither


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _context_worth(metrics: dict[str, Any], what: str, metric: str, number: str) -> Claim | None:
    """The difference that the context makes, clip by clip; None for a number that is over all takes together."""
    takes = {name: clip_numbers(metrics, name, metric, number) for name in ("model", "deaf")}
    if not takes["model"]:
        return None
    true, random = (cell_number(metrics, cell, metric, number) for cell in ("true_stem", "random_pairing"))
    found = differences(takes, np.random.default_rng(0))
    if not found or found[0].low is None or found[0].high is None or true is None or random is None:
        return Claim(what, None, "too few clips or no anchors")
    one, low, high = found[0], found[0].low, found[0].high
    better, worse = (low > 0, high < 0) if true["value"] > random["value"] else (high < 0, low > 0)
    holds = verdict(one.clips, better=better, worse=worse)
    text = f"{number} {one.mean:+.2f} [{low:+.2f}, {high:+.2f}] with its own context, over {one.clips} clips"
    return Claim(what, holds, text if holds is not None else f"{text}: cannot be told")


def _live(data: RunData) -> Question:
    if not data.streams:
        return Question(LIVE, False, "No: the model is offline and needs the whole clip before it plays.")
    if not data.takes:
        return Question(LIVE, None, "Not measured: no takes yet, accomp generate makes them.")
    limit, times = data.step_limit, data.step_times
    within = sum(time <= limit for time in times) / len(times)
    slowest = max(take["timings"]["real_time_factor"] for take in data.takes)
    text = (
        f"{100 * within:.1f} % of {len(times):,} steps took no longer than the {limit:g} ms of the frames they play, "
        f"and the slowest take took {slowest:.2f} of its length"
    )
    holds = slowest < 1 and within >= 0.99
    if spare := _needed_and_left(data):
        needed, left = spare
        text += f"; t_f leaves {left:.0f} ms for the {needed:.0f} ms from input to output"
        holds = holds and needed <= left
    return Question(LIVE, holds, f"{in_words(holds, 0)}: {text} (measured on {data.takes[0]['timings']['device']}).")


def _needed_and_left(data: RunData) -> tuple[float, float] | None:
    """Milliseconds that the latency budget needs and that t_f leaves; None where the run has no such budget."""
    items = {item["name"]: float(item["ms"]) for item in ((data.made or {}).get("budget") or {"items": ()})["items"]}
    left = next((ms for name, ms in items.items() if name.startswith("left by t_f")), None)
    return None if left is None or "needed" not in items else (items["needed"], left)
