"""The page of a run: one HTML file that loads nothing."""

from __future__ import annotations

import json
from typing import Any

from accomp.core.pages.claims import claims
from accomp.core.pages.document import Section, document
from accomp.core.pages.html import Html, table, tag
from accomp.core.report.checks import checks
from accomp.core.report.data import RunData
from accomp.core.report.listening import listening
from accomp.core.report.questions import NOTE, questions
from accomp.core.report.results import latency, losses, scores


def page(data: RunData) -> str:
    """Return the document: players, answers and learning curves; below them the details, folded."""
    sections = [
        Section("listen", "Listen", listening(data)),
        Section("answers", "Answers", [[one.html for one in questions(data)], tag("p", NOTE, class_="note")]),
        Section("curves", "Learning curves", losses(data)),
        Section("checks", "Checks", tag("div", claims(checks(data), unknown="open"), class_="card"), folded=True),
        Section("scores", "Scores beside the anchors", scores(data), folded=True),
        Section("latency", "Latency" if data.streams else "Speed", latency(data), folded=True),
        Section("failed", "Failed clips", _failures(data), folded=True),
        Section("credits", "Music and models used", _credits(data), folded=True),
        Section("spec", "Resolved spec and versions", _spec(data), folded=True),
    ]
    return document(data.name, sections, lead=_lead(data), version=data.versions.get("accomp", ""))


def _lead(data: RunData) -> str:
    """The kind of model, its parts, and the settings of its takes."""
    spec = {**data.spec, **data.playing}
    kinds = ("corpus", "tokenizer", "fuser", "backbone", "objective", "sampler")
    parts = [f"{kind} {spec[kind]['plugin']}" for kind in kinds]
    if data.streams:
        parts.insert(0, f"streaming model, t_f = {spec['clock']['t_f']}, k = {spec['clock']['k']} frames")
    else:
        parts.insert(0, "offline model, needs the whole clip before it plays")
    if spec["guidance"]:
        parts.append(f"guidance {', '.join(f'{name} {scale:g}' for name, scale in spec['guidance'].items())}")
    return f"{' · '.join(parts)} · seed {spec['seed']}"


def _failures(data: RunData) -> list[Html]:
    """Every clip without a result, by name, with the reason."""
    rows = [["generate", one["clip"], one["reason"]] for one in (data.made or {}).get("failed", [])]
    for cell in (data.metrics or {}).get("cells", {}).values():
        rows += [[f"evaluate, {cell['title']}", one["clip"], one["reason"]] for one in cell["left_out"]]
        for metric, judged in cell["metrics"].items():
            lost = [*judged.get("empty", ()), *judged["failed"]]
            rows += [[f"{metric}, {cell['title']}", one["clip"], one["reason"]] for one in lost]
    if not rows:
        return [tag("p", "None." if data.made else "Nothing generated yet.", class_="note")]
    found = table(["stage", "clip", "reason"], rows, caption="Clips without a result", style="words")
    return [tag("div", found, class_="card")]


def _credits(data: RunData) -> list[Html]:
    music = sorted(
        {(take["track"], take["source"] or "not stated", take["licence"] or "not stated") for take in data.takes}
    )
    models = [one["provenance"] for one in _first_cell(data) if one["provenance"]]
    if data.made:
        models.insert(0, f"audio codec: {data.made['tokenizer']}")
    found = [tag("ul", [tag("li", model) for model in models])] if models else []
    if music:
        caption = "Music on this page"
        found.append(
            tag("div", table(["song", "source", "licence"], music, caption=caption, style="words"), class_="card")
        )
    return found or [tag("p", "Nothing yet.", class_="note")]


def _first_cell(data: RunData) -> list[dict[str, Any]]:
    cells = data.metrics["cells"] if data.metrics else {}
    return list(next(iter(cells.values()))["metrics"].values()) if cells else []


def _spec(data: RunData) -> list[Html]:
    rows = list(data.versions.items())
    return [
        tag("div", tag("h3", "Resolved spec"), tag("pre", toml(data.spec), tabindex="0", role="region",
                                                   aria_label="Resolved spec"), class_="card"),
        tag("div", table(["", "version"], rows, caption="Versions", style="words"), class_="card"),
    ]  # fmt: skip


def toml(data: dict[str, Any]) -> str:
    """A resolved spec as TOML."""
    return "\n".join(_toml(data, "")).strip() + "\n"


def _toml(data: dict[str, Any], name: str) -> list[str]:
    tables = {key: value for key, value in data.items() if isinstance(value, dict)}
    lists = {key: value for key, value in data.items() if _is_tables(value)}
    lines = [f"{key} = {json.dumps(data[key])}" for key in data if key not in tables and key not in lists]
    for key, value in tables.items():
        lines += ["", f"[{name}{key}]", *_toml(value, f"{name}{key}.")]
    for key, items in lists.items():
        for item in items:
            lines += ["", f"[[{name}{key}]]", *_toml(item, f"{name}{key}.")]
    return lines


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
