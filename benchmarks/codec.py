"""How much of real time streamed encoding and decoding take on one core, by frames a push.

    python benchmarks/codec.py                                            # spectral, shipped weights
    python benchmarks/codec.py dac encodec='{"weights": "FOLDER"}' --seconds 2

A codec is NAME or NAME=CONFIG (JSON); `dac` alone is untrained, in full size. Each figure is processor time over the
duration of the audio, the median of several runs after a warm-up; below 1 the codec keeps up. Beside it stands its
ratio to the same work in one call.
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

CHUNKS = (1, 5, 25)
UNTRAINED = {"dac": {"weights": "random"}}


def main() -> None:
    """Measure, print a table, write JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("codecs", nargs="*", default=["spectral"])
    options.add_argument("--seconds", type=float, default=4.0, help="of audio")
    options.add_argument("--repeat", type=int, default=5)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():  # as live playing does
        rows = [row for codec in given.codecs for row in measured(codec, given.seconds, given.repeat)]
    if given.json:
        given.json.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def measured(named: str, seconds: float, repeat: int) -> list[dict[str, Any]]:
    """Rows of one codec, printed as they come: chunk (frames, 0 for one call), encode, decode (shares of real time)."""
    name, _, text = named.partition("=")
    cls = Registry().find("tokenizer", name).load()
    values = json.loads(text) if text else UNTRAINED.get(name, {})
    codec = cls(structure_fields(strict_converter(), values, cls.Config))
    space = codec.space
    frames = round(seconds * space.frame_rate)
    audio = 0.1 * torch.randn(1, frames * space.hop, generator=torch.Generator().manual_seed(0))
    codes = codec.encode(audio)
    duration = frames / space.frame_rate
    whole = {
        "encode": timed(lambda: codec.encode(audio), repeat) / duration,
        "decode": timed(lambda: codec.decode(codes), repeat) / duration,
    }
    rows: list[dict[str, Any]] = [{"codec": named, "chunk": 0, **whole}]
    print(f"{named}: {space.sample_rate} Hz, {space.frame_rate:g} frames/s")
    print(f"  {'one call':20} encode {whole['encode']:.4f}           decode {whole['decode']:.4f}")
    for chunk in CHUNKS:
        parts = {"encode": audio.split(chunk * space.hop, dim=-1), "decode": codes.split(chunk, dim=-1)}
        row = {work: timed(stream_of(codec, work, parts[work]), repeat) / duration for work in parts}
        rows.append({"codec": named, "chunk": chunk, **row})
        cells = [f"{work} {row[work]:.4f} (x {row[work] / whole[work]:4.1f})" for work in row]
        print(f"  {chunk:3} frames a push     {'  '.join(cells)}", flush=True)
    return rows


def stream_of(codec: Any, work: str, parts: tuple[torch.Tensor, ...]) -> Callable[[], None]:
    """All pushes and the flush of a new stream."""

    def run() -> None:
        stream = codec.encoder() if work == "encode" else codec.decoder()
        for part in parts:
            stream.push(part)
        stream.flush()

    return run


def timed(work: Callable[[], Any], repeat: int) -> float:
    """Median processor seconds of `work`, after one warm-up."""
    times = []
    for _ in range(repeat + 1):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
