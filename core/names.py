"""Names in messages: normalised and escaped file names, suggestions for unknown names, settings."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Callable, Collection, Iterable

from accomp.core.music.instruments import CLASSES, from_name, readable

Naming = Callable[..., str]
"""`option` or `argument`: how messages name a setting and its value."""


def composed(name: str) -> str:
    """Normalise a name to Unicode NFC, as people type it; some file systems return the decomposed form."""
    return unicodedata.normalize("NFC", name)


def is_text(name: str) -> bool:
    """Test that a name's bytes are UTF-8, so that it can be written into a record."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def escaped(name: str | os.PathLike[str]) -> str:
    """Return a printable name, undecodable bytes as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def nearest(name: str, names: Iterable[str], *, what: str = "known", shown: Callable[[str], str] = str) -> str:
    """Return the end of an error message about an unknown name: the most similar known name, else all of them, as
    `shown`.
    """
    names = sorted(names)
    if close := difflib.get_close_matches(name, names, 1):
        return f"; did you mean {close[0]!r}?"
    return f"; {what}: {', '.join(map(shown, names)) or 'none'}"


def nearest_class(name: str, names: Collection[str] = CLASSES) -> str:
    """Return the end of an error message about a name that is not among the instrument classes `names`: the class that
    it means, the most similar one, or all of them.
    """
    meant = from_name(name)
    if meant is not None and CLASSES[meant] in names:
        return f"; did you mean {CLASSES[meant]!r}?"
    return nearest(name.title(), names, what="instruments", shown=readable)


def option(name: str, value: str = "") -> str:
    """A setting as the command line has it: --name value."""
    return f"--{name} {value}".rstrip()


def argument(name: str, value: str = "") -> str:
    """A setting as Python has it: name='value'."""
    return f"{name}={value!r}" if value else name
