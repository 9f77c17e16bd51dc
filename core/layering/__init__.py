"""`accomp layer`: a song built layer by layer, each stem played by a model to all that was chosen before."""

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
from accomp.core.layering.asking import Ask, converse, lines, song
from accomp.core.layering.page import page
from accomp.core.layering.recipe import ROOT
from accomp.core.layering.tree import LAST, Tree
from accomp.core.music.labels import INSTRUMENT
from accomp.core.registry import Registry

PAGE = "index.html"
VARIATIONS = 4
"""Made of each layer where no other number is asked for; one, where nobody chooses."""


@frozen
class LayerRequest:
    """What is asked of `accomp layer`.

    Attributes:
        folder: of the tree; `layers/NAME`, named after the context, where not given.
        context: audio to begin a tree with.
        stems: of how many stems the context is a mixture.
        choose: a node to choose.
        instrument: of one round, to be chosen from later.
        auto: instruments of one round after the other; the first variation of each is chosen.
        parent: the node that the next layer goes on; the last one chosen where not given, with `auto` the context.
        variations: of each layer.
        seed, conditions, guidance: of what is played; conditions NAME=VALUE, guidance by name.
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
        """Whether a model is needed: always, but to choose a node and do no more."""
        return self.choose is None or bool(self.instrument or self.auto)


def layer(run: Path | None, registry: Registry, wish: LayerRequest, *, ask: Ask | None = None) -> None:
    """Grow a tree of layers (layering/tree.py) as wished: as `ask` answers, by one round, or by a list of them.

    What is in the tree already is not made again, so that the same command goes on where it was interrupted. Raises
    UserError for wishes that exclude each other, for a node, instrument or condition that is unknown, and where
    somebody should be asked but `ask` is None; DataError for audio or a tree that cannot be read; CheckpointError for
    a run without a model; WorkError for a stem that holds NaN or Inf.
    """
    _check(run, wish, ask)
    tree = _open(wish)
    parent = tree.find(wish.parent or (ROOT if wish.auto else LAST))
    if wish.choose is not None:
        parent = tree.find(wish.choose)
        if parent == ROOT:
            raise UserError("the context needs no choosing; choose a node, or go on from there with --parent root")
        tree.choose(parent)
        say(f"chosen: {parent}, {song(tree, parent)}")
    if run is not None and wish.plays:
        with _writing_page(tree):
            _grow(tree, parent, run, registry, wish, ask)
    else:
        write_page(tree)
    say(f"page: {tree.folder / PAGE}")


def write_page(tree: Tree) -> None:
    """The tree's page, with all that is in it now."""
    write_atomic(tree.folder / PAGE, page(tree))


def terminal() -> Ask | None:
    """Asks at the terminal; None where there is none."""
    return input if sys.stdin is not None and sys.stdin.isatty() else None


def _check(run: Path | None, wish: LayerRequest, ask: Ask | None) -> None:
    if wish.instrument is not None and wish.auto:
        raise UserError("--instrument makes one round to choose from, --auto chooses by itself; give one of them")
    if wish.choose is not None and wish.parent is not None:
        raise UserError("--choose NODE goes on from that node; give --parent or --choose, not both")
    if wish.plays and run is None:
        raise UserError("name the run whose model is to play: accomp layer RUN ...")
    if not all(word.strip() for word in wish.auto) or (wish.instrument is not None and not wish.instrument.strip()):
        raise UserError("an instrument has no name; expected a list such as --auto Bass,Percussive,Piano")
    if wish.plays and ask is None and not (wish.instrument or wish.auto):
        raise UserError(
            "nobody can be asked: the input is no terminal; give --auto Bass,Percussive,Piano, or make one round with "
            "--instrument Bass and choose with --choose NODE"
        )


def _open(wish: LayerRequest) -> Tree:
    if wish.context is not None:
        tree = Tree.begin(wish.folder or Path("layers") / wish.context.stem, wish.context, stems=wish.stems)
        root = tree.root
        mixed = f"; {root.channels} channels are averaged to one" if root.channels > 1 else ""
        scaled = f"; louder than full scale, heard at {root.gain:.3f}" if root.gain < 1 else ""
        say(f"context: {root.name}, {root.seconds:.2f} s at {root.sample_rate} Hz{mixed}{scaled}")
        return tree
    if wish.folder is None:
        raise UserError("give --context WAV to begin a tree of layers, or --out FOLDER to go on with one")
    if wish.stems is not None:
        raise UserError("--stems tells what --context is a mixture of; give both, or neither")
    return Tree(wish.folder)


@contextmanager
def _writing_page(tree: Tree) -> Iterator[None]:
    """The page is up to date when the block ends, however it ends."""
    try:
        yield
    finally:
        write_page(tree)


def _grow(tree: Tree, parent: str, run: Path, registry: Registry, wish: LayerRequest, ask: Ask | None) -> None:
    from accomp.core.compute.devices import PLAYING_THREADS, device_of, threads
    from accomp.core.layering.band import Band
    from accomp.core.runs.player import load_player, playing_checkpoint

    spec = playing_checkpoint(run).spec
    with threads(spec["run"].get("threads") or PLAYING_THREADS):
        player = load_player(run, registry, device_of(spec["run"]["accelerator"]), guidance=wish.guidance)
        band = Band(run, player, spec, wish.conditions, wish.seed)
        rate = player.tokenizer.space.sample_rate
        resampled = f", {tree.root.sample_rate} Hz resampled to {rate} Hz" if rate != tree.root.sample_rate else ""
        say(f"model of step {player.step} @ {run}: {player.objective}, codec {player.tokenizer.name}{resampled}")
        if INSTRUMENT not in player.model.conditions.labels:
            say("this model is told no instrument, and plays what it learned to play")
        if wish.auto:
            for asked in [band.layer(word) for word in wish.auto]:
                nodes = band.play(tree, parent, asked, wish.variations or 1)
                parent = tree.choose(nodes[0].id).id
            say(f"{song(tree, parent)}\n{lines(tree, tree.path(parent)[-1:])[0]}")
        elif wish.instrument is not None:
            asked = band.layer(wish.instrument)
            nodes = band.play(tree, parent, asked, wish.variations or VARIATIONS)
            say("\n".join([f"{asked.title} to {song(tree, parent)}:", *lines(tree, nodes)]))
        elif ask is not None:
            converse(tree, band, parent, wish.variations or VARIATIONS, ask, lambda: write_page(tree))
