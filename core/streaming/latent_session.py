"""Sessions of latents: as sessions of codes, a block of k frames at a time."""

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
    """B sessions of one model of latents, advanced in lockstep. Output is latents float [B, E, m], always whole blocks,
    where a TokenSession has codes [B, K, m].

    The block that starts at frame s is drawn once all its rows have their input, of which the newest is frame
    s + t_f - 1; then it is cached clean. A prompt is whole blocks.
    """

    model: LatentModel  # type: ignore[assignment]
    sampler: DenoisedSampler  # type: ignore[assignment]
    _step: LatentStep

    def _make_step(self, window: int, settings: Sessions, runtime: Runtime) -> LatentStep:
        """Raises ValueError unless the window is a whole number of blocks."""
        k = self.model.layout.clock.k
        if window < k or window % k:
            raise ValueError(f"a window of {window} frames is not a whole number of blocks of k = {k} frames")
        if self.sampler.plus and self.guidance.scales and not self.guidance.plus:
            self.guidance = Guidance(self.guidance.scales, plus=True)
        return LatentStep(
            self.model, self.sampler, self.guidance, window=window, sessions=settings, runtime=runtime
        )  # fmt: skip

    def _no_frames(self) -> Tensor:
        return torch.zeros(self.batch, self.model.space.latent_dim, 0, device=self.device)

    def _before_output(self, x: Tensor) -> None:
        self._step.silent(x)

    def _chunk(self, waiting: deque[Tensor], keep: Any = None) -> Tensor:
        """Draw and absorb the next block -> its latents [B, E, k]. keep: mask [B] of the sessions that advance, and
        as a list.
        """
        advancing = torch.ones(self.batch, dtype=torch.bool, device=self.device) if keep is None else keep[0]
        x = self._group(waiting)
        self._timeline_feed.prefill(None if keep is None else keep[1])
        latents = self._step.block(x, advancing, self._prompt_block())
        self._timeline_feed.advance(None if keep is None else keep[1])
        return latents

    def _prompt_block(self) -> Tensor | None:
        """The next block if it belongs to the prompt."""
        if self._prompt is None:
            return None
        k, first = self.layout.clock.k, int(self._step.frame[0])
        return self._prompt[:, :, first : first + k]

    def _snapshot(self) -> None:
        """Nothing: sessions that do not advance stay unchanged by themselves."""

    def _output_before_input(self, before: deque[Tensor], rows: Tensor, new: list[bool], snapshot: Any) -> Tensor:
        blocks = [
            self._chunk(before, keep=(rows, new)).masked_fill(~rows[:, None, None], torch.nan)
            for _ in range(len(before) // self.layout.clock.k)
        ]
        return torch.cat([self._no_frames(), *blocks], dim=2)

    def _check_prompt(self, sessions: Tensor, prompt: Tensor) -> Tensor:
        """Raises ValueError for another shape, NaN or Inf, or a part of a block."""
        k, E = self.layout.clock.k, self.model.space.latent_dim
        expected = (len(sessions), E, prompt.shape[2] if prompt.ndim == 3 else "P")
        if prompt.shape != expected or not prompt.is_floating_point():
            raise ValueError(f"prompt is {prompt.dtype} {tuple(prompt.shape)}, expected float [B, E, P] = {expected}")
        if not bool(prompt.isfinite().all()):
            raise ValueError("prompt holds NaN or Inf")
        frames = prompt.size(2)
        if rest := frames % k:
            shorter = frames - rest
            raise ValueError(
                f"a prompt is whole blocks of k = {k} frames; it has {frames}, {shorter} or {shorter + k} would do"
            )
        return prompt


def session_of(model: Accompanist, sampler: Any, **options: Any) -> TokenSession:
    """Start a session of the model's kind; `options` as for a TokenSession."""
    if isinstance(model, LatentModel):
        return LatentSession(model, sampler, **options)  # type: ignore[arg-type]
    assert isinstance(model, Model), "models are of codes or of latents"
    assert isinstance(sampler, CausalSampler), "check_combination ensures this"
    return TokenSession(model, sampler, **options)
