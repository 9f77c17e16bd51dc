"""Settings of classes, read from the source without importing it: names, types, defaults and descriptions."""

from __future__ import annotations

import ast
import inspect
import json
import re
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Setting:
    """One key: its type as annotated, its default as written (None where it is required), and its description."""

    name: str
    type: str
    default: str | None
    text: str


@cache
def module(name: str) -> ast.Module:
    """The parsed module `accomp.X.Y`."""
    return ast.parse(path_of(name).read_text(encoding="utf-8"))


def path_of(name: str) -> Path:
    """The file of the module `accomp.X.Y`."""
    path = ROOT.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def find_class(name: str, cls: str) -> tuple[str, ast.ClassDef] | None:
    """A class by the module that defines or imports it: the module that defines it, and its definition."""
    for node in module(name).body:
        if isinstance(node, ast.ClassDef) and node.name == cls:
            return name, node
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("accomp."):
            for alias in node.names:
                if (alias.asname or alias.name) == cls:
                    return find_class(str(node.module), alias.name)
    return None


def config_of(name: str, cls: str) -> ast.ClassDef | None:
    """The nested class Config of a plugin, its own or that of a class it derives from."""
    found = find_class(name, cls)
    if found is None:
        return None
    where, node = found
    for inner in node.body:
        if isinstance(inner, ast.ClassDef) and inner.name == "Config":
            return inner
    for base in node.bases:
        if isinstance(base, ast.Name) and (config := config_of(where, base.id)):
            return config
    return None


def doc(node: ast.ClassDef) -> str:
    """The docstring's text without its section of attributes, indented lines taken for code left as they are."""
    return re.split(r"\n\s*Attributes:\n", inspect.cleandoc(ast.get_docstring(node) or ""))[0].strip()


def settings(node: ast.ClassDef) -> list[Setting]:
    """The fields of an attrs class."""
    described = attributes(node)
    found = []
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            kind = ast.unparse(line.annotation)
            if not kind.startswith("ClassVar"):
                name = line.target.id
                found.append(Setting(name, readable(kind), default(line.value), described.get(name, "")))
    return found


def with_real_defaults(rows: list[Setting], name: str, cls: str) -> list[Setting]:
    """The settings with the values that constants in their defaults stand for; imports the module."""
    found = {attribute.name: attribute.default for attribute in attrs.fields(getattr(import_module(name), cls))}
    shown = []
    for row in rows:
        value = found.get(row.name)
        plain = isinstance(value, int | float | str | tuple) and not isinstance(value, bool)
        shown.append(replace(row, default=json.dumps(value)) if plain and row.default else row)
    return shown


def default(value: ast.expr | None) -> str | None:
    """The default of a field as TOML would have it nearly; None where there is none."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "field":
        given = {word.arg: word.value for word in value.keywords}
        if "factory" in given:
            return {"dict": "{}", "list": "[]"}.get(ast.unparse(given["factory"]), ast.unparse(given["factory"]))
        value = given.get("default")
    if value is None:
        return None
    text = ast.unparse(value)
    if text == "None":
        return "absent"
    return {"True": "true", "False": "false"}.get(text, text.replace("'", '"'))


def readable(kind: str) -> str:
    """An annotation in few words: Literal['a', 'b'] -> "a", "b"."""
    kind = re.sub(r"Literal\[([^\]]*)\]", lambda match: match[1].replace("'", '"'), kind)
    return kind.replace(" | None", "").replace("Frames", "frames, or a duration")


def attributes(node: ast.ClassDef) -> dict[str, str]:
    """Name -> description, of the docstring's section "Attributes"."""
    _, _, section = inspect.cleandoc(ast.get_docstring(node) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        head = re.match(r"    (\w+(?:, \w+)*): (.*)", line)
        if head:
            names = head[1].split(", ")
            found |= dict.fromkeys(names, head[2])
        elif line.startswith("        ") and names:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        elif line.strip():
            break
    return found


def table(rows: list[Setting]) -> str:
    """The settings as a Markdown table, descriptions left out where no row has one."""
    told = any(row.text for row in rows)
    lines = ["| key | type | default |" + (" meaning |" if told else ""), "|---|---|---|" + ("---|" if told else "")]
    for row in rows:
        value = "required" if row.default is None else "absent" if row.default == "absent" else f"`{row.default}`"
        cells = [f"`{row.name}`", f"`{row.type}`", value, *([row.text.replace("|", "\\|")] if told else [])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
