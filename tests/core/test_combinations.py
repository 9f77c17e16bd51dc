"""What goes with what: every shipped objective with every sampler, fuser and clock, as the README's tables say."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from accomp.core.build import check_combination
from accomp.core.errors import CombinationError
from accomp.core.registry import Registry
from accomp.core.spec import load_spec

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SPECS = {
    "ar": "streaming_k1_small",
    "prefix": "streaming_chunked_small",
    "prefix_offline": "prefix_offline_small",
    "mlm": "stemgen_small",
}
CLOCKED, MASKED = {"ar", "prefix"}, {"mlm"}
MASKED_SAMPLERS = {"vampnet", "causal_bias"}
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
    fits = (objective in MASKED) == (sampler in MASKED_SAMPLERS)
    found = problems(objective, f"sampler={{plugin='{sampler}'}}")
    assert (found == ()) == fits
    table = README.partition("What goes with what:")[2]
    row = next(line for line in table.splitlines() if line.startswith(f"| `{objective}` |"))
    assert (f"`{sampler}`" in row) == fits


@pytest.mark.parametrize(("objective", "fuser"), list(itertools.product(SPECS, REGISTRY.names("fuser"))))
def test_fusers(objective, fuser):
    assert problems(objective, f"fuser={{plugin='{fuser}'}}") == ()


@pytest.mark.parametrize("spec", [*SPECS.values(), *(name.removesuffix("_small") for name in SPECS.values())])
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
def test_what_does_not_fit_is_told_as_the_readme_says(objective, override):
    guided = ("guidance={context=2.0}",) if "drop" in override else ()
    (told,) = problems(objective, override, *guided)
    assert told.replace(f"objective '{objective}'", "") in README.replace("objective 'mlm'", "").replace(
        "objective 'ar'", ""
    )


def test_a_clocked_objective_wants_a_clock():
    for objective in CLOCKED:
        (told,) = problems("prefix_offline", f"objective={{plugin='{objective}'}}")
        assert told == f"objective '{objective}' trains a model that plays by a clock; add a section [clock]"
    assert "trains a model that plays by a clock; add a section [clock]" in README
