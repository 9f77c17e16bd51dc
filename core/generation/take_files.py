"""The files of a take, with their sizes and hashes on record, so that changed files are never scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accomp.core.errors import WorkError
from accomp.core.files import hash_file
from accomp.core.trouble import raise_trouble

TAKE = "take.json"


def files_in(folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> size and SHA-256 of each file in a folder but take.json, which records them."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": hash_file(path)}
        for path in sorted(folder.iterdir())
        if path.name != TAKE
    }


def read_take(folder: Path) -> dict[str, Any] | None:
    """Read the record of the take in a folder; None if it is missing or broken. Raises errors of the machine."""
    try:
        record = json.loads((folder / TAKE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise_trouble(error)
        return None
    return record if isinstance(record, dict) else None


def changed_in(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """Files of a take that differ from its record, a line each; takes of earlier versions can only lack files.

    Raises errors of the machine.
    """
    changed = []
    for name, expected in files_of(record).items():
        path = folder / name
        if not path.is_file():
            changed.append(f"{name} is gone")
        elif expected and (size := path.stat().st_size) != expected["bytes"]:
            changed.append(f"{name} has {size} bytes of {expected['bytes']}")
        elif expected and hash_file(path) != expected["sha256"]:
            changed.append(f"{name} is not what was made")
    return changed


def files_of(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> size and SHA-256, from the record of a take; only names in takes of earlier versions."""
    if isinstance(record.get("files"), dict):
        return dict(record["files"])
    made_from = record.get("made_from", {})
    names = ["context", "stem", "true", "mix", *(name for name in ("heard", "deaf") if name in made_from)]
    return {f"{name}.wav": {} for name in names}


def takes_of(run: Path, made: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Records of the takes that `made`, the content of takes.json, lists, each with its `folder`.

    Raises WorkError, with all of them and the cure, for takes that differ from their records.
    """
    takes, problems = [], []
    for id in made["takes"]:
        folder = run / "takes" / id
        record = read_take(folder)
        if record is None:
            wrong = [f"{TAKE} is gone or broken"]
        elif made.get("sha256", {}).get(id) not in (None, hash_file(folder / TAKE)):
            wrong = [f"{TAKE} is not what was made"]
        else:
            wrong = changed_in(folder, record)
            takes.append({**record, "folder": folder})
        if wrong:
            problems.append(f"take '{id}': {', '.join(wrong)} @ {folder}")
    if problems:
        cure = "run `accomp generate SPEC`, which makes them again and keeps the others"
        raise WorkError("\n".join((*problems, f"{len(problems)} of {len(made['takes'])} takes are damaged; {cure}")))
    return takes


def identity_of_takes(made: Mapping[str, Any]) -> str:
    """A hash that changes with any take that takes.json lists; "" for a list of an earlier version."""
    hashes = made.get("sha256")
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest() if hashes is not None else ""
