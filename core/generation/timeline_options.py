"""Metronome and chart of a session, as a user gives them: on the command line, or as arguments in Python."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from attrs import frozen

from accomp.core.console import say, warn
from accomp.core.errors import DataError, PluginError, UserError
from accomp.core.generation.followers import FOLLOW, followed, follower_of, is_follow, set_chord_forecast
from accomp.core.music.annotations import Annotations, read_annotations
from accomp.core.music.charts import Chart, read_chart, source_of
from accomp.core.music.timelines import Source, sources, steady
from accomp.core.names import Naming, option
from accomp.core.registry import Registry
from accomp.core.runs.player import Player

OFF = "off"
AUTO = "auto"
"""Withhold what the model hears by itself. Else follow the input if the model takes the timeline and a follower is
installed; else withhold it, with a warning."""
METRONOME = (
    "120bpm, 90bpm/3 (beats a bar, else 4), 120bpm@0.35 (first downbeat, s), a file of annotations, follow, or off"
)
CHART = '"C Am F G", "| C Am | F |: G :|" or the like, a text file, follow, or off'
_STEADY = re.compile(
    r"(?P<bpm>\d+(?:\.\d+)?)\s*(?:bpm)?(?:/(?P<bar>\d+))?(?:@(?P<offset>-?\d+(?:\.\d+)?)s?)?", re.IGNORECASE
)


@frozen
class TimelineOptions:
    """A user's `metronome` and `chart`, in the words of METRONOME and CHART, or AUTO. `named`: for messages."""

    metronome: str = AUTO
    chart: str = AUTO
    named: Naming = option

    def sources(self, player: Player, registry: Registry) -> dict[str, Source]:
        """Make the timelines of a session of this player.

        Raises UserError for a metronome or chart that the model does not take or that cannot be parsed, DataError for a
        file without valid annotations, and PluginError for a missing follower.
        """
        return self._resolve(player, registry)._sources(player, registry)

    def _resolve(self, player: Player, registry: Registry) -> TimelineOptions:
        """Resolve AUTO."""
        options = {"metronome": self.metronome, "chart": self.chart}
        for name in (name for name, how in options.items() if how == AUTO):
            options[name] = OFF
            if name in player.model.conditions.heard:
                say(f"{name}: heard by the model's own ear; set {self.named(name)} to give the {name}, or to follow")
            elif name in player.model.timelines:
                try:
                    follower_of(name, FOLLOW, player.tokenizer.space.sample_rate, registry)
                except PluginError as error:
                    warn(f"the {name} is withheld, so the model plays worse than it can: {error} @ {self.named(name)}")
                else:
                    options[name] = FOLLOW
                    say(f"{name}: followed in the input; set {self.named(name)} to give the {name}, or to off")
        return TimelineOptions(**options, named=self.named)

    def _sources(self, player: Player, registry: Registry) -> dict[str, Source]:
        self._check(player)
        known = Annotations() if is_follow(self.metronome) else read_metronome(self.metronome, self.named)
        rate = player.tokenizer.space.frame_rate
        following = followed(player, registry, {"metronome": self.metronome, "chart": self.chart})
        set_chord_forecast(following, known.beats)
        timelines: dict[str, Source] = {**sources(player.model.timelines, known, rate), **following}
        if self.chart != OFF and not is_follow(self.chart):
            chart = chart_of(self.chart, self.named)
            try:
                timelines["chart"] = source_of(chart, known, rate)
            except ValueError as error:
                raise UserError(f"{error} @ {self.named('chart', self.chart)}") from None
            say(f"chart: {len(chart.bars)} bars, which begin again where the music goes on")
        return timelines

    def _check(self, player: Player) -> None:
        has = ", ".join(player.model.timelines) or "neither metronome nor chart"
        for name, word in (("metronome", self.metronome), ("chart", self.chart)):
            if word != OFF and name not in player.model.timelines:
                raise UserError(
                    f"the model takes no {name}; it takes {has}. Train one with [conditions] {name} = {{ drop = 0.2 }} "
                    f"@ {self.named(name, word)}"
                )


def read_metronome(words: str, named: Naming = option) -> Annotations:
    """Beats of a metronome. Raises UserError for words that are neither a tempo nor a file, DataError for a bad
    file.
    """
    if words == OFF:
        return Annotations()
    where = f"@ {named('metronome', words)}; expected {METRONOME}"
    if match := _STEADY.fullmatch(words.strip()):
        try:
            return steady(float(match["bpm"]), int(match["bar"] or 4), float(match["offset"] or 0))
        except (ValueError, ZeroDivisionError) as error:
            raise UserError(f"{error or 'a tempo of 0'} {where}") from None
    if not Path(words).is_file():
        raise UserError(f"neither a tempo nor a file {where}")
    return annotations_of(Path(words))


def annotations_of(path: Path) -> Annotations:
    """Read the annotations of a YAML or JSON file: a table of them, or a song's metadata.yaml. Raises DataError."""
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"unreadable annotations ({' '.join(str(error).split())}) @ {path}") from None
    table = data.get("annotations", data) if isinstance(data, dict) else data
    found, problems = read_annotations(table)
    if problems or found.beats is None:
        raise DataError(*(f"{why} @ {path}" for why in problems or ["no beats are known"]))
    return found


def chart_of(words: str, named: Naming = option) -> Chart:
    """Read a chart, typed or from a file. Raises UserError, naming the place of a mistake."""
    path = Path(words)
    try:
        is_file = path.is_file()
    except OSError:  # a long chart is not a valid file name
        is_file = False
    try:
        return read_chart(path.read_text(encoding="utf-8") if is_file else words)
    except (ValueError, OSError) as error:
        raise UserError(f"{error} @ {named('chart', words)}; expected {CHART}") from None
