"""What a page claims, each statement with a sign whether it holds and the numbers it rests on."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from accomp.core.pages.html import Html, tag

_SIGNS = {True: ("yes", "✓"), False: ("no", "✗"), None: ("open", "·")}


@frozen
class Claim:
    """`holds`: so it is (True), it is not (False), or nobody can tell (None)."""

    claim: str
    holds: bool | None
    evidence: str


def word(holds: bool | None, unknown: str) -> str:
    """Whether a claim holds, said; `unknown` where nobody can tell."""
    return unknown if holds is None else "holds" if holds else "does not hold"


def claims(found: Sequence[Claim], *, unknown: str) -> Html:
    """A list of them; `unknown` as in `word`."""
    return tag("ul", [_claim(one, unknown) for one in found], class_="checks")


def _claim(one: Claim, unknown: str) -> Html:
    style, sign = _SIGNS[one.holds]
    mark = tag("span", sign, class_="sign", role="img", aria_label=word(one.holds, unknown))
    return tag("li", mark, tag("div", one.claim, ". ", tag("span", one.evidence, class_="note")), class_=style)
