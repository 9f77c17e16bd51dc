"""Files of a folder by glob patterns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def matching(root: Path, patterns: Sequence[str]) -> dict[Path, int]:
    """Files below `root` -> number of the first pattern that each matches.

    Files that are hidden, or in a hidden folder, are not finished yet, or not music, and are left out.
    """
    found: dict[Path, int] = {}
    for number, pattern in enumerate(patterns):
        for path in root.glob(pattern):
            hidden = any(part.startswith(".") and part != ".." for part in path.relative_to(root).parts)
            if path.is_file() and not hidden:
                found.setdefault(path, number)
    return found
