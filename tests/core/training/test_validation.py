"""Validation: means over tokens, draws that belong to a batch, and frequencies that weigh as the loss does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch

from accomp.core.data.loader import ClipLoader
from accomp.core.spec.build import build_model, build_objective, build_tokenizer
from accomp.core.training.validation import Validation
from accomp.core.types import Batch, CodeBatch, Loss

LEVELS = 2


@pytest.fixture(scope="module")
def loader(trained: tiny.Trained) -> ClipLoader:
    """Clips of two songs, five a batch, the last batch smaller."""
    spec = trained.spec()
    tokenizer = build_tokenizer(spec, trained.registry)
    return ClipLoader(spec.store.path, "validation", tokenizer, frames=90, batch=5, seed=0)


@pytest.fixture
def model(trained: tiny.Trained) -> Any:
    spec = trained.spec(conditions={"context": {"drop": 0.3}})
    return build_model(spec, build_tokenizer(spec, trained.registry).space, trained.registry)


def prepare(batch: CodeBatch) -> Batch:
    x = batch.context.transpose(1, 2).float().repeat(1, 1, 3)
    return Batch(x, batch.target, batch.valid, batch.labels)


class Masking:
    """Masks at random, level 1 more than level 0, and remembers what it was asked; a token costs its own code."""

    def __init__(self) -> None:
        self.asked: list[tuple[Batch, torch.Tensor]] = []

    def loss(self, model: Any, batch: Batch, clock: Any, rng: torch.Generator) -> Loss:
        shares = torch.tensor([0.2, 0.7])[:, None]
        masked = (torch.rand(batch.y.shape, generator=rng) < shares) & batch.valid[:, None]
        self.asked.append((batch, masked))
        nats = batch.y.float() + 0.01 * batch.x[..., :LEVELS].transpose(1, 2)
        return Loss.over(nats, masked, batch.y % 3 == 0)


def test_masks_are_the_same_each_time_and_for_both_contexts_and_differ_between_batches(
    loader: ClipLoader, model: Any
) -> None:
    validation, objective = Validation(loader, 3, seed=1), Masking()
    first = validation.run(model, objective, prepare)  # type: ignore[arg-type]
    once = objective.asked
    assert len(once) == 9
    for whole, own, others in zip(once[::3], once[1::3], once[2::3], strict=True):
        assert torch.equal(own[1], others[1])
        assert torch.equal(own[0].y, others[0].y)
        assert not torch.equal(own[0].x, others[0].x)
        assert torch.equal(whole[1], own[1])
    assert not torch.equal(once[0][1][:, :, :30], once[3][1][:, :, :30])
    objective.asked = []
    assert validation.run(model, objective, prepare) == first  # type: ignore[arg-type]
    assert all(torch.equal(a[1], b[1]) for a, b in zip(once, objective.asked, strict=True))
    another = Masking()
    assert Validation(loader, 3, seed=2).run(model, another, prepare)["tokens"] != first["tokens"]  # type: ignore[arg-type]


def test_the_loss_is_the_mean_over_all_tokens_of_all_batches(loader: ClipLoader, model: Any) -> None:
    """Also where batches hold unequal numbers of them, and a level has none in some."""
    objective = Masking()
    found = Validation(loader, 100, seed=1).run(model, objective, prepare)  # type: ignore[arg-type]
    whole = objective.asked[::3]
    assert len({len(batch.y) for batch, _ in whole}) > 1, "the last batch should be a smaller one"
    tokens = [torch.cat([(b.y[:, q] + 0.01 * b.x[..., q])[masked[:, q]] for b, masked in whole]) for q in range(LEVELS)]
    assert found["tokens"] == [len(one) for one in tokens]
    assert found["loss"] == pytest.approx(float(torch.cat(tokens).mean()), rel=1e-5)
    for q, one in enumerate(tokens):
        assert found["parts"][f"level_{q}"] == pytest.approx(float(one.mean()), rel=1e-5)
        hits = torch.cat([(b.y[:, q] % 3 == 0)[masked[:, q]] for b, masked in whole])
        assert found["accuracy"][f"level_{q}"] == pytest.approx(float(hits.float().mean()), rel=1e-5)


def test_a_level_that_is_never_asked_has_no_mean(loader: ClipLoader, model: Any) -> None:
    class Coarse(Masking):
        def loss(self, model: Any, batch: Batch, clock: Any, rng: torch.Generator) -> Loss:
            counted = batch.valid[:, None].repeat(1, LEVELS, 1)
            counted[:, 1] = False
            return Loss.over(batch.y.float(), counted)

    validation = Validation(loader, 2, seed=1)
    found = validation.run(model, Coarse(), prepare)  # type: ignore[arg-type]
    assert set(found["parts"]) == {"level_0"}
    assert found["accuracy"] == {}
    assert found["loss"] == pytest.approx(found["parts"]["level_0"])
    unigram = validation.unigram(found["tokens"])
    assert unigram["loss"] == pytest.approx(unigram["parts"]["level_0"])


def test_frequencies_weigh_as_the_loss_does(loader: ClipLoader) -> None:
    """A predictor that knows the frequencies alone has just that loss, whatever share of each level it is asked for."""
    validation = Validation(loader, 100, seed=1)
    batches = list(loader.fixed(100))
    codes = [torch.cat([batch.target[:, q][batch.valid] for batch in batches]) for q in range(LEVELS)]
    shares = [torch.bincount(one, minlength=8) / len(one) for one in codes]
    nats = [-share[one].log() for share, one in zip(shares, codes, strict=True)]
    for tokens in ([1.0, 0.0], [30, 60], [7, 1]):
        expected = np.average([float(one.mean()) for one in nats], weights=tokens)
        assert validation.unigram(tokens)["loss"] == pytest.approx(expected, rel=1e-4)
    assert validation.unigram(None)["loss"] == pytest.approx(np.mean([float(one.mean()) for one in nats]), rel=1e-4)


@pytest.mark.parametrize(
    "sections",
    [
        {"objective": {"plugin": "ar"}},
        {"objective": {"plugin": "prefix"}, "clock": {"t_f": -4, "k": 3}},
        {"objective": {"plugin": "prefix_offline"}, "fuser": {"plugin": "add"}, "clock": None},
        {
            "objective": {"plugin": "mlm"},
            "fuser": {"plugin": "concat"},
            "sampler": {"plugin": "vampnet"},
            "clock": None,
        },
    ],
    ids=lambda sections: sections["objective"]["plugin"],
)
def test_a_model_that_knows_the_frequencies_alone_has_their_loss(
    loader: ClipLoader, trained: tiny.Trained, sections: dict[str, Any]
) -> None:
    """So every objective's loss can be compared with it; masks and chunks ask for a random part of the codes."""
    plain = trained.plain(**sections, conditions={"context": {"drop": 0.0}})
    spec = tiny.spec_of({name: section for name, section in plain.items() if section is not None})
    space = build_tokenizer(spec, trained.registry).space
    model = build_model(spec, space, trained.registry)
    batches = list(loader.fixed(100))
    with torch.no_grad():
        model.heads.weight.zero_()
        model.heads.bias.fill_(-30.0)
        for q in range(LEVELS):
            codes = torch.cat([batch.target[:, q][batch.valid] for batch in batches])
            common = torch.bincount(codes, minlength=space.codebook_size) / len(codes)
            first = q * model.vocabulary.size + model.vocabulary.first_code
            model.heads.bias[first : first + space.codebook_size] = common.clamp(min=1e-9).log()
    validation = Validation(loader, 100, seed=1)
    found = validation.run(model, build_objective(spec, space, trained.registry), prepare)
    unigram = validation.unigram(found["tokens"])
    assert found["loss"] == pytest.approx(unigram["loss"], rel=0.05)
    for name, nats in unigram["parts"].items():
        assert found["parts"][name] == pytest.approx(nats, rel=0.08)
    assert found["context_gain"] == pytest.approx(0.0, abs=1e-5)
