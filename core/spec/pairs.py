"""Rules for training pairs of mixture and target and for their windows, as a spec has them.

    target     any stem that sounds and whose class is not among `never_targets`
    mixture    the mean of N_in of the N - 1 other stems, N_in ~ U{1 .. N - 1}, or of all of them
    window     kept where the target, and at least one stem of the mixture with it, sound in enough of its frames

A stem sounds in a frame where its A-weighted level (core/audio/loudness.py) is above `silence_db`. core/data/windows.py
applies the rules; this module computes nothing, so that reading a spec stays light.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import attrs
from attrs import field, frozen
from attrs import validators as v

from accomp.core.audio.levels import FLOOR_DB, SILENCE_DB
from accomp.core.music.instruments import CLASSES, NOT_TARGETS
from accomp.core.names import nearest_class

INGESTED = ("inputs", "never_targets", "silence_db")
"""Rules by which pairs are made and stored; the others select windows when a store is read."""


def _are_classes(_: Any, attribute: attrs.Attribute, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in CLASSES:
            raise ValueError(f"{attribute.name}: no instrument class is called {name!r}{nearest_class(name)}")


@frozen
class PairRules:
    """[pairs] of a spec.

    Attributes:
        inputs: number of stems of a mixture: "uniform", as in the streaming paper, or "all" the others, as in its code.
        never_targets: instrument classes that are input only, never targets.
        silence_db: a frame whose level is this or lower is silent (dB re full scale). A stem with silent frames only is
            left out of its song.
        sounding: least share of a window's frames in which target and mixture must sound, both at once.
        overlap: share of a window that the next one has in common with it.
    """

    inputs: Literal["uniform", "all"] = "uniform"
    never_targets: tuple[str, ...] = field(
        default=tuple(CLASSES[number] for number in sorted(NOT_TARGETS)), validator=_are_classes
    )
    silence_db: float = field(default=SILENCE_DB, validator=v.and_(v.ge(FLOOR_DB), v.lt(0.0)))
    sounding: float = field(default=0.5, validator=v.and_(v.ge(0.0), v.le(1.0)))
    overlap: float = field(default=0.5, validator=v.and_(v.ge(0.0), v.lt(1.0)))

    def ingested(self) -> dict[str, Any]:
        """Return the rules that a store records, JSON-able; equal rules give equal values."""
        return {name: getattr(self, name) for name in INGESTED} | {"never_targets": sorted(set(self.never_targets))}

    def may_be_target(self, instrument: int) -> bool:
        """Test that stems of an instrument class, given by its number, may be targets."""
        return CLASSES[instrument] not in self.never_targets

    def members(self, others: Sequence[str], seed: int, track_id: str, target: str, draw: int) -> tuple[str, ...]:
        """Select the stems among `others` that form one of a target's mixtures, in their given order."""
        return tuple(others) if self.inputs == "all" else draw_members(others, seed, track_id, target, draw)


def draw_members(others: Sequence[str], seed: int, track_id: str, target: str, draw: int) -> tuple[str, ...]:
    """Draw N_in ~ U{1 .. len(others)} of the others, in their given order.

    The draw is a hash of the arguments, independent of other tracks and of the order of work.
    """

    def number(what: str) -> int:
        text = "\0".join((str(seed), track_id, target, str(draw), what))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

    count = 1 + number("count") % len(others)
    chosen = sorted(others, key=lambda name: number(f"stem\0{name}"))[:count]
    return tuple(name for name in others if name in chosen)
