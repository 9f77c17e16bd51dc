"""Slots of the runs that a server plays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from accomp.core.errors import CombinationError, PluginError
from accomp.core.interfaces import CausalSampler, DenoisedSampler
from accomp.core.music.instruments import MEMBERS
from accomp.core.registry import Registry
from accomp.core.runs.player import Player, check_streams, prepare_codec
from accomp.core.serving.playing.served_run import ServedRun
from accomp.core.streaming.audio_batch import AudioSessionBatch

TEMPERATURES = (0.0, 2.0)


def slots_of(player: Player, batch: int) -> AudioSessionBatch:
    """Make `batch` slots of a player. Raises CombinationError for a model that cannot stream."""
    check_streams(player)
    if not isinstance(player.sampler, CausalSampler | DenoisedSampler):
        raise CombinationError("a model that streams needs a sampler that draws step by step, or block by block")
    prepare_codec(player.tokenizer, player.runtime, player.device, batch)
    return AudioSessionBatch(
        player.tokenizer,
        player.model,
        player.sampler,
        batch,
        window=player.window,
        guidance=player.guidance,
        temperature=default_temperature(player),
        runtime=player.runtime,
    )


def default_temperature(player: Player) -> float:
    """Temperature of the run's sampler."""
    return float(getattr(player.sampler, "temperature", 1.0))


@frozen
class Followers:
    """Available followers. Attributes: available: timeline -> whether a follower is installed."""

    available: Mapping[str, bool]

    @classmethod
    def of(cls, registry: Registry) -> Followers:
        """Followers whose libraries are installed."""
        available = {"metronome": False, "chart": False}
        for row in registry.components("follower"):
            try:
                available[row.load().follows] = True
            except PluginError:
                continue
        return cls(available)


def card(run: ServedRun, followers: Followers) -> dict[str, Any]:
    """Description of a model for a page."""
    player, space, clock = run.player, run.slots.space, run.slots.clock
    frame = 1000 / space.frame_rate
    low, high = TEMPERATURES
    dials = {"temperature": {"min": low, "max": high, "default": default_temperature(player)}}
    timelines = player.model.timelines
    return {
        "name": run.name,
        "t_f_ms": clock.t_f * frame,
        "k_ms": clock.k * frame,
        "rate": space.sample_rate,
        "instruments": list(run.instruments),
        "members": {name: MEMBERS[name] for name in run.instruments if name in MEMBERS},
        "dials": dials if run.slots.slots.has_temperature else {},
        "metronome": "metronome" in timelines,
        "chart": "chart" in timelines,
        "followers": {name: ok and name in timelines for name, ok in followers.available.items()},
        "hears": list(player.model.conditions.heard),
    }
