"""The largest numbers that a spec or a grid may hold.

What is beyond them is a slip of the hand, and would hang a machine or fill it before anything could be said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from accomp.core.structuring import Where

LARGEST = 1_000_000
"""What any whole number may be whose field says nothing else."""
LARGEST_SEED = 2**63 - 1
MOST_DIGITS = 100
"""Digits of a number in a file; the libraries that read them stop at thousands."""
MOST_CELLS = 10_000
"""Points of a grid."""
MOST_AHEAD = 16
"""Steps ahead that are predicted in training, each by a head of its own."""
MOST_PARAMETERS = 10**11
"""Of a model: more than any machine that trains one has room for."""


def at_most(number: int) -> dict[str, int]:
    """Metadata for an attrs field whose whole numbers may be up to `number`, in place of LARGEST."""
    return {"largest": number}


def too_large(value: Any, where: Where = (), largest: int = LARGEST) -> Iterator[tuple[Where, str]]:
    """Where attrs objects, lists and tables hold a whole number beyond what its field allows, and the words for it."""
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
    """A number as text, shortened where it is long."""
    if abs(number) < 10**20:
        return f"{number:,}"
    return f"a number of some {number.bit_length() * 30103 // 100000 + 1} digits"
