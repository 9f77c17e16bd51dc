"""Checksums of tracks, for the detection of damage."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from accomp.zarr_store.places import ObjectPath

RECORD = "record"
"""Key of the checksum of a track's own attributes, among those of its files."""


def sums_of(folder: Path) -> dict[str, str]:
    """Return path below a folder -> SHA-256, hex, of every file in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def sealed(attributes: dict[str, Any], sums: dict[str, str]) -> dict[str, Any]:
    """Add the checksums of a track's files, and of the attributes themselves, to its attributes."""
    return {**attributes, "checksums": {**sums, RECORD: sum_of(attributes)}}


def is_sealed(attributes: dict[str, Any]) -> bool:
    """Test that attributes match their checksum; True for attributes without one."""
    sums = attributes.get("checksums")
    return sums is None or (isinstance(sums, dict) and sums.get(RECORD) == sum_of(attributes))


def changed(folder: Path | ObjectPath, attributes: dict[str, Any]) -> list[str]:
    """Describe every mismatch of a track that has checksums, one line each.

    Raises PermissionError for unreadable files.
    """
    found = [] if is_sealed(attributes) else ["its record is not what was written"]
    sums = attributes["checksums"]
    for name, expected in sums.items() if isinstance(sums, dict) else ():
        if name == RECORD:
            continue
        try:
            data = folder.joinpath(*name.split("/")).read_bytes()
        except FileNotFoundError:
            found.append(f"{name} is gone")
        except PermissionError:
            raise
        except OSError as error:
            found.append(f"{name} cannot be read: {error.strerror}")
        else:
            if hashlib.sha256(data).hexdigest() != expected:
                found.append(f"{name} is not what was written ({len(data)} bytes)")
    return found


def sum_of(attributes: dict[str, Any]) -> str:
    """Hash attributes: SHA-256, hex, independent of order and spacing; `checksums` is excluded."""
    content = {name: value for name, value in attributes.items() if name != "checksums"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
