"""Output folders of earlier runs of a command, and their record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accomp.core.errors import DataError


def earlier(out: Path, record: str, keys: Sequence[str]) -> dict[str, Any] | None:
    """Read the file `record` of the folder `out`, which must have `keys`; None for an empty or missing folder.

    Raises DataError for any other folder and for an unreadable record.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; expected a folder to write to")
    path = out / record
    if not path.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise DataError(f"{out} is not empty and was not made by this command; name another folder")
        return None
    try:
        held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {**held, **{key: held[key] for key in keys}}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"unreadable record ({error}); delete the folder or name another @ {path}") from error
