"""Markup that is safe by construction: whatever is not Html already is escaped when it enters a tag."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "path", "line", "rect", "circle", "polyline"})


class Html(str):
    """Text that is markup."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """<name attributes>children</name>.

    Children are Html, other values (escaped), None (left out) or lists of these. An attribute that is None or False
    is left out, True stands without a value; `class_` means class, and other underscores become hyphens.
    """
    opened = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID and not children:
        return Html(f"<{opened}>" if name in {"br", "hr", "img", "input", "link", "meta"} else f"<{opened}/>")
    return Html(f"<{opened}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Html:
    """Children as in `tag`, one after the other."""
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


def table(head: Iterable[object], rows: Iterable[Iterable[object]], *, caption: str, style: str = "numbers") -> Html:
    """A table that scrolls inside its own box, under its caption; a row's first cell is its heading.

    `style` is a class of the style sheet: "numbers" aligns the other cells right, "words" left.
    """
    body = [[tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])] for row in map(list, rows)]
    content = tag(
        "table",
        tag("thead", tag("tr", [tag("th", cell, scope="col") for cell in head])),
        tag("tbody", [tag("tr", row) for row in body]),
        class_=style,
        aria_label=caption,
    )
    box = tag("div", content, class_="scroll", tabindex="0", role="region", aria_label=caption)
    return tag("figure", tag("figcaption", caption), box)
