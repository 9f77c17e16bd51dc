"""Nothing calls home: what libraries would tell their makers is switched off before any of them is imported."""

from __future__ import annotations

import os

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime looks up a server as soon as it is imported
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
}
"""Environment variables that turn off the telemetry of libraries that accomp may import; processes inherit them."""


def switch_off() -> None:
    """Set SWITCHES in this process, where its user has not set them."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
