"""`accomp stream`: the streaming runtime, fed from a file block by block."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from attrs import field, frozen

from accomp.core.audio import io as audio
from accomp.core.clock import Clock
from accomp.core.compute.devices import PLAYING_THREADS, describe, device_of, number_of, threads
from accomp.core.compute.interrupts import InterruptFlag, stop_wish
from accomp.core.console import progress, say
from accomp.core.errors import DataError, UserError
from accomp.core.generation.followers import follow_report
from accomp.core.generation.latency import as_records as budget_told
from accomp.core.generation.latency import budget_of, part_times
from accomp.core.generation.recording import Recording
from accomp.core.generation.timeline_options import TimelineOptions
from accomp.core.model.conditions import parse_conditions
from accomp.core.music.instruments import CLASSES, NOT_TARGETS, from_name, readable
from accomp.core.music.labels import INSTRUMENT
from accomp.core.names import nearest_class
from accomp.core.registry import Registry
from accomp.core.runs.player import Player, check_streams, load_player, playing_checkpoint
from accomp.core.runs.run import Played, play
from accomp.core.spec.parsing import Problems, strict_converter, structure_fields
from accomp.core.spec.runtime import Runtime
from accomp.core.types import TokenSpace


@frozen
class StreamRequest:
    """Options of `accomp stream`.

    Attributes:
        run: folder of the run whose model plays.
        input: audio to accompany.
        output: file of the stem; the mix goes beside it.
        instrument: the name of its class, or of a member ("drums").
        seed: the same one gives the same stem.
        chunk: block size in milliseconds; a codec frame if None.
        conditions: NAME=VALUE of labels beside the instrument; those not given are withheld.
        guidance: condition -> scale; those of the run if None.
        runtime: KEY=VALUE of [runtime], over those of the run.
        timelines: the metronome and the chart.
    """

    run: Path
    input: Path
    output: Path
    instrument: str
    seed: int = 0
    chunk: float | None = None
    conditions: Sequence[str] = ()
    guidance: Mapping[str, float] | None = None
    runtime: Sequence[str] = ()
    timelines: TimelineOptions = field(factory=TimelineOptions)


def stream(request: StreamRequest, registry: Registry) -> None:
    """Accompany an audio file as if it came live.

    Writes the stem to `output` and the mix beside it while playing, then reports the real-time factor, the time of a
    block and the latency budget. Any sample rate and number of channels is accepted; conversions are reported. The same
    seed gives the same stem. Raises UserError for an instrument or a condition that the model lacks or a chunk that is
    not positive, DataError for unreadable audio, errors of Recording, CheckpointError for a run without a model,
    CombinationError for a model that cannot stream or cannot be guided so.
    """
    number = instrument_class(request.instrument)
    mixed = mix_path(request.input, request.output)
    check_chunk(request.chunk)
    with (
        Recording(request.output, mixed) as recording,
        player_of(request.run, registry, request.guidance, request.runtime) as player,
    ):
        clock = check_streams(player)
        labels = labels_of(player, number, request.conditions)
        timelines = request.timelines.sources(player, registry)
        space = player.tokenizer.space
        sound = read_input(request.input, space.sample_rate)
        introduce(player, clock, request.run, number)
        piece = samples_of(request.chunk, space)
        place = 0

        def keep(played: np.ndarray) -> None:
            nonlocal place
            played = played[: len(sound) - place]
            recording.add(sound[place : place + len(played)], played, space.sample_rate)
            place += len(played)

        device = describe(player.device)
        with stop_wish() as interrupt:
            played = play(
                player, sound, _pieces(len(sound), piece, interrupt), labels=labels, seed=request.seed,
                session=number_of("stream"), timelines=timelines, listener=keep,
            )  # fmt: skip
            recording.finish()
    for line in [*follow_report(timelines), *times(clock, space, played, piece, device)]:
        say(line)


def times(clock: Clock, space: TokenSpace, played: Played, piece: int, device: str) -> list[str]:
    """Report of the speed: real-time factor, time of a block (samples), latency budget; one line each."""
    whole = 1000 * np.asarray(played.whole)
    seconds = piece / space.sample_rate
    median, most = np.quantile(whole, [0.5, 0.99])
    factor = whole.sum() / 1000 / (len(played.audio) / space.sample_rate)
    budget = budget_of(clock, space, [part_times(played, clock)], piece=seconds)
    lines = [
        f"real-time factor: {factor:.3f} on {device} (below 1 keeps up)",
        f"a piece of {1000 * seconds:g} ms took {median:.1f} ms (median), {most:.1f} ms (99th percentile), "
        f"{whole.max():.1f} ms at most",
        "latency budget:",
    ]
    lines += [f"  {line['ms']:8.1f} ms  {line['name']}" for line in budget_told(budget)]
    return [*lines, budget.verdict()]


@contextmanager
def player_of(
    run: Path, registry: Registry, guidance: Mapping[str, float] | None, runtime: Sequence[str] = ()
) -> Iterator[Player]:
    """Load the model of a run, on its device and with its threads; `runtime`: KEY=VALUE of [runtime].

    Raises UserError for keys and values that [runtime] does not have, and as `load_player` does.
    """
    spec = playing_checkpoint(run).spec
    settings, chosen_runtime = spec["run"], runtime_of(spec, runtime)
    with threads(settings.get("threads") or PLAYING_THREADS):
        device = device_of(settings["accelerator"])
        yield load_player(run, registry, device, guidance=guidance, runtime=chosen_runtime)


def runtime_of(spec: Mapping[str, Any], words: Sequence[str], where: str = "--runtime ") -> Runtime:
    """The [runtime] of a spec, plain data, with KEY=VALUE of `words` instead of its own.

    Raises UserError, with every problem @ `where`, for keys and values that [runtime] does not have.
    """
    given = dict(spec.get("runtime", {}))
    for word in words:
        key, _, value = (part.strip() for part in word.partition("="))
        given[key] = value
    try:
        chosen: Runtime = structure_fields(strict_converter(), given, Runtime)
    except Problems as problems:
        raise UserError(*(f"{text} @ {where}{'.'.join(map(str, path))}" for path, text in problems.found)) from None
    return chosen


def labels_of(player: Player, instrument: int, conditions: Sequence[str]) -> dict[str, int]:
    """Labels of a session: the instrument's class, if the model takes it, and NAME=VALUE of other labels."""
    known = player.model.conditions.labels
    return parse_conditions([f"{INSTRUMENT}={CLASSES[instrument]}"] * (INSTRUMENT in known) + [*conditions], known)


def check_chunk(chunk: float | None) -> None:
    """Raise UserError for a --chunk (ms) that is not positive."""
    if chunk is not None and not chunk > 0:
        raise UserError(f"--chunk {chunk:g}: expected a positive number of milliseconds")


def samples_of(chunk: float | None, space: TokenSpace) -> int:
    """Samples of a --chunk (ms); a codec frame if None."""
    return space.hop if chunk is None else max(1, round(chunk / 1000 * space.sample_rate))


def instrument_class(name: str) -> int:
    """Class of an instrument, by its name or by that of a member. Raises UserError, with the nearest name."""
    playable = [known for number, known in enumerate(CLASSES) if number not in NOT_TARGETS]
    number = from_name(name)
    if number is None:
        raise UserError(f"no instrument is called {name!r}{nearest_class(name, playable)}")
    if number in NOT_TARGETS:
        known = ", ".join(map(readable, playable))
        raise UserError(f"no model learns to play {name!r}, it is context only; instruments: {known}")
    return number


def mix_path(input: Path, output: Path) -> Path:
    """Path of the mix; its folder is made. Raises DataError for an output that is not WAV or FLAC, cannot be written or
    would replace the input.
    """
    mixed = output.with_name(f"{output.stem}-mix{output.suffix}")
    if output.suffix.lower() not in (".wav", ".flac"):
        raise DataError(f"expected a name that ends in .wav or .flac, got '{output.name}' @ --output {output}")
    if input.resolve() in (output.resolve(), mixed.resolve()):
        raise DataError(f"the output would replace the input; choose another name @ --output {output}")
    if output.is_dir():
        raise DataError(f"this is a folder; expected the name of a file @ --output {output}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder of the output: {error.strerror} @ {output.parent}") from error
    if not os.access(output.parent, os.W_OK):
        raise DataError(f"the folder of the output may not be written to @ {output.parent}")
    return mixed


def read_input(path: Path, rate: int) -> np.ndarray:
    """Read the input, mono at `rate` Hz; conversions are reported."""
    samples, native = audio.duration(path)
    if not samples:
        raise DataError(f"holds no sound @ {path}")
    sound = audio.read(path, rate)
    channels = audio.channels(path)
    if channels > 1:
        say(f"{path.name}: {channels} channels averaged to one")
    if native != rate:
        say(f"{path.name}: resampled from {native} Hz to the codec's {rate} Hz")
    return sound


def introduce(player: Player, clock: Clock, run: Path, instrument: int) -> None:
    say(
        f"{readable(CLASSES[instrument])} by the model of step {player.step} @ {run}: t_f = {clock.t_f}, "
        f"k = {clock.k} frames of {1000 / player.tokenizer.space.frame_rate:g} ms, codec {player.tokenizer.name}"
    )
    if player.guidance.scales:
        say(f"guidance: {', '.join(f'{name} {scale:g}' for name, scale in player.guidance.scales.items())}")
    if INSTRUMENT not in player.model.conditions.labels:
        say("this model takes no instrument label, and plays what it was trained on")


def _pieces(samples: int, piece: int, interrupt: InterruptFlag) -> Iterator[int]:
    """Blocks of the input. Raises KeyboardInterrupt, with the signal's name, on an interrupt."""
    count = -(-samples // piece)
    with progress("stream", count) as advance:
        for _ in range(count):
            if interrupt.signal:
                raise KeyboardInterrupt(interrupt.signal)
            yield piece
            advance(1)
