"""On a GPU the same music is played as on the CPU. Skipped, saying so, where there is none."""

from __future__ import annotations

import pytest
import torch

from accomp.core.model.guidance import Guidance
from accomp.core.offline.compose import compose
from accomp.core.registry import Registry
from accomp.core.spec.build import build_model, build_objective, build_sampler, space_of
from accomp.core.spec.schema import Spec, load_spec
from accomp.core.streaming.session import TokenSession
from accomp.core.training.meters import LossMeter
from accomp.core.training.optim import optimizer_of
from accomp.core.types import Batch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

SPECS = ["streaming_k1_small", "streaming_chunked_small", "prefix_offline_small", "stemgen_small"]
FRAMES = 60


def played(spec: Spec, device: str) -> torch.Tensor:
    """What an untrained model of the spec plays to random latents."""
    registry = Registry()
    space = space_of(spec, registry)
    model = build_model(spec, space, registry).to(device).eval()
    sampler = build_sampler(spec, space, registry)
    x = torch.randn(2, FRAMES, space.latent_dim, generator=torch.Generator().manual_seed(0)).to(device)
    sessions, labels = torch.arange(2), {"instrument": torch.tensor([4, 14])}
    common = {"sessions": sessions, "labels": labels, "window": spec.train.frames, "guidance": Guidance(spec.guidance)}
    if model.clock is None:
        return compose(model, sampler, x, seed=3, **common).cpu()
    session = TokenSession(model, sampler, seed=3, **common)
    session.push(x)
    return session.pull().cpu()


@pytest.mark.parametrize("name", SPECS)
def test_a_gpu_plays_what_the_cpu_plays(name):
    """Sampling on: the noise is the same everywhere, and float32 rounding hardly ever turns a choice."""
    spec = load_spec(name, Registry())
    here, there = played(spec, "cpu"), played(spec, "cuda")
    assert (here == there).float().mean() > 0.98


@pytest.mark.parametrize("name", SPECS)
def test_a_gpu_finds_the_same_loss(name):
    spec, registry = load_spec(name, Registry()), Registry()
    space, losses = space_of(spec, registry), []
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, spec.train.frames, space.latent_dim, generator=generator)
    y = torch.randint(space.codebook_size, (2, space.codebooks, spec.train.frames), generator=generator)
    valid, instrument = torch.ones(2, spec.train.frames, dtype=torch.bool), torch.tensor([4, 14])
    for device in ("cpu", "cuda"):
        model = build_model(spec, space, registry).to(device).eval()
        batch = Batch(x.to(device), y.to(device), valid.to(device), {"instrument": instrument.to(device)})
        rng = torch.Generator().manual_seed(2)
        losses.append(build_objective(spec, space, registry).loss(model, batch, model.clock, rng).total.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("name", SPECS)
def test_a_training_step_never_waits_for_the_gpu(name):
    """Every call that would wait is an error in the third step; the first ones set up what is kept."""
    spec, registry, device = load_spec(name, Registry()), Registry(), torch.device("cuda")
    space = space_of(spec, registry)
    model, objective = build_model(spec, space, registry).to(device).train(), build_objective(spec, space, registry)
    optimizer, tally = optimizer_of(model, spec.train), LossMeter(device)
    x = torch.randn(2, spec.train.frames, space.latent_dim, device=device)
    y = torch.randint(space.codebook_size, (2, space.codebooks, spec.train.frames), device=device)
    valid, instrument = torch.ones(2, spec.train.frames, dtype=torch.bool, device=device), torch.tensor([4, 14])
    batch = Batch(x, y, valid, {"instrument": instrument.to(device)})
    try:
        for step in range(3):
            torch.cuda.set_sync_debug_mode("error" if step == 2 else "default")
            loss = objective.loss(model, batch, model.clock, torch.Generator().manual_seed(step))
            loss.total.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            tally.add(step + 1, {"loss": loss.total.detach(), **loss.parts}, norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not tally.fault.any()
