"""The model: its composition by hand, what it may hear by gradient, and what is withheld in training."""

from __future__ import annotations

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import WIDTH, latents, small_model, space_with

from accomp.core.model.conditions import Conditions, ContextCondition, LabelCondition
from accomp.core.model.model import withhold
from accomp.core.model.tokens import CONDITION, PADDING
from accomp.core.model.vocabulary import PAD_ID, Vocabulary
from accomp.core.types import Batch

FRAMES = 20


def random_codes(model, frames: int = FRAMES, batch: int = 2) -> torch.Tensor:
    rng = torch.Generator().manual_seed(5)
    return torch.randint(model.space.codebook_size, (batch, model.space.codebooks, frames), generator=rng)


def test_the_vocabulary_is_pad_then_classes_then_codes():
    vocabulary = Vocabulary.of(space_with(2), {"instrument": 18, "mood": 3})
    assert (vocabulary.first_class("instrument"), vocabulary.first_class("mood")) == (1, 19)
    assert (vocabulary.first_code, vocabulary.size) == (22, 32)
    assert vocabulary.ids(torch.tensor([0, 9, CONDITION, PADDING])).tolist() == [22, 31, PAD_ID, PAD_ID]
    labels = {"mood": torch.tensor([2, -1]), "instrument": torch.tensor([-1, 17])}
    assert vocabulary.label_ids(labels).tolist() == [[PAD_ID, 21], [18, PAD_ID]]
    assert Vocabulary.of(space_with(2), {}).label_ids({}) is None
    with pytest.raises(
        ValueError, match=r"labels \['tempo'\] were given to a model that takes \['instrument', 'mood'\]"
    ):
        vocabulary.label_ids({"tempo": torch.tensor([0])})


def test_an_embedding_is_the_sum_of_every_level_s_row():
    model = small_model(space=space_with(3), labels={"instrument": 5, "mood": 3})
    table = model.table.weight.view(3, model.vocabulary.size, -1)
    start = model.start({"instrument": torch.tensor([4]), "mood": torch.tensor([-1])})
    held = torch.tensor([[[PADDING, CONDITION, 7], [PADDING, CONDITION, 2], [PADDING, CONDITION, CONDITION]]])
    e = model.embed(held, start)[0]
    drawn = [table[q, 1 + 4] + table[q, PAD_ID] for q in range(3)]  # instrument 4, mood withheld
    assert torch.allclose(e[0], table[:, PAD_ID].sum(0), atol=1e-6)
    assert torch.allclose(e[1], sum(drawn), atol=1e-6)
    assert torch.allclose(e[2], table[0, 9 + 7] + table[1, 9 + 2] + drawn[2], atol=1e-6)


def test_without_labels_the_start_is_pad():
    model = small_model(labels={})
    e = model.embed(torch.tensor([[[CONDITION, 1]] * 3]), model.start({}))
    table = model.table.weight.view(3, model.vocabulary.size, -1)
    assert torch.allclose(e[0, 0], table[:, PAD_ID].sum(0), atol=1e-6)


def test_logits_are_heads_of_backbone_of_fused_rows():
    model, x = small_model(-2), latents(FRAMES)
    held, labels = model.layout.inputs_of(random_codes(model)), {"instrument": torch.tensor([0, 3])}
    padded = torch.cat([model.input_padding.expand(2, -1, -1), x], dim=1)[:, : held.shape[2]]
    h = model.backbone(model.fuser.fuse(padded, model.embed(held, model.start(labels))))
    size = model.vocabulary.size
    heads = [slice(q * size, (q + 1) * size) for q in range(3)]
    expected = torch.stack([h @ model.heads.weight[q].T + model.heads.bias[q] for q in heads], dim=1)
    assert expected.shape == (2, 3, FRAMES + 1, model.vocabulary.size)
    assert torch.allclose(model(x, held, labels), expected, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(-8, 8), st.integers(1, 4), st.integers(0, 1000))
def test_step_s_hears_input_up_to_s_plus_t_f_and_all_of_it(t_f, codebooks, pick):
    model = small_model(t_f, space=space_with(codebooks))
    x = latents(FRAMES).requires_grad_()
    held = model.layout.inputs_of(random_codes(model))
    row = pick % held.shape[2]
    logits = model(x, held, {"instrument": torch.tensor([0, 1])})
    weights = torch.randn(logits[:, :, row].shape, generator=torch.Generator().manual_seed(7))
    (logits[:, :, row] * weights).sum().backward()
    heard = x.grad.abs().sum((0, 2)) > 0
    visible = model.clock.visible(row - model.layout.start) if row >= model.layout.start else row + 1
    assert heard.tolist() == [frame < visible for frame in range(FRAMES)]


def test_each_item_hears_its_own_label_only():
    model, x = small_model(), latents(FRAMES)
    held = model.layout.inputs_of(random_codes(model))
    first, second = (model(x, held, {"instrument": torch.tensor([c, 2])}) for c in (0, 1))
    assert not torch.allclose(first[0], second[0])
    assert torch.equal(first[1], second[1])


def batch_of(items: int) -> Batch:
    x = torch.ones(items, 4, 6)
    labels = {"instrument": torch.full((items,), 3), "mood": torch.full((items,), 1), "unused": torch.zeros(items)}
    return Batch(x, torch.zeros(items, 3, 4, dtype=torch.int64), torch.ones(items, 4, dtype=torch.bool), labels)


def test_conditions_are_withheld_in_their_share_and_independently():
    conditions = Conditions(
        ContextCondition(0.3), {"instrument": LabelCondition(5, 0.1), "mood": LabelCondition(2, 0.5)}
    )
    n = 20_000
    seen = withhold(batch_of(n), conditions, torch.Generator().manual_seed(0))
    assert set(seen.labels) == {"instrument", "mood"}
    deaf = (seen.x == 0).all(dim=(1, 2))
    assert torch.equal(deaf, (seen.x == 0).any(dim=(1, 2))), "a clip is heard whole or not at all"
    dropped = torch.stack([deaf, seen.labels["instrument"] == -1, seen.labels["mood"] == -1]).double()
    shares = torch.tensor([0.3, 0.1, 0.5]).double()
    deviation = (shares * (1 - shares) / n) ** 0.5
    assert ((dropped.mean(1) - shares).abs() < 4 * deviation).all()
    correlations = torch.corrcoef(dropped)[[0, 0, 1], [1, 2, 2]]
    assert (correlations.abs() < 4 / n**0.5).all()
    assert (seen.labels["instrument"][dropped[1] == 0] == 3).all()


def test_nothing_is_withheld_at_0_and_everything_at_1():
    for share in (0.0, 1.0):
        conditions = Conditions(ContextCondition(share), {"mood": LabelCondition(2, share)})
        seen = withhold(batch_of(500), conditions, torch.Generator().manual_seed(0))
        assert (seen.x == 1 - share).all()
        assert (seen.labels["mood"] == (-1 if share else 1)).all()


def test_the_generator_decides_what_is_withheld():
    conditions = Conditions(ContextCondition(0.5), {"mood": LabelCondition(2, 0.5)})
    one, same, other = (withhold(batch_of(64), conditions, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(one.x, same.x)
    assert not torch.equal(one.x, other.x)


def test_a_missing_label_is_named():
    batch = attrs.evolve(batch_of(2), labels={"unused": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"takes the labels \['mood'\], which the batch lacks; it has \['unused'\]"):
        withhold(batch, Conditions(labels={"mood": LabelCondition(2)}), torch.Generator())


def test_an_untrained_model_knows_nothing():
    torch.manual_seed(0)
    space = space_with(4, codebook_size=200)
    model = small_model(space=space)
    fresh = type(model)(model.fuser, model.backbone, space, model.clock, model.conditions, WIDTH)
    logits = fresh(latents(FRAMES), fresh.layout.inputs_of(random_codes(fresh)), {"instrument": torch.tensor([0, 1])})
    nats = -logits.log_softmax(-1).mean()
    assert abs(nats - torch.tensor(float(fresh.vocabulary.size)).log()) < 0.5


def test_the_likeliest_code_is_compared_with_the_target_where_one_counts():
    """Ids that are no codes may be likelier still; what does not count is neither right nor wrong."""
    model = small_model(0)
    levels, first = model.space.codebooks, model.vocabulary.first_code
    target = torch.randint(10, (2, levels, 12), generator=torch.Generator().manual_seed(0))
    wrong = torch.rand(target.shape, generator=torch.Generator().manual_seed(1)) < 0.3
    logits = torch.nn.functional.one_hot((target + wrong) % 10 + first, model.vocabulary.size).float()
    logits[..., :first] = 9.0
    target[:, :, 9:] = PADDING
    counted = target >= 0
    right = model.cross_entropy(logits, target).right
    for q in range(levels):
        assert right[q] == pytest.approx(float((~wrong)[:, q][counted[:, q]].float().mean()))
    assert model.train().cross_entropy(logits, target).right is None
