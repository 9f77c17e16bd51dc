"""Upper limits of numbers in a spec or a grid.

A larger number is a mistake that would exhaust the machine before an error could be reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from accomp.core.spec.parsing import Where

LARGEST = 1_000_000
"""Largest whole number of a field without a limit of its own."""
LARGEST_SEED = 2**63 - 1
MOST_DIGITS = 100
"""Digits of a number in a file; the parsers reject thousands of digits."""
MOST_CELLS = 10_000
"""Largest number of cells of a grid."""
MOST_PARAMETERS = 10**11
"""Largest number of parameters of a model."""


def at_most(number: int) -> dict[str, int]:
    """Return metadata for an attrs field whose whole numbers may be up to `number`, in place of LARGEST."""
    return {"largest": number}


def too_large(value: Any, where: Where = (), largest: int = LARGEST) -> Iterator[tuple[Where, str]]:
    """Yield the path and a message for each whole number beyond its field's limit in attrs objects, lists and
    tables.
    """
    if attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            own = LARGEST_SEED if field.name == "seed" else field.metadata.get("largest", LARGEST)
            yield from too_large(getattr(value, field.name), (*where, field.name), own)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from too_large(item, (*where, key), largest)
    elif isinstance(value, tuple | list):
        for number, item in enumerate(value):
            yield from too_large(item, (*where, number), largest)
    elif type(value) is int and abs(value) > largest:
        yield where, f"{shown(value)} is too large; expected at most {largest:,}"


def shown(number: int) -> str:
    """Format a number, shortened where it is long."""
    if abs(number) < 10**20:
        return f"{number:,}"
    return f"a number of some {number.bit_length() * 30103 // 100000 + 1} digits"
