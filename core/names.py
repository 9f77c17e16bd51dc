"""Names of files and folders as text: one form for names that look alike, and words for those that are no text."""

from __future__ import annotations

import os
import unicodedata


def composed(name: str) -> str:
    """A name with its accents composed (Unicode NFC), as people type it; some disks hand out the decomposed form."""
    return unicodedata.normalize("NFC", name)


def is_text(name: str) -> bool:
    """Whether a name's bytes are UTF-8, so that it can be written into a record."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def escaped(name: str | os.PathLike[str]) -> str:
    """A name for people, with bytes that are no text as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
