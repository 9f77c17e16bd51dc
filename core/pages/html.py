"""Markup that is safe by construction: every value that is not Html is escaped when it enters a tag."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from attrs import frozen

_OPEN = frozenset({"br", "hr", "img", "input", "link", "meta", "wbr"})
_VOID = _OPEN | {"path", "line", "rect", "circle", "polyline"}


class Html(str):
    """Text that is markup."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Return <name attributes>children</name>.

    Children are Html, other values (escaped), None (left out) or lists of these. An attribute that is None or False
    is left out, True stands without a value; `class_` means class, and other underscores become hyphens.
    """
    opened = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID and not children:
        return Html(f"<{opened}>" if name in _OPEN else f"<{opened}/>")
    return Html(f"<{opened}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Html:
    """Return children, given as in `tag`, one after the other."""
    return Html("".join(_flat(children)))


def _flat(children: Iterable[object]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            yield child
        elif isinstance(child, (list, tuple)):
            yield from _flat(child)
        else:
            yield escape(str(child))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    key = "viewBox" if key == "viewBox" else key.rstrip("_").replace("_", "-")
    return f" {key}" if value is True else f' {key}="{escape(str(value), quote=True)}"'


LONG = 10
"""Letters of a heading from which on it may wrap after an underscore."""


@frozen
class Across:
    """A table's cell that takes the rest of its row, such as the reason why a row has no numbers."""

    content: object


def table(head: Iterable[object], rows: Iterable[Iterable[object]], *, caption: str, style: str = "numbers") -> Html:
    """Return a table in a scroll box of its own, below its caption; the first cell of a row is its heading.

    `style` is a class of the style sheet: "numbers" aligns the other cells right, "words" left. Long headings may wrap
    after an underscore.
    """
    names = list(head)
    content = tag(
        "table",
        tag("thead", tag("tr", [tag("th", _breakable(name), scope="col") for name in names])),
        tag("tbody", [_row(list(row), len(names)) for row in rows]),
        class_=style,
        aria_label=caption,
    )
    return tag("figure", tag("figcaption", caption), scroll_box(content, caption))


def scroll_box(content: Html, label: str) -> Html:
    """Return content that scrolls sideways by itself where the page is too narrow; the keyboard reaches it."""
    return tag("div", content, class_="scroll", tabindex="0", role="region", aria_label=label)


def _row(cells: list[object], columns: int) -> Html:
    found = [tag("th", _breakable(cells[0]), scope="row")]
    for place, cell in enumerate(cells[1:], 1):
        if isinstance(cell, Across):
            found.append(tag("td", cell.content, colspan=columns - place, class_="across"))
        else:
            found.append(tag("td", cell))
    return tag("tr", found)


def _breakable(name: object) -> object:
    """A name such as loss_level_0, with a place to wrap after each underscore."""
    if not isinstance(name, str) or isinstance(name, Html) or len(name) < LONG:
        return name
    first, *others = name.split("_")
    return [first, *(["_", tag("wbr"), other] for other in others)]
