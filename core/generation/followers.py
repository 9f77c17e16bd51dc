"""Followers of timelines in the input: their choice, and a report at the end."""

from __future__ import annotations

from collections.abc import Mapping

from accomp.core.errors import PluginError
from accomp.core.interfaces import Follower
from accomp.core.music.annotations import Beats
from accomp.core.music.timelines import Source
from accomp.core.names import nearest
from accomp.core.registry import Registry
from accomp.core.runs.player import Player, check_streams
from accomp.core.spec.parsing import strict_converter
from accomp.core.streaming.chord_forecast import ChordForecast
from accomp.core.streaming.followed_timeline import FollowedTimeline

FOLLOW = "follow"


def is_follow(option: str) -> bool:
    """Whether a user's word is "follow", or "follow:NAME" with the name of a follower."""
    return option == FOLLOW or option.startswith(f"{FOLLOW}:")


def followed(player: Player, registry: Registry, options: Mapping[str, str]) -> dict[str, FollowedTimeline]:
    """Followed timelines of one session, for each word that is "follow" or "follow:NAME"; other words are skipped.

    Raises CombinationError for a model that cannot stream, PluginError for an unknown follower or a missing library.
    """
    space = player.tokenizer.space
    return {
        name: FollowedTimeline(name, follower_of(name, how, space.sample_rate, registry), check_streams(player), space)
        for name, how in options.items()
        if is_follow(how)
    }


def set_chord_forecast(following: Mapping[str, FollowedTimeline], counted: Beats | None) -> None:
    """Forecast followed chords by the followed beats, or else by the beats that are `counted` from a session's
    start.
    """
    if "chart" in following:
        chart, metronome = following["chart"], following.get("metronome")

        def beats(chunk: int) -> Beats | None:
            return counted if metronome is None else metronome.known(chunk).beats

        chart.forecast = ChordForecast(beats, chart.space.frame_rate, chart.clock.k)


def follower_of(timeline: str, how: str, sample_rate: int, registry: Registry) -> Follower:
    """Make the follower of a timeline that "follow:NAME" names, or the first one by name. Raises PluginError."""
    classes = {row.name: row.load() for row in registry.components("follower")}
    fit = {name: cls for name, cls in classes.items() if cls.follows == timeline}
    chosen = how.partition(":")[2] or next(iter(sorted(fit)), "")
    if chosen not in fit:
        raise PluginError(f"no follower of the {timeline} is called {chosen!r}{nearest(chosen, fit)}")
    follower: Follower = fit[chosen](
        config=strict_converter().structure({}, fit[chosen].Config), sample_rate=sample_rate
    )
    return follower


def follow_report(timelines: Mapping[str, Source]) -> list[str]:
    """Report each followed timeline at the end of a stream, a line each."""
    return [_summary_line(source) for source in timelines.values() if isinstance(source, FollowedTimeline)]


def _summary_line(source: FollowedTimeline) -> str:
    summary = source.summary()
    if summary.since is None:
        nothing = {"metronome": "no beat was found", "chart": "no chord was found"}[source.name]
        return f"{source.name}: {nothing} in {summary.seconds:.1f} s of input; it was withheld all the time"
    line = f"{source.name}: followed from {summary.since:.1f} s on, withheld before"
    if summary.last.beats is not None:
        first, second = summary.last.beats.times[:2]
        line += f"; at the end {60 / (second - first):.1f} beats a minute"
    if summary.last.chords:
        line += f"; at the end {summary.last.chords[-1].chord}"
    return line
