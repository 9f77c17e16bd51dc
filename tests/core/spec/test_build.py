"""Building from a spec: weights that follow from the seed, and every misfit told at once, naming both sides."""

from __future__ import annotations

import pytest
import torch
from small import SPEC, Constant, Counter, Silent, latents

from accomp.core.errors import CombinationError
from accomp.core.registry import Registry
from accomp.core.spec.build import (
    build_corpus,
    build_metrics,
    build_model,
    build_objective,
    build_sampler,
    build_tokenizer,
    check_combination,
    space_of,
)
from accomp.core.spec.schema import structure
from accomp.plugins.objectives.ar import AR
from accomp.plugins.samplers.top_k import TopK


@pytest.fixture
def registry(install):
    install("accomp-small", module="small")
    return Registry()


@pytest.fixture
def spec_of(registry):
    """The spec with some sections changed: a section's keys are replaced one by one, or all when it names a plugin."""

    def spec_of(**changes):
        data = {name: value for name, value in SPEC.items()}
        for name, change in changes.items():
            old = data.get(name, {})
            data[name] = {**old, **change} if isinstance(change, dict) and "plugin" not in change else change
        return structure(data, registry)

    return spec_of


def problems(spec, registry):
    """What check_combination finds wrong."""
    with pytest.raises(CombinationError) as error:
        check_combination(spec, registry)
    return error.value.problems


def test_every_part_is_the_plugin_that_the_spec_names(spec_of, registry):
    spec = spec_of()
    check_combination(spec, registry)
    space = space_of(spec, registry)
    assert isinstance(build_corpus(spec, registry), Silent)
    assert isinstance(build_tokenizer(spec, registry), Constant)
    assert space == build_tokenizer(spec, registry).space
    assert isinstance(build_objective(spec, space, registry), AR)
    sampler = build_sampler(spec, space, registry)
    assert isinstance(sampler, TopK)
    assert sampler.k == 5
    (metric,) = build_metrics(spec, space, registry).items()
    assert metric[0] == "counter"
    assert isinstance(metric[1], Counter)
    model = build_model(spec, space, registry)
    assert model.vocabulary.classes == {"instrument": 5}
    assert (model.clock, model.conditions) == (spec.clock, spec.conditions)
    held = model.layout.inputs_of(torch.zeros(2, 3, 20, dtype=torch.int64))
    assert model(latents(20), held, {"instrument": torch.tensor([0, 1])}).shape == (2, 3, 21, 16)


def test_weights_follow_from_the_seed_and_touch_nothing_else(spec_of, registry):
    before = torch.get_rng_state()
    space = space_of(spec_of(), registry)
    one, same, other = (build_model(spec_of(seed=seed), space, registry).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["table.weight"], other["table.weight"])
    check_combination(spec_of(), registry)
    assert torch.equal(before, torch.get_rng_state())


def test_a_sampler_of_the_other_kind_is_refused(spec_of, registry):
    (problem,) = problems(spec_of(sampler={"plugin": "filler"}), registry)
    assert problem == (
        "objective 'ar' trains a model that decodes 'causal', sampler 'filler' samples 'masked'; "
        "choose a 'causal' sampler"
    )


def test_chunks_need_an_objective_that_trains_them(spec_of, registry):
    (problem,) = problems(spec_of(clock={"k": 4}), registry)
    assert problem.startswith("clock.k = 4, but objective 'ar' trains a model that emits frame by frame; set k = 1")


def test_continuous_latents_have_no_codes_to_predict(spec_of, registry):
    (problem,) = problems(spec_of(tokenizer={"plugin": "continuous"}), registry)
    assert problem.startswith("tokenizer 'continuous' has continuous latents, no codebooks; objective 'ar'")


def test_a_clip_must_reach_the_last_level(spec_of, registry):
    (problem,) = problems(spec_of(clock={"t_f": 19}), registry)
    assert "train.frames = 20: at clock.t_f = 19, k = 1 and 3 codebooks" in problem
    assert problem.endswith("at least 21 frames are needed")
    check_combination(spec_of(clock={"t_f": 19}, train={"frames": 21}), registry)


def test_all_problems_come_at_once(spec_of, registry):
    found = problems(
        spec_of(
            sampler={"plugin": "picky"},
            fuser={"plugin": "widthless"},
            backbone={"plugin": "llama", "depth": 1, "heads": 3, "kv_heads": 2},
            clock={"k": 2},
        ),
        registry,
    )
    for part in (
        "clock.k = 2",
        "model.width 16 is not a multiple of backbone.heads 3",
        "backbone.heads 3 is not a multiple of backbone.kv_heads 2",
        "fuser 'widthless' says embed_width = 0",
        "picky takes no 3 codebooks",
    ):
        assert sum(part in problem for problem in found) == 1, part
    assert len(found) == 6, "and the head's odd width"
