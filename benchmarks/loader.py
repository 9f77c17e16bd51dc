"""What an example costs on the disk and in time: a store of made-up songs, read as training reads it.

    python benchmarks/loader.py --processes 2 --json loader.json

Prints two ratios. Bytes an example: 20 s of both streams, against the 164 kB of the published code, which dumps ten
levels of int64 for each. Examples a second: clips cut, joined and handed over as tensors, against its 326 a second with
two workers; both its numbers were measured on two cores. Where other work shares the cores, the figure for each second
of processor time says what an idle machine would do.
The codes are as surprising as those of music: each song draws from its own share of the codebook, frames repeat at
times. `--random` takes codes that no compression makes smaller, the worst there is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from accomp.core.pairs import PairRules
from accomp.core.runner.batches import ClipLoader
from accomp.core.runner.store_commands import EXAMPLE_SECONDS, REFERENCE_BYTES
from accomp.core.types import TokenSpace
from accomp.zarr_store.layout import Identity, Pair, Part, StemFile, TrackRecord
from accomp.zarr_store.reader import Store
from accomp.zarr_store.writer import StoreWriter

REFERENCE_RATE = 326.0
"""Examples a second of the published code with two workers."""


def main() -> None:
    """Make the store, read it, print both ratios, write JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--songs", type=int, default=40)
    options.add_argument("--minutes", type=float, default=4.0, help="length of each song")
    options.add_argument("--stems", type=int, default=8)
    options.add_argument("--submixes", type=int, default=2)
    options.add_argument("--codebooks", type=int, default=4)
    options.add_argument("--codebook-size", type=int, default=1024)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--processes", type=int, default=2, help="readers at a time, as the ranks of a training")
    options.add_argument("--seconds", type=float, default=10.0, help="of reading")
    options.add_argument("--random", action="store_true")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    space = TokenSpace(32000, 640, given.codebooks, given.codebook_size, 64)
    with tempfile.TemporaryDirectory(prefix="accomp-loader-") as folder:
        path = Path(folder) / "store.zarr"
        began = time.perf_counter()
        write(path, space, given)
        print(f"made {given.songs} songs in {time.perf_counter() - began:.0f} s", flush=True)
        numbers = size(path, space) | speed(path, space, given)
    print(
        f"{numbers['bytes_an_example'] / 1000:.2f} kB an example of {EXAMPLE_SECONDS:g} s on the disk "
        f"(1/{REFERENCE_BYTES / numbers['bytes_an_example']:.1f} of {REFERENCE_BYTES // 1000} kB), "
        f"{numbers['bytes_read'] / 1000:.2f} kB of which it consists (1/{REFERENCE_BYTES / numbers['bytes_read']:.1f})"
    )
    print(
        f"{numbers['examples_per_second']:.0f} examples/s with {given.processes} processes "
        f"(x {numbers['examples_per_second'] / REFERENCE_RATE:.1f} of {REFERENCE_RATE:g}/s), "
        f"{numbers['examples_per_cpu_second']:.0f} for each second that a core was given to one"
    )
    if given.json:
        settings = {name: value for name, value in vars(given).items() if name != "json"}
        given.json.write_text(json.dumps({**settings, **numbers}, indent=1) + "\n", encoding="utf-8")


def identity(space: TokenSpace) -> SimpleNamespace:
    """All of a tokenizer that a loader asks for."""
    return SimpleNamespace(space=space, name="made up", fingerprint="none")


def write(path: Path, space: TokenSpace, given: argparse.Namespace) -> None:
    """Songs of random codes, whose mixtures follow the rules of an ingest."""
    import attrs

    rules = PairRules()
    frames = round(given.minutes * 60 * space.frame_rate)
    settings = {"submixes": given.submixes, "seed": 0, **rules.ingested()}
    with StoreWriter(path, Identity(attrs.asdict(space), "made up", "none"), settings) as writer:
        for number in range(given.songs):
            id, rng = f"song {number}", np.random.default_rng(number)
            names = [f"stem {stem}" for stem in range(given.stems)]
            rows = {(name,): row for row, name in enumerate(names)}
            pairs = []
            for row, name in enumerate(names):
                others = [other for other in names if other != name]
                for draw in range(given.submixes):
                    members = rules.members(others, 0, id, name, draw)
                    pairs.append(Pair(row, rows.setdefault(members, len(rows)), draw))
            parts = [Part("stem" if len(members) == 1 else "mix", members, 0) for members in rows]
            record = TrackRecord(
                id=id, split="train", source="made up", licence="", samples=frames * space.hop, frames=frames,
                bandwidth=16000.0, parts=tuple(parts), pairs=tuple(pairs),
                files=tuple(StemFile(name, space.sample_rate, 1, id) for name in names),
            )  # fmt: skip
            shape = (len(parts), frames, space.codebooks)
            levels = np.full((given.stems, frames), -20.0)
            writer.add(record, draw_codes(shape, space.codebook_size, rng, flat=given.random), levels)
        writer.finish()


def draw_codes(shape: tuple[int, int, int], size: int, rng: np.random.Generator, *, flat: bool) -> np.ndarray:
    """[P, T, K] codes, all equally likely, or with the skewed frequencies and repeats that music has."""
    if flat:
        return rng.integers(0, size, shape)
    order = rng.permutation(size)
    codes = order[np.minimum(rng.exponential(size / 5, shape).astype(int), size - 1)]
    repeated = rng.random(shape[:2]) < 0.1
    repeated[:, 0] = False
    before = np.maximum.accumulate(np.where(repeated, 0, np.arange(shape[1])), axis=1)
    return np.take_along_axis(codes, before[:, :, None], axis=1)


def size(path: Path, space: TokenSpace) -> dict[str, float]:
    """Bytes of the store for each example that training cuts from it, and of the tokens that one consists of."""
    frames = round(EXAMPLE_SECONDS * space.frame_rate)
    tracks = Store(path).tracks("train")
    whole = sum(track.bytes() for track in tracks)
    coded = sum(len(track.record.parts) * track.record.frames for track in tracks)
    examples = len(ClipLoader(path, "train", identity(space), frames=frames, batch=1))
    return {"examples": examples, "bytes_an_example": whole / examples, "bytes_read": whole / coded * 2 * frames}


def speed(path: Path, space: TokenSpace, given: argparse.Namespace) -> dict[str, float]:
    """Examples a second that all processes get together, each its own; opening the store does not count."""
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(given.processes), context.Queue()
    ranks = [
        context.Process(
            target=read, args=(path, space, given.batch, given.seconds, rank, given.processes, start, answers)
        )
        for rank in range(given.processes)
    ]
    for process in ranks:
        process.start()
    rates = [answers.get() for _ in ranks]
    for process in ranks:
        process.join()
    return {
        "examples_per_second": sum(wall for wall, _ in rates),
        "examples_per_cpu_second": sum(cpu for _, cpu in rates) / len(rates),
    }


def read(path, space, batch, seconds, rank, world, start, answers) -> None:
    """One process: as many batches as it can get in so many seconds."""
    import torch

    torch.set_num_threads(1)
    frames = round(EXAMPLE_SECONDS * space.frame_rate)
    loader = ClipLoader(path, "train", identity(space), frames=frames, batch=batch, rank=rank, world=world)
    next(loader)
    start.wait()
    began, used, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        count += len(next(loader).context)
    answers.put((count / (time.perf_counter() - began), count / (time.process_time() - used)))


if __name__ == "__main__":
    main()
