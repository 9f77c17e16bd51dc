"""`accomp layer`: a song built layer by layer; each stem accompanies all layers chosen before."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import field, frozen
from attrs import validators as v

from accomp.core.console import say
from accomp.core.errors import UserError
from accomp.core.files import write_atomic
from accomp.core.layering.page import page
from accomp.core.layering.prompts import Ask, converse, lines, song
from accomp.core.layering.recipe import ROOT
from accomp.core.layering.tree import LAST, Tree
from accomp.core.music.labels import INSTRUMENT
from accomp.core.registry import Registry

PAGE = "index.html"
VARIATIONS = 4
"""Default number of variations of each layer; one with --auto."""


@frozen
class LayerRequest:
    """Options of `accomp layer`.

    Attributes:
        folder: of the tree; `layers/NAME`, named after the context, if None.
        context: audio to begin a tree with.
        stems: number of stems that the context is a mixture of.
        choose: a node to choose.
        instrument: of one round, to be chosen from later.
        auto: instruments of consecutive rounds; the first variation of each is chosen.
        parent: the node to continue from; the last one chosen if None, with `auto` the context.
        variations: of each layer.
        seed, conditions, guidance: of the model; conditions NAME=VALUE, guidance by name.
    """

    folder: Path | None = None
    context: Path | None = None
    stems: int | None = field(default=None, validator=v.optional(v.ge(1)))
    choose: str | None = None
    instrument: str | None = None
    auto: Sequence[str] = ()
    parent: str | None = None
    variations: int | None = field(default=None, validator=v.optional(v.ge(1)))
    seed: int = 0
    conditions: Sequence[str] = ()
    guidance: dict[str, float] | None = None

    @property
    def plays(self) -> bool:
        """Whether a model is needed: always, except to only choose a node."""
        return self.choose is None or bool(self.instrument or self.auto)


def layer(run: Path | None, registry: Registry, request: LayerRequest, *, ask: Ask | None = None) -> None:
    """Grow a tree of layers (layering/tree.py): interactively by `ask`, by one round, or by a list of them.

    Existing nodes are kept, so that the same command resumes after an interruption. Raises UserError for options that
    exclude each other, for an unknown node, instrument or condition, and for an interactive session if `ask` is None;
    DataError for audio or a tree that cannot be read; CheckpointError for a run without a model; WorkError for a stem
    with NaN or Inf.
    """
    _check(run, request, ask)
    tree = _open(request)
    parent = tree.find(request.parent or (ROOT if request.auto else LAST))
    if request.choose is not None:
        parent = tree.find(request.choose)
        if parent == ROOT:
            raise UserError("the context needs no choosing; choose a node, or go on from there with --parent root")
        tree.choose(parent)
        say(f"chosen: {parent}, {song(tree, parent)}")
    if run is not None and request.plays:
        with _writing_page(tree):
            _grow(tree, parent, run, registry, request, ask)
    else:
        write_page(tree)
    say(f"page: {tree.folder / PAGE}")


def write_page(tree: Tree) -> None:
    """Write the tree's page with its current content."""
    write_atomic(tree.folder / PAGE, page(tree))


def terminal() -> Ask | None:
    """Prompt at the terminal; None without one."""
    return input if sys.stdin is not None and sys.stdin.isatty() else None


def _check(run: Path | None, request: LayerRequest, ask: Ask | None) -> None:
    if request.instrument is not None and request.auto:
        raise UserError("--instrument makes one round to choose from, --auto chooses by itself; give one of them")
    if request.choose is not None and request.parent is not None:
        raise UserError("--choose NODE goes on from that node; give --parent or --choose, not both")
    if request.plays and run is None:
        raise UserError("name the run whose model is to play: accomp layer RUN ...")
    if not all(word.strip() for word in request.auto) or (
        request.instrument is not None and not request.instrument.strip()
    ):
        raise UserError("an instrument has no name; expected a list such as --auto Bass,Drums,Piano")
    if request.plays and ask is None and not (request.instrument or request.auto):
        raise UserError(
            "the input is not a terminal, so it cannot prompt; give --auto Bass,Drums,Piano, or make one round "
            "with --instrument Bass and choose with --choose NODE"
        )


def _open(request: LayerRequest) -> Tree:
    if request.context is not None:
        tree = Tree.begin(request.folder or Path("layers") / request.context.stem, request.context, stems=request.stems)
        root = tree.root
        mixed = f"; {root.channels} channels are averaged to one" if root.channels > 1 else ""
        scaled = f"; louder than full scale, scaled by {root.gain:.3f}" if root.gain < 1 else ""
        say(f"context: {root.name}, {root.seconds:.2f} s at {root.sample_rate} Hz{mixed}{scaled}")
        return tree
    if request.folder is None:
        raise UserError("give --context WAV to begin a tree of layers, or --out FOLDER to go on with one")
    if request.stems is not None:
        raise UserError("--stems is the number of stems in --context; give both, or neither")
    return Tree(request.folder)


@contextmanager
def _writing_page(tree: Tree) -> Iterator[None]:
    """Write the page when the block ends, in any case."""
    try:
        yield
    finally:
        write_page(tree)


def _grow(tree: Tree, parent: str, run: Path, registry: Registry, request: LayerRequest, ask: Ask | None) -> None:
    from accomp.core.compute.devices import PLAYING_THREADS, device_of, threads
    from accomp.core.layering.band import Band
    from accomp.core.runs.player import load_player, playing_checkpoint

    spec = playing_checkpoint(run).spec
    with threads(spec["run"].get("threads") or PLAYING_THREADS):
        player = load_player(run, registry, device_of(spec["run"]["accelerator"]), guidance=request.guidance)
        band = Band(run, player, spec, request.conditions, request.seed)
        rate = player.tokenizer.space.sample_rate
        resampled = f", {tree.root.sample_rate} Hz resampled to {rate} Hz" if rate != tree.root.sample_rate else ""
        say(f"model of step {player.step} @ {run}: {player.objective}, codec {player.tokenizer.name}{resampled}")
        if INSTRUMENT not in player.model.conditions.labels:
            say("this model takes no instrument label, and plays what it was trained on")
        if request.auto:
            for planned in [band.layer(word) for word in request.auto]:
                nodes = band.play(tree, parent, planned, request.variations or 1)
                parent = tree.choose(nodes[0].id).id
            say(f"{song(tree, parent)}\n{lines(tree, tree.path(parent)[-1:])[0]}")
        elif request.instrument is not None:
            planned = band.layer(request.instrument)
            nodes = band.play(tree, parent, planned, request.variations or VARIATIONS)
            say("\n".join([f"{planned.title} to {song(tree, parent)}:", *lines(tree, nodes)]))
        elif ask is not None:
            converse(tree, band, parent, request.variations or VARIATIONS, ask, lambda: write_page(tree))
