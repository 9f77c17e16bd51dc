"""Settings and conditions of a grid, by dotted keys of a spec.

A condition is a table of keys, each with a value, a list of values, or a table of `above`, `below` and `not`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from accomp.core.spec.durations import seconds
from accomp.core.types import TokenSpace

Data = dict[str, Any]
"""A spec, or a part of one, as plain data."""

COMPARISONS = ("above", "below", "not")
"""Operators of a condition, beside a value or a list of values."""


def merge(data: Mapping[str, Any], changes: Mapping[str, Any]) -> Data:
    """Merge `changes` into `data`: tables key by key; a table that names another plugin replaces the old one."""
    merged = dict(data)
    for key, value in changes.items():
        there = merged.get(key)
        if isinstance(there, Mapping) and isinstance(value, Mapping):
            other = "plugin" in value and value["plugin"] != there.get("plugin")
            merged[key] = dict(value) if other else merge(there, value)
        else:
            merged[key] = value
    return merged


def leaves(table: Mapping[str, Any], ends: Iterable[str] = (), key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key -> value; a table that has one of the keys in `ends` is itself a value."""
    for name, value in table.items():
        path = f"{key}.{name}" if key else name
        if isinstance(value, Mapping) and value and not any(end in value for end in ends):
            yield from leaves(value, ends, path)
        else:
            yield path, value


def nested(key: str, value: Any) -> Data:
    """Convert ("clock.k", 2) to {"clock": {"k": 2}}."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def value_at(data: Any, key: str) -> Any:
    """Return the value under a dotted key, None where there is none."""
    for name in key.split("."):
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def meets(value: Any, expected: Any, space: TokenSpace | None) -> bool:
    """Test a value against a condition; None never meets one.

    Durations are compared in frames of `space`, with each other and with numbers of frames.
    """
    if value is None:
        return False
    value = _comparable(value, space)
    if not isinstance(expected, Mapping):
        return _among(value, expected, space)
    results = []
    for word, raw in expected.items():
        limit = _comparable(raw, space)
        if word == "not":
            results.append(not _among(value, raw, space))
        elif not (_is_number(value) and _is_number(limit)):
            results.append(False)
        else:
            results.append(value > limit if word == "above" else value < limit)
    return all(results)


def _among(value: Any, options: Any, space: TokenSpace | None) -> bool:
    every = options if isinstance(options, list) else [options]
    return any(_equal(value, _comparable(option, space)) for option in every)


def _comparable(value: Any, space: TokenSpace | None) -> Any:
    """Convert a duration to frames, exactly; return other values unchanged."""
    if isinstance(value, str) and space is not None:
        try:
            return seconds(value) * space.sample_rate / space.hop
        except ValueError:
            return value
    return value


def _equal(a: Any, b: Any) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Fraction) and not isinstance(value, bool)
