"""Block-wise generation with the network of the published system: with a sliding window, or with a cached stream."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from attrs import field, frozen
from torch import Tensor

from accomp.core.diffusion.denoising import Path, last
from accomp.core.diffusion.kinds import Regime
from accomp.core.diffusion.published import NetworkConditions, PublishedNetwork
from accomp.core.diffusion.regimes import rows_see, stream_sees, window_sees
from accomp.core.interfaces import Draw, Predicting, Velocities


class Sampling(Protocol):
    """The part of a sampler that is used here."""

    def path(self, predict: Predicting, draw: Draw) -> Path:
        """See DenoisedSampler.path."""
        ...


@frozen
class Geometry:
    """Blocks and window of the network.

    Attributes:
        regime: the attention mask.
        o: frames a block.
        n: blocks of context in a window.
        cut: position of the window from which on there is no input; None for input that is shifted instead.
        t_f: of shifted input: the row of frame f holds input frame f + t_f - o, none below 0.
        kept: "window": a block attends to its window, computed anew; "stream": each block keeps the mask of its own
            time, itself and the n - 1 blocks before it (block_causal with shifted input).
    """

    regime: Regime
    o: int
    n: int
    cut: int | None = None
    t_f: int = 0
    kept: Literal["window", "stream"] = "window"

    @property
    def context(self) -> int:
        """Frames of context in a window."""
        return self.n * self.o


@frozen(eq=False)
class Player:
    """Generates blocks to an input, latents [B, C, frames] whose first frame is that of the first context frame.

    Attributes:
        scale: w of guidance by `conditions.cross`, which is zeros in the unguided forward; 1 is as trained.
    """

    network: PublishedNetwork
    geometry: Geometry
    conditions: NetworkConditions
    input: Tensor
    scale: float = 1.0
    _without: NetworkConditions = field(init=False)

    @_without.default
    def _nothing(self) -> NetworkConditions:
        return NetworkConditions(torch.zeros_like(self.conditions.cross), self.conditions.glob)

    def play(self, context: Tensor, blocks: int, sampler: Sampling, noise: Tensor) -> Tensor:
        """context [B, C, n o], noise [blocks, N, B, C, o] -> blocks [B, C, blocks o]."""
        past = context
        for number in range(blocks):
            block = last(sampler.path(self.predicting(past), lambda step, own=noise[number]: own[step]))  # type: ignore[misc]
            past = torch.cat([past, block], dim=2)
        return past[:, :, context.shape[2] :]

    def predicting(self, past: Tensor) -> Predicting:
        """The prediction function for the block after `past` [B, C, frames], for a sampler."""

        def predict(x: Tensor, t: float) -> Velocities:
            given = self.velocity(past, x, t, self.conditions)
            if self.scale == 1.0:
                return Velocities(given, given)
            without = self.velocity(past, x, t, self._without)
            return Velocities(without + self.scale * (given - without), without)

        return predict

    def velocity(self, past: Tensor, x: Tensor, t: float, conditions: NetworkConditions | None = None) -> Tensor:
        """x [B, C, o] at noise level t after `past` [B, C, frames] -> velocity [B, C, o]."""
        network, geometry, conditions = (
            self.network,
            self.geometry,
            self.conditions if conditions is None else conditions,
        )
        frames = past.shape[2]
        first = frames - geometry.context if geometry.kept == "window" else 0
        there = past[:, :, first:]
        x_in, given = self._inputs(first, frames + geometry.o - first)
        length = frames - first
        h = torch.cat(
            [
                network.rows(None, there, x_in[:, :, :length], given[:length]),
                network.rows(x, None, x_in[:, :, length:], given[length:]),
                network.token(x.new_full((len(x),), t), conditions),
            ],
            dim=1,
        )
        hidden = network(h, conditions, self._positions(frames, first), self._sees(frames, first))[-1]
        return network.velocity(hidden[:, length:-1])

    def _inputs(self, first: int, rows: int) -> tuple[Tensor, Tensor]:
        """Input latents of rows of frames from `first` on [B, C, rows], and a mask of the frames with input [rows]."""
        geometry, row = self.geometry, torch.arange(rows)
        if geometry.cut is not None:
            frame, given = first + row, row < geometry.cut
        else:
            frame = first + row + geometry.t_f - geometry.o
            given = frame >= 0
        given = given & (frame < self.input.shape[2])
        return self.input[:, :, frame.clamp(0, self.input.shape[2] - 1)], given

    def _positions(self, frames: int, first: int) -> Tensor:
        """Positions: rows at frame + 1; the token one before the first row of the window, which moves along."""
        rows = torch.arange(first, frames + self.geometry.o) + 1
        return torch.cat([rows, rows.new_tensor([frames - self.geometry.context])])

    def _sees(self, frames: int, first: int) -> Tensor:
        """Attention mask [rows, rows], the token's row last."""
        geometry = self.geometry
        if geometry.kept == "window":
            return window_sees(geometry.regime, geometry.o, (frames - first) // geometry.o, token=True)
        target = frames // geometry.o
        block = torch.cat([torch.arange(frames + geometry.o) // geometry.o, torch.tensor([target])])
        return rows_see(block, stream_sees(target + 1, geometry.n))
