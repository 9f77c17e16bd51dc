"""Guidance: the sum of eq. 3, and sessions that compute its variants side by side."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from accomp.core.clock import Clock
from accomp.core.model.conditions import Conditions, ContextCondition, LabelCondition
from accomp.core.model.guidance import UNGUIDED, Guidance
from accomp.core.model.model import Model
from accomp.core.streaming.session import TokenSession
from accomp.core.types import TokenSpace
from accomp.plugins.backbones.llama import Llama
from accomp.plugins.fusers.gated_add import GatedAdd
from accomp.plugins.samplers.top_k import TopK

X = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
LABELS = {"instrument": torch.tensor([0, 1, 2]), "genre": torch.tensor([1, 1, 0])}


def belief(x: Tensor, labels: dict[str, Tensor]) -> Tensor:
    """Logits [B, 2] that depend on all conditions, not linearly."""
    told = x.sum((1, 2)) * (labels["instrument"] + 2) + (labels["genre"] + 3) ** 2
    return torch.stack([told, told**2], dim=1)


def without(*names: str) -> Tensor:
    x = X * 0 if "context" in names else X
    return belief(x, {name: classes * 0 - 1 if name in names else classes for name, classes in LABELS.items()})


@pytest.mark.parametrize(
    ("scales", "wanted"),
    [
        ({}, without()),
        ({"context": 1.0}, without()),
        ({"context": 2.0}, without("context") + 2 * (without() - without("context"))),
        ({"context": 0.0}, without("context")),
        (
            {"context": 3.0, "instrument": 3.0},
            3 * without("instrument") + 3 * without("context") - 5 * without("context", "instrument"),
        ),
        (
            {"context": 1.0, "genre": 1.0},  # not `without()`: the conditions add up one by one
            without("genre") + without("context") - without("context", "genre"),
        ),
        ({"context": 0.25, "genre": 0.75}, 0.25 * without("genre") + 0.75 * without("context")),
        ({"genre": -1.0}, 2 * without("genre") - without()),
        ({"context + genre": 3.0}, 3 * without() - 2 * without("context", "genre")),
        (
            {"context+genre": 2.0, "instrument": 1.5},
            2 * without("instrument")
            + 1.5 * without("context", "genre")
            - 2.5 * without("context", "genre", "instrument"),
        ),
    ],
)
def test_it_is_the_weighted_sum_of_the_variants(scales, wanted):
    guidance = Guidance(scales)
    spread = guidance.spread(X, LABELS)
    assert len(spread[0]) == 3 * len(guidance.variants)
    assert torch.allclose(guidance.combine(belief(*spread)), wanted, rtol=1e-5)


def test_no_variant_is_computed_in_vain():
    counts = {(): 1, (1.0,): 1, (0.0,): 1, (2.0,): 2, (3.0, 3.0): 3, (0.5, 0.5): 2, (3.0, 0.0): 2}
    for scales, count in counts.items():
        assert len(Guidance(dict(zip(("context", "genre"), scales, strict=False))).variants) == count
    assert [len(Guidance({"context+genre": scale}).variants) for scale in (0.0, 1.0, 2.0)] == [1, 1, 2]


SPACE = TokenSpace(32000, 640, codebooks=3, codebook_size=16, latent_dim=6)


@pytest.fixture(params=[Clock(-2, 1), Clock(0, 3), Clock(2, 2)], ids=str)
def model(request):
    torch.manual_seed(1)
    conditions = Conditions(ContextCondition(0.1), {"instrument": LabelCondition(4, drop=0.1)})
    backbone = Llama(Llama.Config(depth=2, heads=2), SPACE, 16)
    model = Model(GatedAdd(GatedAdd.Config(), SPACE, 16), backbone, SPACE, request.param, conditions, 16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def session(model: Model, guidance: Guidance, rows: list[int]) -> TokenSession:
    sampler = TopK(TopK.Config(k=8), SPACE)
    sessions, labels = torch.tensor(rows), {"instrument": torch.tensor(rows)}
    return TokenSession(model, sampler, sessions=sessions, labels=labels, window=20, guidance=guidance)


SCALES = {"context": 2.5, "instrument": 1.5}


def test_a_guided_session_does_not_depend_on_its_neighbours_or_the_split(model):
    x = torch.randn(3, 12, SPACE.latent_dim)
    together = session(model, Guidance(SCALES), [0, 1, 2])
    together.push(x)
    codes = together.pull()
    for row in range(3):
        alone = session(model, Guidance(SCALES), [row])
        parts = []
        for frames in x[row : row + 1].split([1, 4, 0, 7], dim=1):
            alone.push(frames)
            parts.append(alone.pull())
        assert torch.equal(torch.cat(parts, dim=2), codes[row : row + 1])


def test_guidance_changes_what_is_played_and_a_scale_of_one_does_not(model):
    x = torch.randn(1, 12, SPACE.latent_dim)
    played = []
    for guidance in (UNGUIDED, Guidance({"context": 1.0}), Guidance(SCALES)):
        one = session(model, guidance, [0])
        one.push(x)
        played.append(one.pull())
    assert torch.equal(played[0], played[1])
    assert not torch.equal(played[0], played[2])


def test_a_scale_of_zero_is_deafness(model):
    played = []
    for x in torch.randn(2, 1, 12, SPACE.latent_dim):
        one = session(model, Guidance({"context": 0.0}), [0])
        one.push(x)
        played.append(one.pull())
    assert torch.equal(*played)


def test_a_row_that_begins_anew_forgets_in_every_variant(model):
    frames = 6 * model.clock.k
    before, after = torch.randn(2, 2, frames, SPACE.latent_dim)
    both = session(model, Guidance(SCALES), [0, 1])
    both.push(before)
    both.pull()
    ahead = both.reset(torch.tensor([False, True]))
    both.push(after)
    renewed = torch.cat([ahead, both.pull()], dim=2)[1]
    fresh = session(model, Guidance(SCALES), [1])
    fresh.push(after[1:])
    codes = fresh.pull()[0]
    kept = renewed[:, (renewed >= 0).all(0)]
    assert torch.equal(kept[:, : codes.shape[1]], codes[:, : kept.shape[1]])
    assert kept.shape[1] >= frames - 3
