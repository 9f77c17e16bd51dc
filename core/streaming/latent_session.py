"""Playing along with latents: the same session as that of codes, a block of k frames at a time."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor

from accomp.core.diffusion.latent_model import LatentModel
from accomp.core.interfaces import CausalSampler, DenoisedSampler
from accomp.core.model.accompanist import Accompanist
from accomp.core.model.guidance import Guidance
from accomp.core.model.model import Model
from accomp.core.spec.runtime import Runtime
from accomp.core.streaming.latent_step import LatentStep
from accomp.core.streaming.session import TokenSession
from accomp.core.streaming.step import Sessions


class LatentSession(TokenSession):
    """B sessions of one model, in step: input latents in, output latents out, where the other has codes [B, K, m] float
    [B, E, m], always whole blocks.

    The block that starts at frame s is drawn once all its rows have their input, of which the newest is frame
    s + t_f - 1; then it is remembered clean. A prompt is whole blocks.
    """

    model: LatentModel  # type: ignore[assignment]
    sampler: DenoisedSampler  # type: ignore[assignment]
    _step: LatentStep

    def _made(self, window: int, who: Sessions, runtime: Runtime) -> LatentStep:
        """Raises ValueError for a window of no whole number of blocks."""
        k = self.model.layout.clock.k
        if window < k or window % k:
            raise ValueError(f"a window of {window} frames is no whole number of blocks of k = {k} frames")
        if self.sampler.plus and self.guidance.scales and not self.guidance.plus:
            self.guidance = Guidance(self.guidance.scales, plus=True)
        return LatentStep(
            self.model, self.sampler, self.guidance, window=window, sessions=who, runtime=runtime
        )  # fmt: skip

    def _nothing(self) -> Tensor:
        return torch.zeros(self.batch, self.model.space.latent_dim, 0, device=self.device)

    def _before_output(self, x: Tensor) -> None:
        self._step.silent(x)

    def _chunk(self, waiting: deque[Tensor], keep: Any = None) -> Tensor:
        """Draw and absorb the next block -> its latents [B, E, k]. keep: mask [B] of sessions that move on, and a list
        of it."""
        moving = torch.ones(self.batch, dtype=torch.bool, device=self.device) if keep is None else keep[0]
        self._conductor.group(None if keep is None else keep[1])
        latents = self._step.block(self._group(waiting), moving, self._prompted())
        self._conductor.done(None if keep is None else keep[1])
        return latents

    def _prompted(self) -> Tensor | None:
        """The next block where it belongs to the prompt."""
        if self._prompt is None:
            return None
        k, first = self.layout.clock.k, int(self._step.frame[0])
        return self._prompt[:, :, first : first + k]

    def _kept(self) -> None:
        """Those that do not move on stay as they are."""

    def _ahead(self, before: deque[Tensor], rows: Tensor, new: list[bool], kept: Any) -> Tensor:
        blocks = [
            self._chunk(before, keep=(rows, new)).masked_fill(~rows[:, None, None], torch.nan)
            for _ in range(len(before) // self.layout.clock.k)
        ]
        return torch.cat([self._nothing(), *blocks], dim=2)

    def _checked_prompt(self, sessions: Tensor, prompt: Tensor) -> Tensor:
        """Raises ValueError for another shape, no number, or no whole blocks."""
        k, E = self.layout.clock.k, self.model.space.latent_dim
        expected = (len(sessions), E, prompt.shape[2] if prompt.ndim == 3 else "P")
        if prompt.shape != expected or not prompt.is_floating_point():
            raise ValueError(f"prompt is {prompt.dtype} {tuple(prompt.shape)}, expected float [B, E, P] = {expected}")
        if not bool(prompt.isfinite().all()):
            raise ValueError("prompt holds NaN or Inf")
        frames = prompt.size(2)
        if rest := frames % k:
            less = frames - rest
            raise ValueError(
                f"a prompt is whole blocks of k = {k} frames; it has {frames}, {less} or {less + k} would do"
            )
        return prompt


def session_of(model: Accompanist, sampler: Any, **how: Any) -> TokenSession:
    """A session of whichever kind the model is; `how` as for a TokenSession."""
    if isinstance(model, LatentModel):
        return LatentSession(model, sampler, **how)  # type: ignore[arg-type]
    assert isinstance(model, Model), "there are two kinds"
    assert isinstance(sampler, CausalSampler), "check_combination sees to it"
    return TokenSession(model, sampler, **how)
