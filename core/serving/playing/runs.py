"""The runs that a server plays, each in slots of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from accomp.core.errors import CombinationError, PluginError
from accomp.core.interfaces import CausalSampler
from accomp.core.registry import Registry
from accomp.core.runs.player import Player, check_streams, prepare_codec
from accomp.core.serving.playing.stage import Stage
from accomp.core.streaming.audio_batch import AudioSessionBatch

TEMPERATURES = (0.0, 2.0)


def slots_of(player: Player, batch: int) -> AudioSessionBatch:
    """As many slots of a player. Raises CombinationError for a model that cannot stream."""
    check_streams(player)
    if not isinstance(player.sampler, CausalSampler):
        raise CombinationError("a model that streams has a sampler that draws step by step")
    prepare_codec(player.tokenizer, player.runtime, player.device, batch)
    return AudioSessionBatch(
        player.tokenizer,
        player.model,
        player.sampler,
        batch,
        window=player.window,
        guidance=player.guidance,
        temperature=usual_temperature(player),
        runtime=player.runtime,
    )


def usual_temperature(player: Player) -> float:
    """That of the run's sampler."""
    return float(getattr(player.sampler, "temperature", 1.0))


@frozen
class Followers:
    """What can be followed. Attributes: there: timeline -> whether something here can follow it in the input."""

    there: Mapping[str, bool]

    @classmethod
    def of(cls, registry: Registry) -> Followers:
        """Those whose libraries are installed."""
        there = {"metronome": False, "chart": False}
        for row in registry.components("follower"):
            try:
                there[row.load().follows] = True
            except PluginError:
                continue
        return cls(there)


def card(stage: Stage, followers: Followers) -> dict[str, Any]:
    """What a page is told of a model."""
    player, space, clock = stage.player, stage.slots.space, stage.slots.clock
    frame = 1000 / space.frame_rate
    low, high = TEMPERATURES
    dials = {"temperature": {"min": low, "max": high, "default": usual_temperature(player)}}
    timelines = player.model.timelines
    return {
        "name": stage.name,
        "t_f_ms": clock.t_f * frame,
        "k_ms": clock.k * frame,
        "rate": space.sample_rate,
        "instruments": list(stage.instruments),
        "dials": dials if stage.slots.slots.has_temperature else {},
        "metronome": "metronome" in timelines,
        "chart": "chart" in timelines,
        "followers": {name: there and name in timelines for name, there in followers.there.items()},
    }
