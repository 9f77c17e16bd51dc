"""Statements of a page, each with its verdict and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from accomp.core.pages.html import Html, tag

_SIGNS = {True: ("yes", "✓"), False: ("no", "✗"), None: ("open", "?")}


@frozen
class Claim:
    """A statement with its evidence. `holds`: True, False, or None where the evidence does not decide."""

    claim: str
    holds: bool | None
    evidence: str


def word(holds: bool | None, unknown: str) -> str:
    """Return the verdict in words; `unknown` where the evidence does not decide."""
    return unknown if holds is None else "holds" if holds else "does not hold"


def claims(found: Sequence[Claim], *, unknown: str) -> Html:
    """Return claims as a list; `unknown` as in `word`."""
    return tag("ul", [_claim(one, unknown) for one in found], class_="checks")


def sign(holds: bool | None, label: str) -> Html:
    """Return the sign of a verdict; `label` is read by screen readers."""
    return tag("span", _SIGNS[holds][1], class_="sign", role="img", aria_label=label)


def style_of(holds: bool | None) -> str:
    """Return the class of the style sheet for a verdict."""
    return _SIGNS[holds][0]


def _claim(one: Claim, unknown: str) -> Html:
    style, mark = style_of(one.holds), sign(one.holds, word(one.holds, unknown))
    return tag("li", mark, tag("div", one.claim, ". ", tag("span", one.evidence, class_="note")), class_=style)
