"""Embedders by name: built as a spec gives them, and every mistake told with its place."""

from __future__ import annotations

import pytest
from attrs import field, frozen
from attrs import validators as v

from accomp.core.component import Component
from accomp.core.errors import PluginError
from accomp.core.evaluation.embedders import build_embedder
from accomp.core.registry import Registry


class Chosen:
    """Remembers what it was built with."""

    @frozen
    class Config:
        size: int = field(default=1, validator=v.ge(1))

    def __init__(self, config):
        self.config = config


class OneMore(Registry):
    """The built-in rows and `chosen`."""

    def find(self, kind, name):
        own = Component("embedder", "chosen", "test_build_embedder:Chosen")
        return own if (kind, name) == ("embedder", "chosen") else super().find(kind, name)


@pytest.mark.parametrize(
    ("choice", "size"), [("chosen", 1), ({"plugin": "chosen"}, 1), ({"plugin": "chosen", "size": 3}, 3)]
)
def test_a_name_or_a_table(choice, size):
    registry = OneMore(third_party=False)
    assert build_embedder(choice, registry, where="here").config == Chosen.Config(size)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("vgish", "did you mean 'vggish'"),
        ({"size": 3}, "missing key 'plugin', the name of an embedder; known: musicnn, vggish @ here"),
        ({"plugin": 3}, "missing key 'plugin'"),
        ({"plugin": "chosen", "sizes": 3}, "embedder: unknown key 'sizes'; did you mean 'size'? @ here"),
        ({"plugin": "chosen", "size": "3"}, "size: expected int, got str '3' @ here"),
        ({"plugin": "chosen", "size": 0}, "size: .*>= 1.* @ here"),
    ],
)
def test_mistakes_are_told_with_their_place(choice, words):
    with pytest.raises(PluginError, match=words.replace("?", r"\?")):
        build_embedder(choice, OneMore(third_party=False), where="here")


def test_a_table_is_left_as_it_was():
    table = {"plugin": "chosen", "size": 2}
    build_embedder(table, OneMore(third_party=False), where="here")
    assert table == {"plugin": "chosen", "size": 2}
