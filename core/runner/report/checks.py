"""What a run is expected to show, and whether it does: each statement with the numbers it rests on."""

from __future__ import annotations

from typing import Any

from accomp.core.pages.claims import Claim
from accomp.core.runner.report.data import RunData

LISTENING = 0.01
"""Nats a token that the true context must be worth: less is what an untrained model shows by chance."""


def checks(data: RunData) -> list[Claim]:
    """Every check, in the order of the stages."""
    live = [_streams(data), _keeps_up(data)] if data.streams else []
    return [_learned(data), _beats_frequencies(data), _listens(data), *live, *_anchors(data)]


def _learned(data: RunData) -> Claim:
    claim = "Training lowered the validation loss"
    validations = data.losses_of("validation")
    if len(validations) < 2:
        return Claim(claim, None, "no validation after training yet: accomp train")
    first, last = validations[0], validations[-1]
    text = f"untrained {first['loss']:.2f}, after {last['step']:,} steps {last['loss']:.2f} nats per token"
    return Claim(claim, last["loss"] < first["loss"], text)


def _beats_frequencies(data: RunData) -> Claim:
    claim = "It predicts held-out songs better than code frequencies alone"
    validations, unigram = data.losses_of("validation"), data.losses_of("unigram")
    if len(validations) < 2 or not unigram:
        return Claim(claim, None, "no validation after training yet: accomp train")
    model, frequencies = validations[-1]["loss"], unigram[-1]["loss"]
    return Claim(claim, model < frequencies, f"{model:.2f} against {frequencies:.2f} nats per token")


def _listens(data: RunData) -> Claim:
    claim = "The model listens: another song's context makes its prediction worse"
    gains = [record for record in data.losses_of("validation") if record.get("context_gain") is not None]
    if not gains or gains[-1]["step"] == 0:
        return Claim(claim, None, "not measured yet")
    gain = gains[-1]["context_gain"]
    text = f"the loss rises by {gain:.3f} nats per token with another song's context; {LISTENING} at least would tell"
    return Claim(claim, gain >= LISTENING, text)


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
