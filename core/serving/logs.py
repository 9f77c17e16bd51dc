"""Event log of a server: a line of JSON for each event on stderr. It never contains audio or tokens."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

LOGGER = "accomp.serving"


def event(name: str, **fields: Any) -> None:
    """Log an event; `fields` are JSON-able."""
    logging.getLogger(LOGGER).info(json.dumps({"at": round(time.time(), 3), "event": name, **fields}))


def to_stderr() -> None:
    """Enable the log, which is off by default."""
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
