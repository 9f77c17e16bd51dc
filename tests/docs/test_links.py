"""Every link and every path that the documentation names leads somewhere."""

from __future__ import annotations

import posixpath
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from doc_pages import FENCE, PAGES, ROOT, headings

LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)")
NAMED = re.compile(r"(?<![\w/.-])((?:core|plugins|zarr_store|tests|docs|specs|benchmarks|requirements)/[\w./-]*\w)")
MADE_BY_THE_SITE = {"docs/reference/spec.md", "docs/reference/plugins.md", "docs/reference/cli.md"}
MADE_BY_THE_SITE |= {f"docs/notebooks/{path.stem}.md" for path in ROOT.glob("docs/notebooks/*.ipynb")}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page):
    missing = []
    for target, anchor in LINK.findall(FENCE.sub("", PAGES[page])):
        if "://" in target:
            continue
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target)) if target else page
        if path in MADE_BY_THE_SITE:
            continue
        if not (ROOT / path).exists():
            missing.append(target)
        elif anchor and anchor not in headings(PAGES.get(path) or (ROOT / path).read_text(encoding="utf-8")):
            missing.append(f"{target}#{anchor}")
    assert not missing


def is_there(name: str) -> bool:
    """Whether a path of the repository exists: a file, a folder, or a module without its suffix."""
    return any((ROOT / f"{name}{suffix}").exists() for suffix in ("", ".py")) or "NAME" in name or "KIND" in name


@pytest.mark.parametrize("page", PAGES)
def test_every_path_named_is_there(page):
    assert sorted(name for name in set(NAMED.findall(PAGES[page])) if not is_there(name)) == []


def test_every_page_named_in_the_source_is_there():
    """Comments, docstrings and messages lead to pages that exist."""
    listed = subprocess.run(["git", "ls-files", "*.py", "*.toml", "*.js", "Makefile"], cwd=ROOT, capture_output=True)
    missing = []
    for name in listed.stdout.decode().split():
        path = ROOT / name
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text(encoding="utf-8") if path.exists() else ""):
            if not (ROOT / page).exists() and page not in MADE_BY_THE_SITE:
                missing.append(f"{name}: {page}")
    assert not missing


def test_every_page_is_in_the_navigation():
    named = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert there <= named
    assert {Path(name).name for name in named} >= {path.name for path in ROOT.glob("benchmarks/results/*.md")}


def test_the_pages_name_every_plugin_and_extra():
    kinds = tomllib.loads((ROOT / "registry.toml").read_text())
    kinds.pop("retired", None)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    listed, installed = PAGES["docs/guides/plugins.md"], PAGES["docs/install.md"]
    assert {name for rows in kinds.values() for name in rows if f"`{name}`" not in listed} == set()
    assert {name for name in extras if f"`{name}`" not in installed} == set()
