"""How much of real time streamed encoding and decoding take on one core, by frames a push.

    python benchmarks/codec.py                                            # spectral, shipped weights
    python benchmarks/codec.py dac encodec='{"weights": "FOLDER"}' --seconds 2
    python benchmarks/codec.py --batch 1 8 32 --chunk 1                   # sessions in one batch, a frame a push

A codec is NAME or NAME=CONFIG (JSON); `dac` alone is untrained, in full size. Each figure is processor time over the
duration of the audio of one row; below 1 / batch the codec keeps up with all rows. Streams work twice: as torch
computes them, and compiled (in turns, so that both meet the same machine); the median of several runs each, after a
warm-up, and in brackets what compiled is of torch's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from accomp.core.registry import Registry
from accomp.core.structuring import strict_converter, structure_fields
from accomp.plugins.tokenizers.speed import prepared

CHUNKS = (1, 5, 25)
UNTRAINED = {"dac": {"weights": "random"}}


def main() -> None:
    """Measure, print a table, write JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("codecs", nargs="*", default=["spectral"])
    options.add_argument("--seconds", type=float, default=4.0, help="of audio")
    options.add_argument("--repeat", type=int, default=5)
    options.add_argument("--batch", type=int, nargs="+", default=[1], help="rows of a stream")
    options.add_argument("--chunk", type=int, nargs="+", default=list(CHUNKS), help="frames a push")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():  # as live playing does
        rows = [row for codec in given.codecs for batch in given.batch for row in measured(codec, batch, given)]
    if given.json:
        given.json.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def measured(named: str, batch: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of one codec, printed as they come: chunk (frames, 0 for one call), and processor time over duration."""
    plain, compiled = built(named), built(named)
    space = plain.space
    frames = round(given.seconds * space.frame_rate)
    audio = 0.1 * torch.randn(batch, frames * space.hop, generator=torch.Generator().manual_seed(0))
    codes = plain.encode(audio)
    duration = frames / space.frame_rate * batch
    one_call = {
        "encode": timed([lambda: plain.encode(audio)], given.repeat)[0] / duration,
        "decode": timed([lambda: plain.decode(codes)], given.repeat)[0] / duration,
    }
    rows: list[dict[str, Any]] = [{"codec": named, "batch": batch, "chunk": 0, **one_call}]
    print(f"{named}: {space.sample_rate} Hz, {space.frame_rate:g} frames/s, batch {batch}, a row:")
    print(f"  one call             encode {one_call['encode']:.4f}  decode {one_call['decode']:.4f}")
    for chunk in given.chunk:
        row: dict[str, Any] = {
            "codec": named,
            "batch": batch,
            "chunk": chunk,
            "streams": prepared(compiled, batch, chunk),
        }
        parts = {"encode": audio.split(chunk * space.hop, dim=-1), "decode": codes.split(chunk, dim=-1)}
        cells = []
        for work in parts:
            both = [stream_of(codec, batch, work, parts[work]) for codec in (plain, compiled)]
            times = [seconds / duration for seconds in timed(both, given.repeat)]
            row |= {f"{work}_torch": times[0], work: times[1]}
            cells.append(f"{work} {times[1]:.4f} (x {times[1] / times[0]:.2f} of {times[0]:.4f})")
        rows.append(row)
        print(f"  {chunk:3} frames a push     {'  '.join(cells)}; {row['streams']}", flush=True)
    return rows


def built(named: str) -> Any:
    """NAME or NAME=CONFIG."""
    name, _, text = named.partition("=")
    cls = Registry().find("tokenizer", name).load()
    values = json.loads(text) if text else UNTRAINED.get(name, {})
    return cls(structure_fields(strict_converter(), values, cls.Config))


def stream_of(codec: Any, batch: int, work: str, parts: tuple[torch.Tensor, ...]) -> Callable[[], None]:
    """All pushes and the flush of a new stream."""

    def run() -> None:
        stream = codec.encoder(batch) if work == "encode" else codec.decoder(batch)
        for part in parts:
            stream.push(part)
        stream.flush()

    return run


def timed(works: list[Callable[[], Any]], repeat: int) -> list[float]:
    """Median processor seconds of each, in turns, after one warm-up."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeat + 1):
        for i, work in enumerate(works):
            began = time.thread_time()
            work()
            times[i].append(time.thread_time() - began)
    return [statistics.median(found[1:]) for found in times]


if __name__ == "__main__":
    main()
