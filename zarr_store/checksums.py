"""Checksums by which a track knows whether it still is what was written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

RECORD = "record"
"""Name under which the checksum of the track's own attributes stands among those of its files."""


def sums_of(folder: Path) -> dict[str, str]:
    """Path below a folder -> SHA-256, hex, of every file in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def sealed(attributes: dict[str, Any], sums: dict[str, str]) -> dict[str, Any]:
    """A track's attributes with the checksums of its files, and one of themselves."""
    return {**attributes, "checksums": {**sums, RECORD: sum_of(attributes)}}


def sum_of(attributes: dict[str, Any]) -> str:
    """SHA-256, hex, of attributes in whatever order and spacing a file has them; `checksums` does not count."""
    held = {name: value for name, value in attributes.items() if name != "checksums"}
    return hashlib.sha256(json.dumps(held, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
