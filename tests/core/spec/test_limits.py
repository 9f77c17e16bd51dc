"""No number in a spec or a grid can hang a machine, fill it, or pass as nothing: it is named, at once."""

from __future__ import annotations

import copy
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accomp.core.errors import SpecError, UserError
from accomp.core.registry import Registry
from accomp.core.spec.build import check_combination
from accomp.core.spec.grid import load_grid
from accomp.core.spec.schema import load_spec, resolve, structure
from accomp.core.spec.toml_files import find_spec, read_toml

REGISTRY = Registry()
SPECS = ("every_metric", "stemgen_small")


def leaves(data, where=()):
    """The path to every number of plain data."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        if isinstance(value, dict | list):
            yield from leaves(value, (*where, key))
        elif type(value) in (int, float):
            yield (*where, key)


def changed(data, where, value):
    data = copy.deepcopy(data)
    inner = data
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    return data


@pytest.mark.parametrize("name", SPECS)
def test_every_number_has_an_upper_bound(name: str) -> None:
    data = resolve(load_spec(name, REGISTRY))
    for where in leaves(data):
        for value in (10**15, 10**400, float("nan"), float("inf")):
            if where[-1] == "seed" and value == 10**15:
                continue
            kind = float if isinstance(value, float) else int
            try:
                structure(changed(data, where, value), REGISTRY)
            except SpecError:
                continue
            assert kind is int, f"{where} = {value} passes"
            owner = data
            for key in where[:-1]:
                owner = owner[key]
            assert isinstance(owner[where[-1]], float), f"{where} = {value} passes"
            assert value == 10**15, f"{where} = {value} passes"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_check_ends_whatever_the_numbers_are(data) -> None:
    spec = resolve(load_spec("quickstart", REGISTRY))
    for where in data.draw(
        st.lists(st.sampled_from(sorted(leaves(spec), key=str)), min_size=1, max_size=3, unique=True)
    ):
        spec = changed(spec, where, data.draw(st.sampled_from([0, -1, 1, 3, 1000, 65_536, 10**6, -(10**6), 0.5])))
    with suppress(UserError):
        check_combination(structure(spec, REGISTRY), REGISTRY)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed = " + "9" * 5000, "a number of 5000 digits"),
        ("seed = 1" + "_0" * 4000, "a number of 8001 digits"),
        ("seed = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a = " + "{ a = " * 3000 + "1" + " }" * 3000, "nested too deeply"),
    ],
)
def test_files_that_no_reader_takes_are_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "spec.toml").write_text(text)
    with pytest.raises(SpecError, match=words):
        load_spec(tmp_path / "spec.toml", REGISTRY)


def test_long_digits_inside_a_text_are_text(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(f"a = \"{'9' * 300}\"\nb = '{'8' * 300}'\n")
    assert read_toml(tmp_path / "spec.toml") == {"a": "9" * 300, "b": "8" * 300}


@pytest.mark.parametrize("setting", ["seed=" + "9" * 5000, "seed=" + "[" * 5000 + "]" * 5000])
def test_settings_are_read_like_files(setting: str) -> None:
    with pytest.raises(SpecError, match=r"digits|nested"):
        load_spec("quickstart", REGISTRY, [setting])


def test_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    text = find_spec("quickstart").read_text()
    (tmp_path / "quickstart.toml").write_text("\ufeff" + text, encoding="utf-8")
    assert load_spec(tmp_path / "quickstart.toml", REGISTRY) == load_spec("quickstart", REGISTRY)


def test_a_grid_of_a_billion_cells_is_counted_not_made(tmp_path: Path) -> None:
    axes = "\n".join(f"{key} = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]" for key in (
        "clock.k", "model.width", "backbone.depth", "train.batch", "sampler.k", "seed", "store.seed", "train.keep",
        "generate.takes",
    ))  # fmt: skip
    (tmp_path / "grid.toml").write_text(f'base = "quickstart"\n[sweep]\n{axes}\n')
    with pytest.raises(SpecError, match="1,000,000,000 cells; expected at most 10,000"):
        load_grid(tmp_path / "grid.toml", REGISTRY)


def test_a_model_that_no_machine_holds_is_refused_before_it_is_made() -> None:
    spec = load_spec("quickstart", REGISTRY, ["model.width=65536", "backbone.depth=1000", "backbone.heads=64"])
    with pytest.raises(UserError, match="parameters; expected at most 100,000,000,000"):
        check_combination(spec, REGISTRY)
