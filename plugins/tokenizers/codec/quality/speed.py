"""Streaming speed of a codec."""

from __future__ import annotations

import time

import torch

from accomp.plugin import PluginError, Tokenizer


def prepared(codec: Tokenizer, batch: int, frames: int) -> str:
    """Compile the codec's streams of `batch` rows, where it supports that: "compiled", or the reason why not."""
    if not hasattr(codec, "prepare"):
        return f"tokenizer {codec.name!r} does not compile its streams"
    try:
        codec.prepare(batch, frames)
    except PluginError as error:
        return str(error)
    return "compiled"


def streamed_rtf(codec: Tokenizer, frames: int, seconds: float) -> dict[str, float]:
    """Processor time over time of music, "encode" and "decode", with `frames` frames a push; the flush is counted.

    The streams are compiled first where that takes seconds only. Noise of about `seconds` is processed after a warm-up
    push. On a GPU it is the time of the CPU that waits for it.
    """
    if getattr(codec, "prepares_quickly", False):
        prepared(codec, 1, frames)
    space = codec.space
    pushes = max(1, round(seconds * space.frame_rate / frames))
    noise = torch.Generator().manual_seed(0)
    sound = 0.1 * torch.randn(1, (pushes + 1) * frames * space.hop, generator=noise)
    codes = codec.encode(sound)
    duration = pushes * frames / space.frame_rate
    found = {}
    for name, stream, whole, step in (
        ("encode", codec.encoder(), sound, frames * space.hop),
        ("decode", codec.decoder(), codes, frames),
    ):
        first, *parts = whole.split(step, dim=-1)
        stream.push(first)
        began = time.process_time()
        for part in parts:
            stream.push(part)
        stream.flush()
        found[name] = (time.process_time() - began) / duration
    return found
