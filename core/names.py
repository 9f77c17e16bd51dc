"""Names of files and folders as text: one form for names that look alike, and words for those that are no text."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Iterable


def composed(name: str) -> str:
    """A name with its accents composed (Unicode NFC), as people type it; some disks hand out the decomposed form."""
    return unicodedata.normalize("NFC", name)


def is_text(name: str) -> bool:
    """Whether a name's bytes are UTF-8, so that it can be written into a record."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def escaped(name: str | os.PathLike[str]) -> str:
    """A name for people, with bytes that are no text as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def nearest(name: str, names: Iterable[str], *, what: str = "known") -> str:
    """The end of an error message about an unknown name: the likeliest one meant, else all of them."""
    names = sorted(names)
    if close := difflib.get_close_matches(name, names, 1):
        return f"; did you mean {close[0]!r}?"
    return f"; {what}: {', '.join(names) or 'none'}"
