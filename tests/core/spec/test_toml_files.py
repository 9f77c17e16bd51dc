"""Spec files that are written read back the same."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accomp.core.registry import Registry
from accomp.core.spec.schema import load_spec, resolve
from accomp.core.spec.toml_files import toml_text

SHIPPED = [
    path
    for path in sorted(Path(str(resources.files("accomp.specs"))).glob("*.toml"))
    if "codec_" not in path.name and "_grid" not in path.name  # those are files of another kind
]

scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, values, max_size=5))
def test_what_is_written_is_read(data):
    assert tomllib.loads(toml_text(data)) == data


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_resolved_spec_can_be_kept_as_a_file(path, tmp_path):
    registry = Registry(third_party=False)
    spec = load_spec(path, registry)
    (tmp_path / "spec.toml").write_text(toml_text(resolve(spec)), encoding="utf-8")
    assert load_spec(tmp_path / "spec.toml", registry) == spec
