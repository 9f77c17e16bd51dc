"""All that the computation of a step depends on: the content of its object, and the tensors that it reads and writes.

torch.compile fixes every Python value of a step in the graph, and takes tensors as inputs. So two steps have the same
graph if their objects hold equal values, and tensors of equal shape, in equal places, and the code is the same.
"""

from __future__ import annotations

import enum
import functools
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from attrs import define, field
from torch import Tensor

from accomp.core.compute.compiled_code import package_hash

_VALUES = (str, bytes, int, float, complex, type(None), torch.dtype, torch.device, np.generic, range, enum.Enum)
_CODE = (type, types.ModuleType, types.BuiltinFunctionType)
_NAMED = (*_CODE, types.FunctionType)
_KNOWN = {*sys.stdlib_module_names, "accomp", "torch", "numpy", "attr", "attrs", "cattrs"}
"""Packages whose code is that of their version, or is hashed elsewhere."""


@define
class StepFacts:
    """What can be reached from an object.

    Attributes:
        lines: one for each object, in a fixed order, with its place and value; tensors by shape and memory layout.
        tensors: place -> tensor; one that has several places by the first.
        packages: top-level packages of the code of these objects, but for those that everything uses.
    """

    lines: list[str] = field(factory=list)
    tensors: dict[str, Tensor] = field(factory=dict)
    packages: set[str] = field(factory=set)

    @property
    def text(self) -> str:
        """The lines, and the hashes of the packages."""
        return "\n".join([*self.lines, *(f"{name} {package_hash(name)}" for name in sorted(self.packages))])


def step_facts(root: Any) -> StepFacts:
    """Walk through everything that can be reached from an object."""
    facts, places = StepFacts(), dict[int, tuple[str, Any]]()  # with the object, so that no other gets its id
    waiting = deque([("", root)])
    while waiting:
        place, value = waiting.popleft()
        if isinstance(value, _VALUES):
            facts.lines.append(f"{place} {value!r}")
        elif id(value) in places:
            facts.lines.append(f"{place} = {places[id(value)][0]}")
        else:
            places[id(value)] = place, value
            if isinstance(value, Tensor):
                facts.tensors[place] = value
            facts.lines.append(f"{place} {_described(value)}")
            code = value if isinstance(value, _NAMED) else type(value)
            package = (getattr(code, "__module__", None) or "").partition(".")[0]
            if package and package not in _KNOWN:
                facts.packages.add(package)
            waiting.extend((f"{place}.{name}", part) for name, part in _parts(value))
    return facts


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        layout = (value.dtype, tuple(value.shape), value.stride(), value.device, value.requires_grad)
        return f"{_name(type(value))} {layout}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {value.tobytes()!r}"
    if isinstance(value, (set, frozenset)):
        return repr(sorted(map(repr, value)))
    return _name(value if isinstance(value, _NAMED) else type(value))


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The named parts of an object, in a fixed order."""
    if isinstance(value, (Tensor, np.ndarray, set, frozenset, *_CODE)):
        return
    if isinstance(value, Mapping):
        for number, (key, part) in enumerate(value.items()):
            yield (f"{key}", part) if isinstance(key, (str, int)) else (f"[{number}]", (key, part))
    elif isinstance(value, (list, tuple, deque)):
        yield from ((f"{number}", part) for number, part in enumerate(value))
    elif isinstance(value, types.FunctionType):
        yield "defaults", value.__defaults__
        yield "keywords", value.__kwdefaults__
        yield "closure", [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
    elif isinstance(value, types.MethodType):
        yield from (("self", value.__self__), ("function", value.__func__))
    elif isinstance(value, functools.partial):
        yield from (("function", value.func), ("arguments", value.args), ("keywords", value.keywords))
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _name(code: Any) -> str:
    return f"{getattr(code, '__module__', '')}.{getattr(code, '__qualname__', getattr(code, '__name__', repr(code)))}"
