"""`accomp coherence train`: training of the weights of the metric `coherence` on multi-track songs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import attrs
import numpy as np
import torch
import typer

from accomp.core.console import progress, say, warn
from accomp.core.errors import DataError
from accomp.core.files import write_atomic
from accomp.core.interfaces import Tokenizer
from accomp.core.registry import Registry
from accomp.core.types import Track
from accomp.plugins.metrics.coherence.batches import Pairs, Variation
from accomp.plugins.metrics.coherence.files import save
from accomp.plugins.metrics.coherence.measure import held_out
from accomp.plugins.metrics.coherence.songs import Hearing, Stretch, heard
from accomp.plugins.metrics.coherence.training import Settings, Trainer

REPORT_SECONDS = 300.0


def train(
    roots: Annotated[list[Path], typer.Argument(help="Folders of songs in Slakh2100's layout.")],
    out: Annotated[Path, typer.Option(help="Folder for cached features, weights and report.")] = Path("runs/coherence"),
    minutes: Annotated[float, typer.Option(min=0.01, help="Training time.")] = 25.0,
    corpus: Annotated[str, typer.Option(help="Name of a corpus plugin that takes a `root`.")] = "slakh2100",
    tokenizer: Annotated[
        str, typer.Option(help="Tokenizer that reconstructs half of the stems; none: no stem.")
    ] = "magnitude",
    workers: Annotated[int, typer.Option(min=1, help="Processes for feature extraction.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
) -> None:
    """Train the network of the metric `coherence`; a second run with the same --out reuses the features."""
    hearing, settings, variation = Hearing(), Settings(), Variation()
    codec = _codec(tokenizer)
    stretches = {
        split: _listen(roots, split, corpus, partial(heard, hearing=hearing, codec=codec, seed=seed), out, workers)
        for split in ("train", "validation")
    }
    pairs = Pairs.of(stretches["train"], np.random.default_rng(seed), variation)
    if not pairs.by_class:
        raise DataError(f"no instrument class is in two songs of {_describe(roots)}; more songs are needed")
    trainer = Trainer(pairs, settings, 60 * minutes, seed)
    _run(trainer, stretches["validation"], seed)
    numbers = held_out(trainer.average, stretches["validation"], seed)
    save(trainer.average, out / "coherence.safetensors")
    report = {
        "songs": {split: len({one.song for one in found}) for split, found in stretches.items()},
        "stems": sum(len(one.classes) for one in stretches["train"]),
        "tokenizer": tokenizer,
        "seed": seed,
        "minutes": minutes,
        "steps": trainer.step,
        "hearing": attrs.asdict(hearing),
        "settings": attrs.asdict(settings),
        "variation": attrs.asdict(variation),
        "validation": numbers,
    }
    write_atomic(out / "coherence.json", json.dumps(report, indent=2) + "\n")
    say(f"{_numbers(numbers)}\nweights written @ {out / 'coherence.safetensors'}")


def _listen(
    roots: list[Path], split: str, corpus: str, hear: Callable[..., list[Stretch]], out: Path, workers: int
) -> list[Stretch]:
    """Return the excerpts of the songs of a split in all roots; warn of unusable songs."""
    cls = Registry().find("corpus", corpus).load()
    found: list[Stretch] = []
    for number, root in enumerate(roots):
        source = cls(cls.Config(root=str(root)))
        try:
            songs = list(source.tracks(split))
        except DataError as error:
            warn(str(error))  # a root may have a training split only
            continue
        for problem in source.problems:
            warn(problem)
        work = partial(_heard, hear=hear, folder=out / "heard" / str(number))
        with progress(f"extracting features, {split} @ {root}", len(songs)) as advance:
            for track, one in zip(songs, _each(work, songs, workers), strict=True):
                advance(1, note=track.id)
                if isinstance(one, str):
                    warn(f"{track.id}: {one} @ {root}")
                else:
                    found += [attrs.evolve(stretch, song=f"{number}/{stretch.song}") for stretch in one]
    if not found:
        raise DataError(f"no song of split {split!r} can be used @ {_describe(roots)}")
    return found


def _each(
    work: Callable[[Track], list[Stretch] | str], songs: list[Track], workers: int
) -> Iterator[list[Stretch] | str]:
    """Yield work(song) in order; a single worker runs in this process."""
    if workers == 1:
        yield from map(work, songs)
        return
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        yield from pool.map(work, songs)


def _heard(track: Track, *, hear: Callable[..., list[Stretch]], folder: Path) -> list[Stretch] | str:
    """Return the excerpts of a song or an error message. May run in a worker process."""
    try:
        return hear(track, folder)
    except DataError as error:
        return str(error)


def _codec(name: str) -> Tokenizer | None:
    if name == "none":
        return None
    cls = Registry().find("tokenizer", name).load()
    codec: Tokenizer = cls(cls.Config())
    return codec


def _run(trainer: Trainer, validation: list[Stretch], seed: int) -> None:
    losses: list[float] = []
    told = 0.0
    with progress("training", 1000) as advance:
        shown = 0
        for loss in trainer.steps():
            losses.append(loss)
            done = round(1000 * trainer.progress)
            advance(done - shown, note=f"loss {loss:.3f}")
            shown = done
            if trainer.elapsed - told > REPORT_SECONDS:
                told = trainer.elapsed
                numbers = _numbers(held_out(trainer.average, validation, seed, most=64, modes=("both",)))
                say(f"step {trainer.step} ({told:.0f} s): loss {np.mean(losses):.3f}; {numbers}")
                losses.clear()


def _numbers(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items()) or "no held-out songs for evaluation"


def _describe(roots: list[Path]) -> str:
    return ", ".join(map(str, roots))
