"""Every shipped objective with every sampler, fuser and clock, as the tables of docs/guides/models.md say."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from accomp.core.errors import CombinationError
from accomp.core.registry import Registry
from accomp.core.spec.build import check_combination
from accomp.core.spec.schema import load_spec

GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "models.md").read_text(encoding="utf-8")
SPECS = {
    "ar": "streaming_k1_small",
    "prefix": "streaming_chunked_small",
    "prefix_offline": "prefix_offline_small",
    "mlm": "stemgen_small",
    "rectified_flow": "latent_stream_small",
    "arc_forcing": "latent_arc_small",
}
CLOCKED, MASKED, DENOISED = {"ar", "prefix"}, {"mlm"}, {"rectified_flow", "arc_forcing"}
MASKED_SAMPLERS, DENOISED_SAMPLERS = {"vampnet", "causal_bias"}, {"euler", "ping_pong", "dpmpp"}
REGISTRY = Registry(third_party=False)


def problems(objective: str, *overrides: str) -> tuple[str, ...]:
    """What is wrong with the objective's small spec, changed so."""
    try:
        check_combination(load_spec(SPECS[objective], REGISTRY, overrides), REGISTRY)
    except CombinationError as error:
        return error.problems
    return ()


def test_there_is_a_spec_for_every_objective():
    assert set(SPECS) == set(REGISTRY.names("objective"))


@pytest.mark.parametrize(("objective", "sampler"), list(itertools.product(SPECS, REGISTRY.names("sampler"))))
def test_samplers(objective, sampler):
    fits = (objective in MASKED, objective in DENOISED) == (sampler in MASKED_SAMPLERS, sampler in DENOISED_SAMPLERS)
    found = problems(objective, f"sampler={{plugin='{sampler}'}}")
    assert (found == ()) == fits
    table = GUIDE.partition("## Combinations")[2]
    row = next(line for line in table.splitlines() if line.startswith(f"| `{objective}` "))
    assert (f"`{sampler}`" in row) == fits


@pytest.mark.parametrize(("objective", "fuser"), list(itertools.product(SPECS, REGISTRY.names("fuser"))))
def test_fusers(objective, fuser):
    assert problems(objective, f"fuser={{plugin='{fuser}'}}") == ()


PUBLISHED = [name.removesuffix("_small") for name in SPECS.values() if "arc" not in name]


@pytest.mark.parametrize("spec", [*SPECS.values(), *PUBLISHED, "latent_enc_dec_small"])
def test_the_shipped_specs_are_in_order(spec):
    check_combination(load_spec(spec, REGISTRY), REGISTRY)


@pytest.mark.parametrize(
    ("objective", "override"),
    [
        ("mlm", "sampler={plugin='top_k'}"),
        ("ar", "sampler={plugin='vampnet'}"),
        ("ar", "clock.k=5"),
        ("mlm", "clock={t_f=0, k=1}"),
        ("prefix_offline", "clock={t_f=0, k=1}"),
        ("ar", "conditions.context.drop=0.0"),
    ],
)
def test_what_does_not_fit_is_told_as_the_guide_says(objective, override):
    guided = ("guidance={context=2.0}",) if "drop" in override else ()
    (told,) = problems(objective, override, *guided)
    assert told.replace(f"objective '{objective}'", "") in GUIDE.replace("objective 'mlm'", "").replace(
        "objective 'ar'", ""
    )


def test_parts_of_two_worlds_are_all_told_at_once():
    found = problems(
        "ar", "tokenizer.continuous=32", "sampler={plugin='euler', plus=true}", "clock.k=7", "train.frames=40",
        "generate.prompt=10", "guidance={context=0.7}", "conditions.context.drop=0.0",
    )  # fmt: skip
    for part in (
        "objective 'ar' trains a model that decodes 'causal', sampler 'euler' samples 'denoised'",
        "clock.k = 7, but objective 'ar' trains a model that emits frame by frame",
        "has continuous latents, no codebooks; objective 'ar' needs codes",
        "train.frames = 40 is no whole number of blocks of clock.k = 7 frames; 35 or 42 would do",
        "generate.prompt = 10 frames is no whole number of blocks of clock.k = 7; 7 or 14 would do",
        "guidance.context compares with a model that does without 'context'",
    ):
        assert sum(part in problem for problem in found) == 1, (part, found)
    assert len(found) == 6
    (regime,) = problems("prefix", "model.regime='enc_dec'")
    assert regime == "model.regime = 'enc_dec' is of models of continuous latents, not of codes; remove it"
    objective, sampler = problems("rectified_flow", "tokenizer.continuous=0", "model={width=192}")
    assert f"| {objective} |" in GUIDE
    assert sampler.startswith("sampler 'dpmpp' denoises continuous latents, the tokenizer has 4 codebooks of codes")
    (plus,) = problems("rectified_flow", "sampler={plugin='euler', plus=true}")
    assert "does nothing without [guidance]" in plus
    (short,) = problems("rectified_flow", "clock.t_f=250")
    assert "at clock.t_f = 250, k = 20 no block fits" in short
    assert problems("rectified_flow", "model.regime='enc_dec'") == ()


def test_conditions_that_are_guided_together_are_each_looked_at():
    both = "conditions.instrument={classes=18, drop=0.1}"
    assert problems("ar", both, "guidance={'context+instrument'=2.0}") == ()
    twice, unknown = problems("ar", both, "guidance={'context+instrument'=2.0, 'context+instrumnet'=1.0}")
    assert twice == "guidance.context+instrumnet: 'context' is guided by another scale, too"
    assert unknown.startswith("guidance.context+instrumnet: there is no such condition")
    assert "'instrument'" in unknown
    (never,) = problems("ar", "conditions.context.drop=0.0", "guidance={'context+instrument'=2.0}")
    assert "does without 'context', which this one never learned to" in never


@pytest.mark.parametrize("objective", SPECS)
def test_only_some_objectives_train_an_ear(objective):
    found = problems(objective, "conditions.metronome={drop=0.3, heard=0.5}")
    if objective in CLOCKED:
        assert found == ()
    else:
        told = f"metronome.heard = 0.5, but objective {objective!r} trains a model without an ear; choose ar or prefix"
        assert any(told in problem for problem in found)


def test_a_clocked_objective_wants_a_clock():
    for objective in CLOCKED:
        (told,) = problems("prefix_offline", f"objective={{plugin='{objective}'}}")
        assert told == f"objective '{objective}' trains a model that plays by a clock; add a section [clock]"
    assert "trains a model that plays by a clock; add a section [clock]" in GUIDE
