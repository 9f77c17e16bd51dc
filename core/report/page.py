"""The page of a run: one HTML file that needs nothing else."""

from __future__ import annotations

import json
from typing import Any

from accomp.core.pages.claims import claims
from accomp.core.pages.document import document
from accomp.core.pages.html import Html, table, tag
from accomp.core.report.checks import cell_number, checks, judged_numbers
from accomp.core.report.data import RunData
from accomp.core.report.listening import listening
from accomp.core.report.results import latency, losses, scores


def page(data: RunData) -> str:
    """The whole document."""
    sections = [
        ("findings", "What this run shows", tag("div", claims(checks(data), unknown="open"), class_="card")),
        ("losses", "Losses", losses(data)),
        ("scores", "Scores beside the anchors", scores(data)),
        ("latency", "Latency" if data.streams else "Speed", latency(data)),
        ("listen", "Listen", listening(data)),
        ("failed", "Failed clips", _failures(data)),
        ("credits", "Music and models used", _credits(data)),
        ("spec", "Resolved spec and versions", _spec(data)),
    ]
    links = [tag("a", name, href=f"#{id}") for id, name, _ in sections]
    header = [
        tag("h1", data.name), tag("p", _lead(data), class_="lead"), _figures(data),
        tag("nav", links, aria_label="Sections"),
    ]  # fmt: skip
    main = [tag("section", tag("h2", name, id=id), part, aria_labelledby=id) for id, name, part in sections]
    return document(f"accomp: {data.name}", header, main, version=data.versions.get("accomp", ""))


def _lead(data: RunData) -> str:
    """What kind of model this is, made of what, and how it plays."""
    spec = {**data.spec, **data.playing}
    kinds = ("corpus", "tokenizer", "fuser", "backbone", "objective", "sampler")
    parts = [f"{kind} {spec[kind]['plugin']}" for kind in kinds]
    if data.streams:
        parts.insert(0, f"streaming model, t_f = {spec['clock']['t_f']}, k = {spec['clock']['k']} frames")
    else:
        parts.insert(0, "offline model, hears the whole clip before it plays")
    if spec["guidance"]:
        parts.append(f"guidance {', '.join(f'{name} {scale:g}' for name, scale in spec['guidance'].items())}")
    return f"{' · '.join(parts)} · seed {spec['seed']}"


def _figures(data: RunData) -> Html:
    """The few numbers that matter most."""
    found: list[tuple[str, str, str]] = []
    if validation := data.losses_of("validation"):
        told = [data.unit]
        told += [f"untrained {one['loss']:.2f}" for one in validation[:1] if one["step"] == 0]
        told += [f"{one.get('what', 'code frequencies')} {one['loss']:.2f}" for one in data.losses_of("unigram")[-1:]]
        found.append(("Validation loss", f"{validation[-1]['loss']:.2f}", "; ".join(told)))
    if data.metrics is not None:
        for metric, number, _ in judged_numbers(data.metrics):
            values = {cell: cell_number(data.metrics, cell, metric, number) for cell in data.metrics["cells"]}
            shown = {cell: f"{value['value']:.2f}" if value else "none" for cell, value in values.items()}
            anchors = {"true_stem": "true stem", "random_pairing": "random pairing"}
            note = ", ".join(f"{title} {shown[cell]}" for cell, title in anchors.items() if cell in shown)
            found.append((number, shown.get("model", "none"), note))
    if data.takes:
        timings = [take["timings"] for take in data.takes]
        factor = max(one["real_time_factor"] for one in timings)
        note = "of a take's length, the whole clip at once; slowest take"
        if data.streams:
            slowest, limit = max(one["p99_ms"] for one in timings), data.step_limit
            found.append(("Step, 99th percentile", f"{slowest:.1f} ms", f"of its {limit:g} ms, slowest take"))
            note = "below 1 keeps up; slowest take"
        found.append(("Real-time factor", f"{factor:.2f}", note))
    cards = [
        tag("div", tag("dt", name), tag("dd", value, tag("small", note)), class_="card") for name, value, note in found
    ]
    return tag("dl", cards, class_="figures") if cards else Html("")


def _failures(data: RunData) -> list[Html]:
    """Everything that was asked for and is not there, by name, with the reason."""
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
        caption = "Music heard on this page"
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
        tag("details", tag("summary", "Resolved spec"), tag("pre", toml(data.spec), tabindex="0"), class_="card"),
        tag("div", table(["", "version"], rows, caption="Made with", style="words"), class_="card"),
    ]


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
