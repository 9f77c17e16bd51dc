"""Greedy decoding for accomp, and every logged number in a file that a spreadsheet opens."""

from attrs import frozen

from accomp.plugin import Component, hookimpl, say


@hookimpl
def accomp_components():
    return [Component("sampler", "argmax", "accomp_argmax:Argmax", "greedy decoding")]


class Argmax:
    """The likeliest code of each level; the same music every time."""

    decoding = "causal"

    @frozen
    class Config:
        """Nothing to choose."""

    def __init__(self, config, space):
        pass

    def pick(self, logits, rng):
        """logits [B, K, C] -> codes [B, K] int64."""
        return logits.argmax(-1)


@hookimpl
def accomp_step(run, step, losses):
    with (run / "losses.csv").open("a") as file:
        file.writelines(f"{step},{name},{value}\n" for name, value in losses.items())


@hookimpl
def accomp_report(run, report):
    say(f"open {report.resolve().as_uri()}")
