"""The frame of every page that accomp writes: one HTML document that needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata, resources

from accomp.core.pages.html import Html, tag

# One player at a time: starting one pauses the others.
_SCRIPT = Html(
    "document.addEventListener('play',e=>{for(const a of document.querySelectorAll('audio'))"
    "if(a!==e.target)a.pause()},true)"
)


def document(
    title: str, header: object, main: object, *, version: str | None = None, scripts: Sequence[str] = ()
) -> str:
    """A page with the content of its header and main part, in the style of all pages.

    `version`: of the accomp whose work it shows, where that is not this one. `scripts`: JavaScript that the page runs
    once it is there.
    """
    style = Html(resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", style),
    )
    written = f"Written by accomp {metadata.version('accomp') if version is None else version}."
    body = tag(
        "body",
        tag("header", header),
        tag("main", main),
        tag("footer", tag("p", written)),
        [tag("script", Html(script)) for script in (_SCRIPT, *scripts)],
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"
