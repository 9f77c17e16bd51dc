"""The questions that a comparison answers, each with one sentence: the best model, beside the anchors."""

from __future__ import annotations

from collections.abc import Sequence

from accomp.core.comparison.entries import Entry, Number, anchor_of
from accomp.core.report.questions import ASKED, LIVE, QUESTIONS, Question, in_words, sides, span, verdict

NOTE = (
    "Each answer names the model that is nearest to the true stem. Brackets hold 95 % intervals over clips. Yes: the "
    "interval of that model lies entirely on the better side of that of random pairing; no: entirely on the other side."
)


def questions(entries: Sequence[Entry]) -> list[Question]:
    """Return the questions in order: those that metrics answer, then live playing."""
    found: dict[str, list[Question]] = {}
    for what, metric, number in _numbers(entries):
        found.setdefault(what, []).append(_best(entries, what, metric, number))
    for what in ASKED:
        found.setdefault(what, [Question(QUESTIONS[what], None, "Not measured: no metric of these runs answers it.")])
    order = [*ASKED, *(what for what in found if what not in ASKED)]
    return [*(question for what in order for question in found[what]), _live(entries)]


def _numbers(entries: Sequence[Entry]) -> list[tuple[str, str, str]]:
    """Return (answer, metric, number) of each number that answers something."""
    found = {
        (what, metric, number): None
        for entry in entries
        for metric, record in entry.metrics.items()
        for number, what in record.get("answers", {}).items()
    }
    return list(found)


def _best(entries: Sequence[Entry], what: str, metric: str, number: str) -> Question:
    question = QUESTIONS.get(what, f"Does it play {what}?")
    models = [(entry, value) for entry in entries
              if entry.kind != "anchor" and (value := entry.number(metric, number))]  # fmt: skip
    random, true = (_anchor(entries, name, metric, number) for name in ("random_pairing", "true_stem"))
    if not models or random is None or true is None:
        return Question(question, None, f"Not measured: {metric} of a model and of both anchors is needed.")
    best, value = min(models, key=lambda one: abs(one[1]["value"] - true["value"]))
    better, worse = sides(value, random, true["value"] > random["value"])
    clips = best.metrics[metric].get("scored", 0)
    holds = verdict(clips, better=better, worse=worse)
    return Question(question, holds, (
        f"{in_words(holds, clips)}: {number} of {best.name} is {span(value)}, that of random pairing {span(random)} "
        f"and that of the true stem {true['value']:.2f}."
    ))  # fmt: skip


def _anchor(entries: Sequence[Entry], name: str, metric: str, number: str) -> Number | None:
    entry = anchor_of(entries, name)
    return entry.number(metric, number) if entry else None


def _live(entries: Sequence[Entry]) -> Question:
    models = [entry for entry in entries if entry.kind != "anchor" and not entry.why]
    measured = [(entry, entry.latency) for entry in models if entry.latency]
    live = [entry.name for entry, one in measured if one.deployable]
    if not measured:
        streaming = any(entry.kind == "streaming" for entry in models)
        if streaming or not models:
            return Question(LIVE, None, "Not measured: no streaming model has played yet.")
        return Question(LIVE, False, "No: no model streams; each needs the whole clip before it plays.")
    devices = ", ".join(sorted({one.device for _, one in measured}))
    text = f"{len(live)} of {len(measured)} streaming models keep their latency budget on {devices}"
    names = f": {', '.join(live)}" if 0 < len(live) <= 6 else ""
    return Question(LIVE, bool(live), f"{'Yes' if live else 'No'}: {text}{names}.")
