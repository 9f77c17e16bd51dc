"""Timelines that are followed in the input: who follows them, and what is said of it at the end."""

from __future__ import annotations

from collections.abc import Mapping

from accomp.core.errors import PluginError
from accomp.core.interfaces import Follower
from accomp.core.music.annotations import Beats
from accomp.core.music.timelines import Source
from accomp.core.names import nearest
from accomp.core.registry import Registry
from accomp.core.runs.run import Player, check_streams
from accomp.core.spec.parsing import strict_converter
from accomp.core.streaming.chord_forecast import ChordForecast
from accomp.core.streaming.followed_timeline import FollowedTimeline

FOLLOW = "follow"


def is_follow(asked: str) -> bool:
    """Whether a user asks for "follow", or "follow:NAME" with the name of a follower."""
    return asked == FOLLOW or asked.startswith(f"{FOLLOW}:")


def followed(player: Player, registry: Registry, asked: Mapping[str, str]) -> dict[str, FollowedTimeline]:
    """For each timeline of which "follow" or "follow:NAME" is asked what follows it, for one session at a time; words
    that ask for something else are passed over.

    Raises CombinationError for a model that cannot stream, PluginError where there is no such follower or its library
    is missing.
    """
    space = player.tokenizer.space
    return {
        name: FollowedTimeline(name, follower_of(name, how, space.sample_rate, registry), check_streams(player), space)
        for name, how in asked.items()
        if is_follow(how)
    }


def carry_chords(following: Mapping[str, FollowedTimeline], counted: Beats | None) -> None:
    """Let the chords that are followed come again by the beats that are followed, or else by those that are `counted`
    from a session's beginning on."""
    if "chart" in following:
        chart, metronome = following["chart"], following.get("metronome")

        def beats(chunk: int) -> Beats | None:
            return counted if metronome is None else metronome.known(chunk).beats

        chart.forecast = ChordForecast(beats, chart.space.frame_rate, chart.clock.k)


def follower_of(timeline: str, how: str, sample_rate: int, registry: Registry) -> Follower:
    """The follower of a timeline that "follow:NAME" names, or the first one by name. Raises PluginError."""
    classes = {row.name: row.load() for row in registry.components("follower")}
    fit = {name: cls for name, cls in classes.items() if cls.follows == timeline}
    wanted = how.partition(":")[2] or next(iter(sorted(fit)), "")
    if wanted not in fit:
        raise PluginError(f"no follower of the {timeline} is called {wanted!r}{nearest(wanted, fit)}")
    made: Follower = fit[wanted](config=strict_converter().structure({}, fit[wanted].Config), sample_rate=sample_rate)
    return made


def how_it_went(told: Mapping[str, Source]) -> list[str]:
    """At the end of a stream, a line for each timeline that was followed."""
    return [_went(source) for source in told.values() if isinstance(source, FollowedTimeline)]


def _went(source: FollowedTimeline) -> str:
    listened = source.summary()
    if listened.since is None:
        nothing = {"metronome": "no beat was found", "chart": "no chord was heard"}[source.name]
        return f"{source.name}: {nothing} in {listened.seconds:.1f} s of input; it was withheld all the time"
    line = f"{source.name}: followed from {listened.since:.1f} s on, withheld before"
    if listened.last.beats is not None:
        first, second = listened.last.beats.times[:2]
        line += f"; at the end {60 / (second - first):.1f} beats a minute"
    if listened.last.chords:
        line += f"; at the end {listened.last.chords[-1].chord}"
    return line
