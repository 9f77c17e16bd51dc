"""Figures of benchmarks: name, unit, and direction of improvement."""

from __future__ import annotations

from typing import Literal

from attrs import frozen


@frozen
class Figure:
    """Display of a figure.

    Attributes:
        heading: of its column, with the unit.
        meaning: a line for people.
        better: "less" or "more"; "" where neither applies, as with a count.
    """

    heading: str
    meaning: str
    better: Literal["less", "more", ""] = "less"


FIGURES = {
    "p50_ms": Figure("p50 ms", "half of the steps took at most this long"),
    "p99_ms": Figure("p99 ms", "99 % of the steps took at most this long"),
    "p999_ms": Figure("p99.9 ms", "99.9 % did; reported from 1000 steps on"),
    "first_p50_ms": Figure("first p50 ms", "from a chunk's last input frame to its first codes"),
    "first_p99_ms": Figure("first p99 ms", "the same, 99 % of the chunks"),
    "first_p999_ms": Figure("first p99.9 ms", "the same, 99.9 %; reported from 1000 chunks on"),
    "cpu_ms": Figure("cpu ms", "median processor time of all threads, which other work on the machine hardly changes"),
    "device_ms": Figure("device ms", "median time between events on the GPU"),
    "n": Figure("n", "how many were timed", ""),
    "speed": Figure("x baseline", "how often as fast as the table's baseline, median of the rounds", "more"),
    "speed_low": Figure("25 %", "lower quartile of that ratio over the rounds", "more"),
    "speed_high": Figure("75 %", "upper quartile", "more"),
    "rtf": Figure("real-time factor", "time taken over duration of the music; below 1 keeps up"),
    "cpu_rtf": Figure("cpu rtf", "processor time over duration of the music"),
    "late_per_hour": Figure("late/h", "steps an hour of music that missed their deadline"),
    "sessions": Figure("sessions", "the most in one batch of which no step came late", "more"),
    "step_mb": Figure("MB a step", "weights and cache that a step reads"),
    "session_mb": Figure("MB a session", "state that a session holds beside the shared weights"),
    "bandwidth": Figure("of copy bandwidth", "bytes a step over its median time, against a copy's", "more"),
    "matmul": Figure("of matmul rate", "operations a step over its median time, against a big product's", "more"),
    "frames_s": Figure("frames/s", "codec frames a second", "more"),
    "forwards": Figure("forwards", "of the model, the variants of guidance side by side in each", ""),
    "forwards_s": Figure("forwards/s", "of these a second", "more"),
    "compile_s": Figure("first step s", "the first step, with what is compiled for it"),
    "peak_mb": Figure("peak MB", "most memory at a time: of the process on a CPU, allocated on a GPU"),
    "slope_b_per_hour": Figure("bytes/h", "growth of the memory an hour of music, a line through all samples"),
    "begin_mb": Figure("MB at first", "memory when the steady state began"),
    "end_mb": Figure("MB at the end", "memory at the last sample"),
    "examples_s": Figure("examples/s", "clips a second, all processes together", "more"),
    "examples_cpu_s": Figure("examples/cpu s", "clips for each second that one core was given", "more"),
    "music_s": Figure("music s/s", "seconds of music in these clips a second, both streams counted once", "more"),
    "example_kb": Figure("kB an example", "of the store on the disk"),
    "read_kb": Figure("kB of tokens", "that an example consists of"),
    "of_reference_bytes": Figure("of reference's bytes", "against the same clips as the published code dumps them"),
    "codes_equal": Figure("codes equal", "share of codes that streaming and offline have in common", "more"),
    "logits_off": Figure("logits off", "the largest difference between a logit streamed and one of the whole clip"),
    "loss": Figure("nats a token", "held-out loss"),
    "loss_more": Figure("more than the first", "nats a token above the first line's"),
    "tokens": Figure("tokens", "that the loss is the mean of", ""),
    "weights_mb": Figure("MB of weights", "of the whole model"),
    "x_reference_rate": Figure("x reference's rate", "music a second against the published code's", "more"),
}  # fmt: skip
"""In the order of the columns."""


def shown(value: float) -> str:
    """Format a number with three significant digits, or as a whole number where it has more."""
    if value != value:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
