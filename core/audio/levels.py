"""Thresholds of level, in a module without numpy, so that a spec is read, and help given, without it."""

from __future__ import annotations

SILENCE_DB = -60.0
"""Default threshold: frames at or below this A-weighted level (dB re full scale) are silent."""
FLOOR_DB = -100.0
"""Lower bound of all levels."""
