"""Block after block with the network of the published system: a window that slides, or a stream that is kept."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from attrs import field, frozen
from torch import Tensor

from accomp.core.diffusion.denoising import Path, last
from accomp.core.diffusion.kinds import Regime
from accomp.core.diffusion.published import PublishedNetwork, Told
from accomp.core.diffusion.regimes import rows_see, stream_sees, window_sees
from accomp.core.interfaces import Draw, Predicting, Velocities


class Sampling(Protocol):
    """All that is asked of a sampler here."""

    def path(self, predict: Predicting, draw: Draw) -> Path:
        """See DenoisedSampler.path."""
        ...


@frozen
class Geometry:
    """How the network is played.

    Attributes:
        regime: who sees whom.
        o: frames a block.
        n: blocks of context in a window.
        cut: from which position of the window on there is no input; None for input that is shifted instead.
        t_f: of shifted input: the row of frame f holds input frame f + t_f - o, none below 0.
        kept: "window": a block sees its window, computed anew; "stream": each block sees what it saw when it came,
            itself and the n - 1 blocks before it (block_causal with shifted input).
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
    """Plays to an input, latents [B, C, frames] whose first frame is that of the first context frame.

    Attributes:
        scale: w of guidance by `told.cross`, of which the network without it sees zeros; 1 is as trained.
    """

    network: PublishedNetwork
    geometry: Geometry
    told: Told
    input: Tensor
    scale: float = 1.0
    _without: Told = field(init=False)

    @_without.default
    def _nothing(self) -> Told:
        return Told(torch.zeros_like(self.told.cross), self.told.glob)

    def play(self, context: Tensor, blocks: int, sampler: Sampling, noise: Tensor) -> Tensor:
        """context [B, C, n o], noise [blocks, N, B, C, o] -> blocks [B, C, blocks o]."""
        past = context
        for number in range(blocks):
            block = last(sampler.path(self.predicting(past), lambda step, own=noise[number]: own[step]))  # type: ignore[misc]
            past = torch.cat([past, block], dim=2)
        return past[:, :, context.shape[2] :]

    def predicting(self, past: Tensor) -> Predicting:
        """The network for the block after `past` [B, C, frames], as a sampler sees it."""

        def predict(x: Tensor, t: float) -> Velocities:
            given = self.velocity(past, x, t, self.told)
            if self.scale == 1.0:
                return Velocities(given, given)
            without = self.velocity(past, x, t, self._without)
            return Velocities(without + self.scale * (given - without), without)

        return predict

    def velocity(self, past: Tensor, x: Tensor, t: float, told: Told | None = None) -> Tensor:
        """x [B, C, o] at noise level t after `past` [B, C, frames] -> velocity [B, C, o]."""
        network, geometry, told = self.network, self.geometry, self.told if told is None else told
        frames = past.shape[2]
        first = frames - geometry.context if geometry.kept == "window" else 0
        there = past[:, :, first:]
        heard, given = self._heard(first, frames + geometry.o - first)
        length = frames - first
        h = torch.cat(
            [
                network.rows(None, there, heard[:, :, :length], given[:length]),
                network.rows(x, None, heard[:, :, length:], given[length:]),
                network.token(x.new_full((len(x),), t), told),
            ],
            dim=1,
        )
        hidden = network(h, told, self._positions(frames, first), self._sees(frames, first))[-1]
        return network.velocity(hidden[:, length:-1])

    def _heard(self, first: int, rows: int) -> tuple[Tensor, Tensor]:
        """Input latents of rows of frames from `first` on [B, C, rows], and where there are any [rows]."""
        geometry, row = self.geometry, torch.arange(rows)
        if geometry.cut is not None:
            frame, given = first + row, row < geometry.cut
        else:
            frame = first + row + geometry.t_f - geometry.o
            given = frame >= 0
        given = given & (frame < self.input.shape[2])
        return self.input[:, :, frame.clamp(0, self.input.shape[2] - 1)], given

    def _positions(self, frames: int, first: int) -> Tensor:
        """Rows at frame + 1; the token one before the first row of the window, which moves along."""
        rows = torch.arange(first, frames + self.geometry.o) + 1
        return torch.cat([rows, rows.new_tensor([frames - self.geometry.context])])

    def _sees(self, frames: int, first: int) -> Tensor:
        """[rows, rows], the token's row last."""
        geometry = self.geometry
        if geometry.kept == "window":
            return window_sees(geometry.regime, geometry.o, (frames - first) // geometry.o, token=True)
        target = frames // geometry.o
        block = torch.cat([torch.arange(frames + geometry.o) // geometry.o, torch.tensor([target])])
        return rows_see(block, stream_sees(target + 1, geometry.n))
