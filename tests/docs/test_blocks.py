"""Every block of code in the documentation compiles or parses, specs load, and the code of the first pages runs."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest
import soundfile
from doc_pages import FENCE, PAGES, ROOT, blocks

from accomp.core.registry import Registry
from accomp.core.spec.build import check_combination
from accomp.core.spec.schema import load_spec

REGISTRY = Registry(third_party=False)
FIRST = ("README.md", "docs/index.md", "docs/tutorial.md")


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.page)
def test_python_compiles(block):
    compile(block.text, block.page, "exec")


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: block.page)
def test_toml_parses(block):
    assert tomllib.loads(block.text)


@pytest.mark.parametrize("page", ["docs/tutorial.md", "docs/guides/experiments.md"])
def test_the_spec_of_a_page_is_in_order(page, tmp_path):
    file = tmp_path / "page.toml"
    file.write_text(next(block.text for block in blocks("toml") if block.page == page))
    check_combination(load_spec(file, REGISTRY), REGISTRY)


def test_the_spec_of_the_guide_names_the_parts_of_quickstart(tmp_path):
    file = tmp_path / "guide.toml"
    file.write_text(next(block.text for block in blocks("toml") if block.page == "docs/guides/experiments.md"))
    guide, quickstart = (load_spec(path, REGISTRY) for path in (file, ROOT / "specs" / "quickstart.toml"))
    for kind in ("corpus", "tokenizer", "fuser", "backbone", "objective", "sampler"):
        assert getattr(guide, kind).plugin == getattr(quickstart, kind).plugin
    assert [metric.plugin for metric in guide.metric] == [metric.plugin for metric in quickstart.metric]
    assert guide.clock == quickstart.clock


@pytest.mark.parametrize("page", FIRST)
def test_the_code_of_the_first_pages_runs(page, tmp_path, monkeypatch):
    """With a song of two seconds and the shipped model."""
    pytest.importorskip("IPython")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    song = (0.1 * rng.standard_normal(64_000)).astype(np.float32)
    soundfile.write("song.wav", song, 32_000)
    names = {"block": song[:640]}
    for match in FENCE.finditer(PAGES[page]):
        if match[2] == "python":
            exec(compile(match[3], page, "exec"), names)
    assert (tmp_path / "bass.wav").stat().st_size > 64_000
    if "out" in names:
        assert names["out"].shape == (640,)
