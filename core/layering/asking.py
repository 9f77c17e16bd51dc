"""Building a song by ear: which instrument next, and which of its variations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from accomp.core.console import say
from accomp.core.errors import UserError
from accomp.core.layering.tree import MIX, Node, Tree

if TYPE_CHECKING:
    from accomp.core.layering.band import Band

Ask = Callable[[str], str]
"""Puts a question and gives the answer; raises EOFError where nobody answers any more."""


def converse(tree: Tree, band: Band, parent: str, variations: int, ask: Ask, shown: Callable[[], None]) -> None:
    """Ask for layers, one after the other, until the answer is "stop", nothing, or the end of the input.

    A mistake is told and asked again. `shown` is called whenever the tree has changed.
    """
    while True:
        say(f"\nthe song so far: {song(tree, parent)}")
        asked = _answer(ask, "next instrument (Enter: stop): ")
        if asked in ("", "stop"):
            return
        try:
            layer = band.layer(asked)
        except UserError as error:
            say("\n".join(error.problems))
            continue
        count = variations
        while (taken := _take(tree, nodes := band.play(tree, parent, layer, count), ask, shown)) == "again":
            count = len(nodes) + variations
        if taken == "stop":
            return
        if isinstance(taken, Node):
            parent = taken.id


def song(tree: Tree, id: str) -> str:
    """A node's song in words: its context and the layers on it."""
    return " + ".join([tree.root.name, *(node.recipe.title for node in tree.path(id))])


def lines(tree: Tree, nodes: list[Node]) -> list[str]:
    """Variations to listen to, a line each."""
    return [f"{number}  {node.id}  {mix_path(tree, node)}" for number, node in enumerate(nodes, 1)]


def mix_path(tree: Tree, node: Node) -> Path:
    """The file to listen to."""
    return tree.folder / "nodes" / node.id / MIX


def _take(tree: Tree, nodes: list[Node], ask: Ask, shown: Callable[[], None]) -> Node | str:
    """The node that was chosen, or "none", "again", "stop"."""
    shown()
    say("\n".join(lines(tree, nodes)))
    while True:
        numbers = f"1-{len(nodes)}" if len(nodes) > 1 else "1"
        answer = _answer(ask, f"choose {numbers}, none, again (more of them) or stop: ")
        if answer in ("none", "again", "stop"):
            return answer
        if answer.isdecimal() and 1 <= int(answer) <= len(nodes):
            node = tree.choose(nodes[int(answer) - 1].id)
            shown()
            return node
        say(f"{answer!r} is none of these")


def _answer(ask: Ask, question: str) -> str:
    try:
        answer = ask(question).strip()
    except EOFError:
        return "stop"
    return answer.lower() if answer.lower() in ("none", "again", "stop") else answer
