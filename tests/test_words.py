"""Retired words stay out of identifiers, docstrings and comments: the field's term replaces each (docs/glossary.md)."""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOUSE = ("accomp", "core", "plugins", "zarr_store")

IDENTIFIERS = {
    "Ahead": "PrefetchLoader",
    "Tally": "LossMeter",
    "Pace": "StepTimer",
    "LoadedRun": "TrainedModel",
    "Vectors": "QuantizedBuffer",
    "BlockRing": "BlockFifo",
    "PlacedRing": "SampleRing",
    "Sight": "AttentionPattern",
    "Slots": "SessionBatch",
    "Schedule": "AudioBridge or TaskQueue",
    "ModelSide": "ModelWorker",
    "Seams": "GapConcealer",
    "AudioSide": "AudioDriver",
    "WallClock": "TimerDriver",
    "Feed": "FilePlayback",
    "Heard": "PreparedClip",
    "Judge": "Scorer",
    "Wish": "LayerRequest",
    "Performance": "StreamRequest",
    "StopWish": "InterruptFlag",
    "put_out": "targets_of",
    "whole_numbers": "quantize",
    "in_int8": "to_int8",
    "rehearse": "measure_latency",
    "told": "describe, lines or as_record",
    "_told": "describe, lines or as_record",
    "tally": "meter",
    "seams": "concealer",
    "dial": "control",
}
"""Retired name of a class or function, or of an attribute of a class -> its successor."""

PROSE = {
    r"dials?": "control",
    r"tall(y|ies)": "meter, outcome or sum",
    r"seams?": "concealment, gap",
    r"heeds?": "guidance scale",
    r"rehears(e|es|ed|al|als)": "warm-up, measurement",
    r"wish(es)?": "request, flag",
    r"riddles?": "term of the field",
    r"whole numbers of eight bits": "int8",
    r"told|tells": "given, reported, shown",
    r"by heart": "overfitting",
    r"believ(e|es|ed|ing)": "accept, trust",
    r"gainsays?": "contradict",
    r"remember(s|ed|ing)?": "keep, state, cache",
    r"forgets": "drop, discard",
    r"heard as|deaf to": "audible, insensitive",
}
"""Pattern of a retired word, whole words only -> its successor."""


def python_files() -> list[Path]:
    return [path for folder in HOUSE for path in sorted((ROOT / folder).rglob("*.py"))]


def retired_identifiers(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of each class, function or attribute that is defined under a retired name."""
    for line, name in defined_names(ast.parse(source)):
        if name in IDENTIFIERS:
            yield line, f"defines {name}; the name is {IDENTIFIERS[name]}"


def defined_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    inner = {id(node) for owner in functions(tree) for node in ast.walk(owner) if node is not owner}
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if id(node) not in inner:
                yield node.lineno, name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.AnnAssign(target=ast.Name(id=name)) if id(node) not in inner:
                yield node.lineno, name


def functions(tree: ast.Module) -> Iterator[ast.AST]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def retired_prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and word of each retired word in docstrings and comments."""
    for line, text in prose(source):
        for pattern, successor in PROSE.items():
            for found in re.finditer(rf"\b(?:{pattern})\b", text, re.IGNORECASE):
                yield line, f"says {found[0]!r}; the term is {successor}"


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of docstrings, of modules, classes, functions and variables, and of comments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, re.sub(r"`[^`]*`", "", inspect.cleandoc(node.value.value))  # code keeps its names
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize("rule", [retired_identifiers, retired_prose])
def test_retired_words_stay_out(rule):
    files = python_files()
    assert len(files) > 100
    found = [f"{path.relative_to(ROOT)}:{line} {why}" for path in files for line, why in rule(path.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", IDENTIFIERS)
def test_a_retired_name_is_seen(name: str):
    for source in (
        f"class {name}:\n    pass",
        f"def {name}():\n    pass",
        f"class A:\n    def {name}(self):\n        pass",
        f"class A:\n    {name}: int = 0",
        f"def f(self):\n    self.{name} = 1",
    ):
        assert [line for line, _ in retired_identifiers(source)], source


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ('"""One dial a session."""', "dial"),
        ('def f():\n    """Add to the tally."""', "tally"),
        ('class A:\n    """The seams between blocks."""', "seams"),
        ('X = 1\n"""How closely the model heeds its context."""', "heeds"),
        ("x = 1  # before the rehearsal", "rehearsal"),
        ('"""The file tells which codec it belongs to."""', "tells"),
        ("x = 1  # a record that is believed", "believed"),
        ('class A:\n    def f(self):\n        """The wish to stop."""', "wish"),
    ],
)
def test_a_retired_word_is_seen(source: str, word: str):
    ((_, why),) = retired_prose(source)
    assert repr(word) in why


@pytest.mark.parametrize(
    "source",
    [
        '"""The `stop_wish` of a command, and `Dial` messages."""',
        "text = 'a dial, a tally'",
        "def f():\n    told = 1\n    def told():\n        pass",
        "class RingKVCache:\n    controls: dict\n    def describe(self):\n        pass",
        '"""Steamships, seamless, dialogue."""',
    ],
)
def test_terms_of_the_field_pass(source: str):
    assert [*retired_identifiers(source), *retired_prose(source)] == []


def test_every_pattern_finds_a_word():
    words = [
        "dial", "dials", "tally", "seam", "heeds", "rehearsed", "wish", "riddle", "whole numbers of eight bits",
        "told", "by heart", "believes", "gainsays", "remembers", "forgets", "deaf to",
    ]  # fmt: skip
    for pattern in PROSE:
        assert any(re.fullmatch(pattern, word) for word in words), pattern
