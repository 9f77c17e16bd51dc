"""A grid spec: many experiments (cells) in one TOML file, which differ in a few values.

    base = "streaming_k1"                       # a spec file, or the name of a shipped one

    [set]                                       # in every cell
    generate.takes = 1024

    [sweep]                                     # one cell for each combination
    clock.k = [1, "0.2s"]
    clock.t_f = ["-1s", "0s", "1s"]

    [[when]]                                    # what follows from swept values
    where = { clock.k = { above = 1 } }
    set.objective = { plugin = "prefix" }

    [[skip]]                                    # combinations that are not wanted
    where = { clock.k = "0.2s", clock.t_f = ["-1s"] }
    reason = "trained elsewhere"

    [[extra]]                                   # a cell that is not swept: of another spec ...
    name = "StemGen"
    base = "stemgen"

    [[extra]]                                   # ... or like another cell, but for something
    name = "random input"
    like = "k=1,t_f=1s"
    set.generate.input = "random"

    [anchors]                                   # judged once, without a model
    cells = ["true_stem", "random_pairing"]

    [runner]                                    # core/spec/runner.py
    workers = 2

A swept cell is the base, with [set], its values of the axes, then every [[when]] that applies, in the order of the
file. An extra one is its base with [set] (or the cell it is like), every [[when]] that applies, then its own `set`.
A table that is set is merged into the one that is there, key by key; one that names another `plugin` replaces it.
"""

from __future__ import annotations

from pathlib import Path

from attrs import field, frozen
from attrs import validators as v

from accomp.core.spec.grid_rules import Data
from accomp.core.spec.runner import RunnerSpec
from accomp.core.spec.schema import Spec
from accomp.core.spec.sections import CELLS, OF_TAKES, CellName


@frozen
class WhenSpec:
    """Values of keys in the cells that meet a condition. Cells without a key of the condition do not meet it."""

    where: Data
    set: Data


@frozen
class SkipSpec:
    """A condition on combinations that are left out, with the reason; the plan lists them."""

    where: Data
    reason: str = field(validator=v.min_len(1))


@frozen
class ExtraSpec:
    """A cell that is not swept.

    Attributes:
        base: its own spec file, or the name of a shipped one; the grid's where absent.
        like: instead, the name of a preceding cell.
        set: its own settings.
    """

    name: str = field(validator=v.min_len(1))
    base: str | Data | None = None
    like: str | None = None
    set: Data = field(factory=dict)


@frozen
class AnchorsSpec:
    """Anchors of a grid, scored once for all cells: `cells` are names as in [evaluate] cells."""

    cells: tuple[CellName, ...] = tuple(name for name in CELLS if name not in OF_TAKES)

    def __attrs_post_init__(self) -> None:
        """Raise ValueError for the model, which is no anchor, and for a repeated name."""
        if "model" in self.cells or len(set(self.cells)) < len(self.cells):
            raise ValueError(f"cells is {list(self.cells)}; expected anchors, none of them twice")


@frozen
class GridSpec:
    """A grid file, section by section.

    Attributes:
        base: a spec file, the name of a shipped one, or all of a spec as a table.
        folder: the grid's folder; runs/NAME of the grid file where absent.
        set: keys and values of every cell.
        sweep: dotted key -> its values; tables are keys of tables.
    """

    base: str | Data
    folder: str | None = None
    set: Data = field(factory=dict)
    sweep: Data = field(factory=dict)
    when: tuple[WhenSpec, ...] = ()
    skip: tuple[SkipSpec, ...] = ()
    extra: tuple[ExtraSpec, ...] = ()
    anchors: AnchorsSpec = AnchorsSpec()
    runner: RunnerSpec = field(default=RunnerSpec())


@frozen
class GridCell:
    """One experiment of a grid.

    Attributes:
        axes: swept key -> value, as in the file; empty for extra cells.
        spec: complete spec; `run.folder` is the grid's, which assigns a folder to every cell.
    """

    name: str
    axes: Data
    spec: Spec

    @property
    def swept(self) -> bool:
        """True for a cell of the sweep."""
        return bool(self.axes)


@frozen
class Skipped:
    """A combination that a [[skip]] leaves out."""

    name: str
    axes: Data
    reason: str


@frozen
class Grid:
    """A grid file, read: every cell is a valid spec.

    Attributes:
        data: the file with all defaults, and its bases as tables, so that it depends on no other file.
    """

    name: str
    folder: Path
    cells: tuple[GridCell, ...]
    skipped: tuple[Skipped, ...]
    anchors: tuple[CellName, ...]
    runner: RunnerSpec
    data: Data
