"""One streaming block of latents: denoise it, then cache it clean. All state is read and written in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from accomp.core.diffusion.denoising import last
from accomp.core.diffusion.latent_model import LatentModel
from accomp.core.interfaces import DenoisedSampler, Velocities
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.guidance import Guidance
from accomp.core.music.timelines import KINDS
from accomp.core.spec.runtime import Runtime
from accomp.core.streaming.graphs import captured_step
from accomp.core.streaming.step import Sessions
from accomp.core.tensors import in_full


class LatentStep:
    """The device state of B sessions of a model, and the computation that advances it by a block of k frames.

    "block_causal": a finished block is absorbed once, clean, into the state. "enc_dec": the rows of the last frames are
    kept, and absorbed variants for every block. Random numbers belong to session, frame and step.

    Attributes:
        state: the backbone's KV cache, of the G variants of each session.
        frame: [B] int64, the first frame of each session's next block; below 0 in front of the output.
        noise: [B, 1], the keys of their random numbers.
        rows: G * B.
        blanks: rows before the first that fill its group: none.
        timelines: name -> [G * B, k, N], values at the rows of the next block.
        predict: y [B, k, E], t [1] -> velocities [2, B, k, E], guided and unguided.
        absorb: e [G * B, k, De], clean rows of the block for the cache.
    """

    blanks = 0

    def __init__(
        self,
        model: LatentModel,
        sampler: DenoisedSampler,
        guidance: Guidance,
        *,
        window: int,
        sessions: Sessions,
        runtime: Runtime,
    ):
        """Compile if the runtime says so; `begin` must follow. Raises UserError where it cannot."""
        self.model, self.sampler, self.guidance, self.layout = model, sampler, guidance, model.layout
        k, E, De = self.layout.clock.k, model.space.latent_dim, model.fuser.embed_width
        self._window = window
        batch, device = len(sessions.noise.key), model.device
        self.rows = batch * len(guidance.variants)
        self.noise = KeyedRandom(sessions.noise.key.clone())
        self.frame = torch.zeros(batch, dtype=torch.int64, device=device)
        self.start = model.start(guidance.spread_labels(sessions.labels))
        self._reabsorbs = model.regime == "enc_dec"
        self._context = window - k if self._reabsorbs else 0
        self.state = model.backbone.new_state(self.rows, window, chunk=max(k, self._context), dtype=runtime.cache_type)
        zeros = model.input_padding.new_zeros
        self.timelines = {name: zeros(self.rows, k, KINDS[name].width) for name in model.conditions.timelines}
        self._x, self._past_x = zeros(self.rows, k, E), zeros(self.rows, self._context, E)
        self._past_e = zeros(self.rows, self._context, De)
        self._t = torch.zeros(1, device=device, dtype=torch.promote_types(model.dtype, torch.float32))
        self.predict: Callable[[Tensor, Tensor], Tensor] = self._predict
        self.absorb: Callable[[Tensor], Tensor] = self._absorb
        if runtime.compiles(device):
            predict = captured_step(self._predict, torch.zeros(batch, k, E, device=device), self._t.clone())
            if not self._reabsorbs:
                self.absorb = captured_step(self._absorb, zeros(self.rows, k, De))
            self.predict = predict  # last: a step is known by what its object holds

    def begin(self, rows: Tensor, sessions: Sessions | None = None) -> None:
        """Start new sessions in the rows of the bool mask [B]: those of `sessions` there, or the same again."""
        variants = self.guidance.repeat(rows)
        self.state.reset(variants)
        self.frame.copy_(torch.where(rows, -self.layout.start, self.frame))
        if sessions is None:
            return
        self.noise.key.copy_(torch.where(rows[:, None], sessions.noise.key, self.noise.key))
        start = self.model.start(self.guidance.spread_labels(sessions.labels))
        if self.start is not None and start is not None:
            self.start.copy_(torch.where(variants[:, None, None], start, self.start))

    def set_timelines(self, values: Mapping[str, Tensor]) -> None:
        """Set timeline values, name -> [G * B, S, N], of the last S rows of the next block."""
        for name, rows in values.items():
            self.timelines[name][:, -rows.shape[1] :] = rows.to(self.timelines[name])

    def silent(self, x: Tensor) -> None:
        """Absorb a block x [G * B, k, E] in front of all sessions' output."""
        self._x.copy_(x)
        self._cache(None, torch.ones_like(self.frame, dtype=torch.bool))

    def block(self, x: Tensor, advancing: Tensor, given: Tensor | None = None) -> Tensor:
        """x [G * B, k, E], the input of the next block's rows -> its latents [B, E, k], NaN in front of the output.

        Sessions of the mask `advancing` [B] advance; the others stay unchanged. given: the block [B, E, k], to be
        used instead of a drawn one.
        """
        self._x.copy_(x)
        if given is None:
            self._reabsorb()
            latents = last(self.sampler.path(self._velocities, self._draw))
        else:
            latents = given.to(self.noise.key.device, torch.float32)
        early = self.frame < 0
        self._cache(latents, advancing)
        return latents.masked_fill(early[:, None, None], torch.nan)

    def _draw(self, number: int) -> Tensor:
        """Standard normal noise [B, E, k], of the block's start (0) or added after a step (1, 2, ...)."""
        frames = self.frame[:, None] + torch.arange(self.layout.clock.k, device=self.frame.device)
        return KeyedRandom(self.noise.key).fold(frames).fold(number).normal(self.model.space.latent_dim).mT

    def _velocities(self, x: Tensor, t: float) -> Velocities:
        guided, without = self.predict(x.mT, self._t.fill_(t)).clone()
        return Velocities(guided.mT, without.mT)

    def _predict(self, y: Tensor, t: Tensor) -> Tensor:
        y = self.guidance.repeat(y.to(self._x.dtype))
        e = self.model.noisy(y, t.to(y.dtype)[:, None])
        h = self.model.rows(
            self._x, e, self.start, timelines=self.model.timeline_embedding(self.timelines), state=self.state
        )
        self.state.rollback(self.state.position - y.shape[1])
        v = self.model.velocity(h)
        v = in_full(v)
        return torch.stack([self.guidance.combine(v), self.guidance.without(v)])

    def _absorb(self, e: Tensor) -> Tensor:
        return self.model.rows(self._x, e, self.start, state=self.state)

    def _cache(self, latents: Tensor | None, advancing: Tensor) -> None:
        """Cache the block with this input and these latents, in the sessions that advance."""
        k, variants = self.layout.clock.k, self.guidance.repeat(advancing)
        blank = self.model.silent(k).expand(self.rows, -1, -1)
        e = blank
        if latents is not None:
            clean = self.model.clean(self.guidance.repeat(latents.mT.to(self._x.dtype)))
            e = torch.where(self.guidance.repeat(self.frame < 0)[:, None, None], blank, clean)
        timelines = self.model.timeline_embedding(self.timelines)
        e = e if timelines is None else e + timelines
        if self._reabsorbs:
            for past, new in ((self._past_x, self._x), (self._past_e, e)):
                shifted = torch.cat([past, new], dim=1)[:, k:]
                past.copy_(torch.where(variants[:, None, None], shifted[:, shifted.shape[1] - past.shape[1] :], past))
        else:
            self.absorb(e)
            self.state.rollback(torch.where(variants, self.state.position, self.state.position - k))
        self.frame.add_(k * advancing)

    def _reabsorb(self) -> None:
        """Absorb the past rows variants; those before a session's start have positions below 0."""
        if not self._reabsorbs:
            return
        self.state.reset(torch.ones(self.rows, dtype=torch.bool, device=self.frame.device))
        if not self._context:
            return
        there = self.guidance.repeat((self.frame + self.layout.start).clamp(max=self._context))
        self.state.rollback(there - self._context)
        self.model.rows(self._past_x, self._past_e, self.start, state=self.state)
