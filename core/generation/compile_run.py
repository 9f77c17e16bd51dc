"""`accomp compile`: the steps of a run, compiled once and kept beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
import torch

from accomp.core.compute.compilers import lacking
from accomp.core.compute.devices import PLAYING_THREADS, device_of, own_randomness, threads
from accomp.core.console import say
from accomp.core.errors import UserError
from accomp.core.generation.stream import runtime_of
from accomp.core.registry import Registry
from accomp.core.runs.compiled import FOLDER, collected, drop, keep
from accomp.core.runs.player import Player, load_player, playing_checkpoint, prepare_codec
from accomp.core.runs.run import perform
from accomp.core.spec.build import space_of
from accomp.core.spec.schema import structure
from accomp.core.streaming.audio_batch import AudioSessionBatch
from accomp.core.training.fabric import fabric_of
from accomp.core.training.random_init import noise, training_step


def compile_run(
    run: Path,
    registry: Registry,
    *,
    slots: Sequence[int] = (1,),
    training: bool = False,
    runtime: Sequence[str] = (),
    device: str | None = None,
) -> None:
    """Compile what plays in a run, on its device or another, and keep it in the folder FOLDER of the run.

    slots: sessions side by side, as a server has them, each number compiled. training: its training step, too. runtime:
    KEY=VALUE of [runtime]. Raises UserError where this machine cannot compile.
    """
    spec = playing_checkpoint(run).spec
    place = device_of(device or spec["run"]["accelerator"])
    if why := lacking(place):
        raise UserError(f"{why}; nothing can be compiled here")
    chosen = attrs.evolve(runtime_of(spec, runtime), compile="on")
    drop(run)
    began = time.perf_counter()
    with collected() as cache, threads(spec["run"].get("threads") or PLAYING_THREADS):
        player = load_player(run, registry, place, runtime=chosen)
        _play(player, spec["generate"]["seconds"], slots)
        if training:
            _train(spec, registry, run, place)
        size = keep(cache, run, place)
    say(f"compiled in {time.perf_counter() - began:.0f} s, {size / 1e6:.1f} MB @ {run / FOLDER}")


def _play(player: Player, seconds: float, slots: Sequence[int]) -> None:
    """Play noise: to a recording, and with each number of slots."""
    space = player.tokenizer.space
    labels = dict.fromkeys(player.model.conditions.labels, 0)
    if player.model.clock is None:
        sound = noise(space, max(1, round(seconds * space.frame_rate)))
        perform(player, sound, labels=labels, seed=0, session=0)
        return
    k = player.model.clock.k
    prepare_codec(player.tokenizer, player.runtime, player.device)
    perform(player, noise(space, 2 * k + abs(player.model.clock.t_f)), labels=labels, seed=0, session=0)
    for batch in slots:
        prepare_codec(player.tokenizer, player.runtime, player.device, batch)
        how = {"window": player.window, "guidance": player.guidance, "runtime": player.runtime}
        session = AudioSessionBatch(player.tokenizer, player.model, player.sampler, batch, **how)  # type: ignore[arg-type]
        slot = session.join(labels=labels)
        session.step({slot: np.zeros(session.hop, np.float32)})


def _train(given: dict[str, object], registry: Registry, run: Path, device: torch.device) -> None:
    """Run a training step on random clips."""
    spec = structure(given, registry, where=str(run))
    where = attrs.evolve(spec.run, accelerator=device.type, devices=1)  # type: ignore[arg-type]
    spec = attrs.evolve(spec, train=attrs.evolve(spec.train, compile="on"), run=where)
    with own_randomness(device):
        training_step(spec, space_of(spec, registry), registry, fabric_of(spec.run))()
