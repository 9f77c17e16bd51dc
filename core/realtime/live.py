"""`accomp stream --realtime`: a model plays along by the clock on the wall, to a recording or at a sound device."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import numpy as np

from accomp.core.compute.devices import describe, number_of
from accomp.core.compute.interrupts import InterruptFlag, stop_wish
from accomp.core.console import live_line, say, warn
from accomp.core.errors import CombinationError, WorkError
from accomp.core.generation.followers import how_it_went
from accomp.core.generation.latency import as_records
from accomp.core.generation.recording import Recording
from accomp.core.generation.stream import (
    StreamRequest,
    check_chunk,
    instrument_class,
    introduce,
    labels_of,
    mix_path,
    player_of,
    read_input,
    samples_of,
)
from accomp.core.realtime.audio_bridge import AudioBridge, ModelWorker
from accomp.core.realtime.drivers import AudioDriver, FilePlayback, TimerDriver
from accomp.core.realtime.model_thread import ModelThread
from accomp.core.realtime.sound_device import Accompanied, Ensemble, SoundDevice, device_name
from accomp.core.realtime.undisturbed import undisturbed
from accomp.core.realtime.warmup import Rehearsal, measure_latency
from accomp.core.registry import Registry
from accomp.core.runs.player import check_streams
from accomp.core.runs.run import live_session

LOOK = 0.1
"""Seconds after which the main thread looks again how things are."""

GRACE = 5.0
"""Seconds that the model's last step may take once all is over."""


RECENT = 50
"""Steps that the live line speaks of."""


def stream_live(wanted: StreamRequest, registry: Registry, *, force: bool = False) -> None:
    """Accompany a file or a sound device in real time.

    What comes in and goes out are files, or `device` or `device:NAME`; `chunk` is that of a block. A file that is
    accompanied through a device is heard with it. Output that goes to a file is written as `stream` does, whatever ends
    the playing; a signal (stopping.SIGNALS) is a good end. At the end tells what was late, and how long steps took.

    Before it begins, a rehearsal measures this machine. Raises CombinationError, with the numbers and the nearest clock
    that could be, where the model's cannot be kept; with `force` it only warns. Raises besides what `stream` does,
    PluginError where the sound device's library is missing and DataError for a device that cannot be used.
    """
    number = instrument_class(wanted.instrument)
    check_chunk(wanted.chunk)
    devices = device_name(wanted.input), device_name(wanted.output)
    mixed = mix_path(wanted.input, wanted.output) if devices[1] is None else None
    with ExitStack() as stack:
        recording = stack.enter_context(Recording(wanted.output if mixed is not None else None, mixed))
        player = stack.enter_context(player_of(wanted.run, registry, wanted.guidance, wanted.runtime))
        clock = check_streams(player)
        labels = labels_of(player, number, wanted.conditions)
        timelines = wanted.conducting.sources(player, registry)
        space = player.tokenizer.space
        block = samples_of(wanted.chunk, space)
        sound = read_input(wanted.input, space.sample_rate) if devices[0] is None else None
        device = None
        if devices != (None, None):
            device = SoundDevice(space.sample_rate, block, input=devices[0], output=devices[1])
            stack.callback(device.close)
        introduce(player, clock, wanted.run, number)

        thread = ModelThread()
        waits = device.waits if device is not None and sound is None else (0.0, 0.0)
        rehearsal = thread.do(
            lambda: measure_latency(player, block, labels=labels, waits=waits, told=timelines)
        ).result()
        judge(rehearsal, describe(player.device), force=force)

        first = device.first if device is not None and sound is None else 0
        schedule = AudioBridge(
            rate=space.sample_rate,
            block=block,
            chunk=clock.k * space.hop,
            delay=space.delay,
            first=first,
            ahead=max(0, -clock.t_f) * space.hop,
        )
        session = thread.do(
            lambda: live_session(player, labels=labels, seed=wanted.seed, session=number_of("stream"), told=timelines)
        )
        model = ModelWorker(schedule, session.result(), player.device)
        thread.do(model.begin).result()
        side = _audio_side(schedule, sound, device, record=mixed is not None)
        with stop_wish() as wish:
            failure = _play(schedule, model, side, thread, recording, wish)
            recording.finish()
        for line in [*how_it_went(timelines), *summary(schedule, model, side, wish.signal)]:
            say(line)
        if mixed is not None and not recording.seconds:
            raise WorkError("ended before anything was played; nothing was written")
        if failure is not None:
            raise failure


def judge(rehearsal: Rehearsal, device: str, *, force: bool) -> None:
    """Say what was measured on `device`. Raises CombinationError where the clock cannot be kept; `force`: warns."""
    budget = rehearsal.budget
    say(f"{rehearsal.describe()}, on {device}")
    say("latency budget:")
    for line in as_records(budget):
        say(f"  {line['ms']:8.1f} ms  {line['name']}")
    if budget.deployable:
        say(budget.verdict())
    elif force:
        warn(f"{budget.verdict()}; --force plays all the same: what comes too late is silent")
    else:
        raise CombinationError(
            f"{budget.verdict()} @ t_f = {budget.clock.t_f}, k = {budget.clock.k} on {device}; a model is trained for "
            f"its clock, so choose or train another; --runtime compile=on and --runtime weights=int8 (w8a8 on a CPU) "
            f"make its steps shorter; --force plays all the same, and what comes too late is silent"
        )


def live_text(schedule: AudioBridge, model: ModelWorker) -> str:
    """How things are, in one line."""
    counts, steps = schedule.counts(), model.steps
    parts = [f"{counts.place / schedule.rate:7.1f} s"]
    if steps.count:
        parts.append(f"step {1000 * np.median(steps.seconds(RECENT)):.1f} ms")
    parts += [f"buffer {1000 * counts.buffered / schedule.rate:.0f} ms", f"late chunks {counts.late}"]
    if steps.count:
        parts.append(f"ahead by {1000 * steps.margins(RECENT).min() / schedule.rate:.0f} ms")
    return "  ".join(parts)


def summary(schedule: AudioBridge, model: ModelWorker, side: AudioDriver, signal: str) -> list[str]:
    """What is told at the end; `signal`: the name of what ended it early, or ""."""
    counts, steps, rate = schedule.counts(), model.steps, schedule.rate
    heard = counts.delivered + counts.missing
    ended = f", then ended by {signal}" if signal else ""
    lines = [
        f"played {heard / rate:.2f} s in real time, in blocks of {1000 * schedule.block / rate:g} ms{ended}",
        f"late chunks: {counts.late} of {-(-heard // schedule.chunk)}; missing samples: {counts.missing} "
        f"({1000 * counts.missing / rate:.0f} ms) in {counts.gaps} gaps; dropped because they came after their place: "
        f"{counts.dropped}",
        f"overruns: {counts.overruns} blocks of input, {counts.lost} samples, for which the model heard silence; "
        f"the audio side itself was late for {side.xruns} blocks",
    ]
    if not steps.count:
        return [*lines, "the model has done no step"]
    p50, p99, p999 = 1000 * np.quantile(steps.seconds(), [0.5, 0.99, 0.999])
    of_last = "" if steps.count == len(steps.seconds()) else f" (of the last {len(steps.seconds())})"
    return [
        *lines,
        f"{steps.count} steps: {p50:.1f} ms (p50), {p99:.1f} ms (p99), {p999:.1f} ms (p99.9), "
        f"{1000 * steps.seconds().max():.1f} ms at most{of_last}; busy {steps.busy / max(heard / rate, 1e-9):.0%} of "
        f"the time; ahead by {1000 * steps.margins().min() / rate:.0f} ms at least",
    ]


def _audio_side(
    schedule: AudioBridge, sound: np.ndarray | None, device: SoundDevice | None, *, record: bool
) -> AudioDriver:
    if sound is None:
        assert device is not None, "what is heard is a recording or comes from a device"
        device.join(Ensemble(schedule, first=device.first, record=record))
        return device
    feed = FilePlayback(schedule, sound)
    if device is None:
        return TimerDriver(feed, schedule.block / schedule.rate)
    device.join(Accompanied(feed))
    return device


def _play(
    schedule: AudioBridge,
    model: ModelWorker,
    side: AudioDriver,
    thread: ModelThread,
    recording: Recording,
    wish: InterruptFlag,
) -> BaseException | None:
    """Until all is over, an end is wished or the model fails: the failure, if any.

    Raises what `recording` does; then all has stopped.
    """
    ended = threading.Event()
    running = thread.do(lambda: model.run(ended))

    def keep(*, last: bool = False) -> None:
        if (fresh := side.fresh(last=last)) is not None:
            recording.add(*fresh, schedule.rate)

    with live_line() as tell, undisturbed():
        side.start()
        try:
            while not (side.over or wish.signal or running.done()):
                time.sleep(LOOK)
                keep()
                tell(live_text(schedule, model))
        finally:
            ended.set()
            side.stop()
    keep(last=True)
    try:
        return running.exception(timeout=GRACE)
    except TimeoutError:
        return WorkError(f"the model's last step has not ended within {GRACE:g} s")
