"""Codecs with a look-ahead encoder: offline and streaming with equal codes, and restartable rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from attrs import define
from torch import Tensor

from accomp.plugin import PluginError, Stream
from accomp.plugins.tokenizers.codec.streams.causal import History
from accomp.plugins.tokenizers.codec.streams.chunks import blocks, check_rows, checked_audio
from accomp.plugins.tokenizers.codec.streams.codec import FrozenCodec
from accomp.plugins.tokenizers.codec.streams.live_path import LivePath
from accomp.plugins.tokenizers.codec.streams.sliding import StreamMemory

BLOCK = 50
"""Block size in frames (about 1 s); bounds memory, as layers run at up to the sample rate."""

Run = Callable[[Tensor, StreamMemory, bool], Tensor]
"""run(x [b, ..., n], past, final) -> what became ready [b, ..., m]; `final` gives all that is left."""


class LookaheadCodec(FrozenCodec):
    """A FrozenCodec that may be causal or not (`network.causal`).

    If not, the network provides encode(audio, past, final=...) and decode(z, past, final=...), which return
    frames and samples as they become ready; see sliding.py.
    """

    def prepare(self, batch: int = 1, frames: int = 1) -> None:
        """Raises PluginError for a non-causal network, whose output per push has no fixed size."""
        if not self.network.causal:
            raise PluginError(
                f"tokenizer {self.name!r} with these weights is not causal, and its streams cannot be compiled; "
                'set compile = "off", or take a causal codec'
            )
        super().prepare(batch, frames)

    def _encoder(self, batch: int, live: LivePath | None) -> Stream:
        return super()._encoder(batch, live) if self.network.causal else LookaheadEncoder(self, batch)

    def _decoder(self, batch: int, live: LivePath | None) -> Stream:
        return super()._decoder(batch, live) if self.network.causal else LookaheadDecoder(self, batch)


def encode_whole(network: Any, audio: Tensor) -> Tensor:
    """audio [B, T * hop] -> latents [B, T, E] of the network of a LookaheadCodec."""
    return network.encode(audio, History()) if network.causal else network.encode(audio, StreamMemory(), final=True)


def decode_whole(network: Any, z: Tensor) -> Tensor:
    """latents [B, T, E] -> audio from the first sample of the first frame; causal networks omit `delay` samples."""
    if not network.causal:
        return network.decode(z, StreamMemory(), final=True)
    return network.decode(z, History())[:, network.delay :]


class LookaheadEncoder:
    """audio [B, n] -> codes [B, K, m], each frame as soon as its samples and look-ahead arrive.

    `flush` restarts it. For a row reset within a frame, earlier samples of that frame are zeros, and pending earlier
    frames are completed with silence.
    """

    def __init__(self, codec: FrozenCodec, batch: int):
        self._codec, self._batch = codec, batch
        self._begin()

    def _begin(self) -> None:
        codes = torch.zeros(self._batch, self._codec.space.codebooks, 0, dtype=torch.int64, device=self._codec.device)
        self._together = Together(self._encode, self._silence(0), codes)
        self._partial = 0
        """Samples of the incomplete frame."""

    @torch.no_grad()
    def push(self, chunk: Tensor) -> Tensor:
        """Raises ValueError for audio that is not float [B, n] with this stream's B, or holds NaN or Inf."""
        if len(checked_audio(chunk)) != self._batch:
            raise ValueError(f"audio has {len(chunk)} rows; this stream was opened for {self._batch}")
        hop = self._codec.space.hop
        self._partial = (self._partial + chunk.shape[1]) % hop
        for block in blocks(chunk.to(self._silence(0)), BLOCK * hop):
            self._together.push(block)
        return self._together.pull()

    @torch.no_grad()
    def flush(self) -> Tensor:
        codes = torch.cat([self.push(self._silence(self._missing)), self._together.finish()], dim=-1)
        self._begin()
        return codes

    @torch.no_grad()
    def reset(self, rows: Tensor) -> None:
        check_rows(rows, self._batch)
        closing, opening = self._silence(self._missing), self._silence(self._partial)
        self._together.restart(rows.to(closing.device), closing, opening, surplus=1 if self._partial else 0)

    @property
    def _missing(self) -> int:
        return -self._partial % self._codec.space.hop

    def _silence(self, samples: int) -> Tensor:
        return torch.zeros(self._batch, samples, dtype=torch.float64, device=self._codec.device)

    def _encode(self, audio: Tensor, past: StreamMemory, final: bool) -> Tensor:
        return self._codec.codebooks.quantize(self._codec.network.encode(audio, past, final=final))


class LookaheadDecoder:
    """codes [B, K, m] -> audio [B, n], from the first sample of the first frame. `flush` restarts it.

    Pending samples of a reset row are completed without further frames.
    """

    def __init__(self, codec: FrozenCodec, batch: int):
        self._codec, self._batch = codec, batch
        self._begin()

    def _begin(self) -> None:
        space, device = self._codec.space, self._codec.device
        self._nothing = torch.zeros(self._batch, space.codebooks, 0, dtype=torch.int64, device=device)
        self._together = Together(self._decode, self._nothing, torch.zeros(self._batch, 0, device=device))

    @torch.no_grad()
    def push(self, chunk: Tensor) -> Tensor:
        """Raises ValueError for codes that are not int [B, K, m] with this stream's B, or out of range."""
        if len(self._codec.check(chunk)) != self._batch:
            raise ValueError(f"codes have {len(chunk)} rows; this stream was opened for {self._batch}")
        for block in blocks(chunk.to(self._nothing), BLOCK):
            self._together.push(block)
        return self._together.pull()

    @torch.no_grad()
    def flush(self) -> Tensor:
        audio = self._together.finish()
        self._begin()
        return audio

    @torch.no_grad()
    def reset(self, rows: Tensor) -> None:
        check_rows(rows, self._batch)
        self._together.restart(rows.to(self._nothing.device), self._nothing, self._nothing)

    def _decode(self, codes: Tensor, past: StreamMemory, final: bool) -> Tensor:
        return self._codec.network.decode(self._codec.embed(codes), past, final=final)


@define(eq=False)
class _Group:
    """Rows (indices) with a common start. `ready`: their output not yet returned."""

    rows: Tensor
    past: StreamMemory
    ready: Tensor
    begun: bool = False

    def among(self, which: Tensor) -> _Group:
        """Return the group of the rows where the bool mask `which` is true."""
        picked = which.nonzero()[:, 0]
        return _Group(self.rows[picked], self.past.rows(picked), self.ready[picked], self.begun)


class Together:
    """Rows advanced in lockstep with different start times; rows with a common start are one batch.

    Every layer pads before the start of a row, so rows with different starts cannot share a history; each start time
    needs a separate call.
    """

    def __init__(self, run: Run, nothing: Tensor, silence: Tensor):
        """`nothing`: an input of no frames [B, ..., 0]; `silence`: its output [B, ..., 0]."""
        self._run, self._nothing, self._silence = run, nothing, silence
        self._groups = [_Group(torch.arange(len(nothing), device=nothing.device), StreamMemory(), silence)]

    def push(self, x: Tensor) -> None:
        """Add input [B, ..., n]."""
        for group in self._groups:
            self._advance(group, x)

    def pull(self) -> Tensor:
        """Return and remove the output ready in all rows [B, ..., m]."""
        n = min(group.ready.shape[-1] for group in self._groups)
        out = self._silence.new_zeros(*self._silence.shape[:-1], n)
        for group in self._groups:
            out[group.rows] = group.ready[..., :n]
            group.ready = group.ready[..., n:].clone()
        return out

    def finish(self) -> Tensor:
        """Return all remaining output."""
        for group in self._groups:
            self._end(group)
        return self.pull()

    def restart(self, rows: Tensor, closing: Tensor, opening: Tensor, surplus: int = 0) -> None:
        """End the rows of a bool mask [B] with the input `closing` and restart them with `opening`.

        Their output is kept except the last `surplus`, which the new start produces.
        """
        leaving, staying = [], []
        for group in self._groups:
            mask = rows[group.rows]
            if mask.any():
                leaving.append(group.among(mask))
            if not mask.all():
                staying.append(group.among(~mask))
        for group in leaving:
            self._advance(group, closing)
            self._end(group)
        if leaving:
            given = torch.cat([group.ready for group in leaving])
            anew = torch.cat([group.rows for group in leaving])
            staying.append(_Group(anew, StreamMemory(), given[..., : given.shape[-1] - surplus]))
            self._advance(staying[-1], opening)
        self._groups = staying

    def _end(self, group: _Group) -> None:
        if group.begun:
            self._give(group, self._nothing, final=True)

    def _advance(self, group: _Group, x: Tensor) -> None:
        if x.shape[-1]:
            self._give(group, x, final=False)
            group.begun = True

    def _give(self, group: _Group, x: Tensor, *, final: bool) -> None:
        group.ready = torch.cat([group.ready, self._run(x[group.rows], group.past, final)], dim=-1)
