"""Interactive layering: prompts for the next instrument, and for one of its variations."""

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
"""Prompts with a question and returns the answer; raises EOFError at the end of the input."""


def converse(tree: Tree, band: Band, parent: str, variations: int, ask: Ask, on_change: Callable[[], None]) -> None:
    """Prompt for layers until the answer is "stop", empty, or the end of the input.

    Mistakes are reported and prompted for again. `on_change` is called whenever the tree has changed.
    """
    while True:
        say(f"\nthe song so far: {song(tree, parent)}")
        answer = _answer(ask, "next instrument (Enter: stop): ")
        if answer in ("", "stop"):
            return
        try:
            layer = band.layer(answer)
        except UserError as error:
            say("\n".join(error.problems))
            continue
        count = variations
        while (
            choice := _prompt_choice(tree, nodes := band.play(tree, parent, layer, count), ask, on_change)
        ) == "again":
            count = len(nodes) + variations
        if choice == "stop":
            return
        if isinstance(choice, Node):
            parent = choice.id


def song(tree: Tree, id: str) -> str:
    """A node's song in words: its context and the layers on it."""
    return " + ".join([tree.root.name, *(node.recipe.title for node in tree.path(id))])


def lines(tree: Tree, nodes: list[Node]) -> list[str]:
    """List variations to listen to, a line each."""
    return [f"{number}  {node.id}  {mix_path(tree, node)}" for number, node in enumerate(nodes, 1)]


def mix_path(tree: Tree, node: Node) -> Path:
    """Path of the mix."""
    return tree.folder / "nodes" / node.id / MIX


def _prompt_choice(tree: Tree, nodes: list[Node], ask: Ask, on_change: Callable[[], None]) -> Node | str:
    """Prompt for one of the nodes: the chosen one, or "none", "again", "stop"."""
    on_change()
    say("\n".join(lines(tree, nodes)))
    while True:
        numbers = f"1-{len(nodes)}" if len(nodes) > 1 else "1"
        answer = _answer(ask, f"choose {numbers}, none, again (more of them) or stop: ")
        if answer in ("none", "again", "stop"):
            return answer
        if answer.isdecimal() and 1 <= int(answer) <= len(nodes):
            node = tree.choose(nodes[int(answer) - 1].id)
            on_change()
            return node
        say(f"{answer!r} is not one of these")


def _answer(ask: Ask, question: str) -> str:
    try:
        answer = ask(question).strip()
    except EOFError:
        return "stop"
    return answer.lower() if answer.lower() in ("none", "again", "stop") else answer
