"""Short names of the licences of files in Debian packages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

_MACHINE_READABLE = "copyright-format/1.0"
_NOTICES = ("license.txt", "licence.txt", "LICENSE", "COPYING")
_NAMED = (  # how licences are named in prose -> short name; \1, \2 are what was captured
    (r"\b(CC)[ -](BY(?:-[A-Z]{2})*)[ -](\d\.\d)", r"\1-\2-\3"),
    (r"GNU\s+General\s+Public\s+License,?\s+(?:\(GPL\)\s+)?[Vv]ersion\s+(\d)[,\s]+or\s+(?:any\s+)?later", r"GPL-\1+"),
    (
        r"GNU\s+General\s+Public\s+License\s+(?:as\s+published\s+by\s+the\s+Free\s+Software\s+Foundation[;,]?\s+)?"
        r"(?:either\s+)?version\s+(\d)\s+(?:of\s+the\s+License,\s+)?or\s+(?:\(?at\s+your\s+option\)?\s+)?any\s+later",
        r"GPL-\1+",
    ),
    (r"GNU\s+General\s+Public\s+License,?\s+version\s+(\d)", r"GPL-\1"),
    (r"\b(CC0)[ -](1\.0)", r"\1-\2"),
)


def licence_of(package: str, unpacked: Path, file: PurePosixPath) -> str:
    """Return the licence of `file`, a path below the folder of the unpacked `package` (one in an archive: as if the
    archive's content lay beside it).

    A license.txt beside the file comes first; of its paragraphs, those that name the file. Then the package's copyright
    file: where it is machine-readable, the last paragraph that matches the file's path (Debian's copyright format 1.0:
    https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/), else the first licence named in its
    prose. Otherwise the location of the text.
    """
    for name in _NOTICES:
        notice = unpacked / file.parent / name
        if notice.is_file():
            return _of_notice(_text(notice), file.stem) or f"see {notice.relative_to(unpacked)}"
    statement = unpacked / "usr/share/doc" / package / "copyright"
    if not statement.is_file():
        return "unstated"
    text = _text(statement)
    found = _of_paragraphs(text, file) if _MACHINE_READABLE in text[:200] else named(text)
    return found or f"see {statement.relative_to(unpacked)}"


def named(text: str) -> str | None:
    """Return the short name of the first known licence in a text, or None."""
    found = [(match.start(), match.expand(short)) for like, short in _NAMED if (match := re.search(like, text))]
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _of_notice(text: str, stem: str) -> str | None:
    about = [part for part in re.split(r"\n\s*\n", text) if stem in part]
    return named("\n\n".join(about)) or named(text)


def _of_paragraphs(text: str, file: PurePosixPath) -> str | None:
    licence = None
    for patterns, short in _paragraphs(text):
        if any(fnmatchcase(f"/{file}", f"*/{pattern}") for pattern in patterns):
            licence = short
    return licence


def _paragraphs(text: str) -> Iterator[tuple[list[str], str]]:
    """Yield (file patterns, licence) of the Files paragraphs."""
    for paragraph in re.split(r"\n(?:[ \t]*\n)+", text):
        files = re.search(r"^Files:((?:.|\n[ \t])*)", paragraph, re.MULTILINE)
        licence = re.search(r"^License:[ \t]*(\S.*)$", paragraph, re.MULTILINE)
        if files and licence:
            yield files[1].split(), licence[1].strip()
