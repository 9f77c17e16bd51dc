"""What a server logs: a line of JSON an event on stderr. Neither sound nor tokens are ever in it."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

LOGGER = "accomp.serving"


def event(name: str, **what: Any) -> None:
    """Log an event; `what` is JSON-able."""
    logging.getLogger(LOGGER).info(json.dumps({"at": round(time.time(), 3), "event": name, **what}))


def to_stderr() -> None:
    """Let events be seen; without it nothing is."""
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
