"""The numbers of a report: learning curves, scores beside the anchors, time per step against the frame."""

from __future__ import annotations

from typing import Any

from accomp.core.evaluation.summary import why_none
from accomp.core.music.instruments import CLASSES
from accomp.core.pages.charts import Curve, Interval, Rule, histogram, interval_chart, line_chart
from accomp.core.pages.html import Html, table, tag
from accomp.core.report.data import RunData
from accomp.core.report.numbers import STYLES, cell_number, judged_numbers
from accomp.core.training.throughput import describe_speed


def losses(data: RunData) -> list[Html]:
    """Return the loss curves, the last losses in one sentence, and the validation loss by level, folded."""
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
    found = [tag("p", _last(validation, unigram, data.unit))] if validation else []
    found.append(tag("div", chart, class_="card"))
    if validation:
        levels = _levels(validation, unigram, data.unit)
        found.append(tag("details", tag("summary", "Validation loss by level"), levels, class_="card"))
    if speed := data.losses_of("speed"):
        found.append(tag("p", describe_speed(speed[-1]), class_="note"))
    return found


def _last(validation: list[dict[str, Any]], unigram: list[dict[str, Any]], unit: str) -> str:
    last = validation[-1]
    others = [f"untrained {validation[0]['loss']:.2f}"] if validation[0]["step"] == 0 else []
    others += [f"{_baseline(unigram)} {unigram[-1]['loss']:.2f}"] if unigram else []
    text = f"After {last['step']:,} steps the validation loss is {last['loss']:.2f} {unit}"
    return f"{text} ({', '.join(others)})." if others else f"{text}."


def _baseline(unigram: list[dict[str, Any]]) -> str:
    """The name of the baseline that uses neither the context nor other codes."""
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
        rows.append(["accuracy of the likeliest code", "", *right])
    if tokens := last.get("tokens"):
        shares = {part: f"{count / sum(tokens):.0%}" for part, count in zip(parts, tokens, strict=False)}
        rows.append(["share of the loss's tokens", "100%", *(shares.get(part, "") for part in parts)])
    head = ["", "all levels", *(part.replace("_", " ") for part in parts)]
    caption = f"Validation loss, level by level ({unit}, lower is better)"
    if unigram and "what" in unigram[-1]:
        caption = f"Validation loss, by quarters of the noise level t, t = 1 being noise ({unit}, lower is better)"
        note = (
            "Mean and variance alone: the best guess from the mean and variance of each number of a latent. A lower "
            "loss takes information from the context or from other latents."
        )
        return tag("div", table(head, rows, caption=caption), tag("p", note, class_="note"))
    note = (
        "Code frequencies alone: the entropy of the codes of all validation clips, level by level; over all levels "
        "they count as in the model's loss. A lower loss takes information from the context or from other codes."
    )
    return tag("div", table(head, rows, caption=caption), tag("p", note, class_="note"))


def _row(record: dict[str, Any], parts: list[str]) -> list[str]:
    values = (record["loss"], *(record["parts"].get(part) for part in parts))
    return ["none" if value is None else f"{value:.3f}" for value in values]


def scores(data: RunData) -> list[Html]:
    """Return charts and tables of every metric for the model and the anchors."""
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
        note = (
            f"Metrics receive context, stem and true stem at {lufs:g} LUFS each, except those in which levels matter."
        )
        found.append(tag("p", note, class_="note"))
    return found


def _metric_table(metric: str, cells: dict[str, Any]) -> Html:
    """A row for each number and each count, a column for each cell: few enough to fit the page."""
    judged = {cell["title"]: cell["metrics"][metric] for cell in cells.values()}
    numbers = list(dict.fromkeys(number for one in judged.values() for number in one["numbers"]))
    rows = [[number, *(_value(one["numbers"].get(number)) for one in judged.values())] for number in numbers]
    counts = {
        "clips scored": [one["scored"] for one in judged.values()],
        "empty": [len(one.get("empty", ())) for one in judged.values()],
        "failed": [len(one["failed"]) for one in judged.values()],
        "left out": [len(cell["left_out"]) for cell in cells.values()],
    }
    applies = [one.get("applies", True) for one in judged.values()]
    rows += [[name, *(count if fits else "none" for count, fits in zip(each, applies, strict=True))]
             for name, each in counts.items()]  # fmt: skip
    found = table([metric, *judged], rows, caption=metric)
    return tag("div", found, tag("p", _metric_note(judged), class_="note"), _class_table(metric, judged, numbers))


def _metric_note(judged: dict[str, dict[str, Any]]) -> str:
    note = (
        "Intervals: 95 %, over clips. Empty: nothing to score, such as silence. Left out: no take, or no other song "
        "with a stem of that class."
    )
    reasons = [f"{title}: {why_none(one)}." for title, one in judged.items() if not one.get("applies", True)]
    provenance = next(iter(judged.values()))["provenance"]
    return " ".join([note, *reasons, *([f"{provenance}."] if provenance else [])])


def _class_table(metric: str, judged: dict[str, dict[str, Any]], numbers: list[str]) -> Html | None:
    """The same numbers by instrument class, folded; None where there are none."""
    rows = []
    for label in CLASSES:
        parts = [one.get("classes", {}).get(label) for one in judged.values()]
        if any(parts):
            clips = [part["scored"] if part else 0 for part in parts]
            values = {number: [part and part["numbers"].get(number) for part in parts] for number in numbers}
            rows += [[label if len(numbers) == 1 else f"{label}, {number}", *map(_value, each), _counts(clips)]
                     for number, each in values.items()]  # fmt: skip
    if not rows:
        return None
    found = table(["", *judged, "clips scored"], rows, caption=f"{metric} by instrument class")
    return tag("details", tag("summary", "By instrument class"), found)


def _counts(clips: list[int]) -> str:
    """One count for all cells, or the range."""
    return f"{clips[0]}" if min(clips) == max(clips) else f"{min(clips)} to {max(clips)}"


def _value(number: dict[str, Any] | None) -> object:
    if number is None:
        return "none"
    text = f"{number['value']:.3g}"
    if number["low"] is None:
        return text
    return [f"{number['value']:.2f} ", tag("small", f"{number['low']:.2f} to {number['high']:.2f}", class_="span")]


def latency(data: RunData) -> list[Html]:
    """Return the time per step against the frame and the latency budget; of an offline model the time per clip."""
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
        "Not a streaming model: it needs the whole clip before it plays, so there is neither a deadline of a step "
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
