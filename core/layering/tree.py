"""A song that grows layer by layer, on disk: a context, and nodes that each add one dry stem to their parent.

    FOLDER/root/{root.json, context.wav}
    FOLDER/nodes/ID/{node.json, stem.wav, mix.wav}
    FOLDER/index.html

A node's id is a hash of all its inputs, and its folder is written atomically. So a tree can be read at any time,
several processes may grow it at once, and an interrupted round resumes where it stopped.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from attrs import field, frozen

from accomp.core.audio import io as audio
from accomp.core.audio.loudness import PEAK
from accomp.core.errors import DataError, UserError
from accomp.core.files import folder_atomic, hash_file, write_atomic
from accomp.core.layering.mixing import listening_mix, model_mix
from accomp.core.layering.recipe import ROOT, Recipe
from accomp.core.names import nearest

LAST = "last"
"""Name of the node that was chosen last."""
FORMAT = 1
STEM, MIX = "stem.wav", "mix.wav"
_ROUNDING = 2  # samples by which resampling may change a length


@frozen
class Root:
    """The audio that a tree starts from.

    Attributes:
        name: of the given file; `file` is its copy in the tree.
        sha256: of its bytes.
        sample_rate, channels, samples: of the file (Hz); its channels are averaged.
        gain: scale factor, below 1 for audio beyond full scale.
        stems: number of stems that it is a mixture of.
        made: creation time of the tree (UTC).
        accomp: version.
    """

    name: str
    file: str
    sha256: str
    sample_rate: int
    channels: int
    samples: int
    gain: float
    stems: int
    made: str
    accomp: str

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.samples / self.sample_rate


@frozen
class Node:
    """A stem that accompanies its parent's song.

    Attributes:
        id: unique in the tree.
        recipe: all inputs of the stem.
        run, step: folder of the run, relative to the tree's, and optimizer steps of its model.
        sample_rate, samples: of stem and mix (Hz).
        gain: scale factor of the stem, below 1 for audio beyond full scale.
        files: SHA-256 of stem.wav (dry) and mix.wav (the song up to here).
        made: creation time (UTC).
        accomp: version.
        chosen: time of its choice (UTC); None if not chosen.
    """

    id: str
    recipe: Recipe
    run: str
    step: int
    sample_rate: int
    samples: int
    gain: float
    files: Mapping[str, str]
    made: str
    accomp: str
    chosen: str | None = None

    @property
    def parent(self) -> str:
        """Id of the node that it adds a stem to, or ROOT."""
        return self.recipe.parent


@frozen
class Tree:
    """An open tree; only the root is kept in memory. Raises DataError if there is none."""

    folder: Path
    root: Root = field(init=False)

    @root.default
    def _open(self) -> Root:
        path = self.folder / "root" / "root.json"
        if not path.is_file():
            raise DataError(f"no tree of layers here; begin one with --context WAV @ {self.folder}")
        return Root(**_read(path, Root))

    @classmethod
    def begin(cls, folder: Path, context: Path, *, stems: int | None = None) -> Tree:
        """Open the tree in `folder`, or begin it with a copy of the audio file `context`.

        `stems`: number of stems that the context is a mixture of, one if None. Raises DataError for unreadable or empty
        audio, for a folder of other content, and for the tree of another context.
        """
        if not (folder / "root").is_dir():
            if folder.exists() and (not folder.is_dir() or any(_visible(folder))):
                raise DataError(f"this is not a tree of layers; name another --out @ {folder}")
            try:
                _create(folder, context, stems or 1)
            except OSError as error:
                raise DataError(f"cannot begin a tree here: {error.strerror} @ {folder}") from error
        tree = cls(folder)
        given = _hash(context)
        if given != tree.root.sha256:
            raise DataError(
                f"the tree begins with other audio ({tree.root.name}, {tree.root.sha256[:8]}...) than {context} "
                f"({given[:8]}...); name another --out @ {folder}"
            )
        if stems not in (None, tree.root.stems):
            raise DataError(
                f"the tree was begun with --stems {tree.root.stems}, now it is {stems}; name another --out @ {folder}"
            )
        return tree

    def nodes(self) -> dict[str, Node]:
        """All nodes by id, oldest first. Raises DataError, naming the file, for one that cannot be read."""
        folders = [path for path in _visible(self.folder / "nodes") if path.is_dir()]
        found = sorted((_node(path / "node.json") for path in folders), key=lambda node: (node.made, node.id))
        return {node.id: node for node in found}

    def find(self, name: str) -> str:
        """Resolve a user's name to an id: an id or its unambiguous prefix, ROOT, or LAST. Raises UserError for
        another.
        """
        nodes = self.nodes()
        if name == LAST:
            chosen = [node for node in nodes.values() if node.chosen]
            return max(chosen, key=lambda node: (node.chosen, node.id)).id if chosen else ROOT
        if name == ROOT or name in nodes:
            return name
        begun = [id for id in nodes if name and id.startswith(name)]
        if len(begun) == 1:
            return begun[0]
        if begun:
            raise UserError(f"{name!r} is the beginning of several nodes: {', '.join(begun)} @ {self.folder}")
        raise UserError(f"no node is called {name!r}{nearest(name, [ROOT, *nodes], what='nodes')} @ {self.folder}")

    def path(self, id: str) -> list[Node]:
        """The nodes from the first layer to this one; none for ROOT. Raises DataError if one of them is missing."""
        nodes = self.nodes()
        path: list[Node] = []
        while id != ROOT:
            if id not in nodes:
                child = f", the parent of {path[-1].id}," if path else ""
                raise DataError(f"node {id}{child} is gone; put its folder back @ {self.folder / 'nodes'}")
            path.append(nodes[id])
            id = nodes[id].parent
        return path[::-1]

    def context(self, id: str, rate: int) -> np.ndarray:
        """Input of the model to continue from a node: audio [N] at `rate` Hz, from the stems along its path."""
        return model_mix(self._parts(id, rate), stems=self.root.stems)

    def add(self, recipe: Recipe, stem: np.ndarray, rate: int, *, run: Path, step: int, gain: float) -> Node:
        """Add a stem [N] at `rate` Hz to the tree, with its mix. An existing one stays as it is.

        Raises DataError for a stem of another length than the context.
        """
        folder = self.folder / "nodes" / recipe.id
        with folder_atomic(folder, replace=False) as work:
            audio.write(work / STEM, stem, rate)
            written = audio.read(work / STEM, rate)
            parts = (*self._parts(recipe.parent, rate), written)
            if len({len(part) for part in parts}) > 1:
                raise DataError(f"the stem holds {len(stem)} samples, its context {len(parts[0])} @ {folder}")
            audio.write(work / MIX, listening_mix(parts, rate, stems=self.root.stems), rate)
            node = Node(
                recipe.id, recipe, os.path.relpath(run, self.folder), step, rate, len(stem), gain,
                {name: hash_file(work / name) for name in (STEM, MIX)}, _now(), metadata.version("accomp"),
            )  # fmt: skip
            _write(work / "node.json", node)
        return _node(folder / "node.json")

    def choose(self, id: str) -> Node:
        """Mark a node as chosen, now."""
        path = self.folder / "nodes" / id / "node.json"
        node = attrs.evolve(_node(path), chosen=_now())
        _write(path, node)
        return node

    def _parts(self, id: str, rate: int) -> Iterator[np.ndarray]:
        """The context, then the dry stems along the path to a node, each [N] at `rate` Hz.

        Raises DataError for a file that is missing or changed.
        """
        context = self.folder / "root" / self.root.file
        _check(context, self.root.sha256)
        sound = audio.read(context, rate) * np.float32(self.root.gain)
        yield sound
        for node in self.path(id):
            path = self.folder / "nodes" / node.id / STEM
            _check(path, node.files[STEM])
            yield _fit(audio.read(path, rate), len(sound), path)


def _create(folder: Path, context: Path, stems: int) -> None:
    samples, rate = audio.duration(context)
    if not samples:
        raise DataError(f"holds no sound @ {context}")
    peak = float(np.abs(audio.read(context, rate)).max())
    with folder_atomic(folder / "root", replace=False) as work:
        copy = Path(shutil.copyfile(context, work / f"context{context.suffix.lower()}"))
        root = Root(
            context.name, copy.name, hash_file(copy), rate, audio.channels(copy), samples,
            min(1.0, PEAK / peak) if peak > 1 else 1.0, stems, _now(), metadata.version("accomp"),
        )  # fmt: skip
        _write(work / "root.json", root)


def _fit(sound: np.ndarray, samples: int, path: Path) -> np.ndarray:
    """Trim or pad to `samples`, within the rounding of resampling."""
    if abs(len(sound) - samples) > _ROUNDING:
        raise DataError(f"the stem is {len(sound)} samples long, its context {samples} @ {path}")
    return np.pad(sound[:samples], (0, max(0, samples - len(sound))))


def _check(path: Path, sha256: str) -> None:
    if _hash(path) != sha256:
        raise DataError(f"the file is not what was written: its hash differs; restore it from a copy @ {path}")


def _hash(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror} @ {path}") from error


def _visible(folder: Path) -> Iterator[Path]:
    """Visible content of a folder; hidden files may be unfinished, from a killed process."""
    return (path for path in sorted(folder.glob("*")) if not path.name.startswith("."))


def _node(path: Path) -> Node:
    data = _read(path, Node)
    try:
        node = Node(**{**data, "recipe": Recipe(**data["recipe"])})
    except TypeError as error:
        raise DataError(f"not the record of a node: {error} @ {path}") from error
    if node.id != path.parent.name:
        raise DataError(f"the record of node {node.id} lies in another folder; give it back its name @ {path.parent}")
    return node


def _read(path: Path, cls: type) -> dict[str, Any]:
    """Fields of a record, as written by `_write`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("format") != FORMAT:
            raise DataError(f"written by accomp {data.get('accomp')}, in a format that this one cannot read @ {path}")
        if data.keys() != {one.name for one in attrs.fields(cls)}:
            raise ValueError(f"its keys are {', '.join(data)}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"cannot read the record: {type(error).__name__}: {error} @ {path}") from error
    return data


def _write(path: Path, record: Root | Node) -> None:
    write_atomic(path, json.dumps({"format": FORMAT, **attrs.asdict(record)}, indent=1) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat()
