"""Work of a grid: each store, training, cell and set of anchors once, in a folder named after its hash.

    GRID/models/NAME-HASH/     trainings, run folders without takes; NAME is that of the first cell that needed it
    GRID/cells/NAME-HASH/      run folders that play such a model: takes, metrics.json, report.html
    GRID/anchors/HASH/         metrics.json of the anchors, without a model
    GRID/stores/HASH/          marks that a store was filled; the tokens are where the spec says
    GRID/cache/                cached results of metrics, shared by all

A piece of work is done when its folder contains done.json, with its hash, and the results exist.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import field, frozen

from accomp.core.errors import CheckpointError, SpecError
from accomp.core.evaluation import evaluate
from accomp.core.files import OWNER, write_atomic
from accomp.core.generation import generate
from accomp.core.runs.checkpoint import latest_checkpoint
from accomp.core.runs.player import playing_checkpoint, weights_hash
from accomp.core.spec.fingerprints import Identity, identify
from accomp.core.spec.grid_schema import Grid, GridCell
from accomp.core.spec.runner import RunnerSpec
from accomp.core.spec.schema import Spec
from accomp.core.spec.sections import CellName

Kind = Literal["store", "training", "anchors", "cell"]

DONE = "done.json"
LOG = "log.txt"
LONGEST = 60
"""Characters of a cell's name in the name of a folder."""


@frozen
class Work:
    """A piece of work.

    Attributes:
        name: of the first cell that needs it; of a store, its path.
        hash: of all its inputs; unique together with `kind`.
        folder: folder of its results.
        spec: of that first cell, for this folder.
        needs: keys of the work that comes before.
        cells: names of all cells that need it.
        model: of a cell, the folder of its training.
    """

    kind: Kind
    name: str
    hash: str
    folder: Path
    spec: Spec = field(repr=False)
    needs: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    model: Path | None = None

    @property
    def key(self) -> str:
        """Key, unique within a grid."""
        return f"{self.kind} {self.hash}"

    @property
    def title(self) -> str:
        """Display name."""
        return self.kind if self.kind == "anchors" else f"{self.kind} {self.name}"

    def record(self) -> dict[str, Any] | None:
        """Return the content of done.json, if the work is done: the hash, and seconds by stage. None otherwise."""
        stored = self.done_record()
        return stored if stored is not None and stored.get("hash") == self.hash and self._is_there() else None

    def done_record(self) -> dict[str, Any] | None:
        """Return the content of done.json, of this work or of an earlier one in the same folder."""
        try:
            record = json.loads(self._done.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    @property
    def begun(self) -> bool:
        """Test for the results of an earlier attempt that can be resumed."""
        there = self.folder.iterdir() if self.folder.is_dir() else ()
        return any(path.name not in (LOG, DONE, OWNER) for path in there)

    def finish(self, record: dict[str, Any]) -> dict[str, Any]:
        """Write done.json into the folder, and return its content."""
        record = {"hash": self.hash, "finished": time.strftime("%Y-%m-%dT%H:%M:%S"), **record}
        write_atomic(self._done, json.dumps(record, indent=1) + "\n")
        return record

    @property
    def _done(self) -> Path:
        return self.folder / DONE

    def _is_there(self) -> bool:
        """Test that the results still exist."""
        try:
            match self.kind:
                case "store":
                    return "://" in self.spec.store.path or Path(self.spec.store.path, "zarr.json").is_file()
                case "training":
                    newest = latest_checkpoint(self.folder)
                    return newest is not None and newest.finishes(self.spec.train) and bool(self.weights())
                case "anchors":
                    return (self.folder / evaluate.RECORD).is_file()
                case "cell":
                    takes_record = json.loads((self.folder / generate.RECORD).read_text(encoding="utf-8"))
                    judged = (self.folder / evaluate.RECORD).is_file()
                    return judged and takes_record["checkpoint"]["weights"] == self.weights()
        except (CheckpointError, OSError, ValueError, KeyError):
            return False

    def weights(self) -> str:
        """Return the hash of the weights that play. Raises CheckpointError where there are none."""
        return weights_hash(playing_checkpoint(self.model or self.folder))


@frozen
class CellWork:
    """The work of one cell."""

    cell: GridCell
    identity: Identity
    training: Work
    judged: Work
    anchors: Work | None


@frozen
class GridWork:
    """All work of a grid, in a valid order of execution."""

    grid: Grid
    pieces: dict[str, Work]
    cells: tuple[CellWork, ...]

    def of_kind(self, kind: Kind) -> list[Work]:
        """Return the work of one kind."""
        return [work for work in self.pieces.values() if work.kind == kind]

    def leftovers(self) -> list[Path]:
        """List the folders of models, cells and anchors that belong to no cell any more."""
        used = {work.folder for work in self.pieces.values()}
        there = [
            folder
            for parent in ("models", "cells", "anchors")
            for folder in sorted((self.grid.folder / parent).glob("*"))
            if folder.is_dir() and not folder.name.startswith(".")
        ]
        return [folder for folder in there if folder not in used]


def work_of(grid: Grid) -> GridWork:
    """Return the work of a grid. Raises SpecError for cells that cannot share a grid."""
    pieces: dict[str, Work] = {}
    places: dict[str, Path] = {}  # of takes, by their hash

    def piece(cell: GridCell, kind: Kind, name: str, hash: str, folder: Path, spec: Spec, **more: Any) -> Work:
        new = Work(kind, name, hash, folder, spec, cells=(cell.name,), **more)
        old = pieces.get(new.key)
        pieces[new.key] = new if old is None else attrs.evolve(old, cells=(*old.cells, cell.name))
        return pieces[new.key]

    keys = []
    for cell in grid.cells:
        found, spec = identify(cell.spec, grid.anchors), cell.spec
        place = grid.folder / "stores" / found.store
        store = piece(cell, "store", spec.store.path, found.store, place, _at(spec, place, grid))
        model = _folder(grid.folder / "models", cell.name, found.training)
        training = piece(cell, "training", cell.name, found.training, model, _at(spec, model, grid), needs=(store.key,))
        place = places.setdefault(found.takes, _folder(grid.folder / "cells", cell.name, found.takes))
        judged = piece(
            cell, "cell", cell.name, found.scores, place, _at(spec, place, grid), needs=(training.key,),
            model=training.folder,
        )  # fmt: skip
        anchors = None
        if grid.anchors:
            place = grid.folder / "anchors" / found.anchors
            anchors = piece(cell, "anchors", "anchors", found.anchors, place, _at(spec, place, grid, grid.anchors))
        keys.append((cell, found, training.key, judged.key, anchors.key if anchors else None))
    _refuse_what_cannot_be([cell for cell, *_ in keys], list(pieces.values()))
    cells = [
        CellWork(cell, found, pieces[training], pieces[judged], pieces[anchors] if anchors else None)
        for cell, found, training, judged, anchors in keys
    ]
    order = {kind: number for number, kind in enumerate(("store", "training", "anchors", "cell"))}
    return GridWork(grid, dict(sorted(pieces.items(), key=lambda item: order[item[1].kind])), tuple(cells))


def _at(spec: Spec, folder: Path, grid: Grid, cells: Iterable[CellName] = ("model",)) -> Spec:
    """Adapt the spec to a folder of the grid: one set of cells, the shared cache, one machine."""
    judging = attrs.evolve(spec.evaluate, cells=tuple(cells), cache=(grid.folder / "cache").as_posix())
    runner = RunnerSpec(workers=grid.runner.workers if grid.runner.engine == "local" else None, cpus=grid.runner.cpus)
    return attrs.evolve(spec, run=attrs.evolve(spec.run, folder=folder.as_posix()), evaluate=judging, runner=runner)


def _folder(parent: Path, name: str, hash: str) -> Path:
    """Return the folder with this hash, under any name, so that a renamed cell finds its work; else a new one."""
    for there in sorted(parent.glob(f"*-{hash}")):
        return there
    return parent / f"{re.sub('[^A-Za-z0-9._=+-]+', '_', name)[:LONGEST].strip('._')}-{hash}"


def _refuse_what_cannot_be(cells: Sequence[GridCell], pieces: Sequence[Work]) -> None:
    """Raise for two different stores at one path, two ways of scoring the same takes, several devices for one task."""
    problems = []
    for kind, what, cure in (
        ("store", "fill the same store with different tokens", "give each a store.path of its own"),
        ("cell", "play the same takes and are scored differently", "score both by all the metrics"),
    ):
        first: dict[str, Work] = {}
        for work in (work for work in pieces if work.kind == kind):
            place = work.spec.store.path if kind == "store" else str(work.folder)
            other = first.setdefault(place, work)
            if other is not work:
                problems.append(f"the cells {other.cells[0]!r} and {work.cells[0]!r} {what}; {cure} @ {place}")
    if many := [cell.name for cell in cells if cell.spec.run.devices > 1]:
        problems.append(
            f"run.devices is more than 1 in {', '.join(map(repr, many[:3]))}{' and more' if len(many) > 3 else ''}: a "
            f"grid gives each task its devices; set run.devices = 1, and the tasks at a time in [runner] workers"
        )
    if problems:
        raise SpecError(*problems)
