"""Checks of a run beside its questions: training, streaming and the order of the anchors, with their evidence."""

from __future__ import annotations

from accomp.core.pages.claims import Claim
from accomp.core.report.data import RunData
from accomp.core.report.numbers import cell_number, judged_numbers

LISTENING = 0.01
"""Nats a token (of latents: squared error) that the true context must gain: an untrained model may reach less
by chance."""


def checks(data: RunData) -> list[Claim]:
    """Return every check, in the order of the stages."""
    imported = data.takes and not data.losses  # a model that comes along has no losses to show
    learned = [] if imported else [_learned(data), _beats_frequencies(data), _worth(data)]
    return [*learned, *([_streams(data)] if data.streams else []), *_anchors(data)]


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
    claim = "The context lowers the loss: another song's context raises it"
    gains = [record for record in data.losses_of("validation") if record.get("context_gain") is not None]
    if not gains or gains[-1]["step"] == 0:
        return Claim(claim, None, "not measured yet")
    gain = gains[-1]["context_gain"]
    text = f"by {gain:.3f} {data.unit}; at least {LISTENING} counts"
    return Claim(claim, gain >= LISTENING, text)


def _streams(data: RunData) -> Claim:
    claim = "Streamed equals offline: any split of the input gives the same tokens"
    if not data.takes:
        return Claim(claim, None, "no takes yet: accomp generate")
    same = sum(take["streamed_equals_offline"] for take in data.takes)
    return Claim(claim, same == len(data.takes), f"{same} of {len(data.takes)} takes")


def _anchors(data: RunData) -> list[Claim]:
    if data.metrics is None:
        return [Claim("The anchors are in the right order", None, "not evaluated yet: accomp evaluate")]
    found = []
    for metric, number, best in judged_numbers(data.metrics):
        claim = f"The anchors are in the right order: {number}"
        true, random = (cell_number(data.metrics, cell, metric, number) for cell in ("true_stem", "random_pairing"))
        if true is None or random is None:
            found.append(Claim(claim, None, "an anchor has no scored clip"))
            continue
        text = f"true stem {true['value']:.2f}, random pairing {random['value']:.2f}"
        if model := cell_number(data.metrics, "model", metric, number):
            text += f", the model {model['value']:.2f}"
        found.append(Claim(claim, abs(true["value"] - best) < abs(random["value"] - best), text))
    return found
