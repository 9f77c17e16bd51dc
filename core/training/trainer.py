"""Training of a model on the stored songs, with checkpoints, validation and a record of losses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.distributed.tensor import DTensor

from accomp.core.compute.devices import number_of, own_randomness, threads
from accomp.core.compute.interrupts import stop_wish
from accomp.core.compute.sharding import load_optimizer, whole
from accomp.core.console import say
from accomp.core.data.labels import describe
from accomp.core.data.prefetch import PrefetchLoader
from accomp.core.data.stored_songs import TRAIN, VALIDATION
from accomp.core.errors import SpecError
from accomp.core.model.future_heads import give_heads, load_heads
from accomp.core.registry import Registry
from accomp.core.runs.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    load_training,
    load_weights,
    prune_checkpoints,
    save_checkpoint,
)
from accomp.core.runs.compiled import use as use_compiled
from accomp.core.runs.folder import model_folder
from accomp.core.runs.history import NATS, rewind_losses
from accomp.core.runs.models import find_model
from accomp.core.spec.build import build_model, build_objective, build_tokenizer
from accomp.core.spec.schema import Spec, resolve
from accomp.core.training.batches import clip_loader, prepare_batch
from accomp.core.training.compile import compile_loss
from accomp.core.training.divergence import check_finite
from accomp.core.training.duel import Duel
from accomp.core.training.fabric import fabric_of
from accomp.core.training.initial_weights import load_initial_weights
from accomp.core.training.loggers import loggers_of
from accomp.core.training.loss_module import Against, LossModule, ThroughModule
from accomp.core.training.meters import LossMeter
from accomp.core.training.optim import learning_rate, optimizer_of
from accomp.core.training.processes import any_process, mean_over_processes
from accomp.core.training.throughput import StepTimer, Timed, describe_speed, speed_record
from accomp.core.training.time_limit import TrainingTime
from accomp.core.training.training_log import TrainingLog
from accomp.core.training.validation import Validation
from accomp.core.types import Batch, CodeBatch

ENOUGH = 100
"""Smallest number of timed steps for which the speed is reported; measuring the device takes time, too."""


def train(spec: Spec, registry: Registry, run: Path) -> None:
    """Train to `spec.train.steps` from the last checkpoint of the run, or from the start; a finished run is left alone.

    A resumed run ends with the same weights as an uninterrupted one. After a signal (core/compute/interrupts.py) the
    step ends, with several devices those up to the next log line, a checkpoint is written and KeyboardInterrupt is
    raised. With several devices the command is started again in one process for each, unless torchrun has done so;
    those processes exit here when training ends.

    Raises WorkError, keeping the last good checkpoint, when the loss is not finite, which is detected when losses are
    logged, validated or saved; DataError and CheckpointError for a store or a checkpoint that does not fit; SpecError
    for a run that has borrowed its model.
    """
    if (model := model_folder(run)) != run:
        own = "give the training a run.folder of its own (on the command line: --run NEW)"
        raise SpecError(f"this run plays the model of {model}; train that, or {own} @ {run}")
    resumed = latest_checkpoint(run)
    if resumed is not None and resumed.finishes(spec.train):
        say(f"already trained: step {resumed.step} @ {resumed.folder}")
        return
    fabric = fabric_of(spec.run, loggers_of(spec, run, resumed.step if resumed else 0))
    fabric.launch()
    with threads(spec.run.threads), own_randomness(fabric.device):
        training = _Training(spec, registry, run, fabric, resumed)
        training.run()
    fabric.barrier()
    if not fabric.is_global_zero:
        raise SystemExit(0)
    say(
        f"trained {training.step} steps; lowest validation loss {training.best:.3f} {training.unit} after step "
        f"{training.best_step}"
    )


class _Training:
    """One process's part of a training run: its state and the loop."""

    def __init__(self, spec: Spec, registry: Registry, run: Path, fabric: Fabric, resumed: Checkpoint | None):
        self.spec, self.registry, self.folder, self.fabric = spec, registry, run, fabric
        self.tokenizer = build_tokenizer(spec, registry).to(fabric.device)
        self.model = build_model(spec, self.tokenizer.space, registry)
        self.loader = clip_loader(
            spec,
            TRAIN,
            self.tokenizer,
            rank=fabric.global_rank,
            world=fabric.world_size,
            pin=fabric.device.type == "cuda",
        )
        held_out = clip_loader(spec, VALIDATION, self.tokenizer, pin=fabric.device.type == "cuda")
        self.validation = Validation(held_out, spec.train.validation_batches, number_of(spec.seed, "validation"))
        self._log = TrainingLog(run, registry, fabric)
        self.step = 0
        self.time = TrainingTime(spec.train.minutes, fabric)
        self.meter = LossMeter(fabric.device, rescaled=spec.run.precision.startswith("16"))  # since the last log line
        self.timer, self.logged = StepTimer(), Timed()  # logged: the state at the last log line
        self.best = math.inf  # lowest validation loss, and its step
        self.best_step = 0
        if resumed:
            load_weights(resumed, self.model)
        elif spec.train.start:
            start = load_initial_weights(find_model(spec.train.start, registry), self.model, spec, self.tokenizer)
            if fabric.is_global_zero:
                say(f"begins with the weights of step {start.step} @ {start.folder}")
        objective, learning = (build_objective(spec, self.tokenizer.space, registry) for _ in range(2))
        self.objective, self.unit = objective, str(getattr(objective, "unit", NATS))
        self.compiled = compile_loss(learning, spec.train.compile, fabric.device, sharded=spec.run.strategy == "fsdp")
        self.heads = give_heads(self.model, number_of(spec.seed, "heads"), learning, objective)
        state = load_training(resumed) if resumed else {}
        if resumed:
            load_heads(self.heads, state.get("heads"), resumed.folder)
        learners = LossModule(self.model, objective, learning, self.heads)
        self.stepper = fabric.setup_module(learners)
        self.stepper.train()
        self.plain_optimizer = optimizer_of(learners, spec.train, spec.run.precision)
        self.optimizer = cast(torch.optim.Optimizer, fabric.setup_optimizers(self.plain_optimizer))
        self.duel: Duel | None = None
        if hasattr(objective, "adversary"):
            self.duel = Duel(fabric, learning, self.model, spec, number_of(spec.seed, "adversary"))
        self.batches = PrefetchLoader(self.loader)
        if resumed:
            self._resume(resumed, state)
        if fabric.is_global_zero:
            say(f"{TRAIN}: {self.loader.describe()}")
            for line in describe(self.loader.label_counts(), len(self.loader)):
                say(line)
            if self.compiled and not use_compiled(run, fabric.device):
                say("the first step takes longer: loss and gradients are compiled")
            rewind_losses(run, self.step if resumed else -1)
        if not resumed:
            self._validate()

    def run(self) -> None:
        """Run the remaining steps."""
        train, first = self.spec.train, self.step
        with stop_wish() as wish, self.batches, self._log.progress(train) as advance:
            if self.step:
                advance(self.time.earlier if train.minutes else self.step, note=f"resumed at step {self.step}")
            self.time.begin()
            while self.step < train.steps and self.time.share < 1:
                seconds = self.time.seconds()
                self._optimizer_step()
                self.step += 1
                self.time.update()
                last, due = self.step == train.steps or self.time.share >= 1, self.step % train.log_every == 0
                stop = any_process(self.fabric, bool(wish.signal)) if due or self.fabric.world_size == 1 else False
                validate = last or self.step % train.validate_every == 0
                save = last or stop or self.step % train.checkpoint_every == 0
                warm_up = self.step == first + 1  # compiles and allocates; it is not timed
                if due or validate or save or warm_up:
                    check_finite(self.fabric, self.meter, spec=self.spec, folder=self.folder)
                    self.timer.rest(self.step, self.batches.waited)
                    if due or last:
                        self._log_losses((self.step - first) * self._clips() / self.time.session())
                    better = validate and self._validate()
                    if save or better:
                        self._save()
                    self.timer.go(self.step, self.batches.waited)
                advance(
                    self.time.seconds() - seconds if train.minutes else 1,
                    note=f"validation loss {self.best:.3f} at best",
                )
                if stop and not last:
                    if self.fabric.is_global_zero:
                        say(f"stopped by {wish.signal or 'a signal'} after step {self.step}; its checkpoint is written")
                    raise KeyboardInterrupt
        if self.timer.total.steps >= ENOUGH:
            numbers = speed_record(
                self.spec, self.tokenizer.space, self.registry, self.timer.total, self._clips(), self.fabric.device
            )
            self._log.record("speed", self.step, numbers)
            if self.fabric.is_global_zero:
                say(describe_speed(numbers))

    def _optimizer_step(self) -> None:
        """Enqueue one step without synchronising. Random numbers are keyed by seed, step and process."""
        train, place = self.spec.train, (self.step, self.fabric.global_rank)
        torch.manual_seed(number_of(self.spec.seed, "step", *place))
        losses: dict[str, Tensor] = {}
        stepper, optimizer, against = self._side()
        for turn in range(train.accumulate):
            rng = torch.Generator().manual_seed(number_of(self.spec.seed, "objective", *place, turn))
            with self.fabric.no_backward_sync(stepper, enabled=turn + 1 < train.accumulate):
                total, parts, *_ = stepper(self._prepare(next(self.batches)), rng, *against)
                self.fabric.backward(total / train.accumulate)
            for name, value in {"loss": total.detach(), **parts}.items():
                losses[name] = losses.get(name, 0.0) + value / train.accumulate
        norm = self.fabric.clip_gradients(stepper, optimizer, max_norm=train.clip, error_if_nonfinite=False)
        assert norm is not None, "by norm, not by value"
        self.meter.add(self.step + 1, losses, norm.full_tensor() if isinstance(norm, DTensor) else norm)
        rate = learning_rate(self.step, train, self.time.share)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.duel:
            self.duel.rate(rate)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _side(self) -> tuple[Any, torch.optim.Optimizer, tuple[Against, ...]]:
        """Return module and optimizer of the side that this step trains, and in a duel its opponent."""
        if self.duel is None:
            return self.stepper, self.optimizer, ()
        shared = torch.Generator().manual_seed(number_of(self.spec.seed, "rollout", self.step))
        generator, against = self.duel.begin(self.step, shared)
        if generator:
            return self.stepper, self.optimizer, (against,)
        return self.duel.stepper, self.duel.optimizer, (against,)

    def _validate(self) -> bool:
        """Record the validation, before the first one also the unigram loss; return True for the best one so far."""
        found = self.validation.run(self.model, ThroughModule(self.stepper), self._prepare)
        if self.step == 0:
            self._log.record("unigram", self.step, self.validation.unigram(found["tokens"], self.objective))
        if (judged_by := getattr(self.objective, "judged_by", "best")) != "best":
            found["judged_by"] = judged_by
        self._log.record("validation", self.step, found)
        better = found["loss"] < self.best
        if better:
            self.best, self.best_step = found["loss"], self.step
        return better

    def _log_losses(self, clips_per_second: float) -> None:
        """Record the mean losses since the last log line."""
        means, norm = self.meter.take()
        means = mean_over_processes(self.fabric, means)
        lately, self.logged = self.timer.total.since(self.logged), self.timer.total
        numbers = {
            "loss": means.pop("loss"),
            "parts": means,
            "lr": self.optimizer.param_groups[0]["lr"],
            "gradient_norm": norm,
            "clips_per_second": clips_per_second,
            "data_wait": lately.data_wait,
        }
        self._log.record("train", self.step, numbers)

    def _clips(self) -> int:
        """Count the clips of one step over all processes."""
        return self.spec.train.batch * self.spec.train.accumulate * self.fabric.world_size

    def _save(self) -> None:
        """Write a checkpoint; all processes take part in gathering sharded weights."""
        weights, optimizer = whole(dict(self.model.state_dict())), whole(self.plain_optimizer.state_dict())
        heads = None if self.heads is None else whole(dict(self.heads.state_dict()))
        since_log = mean_over_processes(self.fabric, self.meter.state_dict())
        if self.fabric.is_global_zero:
            training = {
                "optimizer": optimizer,
                "loader": self.batches.state_dict(),
                "since_log": since_log,
                "best": self.best,
                "best_step": self.best_step,
            }
            if self.duel:
                training["adversary"] = self.duel.state_dict()
            if heads:
                training["heads"] = heads
            save_checkpoint(
                self.folder,
                self.step,
                self.model,
                resolve(self.spec),
                self.tokenizer,
                training,
                weights=weights,
                minutes=self.time.seconds() / 60,
            )
            prune_checkpoints(self.folder, self.spec.train.keep, spare={self.best_step})
        self.fabric.barrier()

    def _resume(self, checkpoint: Checkpoint, state: dict[str, Any]) -> None:
        """Continue from a checkpoint; `state` is its training state."""
        load_optimizer(self.plain_optimizer, state["optimizer"])
        if self.duel:
            self.duel.load_state_dict(state["adversary"])
        self.batches.load_state_dict(state["loader"])
        self.meter.load_state_dict(state["since_log"])
        self.best, self.best_step = state["best"], state["best_step"]
        self.step, self.time.earlier = checkpoint.step, 60 * checkpoint.minutes
        self.time.update()

    def _prepare(self, batch: CodeBatch) -> Batch:
        return prepare_batch(batch, self.tokenizer, self.fabric.device, self.model.dtype)
