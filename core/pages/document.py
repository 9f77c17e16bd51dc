"""The document that every page of accomp is: one HTML file that loads nothing, with the same headings and style."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata, resources

from attrs import frozen

from accomp.core.pages.html import Html, tag

# Starting a player pauses the others. A link to a folded section opens it.
_SCRIPT = Html(
    "document.addEventListener('play',e=>{for(const a of document.querySelectorAll('audio'))"
    "if(a!==e.target)a.pause()},true);"
    "const unfold=()=>{const s=location.hash.length>1&&document.getElementById(location.hash.slice(1));"
    "const d=s&&s.closest('details');if(d)d.open=true};"
    "addEventListener('hashchange',unfold);unfold()"
)


@frozen
class Section:
    """A part of a page under a heading of the second level.

    Attributes:
        id: unique on the page; links lead to it.
        content: children as in `tag`.
        folded: the reader opens the section by its heading.
    """

    id: str
    title: str
    content: object
    folded: bool = False

    @property
    def html(self) -> Html:
        """The section as markup."""
        heading = tag("h2", self.title, id=self.id)
        if not self.folded:
            return tag("section", heading, self.content, aria_labelledby=self.id)
        return tag(
            "section", tag("details", tag("summary", heading), self.content), class_="folded", aria_labelledby=self.id
        )


def document(
    title: str,
    sections: Sequence[Section],
    *,
    lead: object = None,
    notes: Sequence[object] = (),
    version: str | None = None,
    scripts: Sequence[str] = (),
) -> str:
    """Return a page: its title, a lead and notes below it, links to the sections, and the sections in their order.

    `version`: that of the accomp that made the data, this one by default. `scripts`: JavaScript to run after loading.
    """
    style = Html(resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"accomp: {title}"),
        tag("style", style),
    )
    links = [tag("a", one.title, href=f"#{one.id}") for one in sections]
    header = [
        tag("h1", title),
        None if lead is None else tag("p", lead, class_="lead"),
        [tag("p", note, class_="note") for note in notes],
        tag("nav", links, aria_label="Sections") if len(links) > 1 else None,
    ]
    written = f"Written by accomp {metadata.version('accomp') if version is None else version}."
    body = tag(
        "body",
        tag("header", header),
        tag("main", [one.html for one in sections]),
        tag("footer", tag("p", written)),
        [tag("script", Html(script)) for script in (_SCRIPT, *scripts)],
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"
