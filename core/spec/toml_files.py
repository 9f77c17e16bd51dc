"""Spec files as TOML: shipped ones by bare name, `--set KEY=VALUE` overrides, and writing."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from accomp.core.errors import SpecError
from accomp.core.names import nearest
from accomp.core.spec.limits import MOST_DIGITS


def find_spec(path: str | Path) -> Path:
    """Return the file itself, or the shipped spec of that name. Raises SpecError, naming the shipped ones, for
    neither.
    """
    path = Path(path)
    if path.is_file():
        return path
    folder = Path(str(resources.files("accomp.specs")))
    shipped = {file.stem: file for file in folder.glob("*.toml")}
    if len(path.parts) == 1 and (found := shipped.get(path.name.removesuffix(".toml"))):
        return found
    what = "is a folder, expected a TOML file" if path.is_dir() else "no such spec file"
    raise SpecError(f"{what}{nearest(path.name.removesuffix('.toml'), shipped, what='shipped specs')} @ {path}")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file as a dict. Raises SpecError for a file that cannot be read or is not TOML."""
    try:
        return _loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SpecError(f"cannot read: {error.strerror} @ {path}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"not UTF-8 text (byte {error.start}) @ {path}") from error
    except ValueError as error:
        raise SpecError(f"not TOML: {error} @ {path}") from error


def _loads(text: str) -> dict[str, Any]:
    """Parse TOML. Raises ValueError for invalid TOML, and for nesting or lengths beyond the parser's limits."""
    if digits := re.search(rf"[0-9_]{{{MOST_DIGITS + 1},}}", _without_texts(text)):
        line = text.count("\n", 0, digits.start()) + 1
        raise ValueError(f"a number of {len(digits[0])} digits (at line {line}); expected at most {MOST_DIGITS}")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("lists or tables are nested too deeply to be read; a spec needs a few levels") from None


def _without_texts(text: str) -> str:
    """Return TOML of the same length with blank quoted texts."""
    return re.sub(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', lambda quoted: " " * len(quoted[0]), text)


def toml_text(data: Mapping[str, Any]) -> str:
    """Write plain data, as `spec.resolve` returns it, as TOML that parses back to the same."""
    plain = {key: value for key, value in data.items() if not isinstance(value, Mapping) and not _tables(value)}
    sections = ["\n".join(_lines(plain))]
    for name, value in data.items():
        if name not in plain:
            title, tables = (f"[[{_key(name)}]]", value) if _tables(value) else (f"[{_key(name)}]", [value])
            sections += ["\n".join([title, *_lines(table)]) for table in tables]
    return "\n\n".join(filter(None, sections)) + "\n"


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {toml_value(value)}" for key, value in table.items()]


def _key(name: str) -> str:
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else toml_value(name)


def toml_value(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(_lines(value))} }}" if value else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower()  # numbers, and True as true


_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
"""Values that need no quotes in a setting: --set train.compile=on."""
_ASSIGNMENT = re.compile(r"\s*([^=]+?)\s*=\s*(.+?)\s*", re.DOTALL)


def override(data: dict[str, Any], assignments: Iterable[str], where: str = "--set") -> None:
    """Set "dotted.key=TOML value" in `data`, in place. Raises SpecError naming every invalid assignment @ `where`."""
    problems = []
    for text in assignments:
        try:
            keys, value = _parse(text, where)
        except ValueError as error:
            problems.append(f"{error} @ {where} {text}")
            continue
        section = data
        for key in keys[:-1]:
            inner = section.setdefault(key, {})
            if not isinstance(inner, dict):
                problems.append(f"{key!r} is not a section, so nothing can be set in it @ {where} {text}")
                break
            section = inner
        else:
            section[keys[-1]] = value
    if problems:
        raise SpecError(*problems)


def _parse(text: str, where: str) -> tuple[list[str], Any]:
    match = _ASSIGNMENT.fullmatch(text)
    if not match:
        raise ValueError("expected KEY=VALUE, as in train.steps=100")
    name, value = match.groups()
    try:
        node: Any = _loads(f"{name} = 0")
    except ValueError as error:
        raise ValueError(f"{name!r} is not a dotted key") from error
    keys = []
    while isinstance(node, dict):
        key, node = next(iter(node.items()))
        keys.append(key)
    try:
        return keys, _loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        if _WORD.fullmatch(value):
            return keys, value
        raise ValueError(
            f"""{value!r} is not a TOML value; a text needs quotes: {where} '{name}="{value}"'"""
        ) from error
