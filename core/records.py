"""Reading of JSON records with errors that name the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from accomp.core.errors import DataError, UserError


def read_record(path: Path, cure: str, *, missing: str = "", error: type[UserError] = DataError) -> dict[str, Any]:
    """Read the JSON object in a file. Raises `error`, with the `cure`, where there is none.

    missing: the message, instead, where the file does not exist.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as why:
        if missing and isinstance(why, FileNotFoundError):
            raise error(f"{missing} @ {path}") from why
        raise error(f"cannot read: {why}; {cure} @ {path}") from why
    if not isinstance(data, dict):
        raise error(f"expected a JSON object, got {type(data).__name__}; {cure} @ {path}")
    return data
