"""The stem of a whole input, of any length, by a model that hears whole clips."""

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
from accomp.core.streaming.session import check_playable, checked_prompt, no_timeline


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

    sessions [B] int64 tell the randomness of the rows from that of others with the same `seed`; labels: name -> classes
    [B] int64, -1 where withheld. window: the length of the model's training clips, in frames. A longer input is played
    in windows of that length: the first half of each, what is played already, is given, the other half is new. The last
    window ends with the input, so less of it may be new. prompt: codes [B, K, P], P <= T, that the stem begins with.
    timelines: name -> [B, T, N], what is told of each frame (zeros: nothing), all that the model takes.
    framewise: the masked model at work, with the guidance; a new one where None.

    Raises ValueError for a model with a clock or in training mode, and for labels, classes, codes or shapes that do not
    fit.
    """
    check_playable(model, sessions, labels)
    if model.clock is not None:
        raise ValueError(f"a model with {model.clock} plays in sessions, while its input comes; it cannot compose")
    batch, frames = len(sessions), x.shape[1] if x.ndim > 1 else 0
    if x.shape != (batch, frames, model.space.latent_dim) or not frames:
        expected = (batch, "T", model.space.latent_dim)
        raise ValueError(f"input latents have shape {tuple(x.shape)}, expected [B, T, E] = {expected} with T >= 1")
    if window < 1:
        raise ValueError(f"window {window} must be at least 1 frame")
    device = model.table.weight.device
    x = x.to(device, model.table.weight.dtype)
    timelines = checked_timelines(model, x, timelines)
    labels = {name: classes.to(device) for name, classes in labels.items()}
    noise = KeyedRandom.of_sessions(seed, sessions.to(device), model.space.codebooks)

    framewise = framewise or Framewise(model, guidance)
    codes = torch.zeros(batch, model.space.codebooks, 0, dtype=torch.int64, device=device)
    if prompt is not None:
        codes = checked_prompt(model, sessions, prompt).to(device)
        if codes.shape[2] > frames:
            raise ValueError(f"a prompt of {codes.shape[2]} frames does not fit in an input of {frames}")
    while (done := codes.shape[2]) < frames:
        begin = max(0, min(done - window // 2, frames - window))
        heard, known = x[:, begin : begin + window], codes[:, :, begin:]
        told = {name: values[:, begin : begin + window] for name, values in timelines.items()}
        if isinstance(sampler, CausalSampler):
            played = continue_(
                model,
                sampler,
                heard,
                known,
                labels=labels,
                noise=noise,
                guidance=guidance,
                timelines=told,
                first=begin,
            )
        else:
            there = noise.fold(begin)
            played = framewise.fill(sampler, heard, known, labels=labels, noise=there, timelines=told)
        codes = torch.cat([codes, played[:, :, done - begin :]], dim=2)
    return codes


def checked_timelines(model: Model, x: Tensor, timelines: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is told of each frame of x [B, T, E], of all timelines of a model: those that are not given are withheld.

    Raises ValueError for a timeline that the model does not take, or of another shape than [B, T, N].
    """
    if unknown := sorted(set(timelines) - set(model.timelines)):
        raise ValueError(no_timeline(unknown, model))
    told = {}
    for name in model.timelines:
        shape = (*x.shape[:2], KINDS[name].width)
        values = timelines.get(name, x.new_zeros(shape))
        if values.shape != shape:
            raise ValueError(f"timeline {name!r} has shape {tuple(values.shape)}; expected [B, T, N] = {shape}")
        told[name] = values.to(x)
    return told
