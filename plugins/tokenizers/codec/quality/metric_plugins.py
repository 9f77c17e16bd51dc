"""Metric plugins for codecs: the decoded sound is the take, the original its context and its true stem."""

from __future__ import annotations

import json
from typing import Any

from accomp.plugin import Advance, EmptyClip, Metric, PluginError, Registry, Take, Tokenizer, TokenSpace
from accomp.plugin.corpora import CLASSES
from accomp.plugin.sound import resample
from accomp.plugin.specs import Problems, strict_converter, structure_fields
from accomp.plugins.tokenizers.codec.quality.excerpts import MIXES, Music, Stretch

_GIVEN = frozenset({"truth"})
"""Optional fields of a take that are set here."""


def metric_named(text: str, registry: Registry, space: TokenSpace) -> Metric:
    """The metric NAME, or NAME={"key": value} with its configuration as JSON.

    Raises PluginError for a metric that is unknown, does not fit its configuration, or needs more than two sounds.
    """
    name, brace, config = text.partition("={")
    cls = registry.find("metric", name).load()
    if lacking := sorted(getattr(cls, "needs", frozenset()) - _GIVEN):
        raise PluginError(
            f"metric {name!r} cannot compare decoded and original: it needs {' and '.join(lacking)}, which only the "
            "takes of a model have @ --metric; `accomp evaluate` uses it"
        )
    try:
        values = json.loads(brace[1:] + config) if brace else {}
        made: Metric = cls(structure_fields(strict_converter(), values, cls.Config), space)
    except json.JSONDecodeError as error:
        raise PluginError(f"the configuration is not JSON: {error} @ --metric {text}") from error
    except Problems as problems:
        lines = (f"{'.'.join(map(str, path)) or name}: {what} @ --metric {text}" for path, what in problems.found)
        raise PluginError(*lines, f"""give its configuration as JSON: '{name}={{"key": value}}'""") from None
    return made


def score_by(metric: Metric, name: str, codec: Tokenizer, music: Music, advance: Advance) -> dict[str, Any]:
    """{"numbers": of all excerpts together, "judged": how many, "left_out": "group, excerpt: why" of the others}.

    Raises PluginError, with the first reasons, where the metric has no numbers of these excerpts.
    """
    left_out, judged = [], 0
    for i, excerpt in enumerate(music.excerpts):
        try:
            metric.update(_take(str(i), excerpt, codec, metric.sample_rate))
            judged += 1
        except ValueError as error:
            why = "nothing to judge, " if isinstance(error, EmptyClip) else ""
            left_out.append(f"{excerpt.group}, {excerpt.name}: {why}{error}")
        advance(1, note=f"{name}: {excerpt.group}, {excerpt.name}")
    try:
        numbers = metric.result()
    except ValueError as error:
        reasons = "; ".join(left_out[:3]) or str(error)
        raise PluginError(f"metric {name!r} has no numbers of these excerpts: {reasons} @ --metric") from error
    return {"numbers": numbers, "judged": judged, "left_out": left_out}


def _take(id: str, excerpt: Stretch, codec: Tokenizer, rate: int) -> Take:
    space = codec.space
    sound = excerpt.read(space.sample_rate)
    n = len(sound) - space.delay  # what follows would need frames after the end
    decoded = codec.decode(codec.encode(sound[None]))[0, :n].cpu().numpy()
    original, stem = (resample(x, space.sample_rate, rate) for x in (sound[:n].numpy(), decoded))
    instrument = excerpt.group if excerpt.group in CLASSES else "Unknown"
    stems = len(excerpt.sound.stems) if excerpt.group == MIXES else 1
    return Take(id, original, stem, rate, CLASSES.index(instrument), truth=original, stems=stems)
