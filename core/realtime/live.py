"""`accomp stream --realtime`: accompaniment in real time, of a recording or at a sound device."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import numpy as np

from accomp.core.compute.devices import describe, number_of
from accomp.core.compute.interrupts import InterruptFlag, stop_wish
from accomp.core.console import live_line, say, warn
from accomp.core.errors import CombinationError, WorkError
from accomp.core.generation.followers import follow_report
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
from accomp.core.realtime.realtime_process import realtime_process
from accomp.core.realtime.sound_device import Accompanied, Ensemble, SoundDevice, device_name
from accomp.core.realtime.warmup import WarmUp, measure_latency
from accomp.core.registry import Registry
from accomp.core.runs.player import check_streams
from accomp.core.runs.run import live_session

POLL_INTERVAL = 0.1
"""Polling interval of the main thread in seconds."""

GRACE = 5.0
"""Seconds that the model's last step may take after the end."""


RECENT = 50
"""Number of last steps in the live line."""


def stream_live(request: StreamRequest, registry: Registry, *, force: bool = False) -> None:
    """Accompany a file or a sound device in real time.

    Input and output are files, or `device` or `device:NAME`; `chunk` is that of a block. A file that is accompanied
    through a device is played there too. Output to a file is written as `stream` does, however playing ends; a signal
    (interrupts.SIGNALS) is a regular end. At the end, dropouts and step times are reported.

    A warm-up measures this machine first. Raises CombinationError, with the numbers and the nearest feasible clock, if
    the model's cannot be met; with `force` it only warns. Also raises as `stream` does, PluginError without the sound
    device's library and DataError for a device that cannot be used.
    """
    number = instrument_class(request.instrument)
    check_chunk(request.chunk)
    devices = device_name(request.input), device_name(request.output)
    mixed = mix_path(request.input, request.output) if devices[1] is None else None
    with ExitStack() as stack:
        recording = stack.enter_context(Recording(request.output if mixed is not None else None, mixed))
        player = stack.enter_context(player_of(request.run, registry, request.guidance, request.runtime))
        clock = check_streams(player)
        labels = labels_of(player, number, request.conditions)
        timelines = request.timelines.sources(player, registry)
        space = player.tokenizer.space
        block = samples_of(request.chunk, space)
        sound = read_input(request.input, space.sample_rate) if devices[0] is None else None
        device = None
        if devices != (None, None):
            device = SoundDevice(space.sample_rate, block, input=devices[0], output=devices[1])
            stack.callback(device.close)
        introduce(player, clock, request.run, number)

        thread = ModelThread()
        waits = device.waits if device is not None and sound is None else (0.0, 0.0)
        measured = thread.do(
            lambda: measure_latency(player, block, labels=labels, waits=waits, timelines=timelines)
        ).result()
        check_budget(measured, describe(player.device), force=force)

        first = device.first if device is not None and sound is None else 0
        bridge = AudioBridge(
            rate=space.sample_rate,
            block=block,
            chunk=clock.k * space.hop,
            delay=space.delay,
            first=first,
            ahead=max(0, -clock.t_f) * space.hop,
        )
        session = thread.do(
            lambda: live_session(
                player, labels=labels, seed=request.seed, session=number_of("stream"), timelines=timelines
            )
        )
        model = ModelWorker(bridge, session.result(), player.device)
        thread.do(model.begin).result()
        side = _audio_side(bridge, sound, device, record=mixed is not None)
        with stop_wish() as interrupt:
            failure = _play(bridge, model, side, thread, recording, interrupt)
            recording.finish()
        for line in [*follow_report(timelines), *summary(bridge, model, side, interrupt.signal)]:
            say(line)
        if mixed is not None and not recording.seconds:
            raise WorkError("ended before anything was played; nothing was written")
        if failure is not None:
            raise failure


def check_budget(measured: WarmUp, device: str, *, force: bool) -> None:
    """Report the measurement on `device`. Raises CombinationError if the clock cannot be met; `force`: warns."""
    budget = measured.budget
    say(f"{measured.describe()}, on {device}")
    say("latency budget:")
    for line in as_records(budget):
        say(f"  {line['ms']:8.1f} ms  {line['name']}")
    if budget.deployable:
        say(budget.verdict())
    elif force:
        warn(f"{budget.verdict()}; --force plays all the same: late output is silent")
    else:
        raise CombinationError(
            f"{budget.verdict()} @ t_f = {budget.clock.t_f}, k = {budget.clock.k} on {device}; a model is trained for "
            f"its clock, so choose or train another; --runtime compile=on and --runtime weights=int8 (w8a8 on a CPU) "
            f"make its steps shorter; --force plays all the same, and late output is silent"
        )


def live_text(bridge: AudioBridge, model: ModelWorker) -> str:
    """Current state in one line."""
    counts, steps = bridge.counts(), model.steps
    parts = [f"{counts.place / bridge.rate:7.1f} s"]
    if steps.count:
        parts.append(f"step {1000 * np.median(steps.seconds(RECENT)):.1f} ms")
    parts += [f"buffer {1000 * counts.buffered / bridge.rate:.0f} ms", f"late chunks {counts.late}"]
    if steps.count:
        parts.append(f"ahead by {1000 * steps.margins(RECENT).min() / bridge.rate:.0f} ms")
    return "  ".join(parts)


def summary(bridge: AudioBridge, model: ModelWorker, side: AudioDriver, signal: str) -> list[str]:
    """Report at the end; `signal`: the name of the signal that ended it early, or ""."""
    counts, steps, rate = bridge.counts(), model.steps, bridge.rate
    played = counts.delivered + counts.missing
    ended = f", then ended by {signal}" if signal else ""
    lines = [
        f"played {played / rate:.2f} s in real time, in blocks of {1000 * bridge.block / rate:g} ms{ended}",
        f"late chunks: {counts.late} of {-(-played // bridge.chunk)}; missing samples: {counts.missing} "
        f"({1000 * counts.missing / rate:.0f} ms) in {counts.gaps} gaps; dropped because they came after their place: "
        f"{counts.dropped}",
        f"overruns: {counts.overruns} blocks of input, {counts.lost} samples, replaced by silence for the model; "
        f"the audio side itself was late for {side.xruns} blocks",
    ]
    if not steps.count:
        return [*lines, "the model has computed no step"]
    p50, p99, p999 = 1000 * np.quantile(steps.seconds(), [0.5, 0.99, 0.999])
    of_last = "" if steps.count == len(steps.seconds()) else f" (of the last {len(steps.seconds())})"
    return [
        *lines,
        f"{steps.count} steps: {p50:.1f} ms (p50), {p99:.1f} ms (p99), {p999:.1f} ms (p99.9), "
        f"{1000 * steps.seconds().max():.1f} ms at most{of_last}; busy {steps.busy / max(played / rate, 1e-9):.0%} of "
        f"the time; ahead by {1000 * steps.margins().min() / rate:.0f} ms at least",
    ]


def _audio_side(
    bridge: AudioBridge, sound: np.ndarray | None, device: SoundDevice | None, *, record: bool
) -> AudioDriver:
    if sound is None:
        assert device is not None, "the input is a recording or a device"
        device.join(Ensemble(bridge, first=device.first, record=record))
        return device
    feed = FilePlayback(bridge, sound)
    if device is None:
        return TimerDriver(feed, bridge.block / bridge.rate)
    device.join(Accompanied(feed))
    return device


def _play(
    bridge: AudioBridge,
    model: ModelWorker,
    side: AudioDriver,
    thread: ModelThread,
    recording: Recording,
    interrupt: InterruptFlag,
) -> BaseException | None:
    """Play to the end, to an interrupt or to a failure of the model, which is returned.

    Raises errors of `recording`, after everything has stopped.
    """
    ended = threading.Event()
    running = thread.do(lambda: model.run(ended))

    def keep(*, last: bool = False) -> None:
        if (fresh := side.fresh(last=last)) is not None:
            recording.add(*fresh, bridge.rate)

    with live_line() as tell, realtime_process():
        side.start()
        try:
            while not (side.over or interrupt.signal or running.done()):
                time.sleep(POLL_INTERVAL)
                keep()
                tell(live_text(bridge, model))
        finally:
            ended.set()
            side.stop()
    keep(last=True)
    try:
        return running.exception(timeout=GRACE)
    except TimeoutError:
        return WorkError(f"the model's last step has not ended within {GRACE:g} s")
