"""The page's numbers: losses, scores beside the anchors, latency against the frame."""

from __future__ import annotations

from typing import Any

from accomp.core.evaluation.summary import why_none
from accomp.core.music.instruments import CLASSES
from accomp.core.pages.charts import Curve, Interval, Rule, histogram, interval_chart, line_chart
from accomp.core.pages.html import Html, table, tag
from accomp.core.report.checks import cell_number, judged_numbers
from accomp.core.report.data import RunData
from accomp.core.training.throughput import describe_speed

STYLES = {"model": "accent", "true_stem": "third", "random_pairing": "second", "codec": "quiet", "deaf": "faint"}


def losses(data: RunData) -> list[Html]:
    """Loss curves, and the validation loss level by level."""
    train, validation, unigram = (data.losses_of(kind) for kind in ("train", "validation", "unigram"))
    lines = [
        Curve("training", [(record["step"], record["loss"]) for record in train], "quiet faint"),
        Curve("validation", [(record["step"], record["loss"]) for record in validation], "accent", dots=True),
    ]
    lines = [line for line in lines if line.points]
    if not lines:
        return [tag("p", "Nothing trained yet: accomp train.", class_="note")]
    rules = []
    if validation and validation[0]["step"] == 0:
        rules.append(Rule("untrained model", validation[0]["loss"], "second"))
    if unigram:
        rules.append(Rule(_baseline(unigram), unigram[-1]["loss"], "third"))
    chart = line_chart("Loss while training", lines, rules, x="optimizer steps", y=data.unit)
    found = [tag("div", chart, class_="card")]
    if validation:
        found.append(tag("div", _levels(validation, unigram, data.unit), class_="card"))
    if speed := data.losses_of("speed"):
        found.append(tag("p", describe_speed(speed[-1]), class_="note"))
    return found


def _baseline(unigram: list[dict[str, Any]]) -> str:
    """What knows nothing of the music but what is common."""
    return str(unigram[-1].get("what", "code frequencies alone"))


def _levels(validation: list[dict[str, Any]], unigram: list[dict[str, Any]], unit: str) -> Html:
    first, last = validation[0], validation[-1]
    parts = list(last["parts"])
    rows = [["untrained model", *_row(first, parts)]] if first["step"] == 0 else []
    if unigram:
        rows.append([_baseline(unigram), *_row(unigram[-1], parts)])
    rows.append([f"model after {last['step']:,} steps", *_row(last, parts)])
    if accuracy := last.get("accuracy"):
        right = (f"{accuracy[part]:.1%}" if part in accuracy else "" for part in parts)
        rows.append(["its likeliest code is right", "", *right])
    if tokens := last.get("tokens"):
        shares = {part: f"{count / sum(tokens):.0%}" for part, count in zip(parts, tokens, strict=False)}
        rows.append(["share of the loss's tokens", "100%", *(shares.get(part, "") for part in parts)])
    head = ["", "all levels", *(part.replace("_", " ") for part in parts)]
    caption = f"Validation loss, level by level ({unit}, lower is better)"
    if unigram and "what" in unigram[-1]:
        caption = f"Validation loss, by quarters of the noise level t, t = 1 being noise ({unit}, lower is better)"
        note = (
            "Mean and variance alone: the best guess that knows these of each number of a latent, and nothing else. "
            "Only who knows the context, or how latents go together, can be better."
        )
        return tag("div", table(head, rows, caption=caption), tag("p", note, class_="note"))
    note = (
        "Code frequencies alone: the entropy of the codes of all validation clips, level by level; over all levels "
        "they count as in the model's loss. Only who knows the context or other codes of the clip can be better."
    )
    return tag("div", table(head, rows, caption=caption), tag("p", note, class_="note"))


def _row(record: dict[str, Any], parts: list[str]) -> list[str]:
    values = (record["loss"], *(record["parts"].get(part) for part in parts))
    return ["none" if value is None else f"{value:.3f}" for value in values]


def scores(data: RunData) -> list[Html]:
    """Each metric for the model and the two anchors."""
    if data.metrics is None:
        return [tag("p", "Not evaluated yet: accomp evaluate.", class_="note")]
    cells = data.metrics["cells"]
    found = []
    for metric, number, best in judged_numbers(data.metrics):
        rows = [
            Interval(cell["title"], value["value"], value["low"], value["high"], STYLES.get(name, "faint"))
            for name, cell in cells.items()
            if (value := cell_number(data.metrics, name, metric, number)) and value["low"] is not None
        ]
        if rows:
            low, high = min(0.0, best, *(row.low for row in rows)), max(best, *(row.high for row in rows))
            chart = interval_chart(f"{number}: mean and 95 % interval", rows, x=number, low=low, high=high)
            found.append(tag("div", chart, class_="card"))
    for metric in next(iter(cells.values()), {"metrics": ()})["metrics"]:
        found.append(tag("div", _metric_table(metric, cells), class_="card"))
    if isinstance(lufs := data.metrics.get("loudness"), float):
        note = f"Metrics hear context, stem and true stem at {lufs:g} LUFS each, but for those in which levels matter."
        found.append(tag("p", note, class_="note"))
    return found


def _metric_table(metric: str, cells: dict[str, Any]) -> Html:
    judged = {cell["title"]: cell["metrics"][metric] for cell in cells.values()}
    numbers = list(dict.fromkeys(number for one in judged.values() for number in one["numbers"]))
    rows = []
    for cell in cells.values():
        one = cell["metrics"][metric]
        if one.get("applies", True):
            counts = [one["scored"], len(one.get("empty", ())), len(one["failed"]), len(cell["left_out"])]
            rows.append([cell["title"], *(_value(one["numbers"].get(number)) for number in numbers), *counts])
        else:
            rows.append([f"{cell['title']}: {why_none(one)}", *("none" for _ in numbers), "", "", "", ""])
    head = ["", *numbers, "clips scored", "empty", "failed", "left out"]
    provenance = next(iter(judged.values()))["provenance"]
    note = (
        "Intervals: 95 %, over clips. Empty: nothing to judge, such as silence. Left out: no take, or no other song "
        "with a stem of that class."
    )
    return tag(
        "div",
        table(head, rows, caption=metric),
        tag("p", note, f" {provenance}." if provenance else None, class_="note"),
        _class_table(metric, judged, numbers),
    )


def _class_table(metric: str, judged: dict[str, dict[str, Any]], numbers: list[str]) -> Html | None:
    """The same numbers for each instrument class, folded; None where there are none."""
    rows = [
        [f"{label}, {title}", *(_value(part["numbers"].get(number)) for number in numbers), part["scored"]]
        for label in CLASSES
        for title, one in judged.items()
        if (part := one.get("classes", {}).get(label))
    ]
    if not rows:
        return None
    found = table(["", *numbers, "clips scored"], rows, caption=f"{metric} by instrument class")
    return tag("details", tag("summary", "By instrument class"), found)


def _value(number: dict[str, Any] | None) -> object:
    if number is None:
        return "none"
    text = f"{number['value']:.3g}"
    if number["low"] is None:
        return text
    return [f"{number['value']:.2f} ", tag("small", f"{number['low']:.2f} to {number['high']:.2f}")]


def latency(data: RunData) -> list[Html]:
    """How long a step takes against the frame, and the whole way from sound in to sound out; offline, a whole clip."""
    if not data.takes:
        return [tag("p", "No takes yet: accomp generate.", class_="note")]
    timings = [take["timings"] for take in data.takes]
    if not data.streams:
        return [tag("div", _whole(data.takes), class_="card")]
    k, limit, times = data.frames_a_step, data.step_limit, data.step_times
    rules = [Rule(f"{'one frame' if k == 1 else f'its {k} frames'}, {limit:g} ms", limit, "second")]
    chart = histogram("Time a step takes", times, rules, x="milliseconds from audio in to audio out")
    head = ["take", "median", "99th percentile", "slowest", f"within {limit:g} ms", "real-time factor"]
    rows = []
    for take in data.takes:
        one = take["timings"]
        within = sum(time <= limit for time in one["step_ms"]) / len(one["step_ms"])
        ms = [f"{one[key]:.1f} ms" for key in ("median_ms", "p99_ms", "max_ms")]
        rows.append([take["id"], *ms, f"{100 * within:.1f} %", f"{one['real_time_factor']:.3f}"])
    found = [tag("div", chart, tag("p", f"Measured on {timings[0]['device']}.", class_="note"), class_="card")]
    if data.made and (budget := data.made.get("budget")):
        found.append(tag("div", _budget(budget), class_="card"))
    return [*found, tag("div", table(head, rows, caption="Time a step, take by take"), class_="card")]


def _whole(takes: list[dict[str, Any]]) -> Html:
    rows = [
        [take["id"], f"{take['seconds']:g} s", f"{take['timings']['total_ms'] / 1000:.1f} s",
         f"{take['timings']['real_time_factor']:.3f}"]
        for take in takes
    ]  # fmt: skip
    note = (
        "Not a streaming model: it hears the whole clip before it plays, so that there is neither a step to be in time "
        f"nor a latency budget. Measured on {takes[0]['timings']['device']}."
    )
    head = ["take", "length", "time taken", "real-time factor"]
    return tag("div", table(head, rows, caption="Time a whole clip, take by take"), tag("p", note, class_="note"))


def _budget(budget: dict[str, Any]) -> Html:
    rows = [[item["name"], f"{item['ms']:.1f} ms"] for item in budget["items"]]
    return tag(
        "div",
        table(["part", "time"], rows, caption="Latency budget", style="numbers narrow"),
        tag("p", f"{budget['verdict']}.", class_="note"),
    )
