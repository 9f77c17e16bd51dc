"""What a run is expected to show, and whether it does: each statement with the numbers it rests on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accomp.core.evaluation.statistics import differences
from accomp.core.pages.claims import Claim
from accomp.core.report.data import RunData

LISTENING = 0.01
"""Nats a token (of latents: squared error) that the true context must be worth: less is what an untrained model shows
by chance."""
FEWEST = 6
"""Clips below which nothing is claimed: of five pairs not even five of a sign are unlikely (2 / 2^5 = 0.06)."""
UNSURE = "; with so few clips it cannot be told"


def checks(data: RunData) -> list[Claim]:
    """Every check, in the order of the stages."""
    live = [_streams(data), _keeps_up(data)] if data.streams else []
    played = _played(data.metrics) if data.metrics else []
    elsewhere = data.takes and not data.losses  # a model that comes along has no losses to show
    learned = [] if elsewhere else [_learned(data), _beats_frequencies(data), _worth(data)]
    return [*learned, *played, *live, *_anchors(data)]


def _learned(data: RunData) -> Claim:
    claim = "Training lowered the validation loss"
    validations = data.losses_of("validation")
    if len(validations) < 2:
        return Claim(claim, None, "no validation after training yet: accomp train")
    first, last = validations[0], validations[-1]
    text = f"untrained {first['loss']:.2f}, after {last['step']:,} steps {last['loss']:.2f} {data.unit}"
    return Claim(claim, last["loss"] < first["loss"], text)


def _beats_frequencies(data: RunData) -> Claim:
    validations, unigram = data.losses_of("validation"), data.losses_of("unigram")
    what = unigram[-1].get("what", "code frequencies alone") if unigram else "code frequencies alone"
    claim = f"It predicts held-out songs better than {what}"
    if len(validations) < 2 or not unigram:
        return Claim(claim, None, "no validation after training yet: accomp train")
    model, frequencies = validations[-1]["loss"], unigram[-1]["loss"]
    return Claim(claim, model < frequencies, f"{model:.2f} against {frequencies:.2f} {data.unit}")


def _worth(data: RunData) -> Claim:
    claim = "The context is worth something to its prediction: another song's makes that worse"
    gains = [record for record in data.losses_of("validation") if record.get("context_gain") is not None]
    if not gains or gains[-1]["step"] == 0:
        return Claim(claim, None, "not measured yet")
    gain = gains[-1]["context_gain"]
    text = f"the loss rises by {gain:.3f} {data.unit} with another song's context; {LISTENING} at least would tell"
    return Claim(claim, gain >= LISTENING, text)


def _played(metrics: dict[str, Any]) -> list[Claim]:
    """What a player is asked for, by every number of a metric that answers."""
    found = []
    for metric, one in next(iter(metrics["cells"].values()), {"metrics": {}})["metrics"].items():
        for number, what in one.get("answers", {}).items():
            found += [_beside_random(metrics, what, metric, number), *_by_ear(metrics, what, metric, number)]
    return found


def _beside_random(metrics: dict[str, Any], what: str, metric: str, number: str) -> Claim:
    """Better than another song's stem, surely: the intervals of the two do not touch. Better is where the truth is."""
    claim = f"It plays {what}, more than a stem of another song"
    cells = ("model", "random_pairing", "true_stem")
    model, random, true = (cell_number(metrics, cell, metric, number) for cell in cells)
    if model is None or random is None or true is None:
        return Claim(claim, None, f"not judged: {metric} of the model, random pairing and the true stem")
    share = (model["value"] - random["value"]) / ((true["value"] - random["value"]) or math.inf)
    text = (
        f"{number} {_span(model)}, random pairing {_span(random)}, true stem {true['value']:.2f}: "
        f"{100 * share:.0f} % of the way"
    )
    if model["low"] is None or random["low"] is None:
        return Claim(claim, None, f"{text}; too few clips to tell")
    lower, upper = (random, model) if true["value"] > random["value"] else (model, random)
    clips = metrics["cells"]["model"]["metrics"][metric]["scored"]
    return _distinguishable(claim, text, clips, better=lower["high"] < upper["low"], worse=upper["high"] < lower["low"])


def _by_ear(metrics: dict[str, Any], what: str, metric: str, number: str) -> list[Claim]:
    """Whether it plays so because it hears its context: worse to the same context when it hears another song."""
    claim = f"It listens to be {what}: deaf to its context it plays worse to it"
    takes = {name: _each(metrics, name, metric, number) for name in ("model", "deaf")}
    if not takes["model"]:
        return []  # a number over all takes together says nothing of one
    if not takes["deaf"]:
        return [Claim(claim, None, "not played deaf: [generate] deaf = true")]
    true, random = (cell_number(metrics, cell, metric, number) for cell in ("true_stem", "random_pairing"))
    found = differences(takes, np.random.default_rng(0))
    if not found or found[0].low is None or found[0].high is None or true is None or random is None:
        return [Claim(claim, None, "too few clips to tell")]
    one, low, high = found[0], found[0].low, found[0].high
    text = f"{number} {one.mean:+.2f} [{low:+.2f}, {high:+.2f}] when it hears it, over {one.clips} clips, told the same"
    better, worse = (low > 0, high < 0) if true["value"] > random["value"] else (high < 0, low > 0)
    return [_distinguishable(claim, text, one.clips, better=better, worse=worse)]


def _distinguishable(claim: str, text: str, clips: int, *, better: bool, worse: bool) -> Claim:
    """Holds where it is surely better, does not where it is surely worse; nobody can tell of too few clips."""
    if clips >= FEWEST and (better or worse):
        return Claim(claim, better, text)
    return Claim(claim, None, text + UNSURE)


def _each(metrics: dict[str, Any], cell: str, metric: str, number: str) -> dict[str, float]:
    """Clip -> the number of each alone; none where the cell is not judged."""
    if cell not in metrics["cells"]:
        return {}
    takes = metrics["cells"][cell]["metrics"][metric]["takes"]
    return {id: numbers[number] for id, numbers in takes.items() if number in numbers}


def _span(number: dict[str, Any]) -> str:
    text = f"{number['value']:.2f}"
    return text if number["low"] is None else f"{text} [{number['low']:.2f}, {number['high']:.2f}]"


def _streams(data: RunData) -> Claim:
    claim = "Streamed equals offline: any split of the input gives the same tokens"
    if not data.takes:
        return Claim(claim, None, "no takes yet: accomp generate")
    same = sum(take["streamed_equals_offline"] for take in data.takes)
    return Claim(claim, same == len(data.takes), f"{same} of {len(data.takes)} takes")


def _keeps_up(data: RunData) -> Claim:
    claim = "A step takes less time than the frames it plays"
    if not data.takes:
        return Claim(claim, None, "no takes yet: accomp generate")
    limit, times = data.step_limit, data.step_times
    within = sum(time <= limit for time in times) / len(times)
    slowest = max(take["timings"]["real_time_factor"] for take in data.takes)
    text = f"{100 * within:.1f} % of {len(times):,} steps within {limit:g} ms; real-time factor at most {slowest:.2f}"
    return Claim(claim, slowest < 1 and within >= 0.99, text)


def _anchors(data: RunData) -> list[Claim]:
    if data.metrics is None:
        return [Claim("The anchors come out in the right order", None, "not evaluated yet: accomp evaluate")]
    found = []
    for metric, number, best in judged_numbers(data.metrics):
        claim = f"The anchors come out in the right order: {number}"
        true, random = (cell_number(data.metrics, cell, metric, number) for cell in ("true_stem", "random_pairing"))
        if true is None or random is None:
            found.append(Claim(claim, None, "an anchor has no scored clip"))
            continue
        text = f"true stem {true['value']:.2f}, random pairing {random['value']:.2f}"
        if model := cell_number(data.metrics, "model", metric, number):
            text += f", the model {model['value']:.2f}"
        found.append(Claim(claim, abs(true["value"] - best) < abs(random["value"] - best), text))
    return found


def judged_numbers(metrics: dict[str, Any]) -> list[tuple[str, str, float]]:
    """(metric, number, its best value) of every number for which a metric states its best value."""
    cell: dict[str, Any] = next(iter(metrics["cells"].values()), {"metrics": {}})
    return [(name, number, best) for name, one in cell["metrics"].items() for number, best in one["best"].items()]


def cell_number(metrics: dict[str, Any], cell: str, metric: str, number: str) -> dict[str, Any] | None:
    """{"value", "low", "high"} of a number in a cell, None where no clip was scored, or the cell is not judged."""
    if cell not in metrics["cells"]:
        return None
    found: dict[str, Any] | None = metrics["cells"][cell]["metrics"][metric]["numbers"].get(number)
    return found
