"""The page of a tree: round by round, every variation with players for its mix and its dry stem.

It loads nothing but the sound files of the tree's own folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import attrs

from accomp.core.audio.loudness import LISTENING_LUFS
from accomp.core.layering.recipe import ROOT
from accomp.core.layering.tree import LAST, MIX, STEM, Node, Tree
from accomp.core.pages.document import Section, document
from accomp.core.pages.html import Html, tag
from accomp.core.pages.players import player, player_grid

Groups = Mapping[str, Sequence[Node]]
CHOOSE = "accomp layer RUN --out FOLDER --choose NODE"


def page(tree: Tree) -> str:
    """Return the document. Nodes whose parent is missing come last, under its name."""
    nodes = tree.nodes()
    groups: dict[str, list[Node]] = {}
    for node in nodes.values():
        groups.setdefault(node.parent, []).append(node)
    gone = sorted(groups.keys() - nodes.keys() - {ROOT})
    beginnings = {ROOT: ["the context"], **{parent: [f"{parent} (missing)"] for parent in gone}}
    rounds = [one for parent, layers in beginnings.items() for one in _rounds(groups, parent, layers)]
    return document(f"Layers on {tree.root.name}", [_song(tree), *rounds], lead=_lead(tree, groups))


def _lead(tree: Tree, groups: Groups) -> str:
    root = tree.root
    count = sum(map(len, groups.values()))
    return (
        f"{root.seconds:.1f} s · {count} {'stem' if count == 1 else 'stems'} made in {len(groups)} "
        f"{'round' if len(groups) == 1 else 'rounds'} · begun {_time(root.made)}"
    )


def _song(tree: Tree) -> Section:
    """The last chosen version of the song: its mix and its parts."""
    path = tree.path(tree.find(LAST))
    players = [player("Context", f"root/{tree.root.file}", about=f"Context: {tree.root.name}")]
    players += [
        player(f"Stem: {node.recipe.title}", f"nodes/{node.id}/{STEM}", about=f"Stem: {node.recipe.title}")
        for node in path
    ]
    if path:
        players.insert(0, player("The song so far", f"nodes/{path[-1].id}/{MIX}", about="The song so far", made=True))
    about = (
        f"In a mix every stem is as loud as one stem of the context, which has {tree.root.stems}. Mixes are set to "
        f"{LISTENING_LUFS:g} LUFS; the context and the stems play at the level of the model's input. To go on from a "
        "node: "
    )
    return Section("song", "The song so far", [tag("div", player_grid(players), class_="card"),
                                               tag("p", about, tag("code", CHOOSE), class_="note")])  # fmt: skip


def _rounds(groups: Groups, parent: str, layers: Sequence[str]) -> Iterator[Section]:
    """The sections of all rounds on a node and its descendants; those on a stem follow its own."""
    waiting = [(parent, layers)]
    while waiting:
        parent, layers = waiting.pop()
        if nodes := groups.get(parent, ()):
            note = tag("p", f"Node {parent}", class_="note") if parent != ROOT else None
            yield Section(f"to-{parent}", f"Played to {' + '.join(layers)}", [note, *map(_card, nodes)])
            waiting += [(node.id, [*layers, node.recipe.title]) for node in reversed(nodes)]


def _card(node: Node) -> Html:
    recipe = node.recipe
    facts = [
        f"variation {recipe.variation + 1}",
        f"seed {recipe.seed}",
        f"model {recipe.weights[:8]}, step {node.step}",
    ]
    facts += [f"{name} {text}" for name, text in recipe.conditions.items() if text != recipe.title]
    facts += [f"guidance of {name} {scale:g}" for name, scale in recipe.guidance.items()]
    mark = tag("span", "✓ chosen", class_="accent") if node.chosen else None
    record = json.dumps(attrs.asdict(node), indent=1)
    sounds = [
        player("Mix", f"nodes/{node.id}/{MIX}", about=f"Mix {node.id}", made=bool(node.chosen)),
        player("Stem", f"nodes/{node.id}/{STEM}", about=f"Stem {node.id}"),
    ]
    return tag(
        "article",
        tag("h3", recipe.title, mark, tag("small", " · ".join(facts))),
        player_grid(sounds),
        tag(
            "details",
            tag("summary", f"Node {node.id}"),
            tag("pre", record, tabindex="0", role="region", aria_label=f"Record of {node.id}"),
        ),
        class_="card take",
    )


def _time(iso: str) -> str:
    return iso[:16].replace("T", " ") + " UTC"
