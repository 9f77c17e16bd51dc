"""Offline accompaniment of inputs of any length, by a model of whole clips."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from accomp.core.interfaces import CausalSampler, MaskedSampler
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.guidance import UNGUIDED, Guidance
from accomp.core.model.model import Model
from accomp.core.music.timelines import KINDS
from accomp.core.offline.framewise import Framewise
from accomp.core.offline.prepended import continue_
from accomp.core.streaming.checks import check_playable, check_prompt, no_timeline


@torch.inference_mode()
def compose(
    model: Model,
    sampler: CausalSampler | MaskedSampler,
    x: Tensor,
    *,
    sessions: Tensor,
    labels: Mapping[str, Tensor],
    window: int,
    seed: int = 0,
    guidance: Guidance = UNGUIDED,
    prompt: Tensor | None = None,
    timelines: Mapping[str, Tensor] = MappingProxyType({}),
    framewise: Framewise | None = None,
) -> Tensor:
    """Input latents x [B, T, E], T >= 1 -> codes [B, K, T].

    sessions [B] int64 select the random numbers of the rows under `seed`; labels: name -> classes [B] int64, -1 where
    withheld. window: the length of the model's training clips, in frames. A longer input is decoded in windows of that
    length: the first half of each is given by the one before, the other half is new. The last window ends with the
    input, so less of it may be new. prompt: codes [B, K, P], P <= T, at the beginning of the stem. timelines: name ->
    [B, T, N] (zeros: withheld). framewise: masked decoding with the guidance; a new one if None.

    Raises ValueError for a model with a clock or in training mode, and for labels, classes, codes or shapes that do not
    fit.
    """
    check_playable(model, sessions, labels)
    if model.clock is not None:
        raise ValueError(f"a model with {model.clock} streams, in sessions; it cannot compose whole clips")
    batch, frames = len(sessions), x.shape[1] if x.ndim > 1 else 0
    if x.shape != (batch, frames, model.space.latent_dim) or not frames:
        expected = (batch, "T", model.space.latent_dim)
        raise ValueError(f"input latents have shape {tuple(x.shape)}, expected [B, T, E] = {expected} with T >= 1")
    if window < 1:
        raise ValueError(f"window {window} must be at least 1 frame")
    device = model.table.weight.device
    x = x.to(device, model.table.weight.dtype)
    timelines = fill_timelines(model, x, timelines)
    labels = {name: classes.to(device) for name, classes in labels.items()}
    noise = KeyedRandom.of_sessions(seed, sessions.to(device), model.space.codebooks)

    framewise = framewise or Framewise(model, guidance)
    codes = torch.zeros(batch, model.space.codebooks, 0, dtype=torch.int64, device=device)
    if prompt is not None:
        codes = check_prompt(model, sessions, prompt).to(device)
        if codes.shape[2] > frames:
            raise ValueError(f"a prompt of {codes.shape[2]} frames does not fit in an input of {frames}")
    while (done := codes.shape[2]) < frames:
        begin = max(0, min(done - window // 2, frames - window))
        inputs, known = x[:, begin : begin + window], codes[:, :, begin:]
        values = {name: rows[:, begin : begin + window] for name, rows in timelines.items()}
        if isinstance(sampler, CausalSampler):
            codes_out = continue_(
                model,
                sampler,
                inputs,
                known,
                labels=labels,
                noise=noise,
                guidance=guidance,
                timelines=values,
                first=begin,
            )
        else:
            there = noise.fold(begin)
            codes_out = framewise.fill(sampler, inputs, known, labels=labels, noise=there, timelines=values)
        codes = torch.cat([codes, codes_out[:, :, done - begin :]], dim=2)
    return codes


def fill_timelines(model: Model, x: Tensor, timelines: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values of all timelines of a model at each frame of x [B, T, E]; those not given are withheld.

    Raises ValueError for a timeline that the model does not take, or of another shape than [B, T, N].
    """
    if unknown := sorted(set(timelines) - set(model.timelines)):
        raise ValueError(no_timeline(unknown, model))
    all_timelines = {}
    for name in model.timelines:
        shape = (*x.shape[:2], KINDS[name].width)
        values = timelines.get(name, x.new_zeros(shape))
        if values.shape != shape:
            raise ValueError(f"timeline {name!r} has shape {tuple(values.shape)}; expected [B, T, N] = {shape}")
        all_timelines[name] = values.to(x)
    return all_timelines
