"""Reading of a grid file (core/spec/grid_schema.py): every cell becomes a valid spec."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from accomp.core.errors import SpecError
from accomp.core.names import nearest
from accomp.core.registry import Registry
from accomp.core.spec.grid_rules import COMPARISONS, Data, leaves, meets, merge, nested, value_at
from accomp.core.spec.grid_schema import ExtraSpec, Grid, GridCell, GridSpec, Skipped
from accomp.core.spec.limits import MOST_CELLS, shown, too_large
from accomp.core.spec.parsing import Problems, plain, strict_converter, structure_fields
from accomp.core.spec.schema import dotted, resolve, structure, token_space
from accomp.core.spec.toml_files import find_spec, read_toml

GIVEN = {
    "run.folder": "`folder`, beside `base`, is where all of it goes",
    "evaluate.cells": "[anchors] cells says what the takes are compared with",
    "evaluate.cache": "there is one for the whole grid, in its folder",
}
"""Keys that the grid sets in its cells, and the alternative for each."""


def load_grid(path: str | Path, registry: Registry, folder: str | None = None) -> Grid:
    """Read a grid file, or a shipped one by its bare name; `folder` overrides the file's own.

    Raises SpecError with every problem of the file and of all its cells; equal ones are reported once.
    """
    path = find_spec(path)
    data = read_toml(path)
    try:
        spec: GridSpec = structure_fields(_converter(), data, GridSpec)
        if found := list(too_large(spec)):
            raise Problems(found)
    except Problems as problems:
        raise SpecError(*(f"{text} @ {path}{dotted(where)}" for where, text in problems.found)) from None
    sheet = _Sheet(spec, registry, path)
    folder = folder or spec.folder or f"runs/{path.stem}"
    cells, skipped = sheet.cells(folder)
    return Grid(path.stem, Path(folder), cells, skipped, spec.anchors.cells, spec.runner, sheet.whole())


def _converter() -> Any:
    """Create a converter that leaves tables of any content unchanged."""
    converter = strict_converter()
    converter.register_structure_hook_func(lambda kind: kind == Data, _table)
    return converter


def _table(value: Any, _: Any) -> Data:
    if not isinstance(value, Mapping):
        raise Problems([((), f"expected a table, got {type(value).__name__} {value!r}")])
    return dict(value)


class _Sheet:
    """Construction of the cells of a grid file, with collection of all mistakes."""

    def __init__(self, spec: GridSpec, registry: Registry, path: Path):
        self._spec, self._registry, self._path = spec, registry, path
        self._mistakes: list[str] = []
        self._bases: dict[str, Data] = {}
        self._axes: dict[str, list[Any]] = {}
        self._compared: set[str] = set()  # keys of conditions that some cell has
        for key, values in leaves(spec.sweep):
            self._axes[key] = values
            if not isinstance(values, list) or not values:
                self._mistake(f"expected a list of values, got {values!r}", f"sweep.{key}")
                self._axes[key] = []
        if (points := math.prod(map(len, self._axes.values()))) > MOST_CELLS:
            raise SpecError(f"the sweep has {shown(points)} cells; expected at most {MOST_CELLS:,} @ {path}: sweep")
        self._conditions(spec)

    def cells(self, folder: str) -> tuple[tuple[GridCell, ...], tuple[Skipped, ...]]:
        """Return all cells, validated. Raises SpecError with all problems."""
        base = merge(self._base(self._spec.base, "base"), self._spec.set)
        drafts: dict[str, tuple[Data, Data]] = {}  # name -> axes, data
        skipped = []
        for axes in self._combinations():
            name, data = ",".join(f"{_label(key, self._axes)}={_describe(value)}" for key, value in axes.items()), base
            for key, value in axes.items():
                data = merge(data, nested(key, value))
            reason = next((rule.reason for rule in self._spec.skip if self._holds(rule.where, data)), None)
            if reason is not None:
                skipped.append(Skipped(name, axes, reason))
            elif name in drafts:
                self._mistake(f"two cells are called {name!r}; write each value once", "sweep")
            else:
                drafts[name] = axes, self._mended(data)
        for number, extra in enumerate(self._spec.extra):
            if extra.name in drafts:
                self._mistake(f"two cells are called {extra.name!r}", f"extra[{number}].name")
            drafts[extra.name] = {}, self._extra(extra, f"extra[{number}]", base, drafts)
        if not drafts and not self._mistakes:
            self._mistake("there is no cell; add [sweep] or [[extra]]", "")
        self._idle_conditions()
        cells = self._valid(drafts, folder)
        if self._mistakes:
            raise SpecError(*self._mistakes)
        return cells, tuple(skipped)

    def whole(self) -> Data:
        """Return the file with defaults, and its bases as they were read."""
        data = plain(self._spec)
        for section in (data, *data["extra"]):
            if isinstance(section.get("base"), str):
                section["base"] = self._bases[section["base"]]
        return {key: value for key, value in data.items() if value not in ({}, [])}

    def _mistake(self, text: str, where: str) -> None:
        line = f"{text} @ {self._path}{f': {where}' if where else ''}"
        if line not in self._mistakes:
            self._mistakes.append(line)

    def _base(self, base: str | Data, where: str) -> Data:
        """Return the content of a base; empty, with the mistake recorded, where there is none."""
        if not isinstance(base, str):
            return base
        if base not in self._bases:
            self._bases[base] = {}
            try:
                self._bases[base] = read_toml(find_spec(base))
            except SpecError as error:
                for problem in error.problems:
                    self._mistake(problem, where)
        return self._bases[base]

    def _combinations(self) -> Iterator[Data]:
        """Yield the combinations of the axes, the first one slowest; none where there are no axes."""
        if self._axes:
            for values in itertools.product(*self._axes.values()):
                yield dict(zip(self._axes, values, strict=True))

    def _extra(self, extra: ExtraSpec, where: str, base: Data, drafts: Mapping[str, tuple[Data, Data]]) -> Data:
        if extra.like is not None and extra.base is not None:
            self._mistake("give either `base` or `like`", where)
        if extra.like is not None:
            if extra.like not in drafts:
                self._mistake(
                    f"no cell before it is called {extra.like!r}{nearest(extra.like, drafts)}", f"{where}.like"
                )
            _, start = drafts.get(extra.like, ({}, base))
        elif extra.base is not None:
            start = merge(self._base(extra.base, f"{where}.base"), self._spec.set)
        else:
            start = base
        return merge(self._mended(merge(start, extra.set)), extra.set)

    def _mended(self, data: Data) -> Data:
        """Apply every [[when]] whose condition holds."""
        for rule in self._spec.when:
            if self._holds(rule.where, data):
                data = merge(data, rule.set)
        return data

    def _conditions(self, spec: GridSpec) -> None:
        """Record invalid conditions, and rules that would change a swept key."""
        for where, condition in self._wheres(spec):
            for key, expected in leaves(condition, COMPARISONS):
                unknown = (
                    [word for word in expected if word not in COMPARISONS] if isinstance(expected, Mapping) else []
                )
                if unknown:
                    self._mistake(
                        f"{', '.join(map(repr, unknown))} beside a comparison; expected a value, a list of values, "
                        f"or a table of {', '.join(COMPARISONS)}",
                        f"{where}.{key}",
                    )
            if not condition:
                self._mistake("an empty condition always holds; use [set] for every cell", where)
        for number, when in enumerate(spec.when):
            for key, _ in leaves(when.set):
                if key in self._axes:
                    self._mistake(f"{key} is swept, so no rule may change it", f"when[{number}].set.{key}")
        settings = {"set": spec.set, "sweep": spec.sweep}
        settings |= {f"when[{number}].set": rule.set for number, rule in enumerate(spec.when)}
        settings |= {f"extra[{number}].set": extra.set for number, extra in enumerate(spec.extra)}
        for where, table in settings.items():
            for key, _ in leaves(table):
                if key in GIVEN:
                    self._mistake(f"{key} is for the grid to decide; {GIVEN[key]}", f"{where}.{key}")

    def _idle_conditions(self) -> None:
        """Record conditions on keys that no cell has, most likely misspelt."""
        for where, condition in self._wheres(self._spec):
            for key, _ in leaves(condition, COMPARISONS):
                if key not in self._compared:
                    self._mistake(f"no cell has a key {key}, so this never holds", f"{where}.{key}")

    @staticmethod
    def _wheres(spec: GridSpec) -> Iterator[tuple[str, Data]]:
        """Yield the condition of every rule, with its place in the file."""
        yield from ((f"when[{number}].where", rule.where) for number, rule in enumerate(spec.when))
        yield from ((f"skip[{number}].where", rule.where) for number, rule in enumerate(spec.skip))

    def _holds(self, where: Data, data: Data) -> bool:
        met, space = True, token_space(data.get("tokenizer"), self._registry)
        for key, expected in leaves(where, COMPARISONS):
            value = value_at(data, key)
            if value is not None:
                self._compared.add(key)
            met = meets(value, expected, space) and met
        return met

    def _valid(self, drafts: Mapping[str, tuple[Data, Data]], folder: str) -> tuple[GridCell, ...]:
        from accomp.core.spec.build import check_combination  # takes seconds to import

        cells: list[GridCell] = []
        wrong: dict[str, list[str]] = {}
        for name, (axes, data) in drafts.items():
            try:
                spec = structure({**data, "run": {**data.get("run", {}), "folder": folder}}, self._registry, where="")
                check_combination(spec, self._registry)
                cells.append(GridCell(name, axes, spec))
            except Exception as error:
                if not hasattr(error, "problems"):
                    raise
                for problem in error.problems:
                    wrong.setdefault(problem, []).append(name)
        for problem, names in wrong.items():
            text, _, where = problem.partition(" @ : ")
            self._mistake(text, f"{where or 'cell'} (in {_listed(names, len(drafts))})")
        seen: dict[str, GridCell] = {}
        for cell in cells:
            twin = seen.setdefault(json.dumps(resolve(cell.spec), sort_keys=True), cell)
            if cell.swept and twin is not cell:
                self._mistake(f"{twin.name} and {cell.name} are the same; write each value once", "sweep")
        return tuple(cells)


def _label(key: str, axes: Iterable[str]) -> str:
    """Return the last part of a key, or all of it where two axes end with the same one."""
    last = key.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in axes) == 1 else key


def _describe(value: Any) -> str:
    """Format a swept value for a cell's name: true, 1, -0.2s; a section with a plugin as plugin(key=value)."""
    if isinstance(value, Mapping) and "plugin" in value:
        rest = ",".join(f"{key}={_describe(item)}" for key, item in value.items() if key != "plugin")
        return f"{value['plugin']}({rest})" if rest else str(value["plugin"])
    return value if isinstance(value, str) else json.dumps(value)


def _listed(names: list[str], of: int) -> str:
    if len(names) == of > 1:
        return f"all {of} cells"
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more cells" if len(names) > 3 else shown
