"""What plugins import: complete, light, and the same for a type checker and at run time."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import accomp.plugin
from accomp.core import errors

FOLDER = Path(accomp.plugin.__file__).parent
THEMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def type_checked(path: Path) -> dict[str, str]:
    """Name -> module of what a file imports from accomp.core, at once or for type checkers."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {a.name: node.module or "" for node in nodes for a in node.names if "accomp.core" in (node.module or "")}


def test_names_come_from_where_a_type_checker_sees_them():
    table = {name: module for module, names in accomp.plugin._PLACES.items() for name in names}
    assert table == type_checked(FOLDER / "__init__.py")
    assert sorted(table) == sorted(accomp.plugin.__all__)
    for name, module in table.items():
        assert getattr(accomp.plugin, name) is getattr(importlib.import_module(module), name)
    with pytest.raises(AttributeError, match="Hookimpl"):
        accomp.plugin.Hookimpl  # noqa: B018


@pytest.mark.parametrize("theme", THEMES)
def test_a_theme_offers_what_it_imports(theme):
    module = importlib.import_module(f"accomp.plugin.{theme}")
    assert sorted(module.__all__) == sorted(type_checked(FOLDER / f"{theme}.py"))
    assert f"accomp.plugin.{theme} " in (accomp.plugin.__doc__ or "")


def test_all_errors_are_there():
    defined = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert defined <= set(accomp.plugin.__all__)


def test_a_plugin_that_is_listed_needs_no_torch():
    code = "import sys; from accomp.plugin import Component, hookimpl, say; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
