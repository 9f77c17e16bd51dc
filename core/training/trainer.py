"""Training: the model learns to play what the musicians played, and the run folder records how it went."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.distributed.tensor import DTensor

from accomp.core.compute.devices import number_of, own_randomness, threads
from accomp.core.compute.interrupts import stop_wish
from accomp.core.compute.roofline import matmul_rate
from accomp.core.compute.sharding import load_optimizer, whole
from accomp.core.console import Advance, progress, say
from accomp.core.data.labels import describe
from accomp.core.data.loader import ClipLoader
from accomp.core.data.prefetch import PrefetchLoader
from accomp.core.errors import CheckpointError, SpecError, WorkError
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
from accomp.core.runs.folder import model_folder
from accomp.core.runs.history import NATS, append_losses, rewind_losses
from accomp.core.runs.models import find_model
from accomp.core.runs.run import playing_checkpoint
from accomp.core.spec.build import build_model, build_objective, build_tokenizer
from accomp.core.spec.schema import Spec, resolve
from accomp.core.training.compile import compile_loss
from accomp.core.training.duel import Duel
from accomp.core.training.fabric import fabric_of
from accomp.core.training.loggers import loggers_of
from accomp.core.training.loss_module import Against, LossModule, ThroughModule
from accomp.core.training.meters import LossMeter
from accomp.core.training.optim import learning_rate, optimizer_of
from accomp.core.training.throughput import StepTimer, Timed, arithmetic, speed_told, step_flops
from accomp.core.training.validation import Validation
from accomp.core.types import Batch, CodeBatch

TRAIN, VALIDATION = "train", "validation"
"""Splits of the store."""

ENOUGH = 100
"""Timed steps from which on it is told how fast they went: for fewer, measuring the machine would not pay."""


def train(spec: Spec, registry: Registry, run: Path) -> None:
    """Train to `spec.train.steps` from the run's last checkpoint, or from the start; nothing where that is done.

    An interrupted run that is started again ends with the same weights as one that was not. A signal
    (stopping.SIGNALS) lets the step end, with several devices those up to the next log line, and has a checkpoint
    written before it raises KeyboardInterrupt. With several devices the command starts again in a process for each,
    unless torchrun has done so;
    those leave here when training ends. Raises WorkError, with the last good checkpoint kept, when the loss is no
    longer a number, which is noticed when something is logged, judged or saved; DataError and CheckpointError for a
    store or a checkpoint that does not fit; SpecError for a run that has borrowed its model.
    """
    if (model := model_folder(run)) != run:
        text = f"this run plays the model of {model}; train that, or give the training a folder of its own: --run NEW"
        raise SpecError(f"{text} @ {run}")
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


def _differing(held: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """A line for each of t_f, k and regime that differs between two resolved specs of models of latents."""
    lines = []
    for section, key, usual in (("clock", "t_f", 0), ("clock", "k", 1), ("model", "regime", "block_causal")):
        then, now = (spec.get(section, {}).get(key, usual) for spec in (held, asked))
        if then != now:
            lines.append(f"train.start was trained with {section}.{key} = {then}, the spec has {key} = {now}; set that")
    return lines


class _Training:
    """One process's part of a run: everything that moves, and the loop that moves it."""

    def __init__(self, spec: Spec, registry: Registry, run: Path, fabric: Fabric, resumed: Checkpoint | None):
        self.spec, self.registry, self.folder, self.fabric = spec, registry, run, fabric
        self.tokenizer = build_tokenizer(spec, registry).to(fabric.device)
        self.model = build_model(spec, self.tokenizer.space, registry)
        self.loader = self._loader(TRAIN, fabric.global_rank, fabric.world_size)
        self.validation = Validation(
            self._loader(VALIDATION), spec.train.validation_batches, number_of(spec.seed, "validation")
        )
        self.step = 0
        self.before = 0.0  # seconds of training in earlier sittings
        self.began = time.monotonic()
        self.spent = 0.0  # share of [train] minutes
        self.tally = LossMeter(fabric.device, rescaled=spec.run.precision.startswith("16"))  # since the last log line
        self.pace, self.told = StepTimer(), Timed()  # told: what the last log line knew of it
        self.best = math.inf  # lowest validation loss, and the step it came after
        self.best_step = 0
        if resumed:
            load_weights(resumed, self.model)
        elif spec.train.start:
            self._begin_with(find_model(spec.train.start, registry))
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
            if self.compiled:
                say("the first step takes longer: loss and gradients are compiled")
            rewind_losses(run, self.step if resumed else -1)
        if not resumed:
            self._validate()

    def _begin_with(self, folder: Path) -> None:
        """Take over the weights that play there.

        Raises CheckpointError where they are of another model or codec, for latents also of another clock or regime:
        the same weights would mean something else.
        """
        start = playing_checkpoint(folder)
        problems = _differing(start.spec, resolve(self.spec)) if self.tokenizer.space.continuous else []
        if start.fingerprint != self.tokenizer.fingerprint:
            problems += [
                f"train.start was trained on the codes of {start.tokenizer} {start.fingerprint} @ {start.folder}",
                f"but the spec's codec is {self.tokenizer.name} {self.tokenizer.fingerprint}; name that one",
            ]
        if problems:
            raise CheckpointError(*problems)
        load_weights(start, self.model)
        if self.fabric.is_global_zero:
            say(f"begins with the weights of step {start.step} @ {start.folder}")

    def run(self) -> None:
        """The remaining steps."""
        train, first = self.spec.train, self.step
        with stop_wish() as wish, self.batches, self._progress() as advance:
            if self.step:
                advance(self.before if train.minutes else self.step, note=f"resumed at step {self.step}")
            self.began = time.monotonic()
            while self.step < train.steps and self.spent < 1:
                seconds = self._seconds()
                self._optimizer_step()
                self.step += 1
                self.spent = self._spent()
                last, due = self.step == train.steps or self.spent >= 1, self.step % train.log_every == 0
                stop = self._anyone(bool(wish.signal)) if due or self.fabric.world_size == 1 else False
                judge = last or self.step % train.validate_every == 0
                save = last or stop or self.step % train.checkpoint_every == 0
                if due or judge or save or self.step == first + 1:  # the first step prepares much, and is not timed
                    self._check()
                    self.pace.rest(self.step, self.batches.waited)
                    if due or last:
                        self._log((self.step - first) * self._clips() / (time.monotonic() - self.began))
                    better = judge and self._validate()
                    if save or better:
                        self._save()
                    self.pace.go(self.step, self.batches.waited)
                advance(
                    self._seconds() - seconds if train.minutes else 1, note=f"validation loss {self.best:.3f} at best"
                )
                if stop and not last:
                    if self.fabric.is_global_zero:
                        say(f"stopped by {wish.signal or 'a signal'} after step {self.step}; its checkpoint is written")
                    raise KeyboardInterrupt
        if self.pace.total.steps >= ENOUGH:
            self._tell_speed()

    def _progress(self) -> AbstractContextManager[Advance]:
        """Shown by one process only."""
        if self.fabric.is_global_zero:
            minutes = self.spec.train.minutes
            return progress("train", 60 * minutes if minutes else self.spec.train.steps)
        return nullcontext(lambda units=1.0, *, note="": None)

    def _optimizer_step(self) -> None:
        """One step, begun: nothing waits for its end. Random numbers belong to seed, step and process."""
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
        self.tally.add(self.step + 1, losses, norm.full_tensor() if isinstance(norm, DTensor) else norm)
        rate = learning_rate(self.step, train, self.spent)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.duel:
            self.duel.rate(rate)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _side(self) -> tuple[Any, torch.optim.Optimizer, tuple[Against, ...]]:
        """Whose step this is: its module and optimizer, and in a duel whom it is against."""
        if self.duel is None:
            return self.stepper, self.optimizer, ()
        shared = torch.Generator().manual_seed(number_of(self.spec.seed, "rollout", self.step))
        generator, against = self.duel.begin(self.step, shared)
        if generator:
            return self.stepper, self.optimizer, (against,)
        return self.duel.stepper, self.duel.optimizer, (against,)

    def _check(self) -> None:
        """Waits for the steps so far. Raises WorkError where one of them was no number, in any process."""
        faults = cast(Tensor, self.fabric.all_gather(self.tally.fault)).view(-1, 3).tolist()
        if not (found := sorted(fault for fault in faults if fault[0])):
            return
        step, loss, norm = found[0]
        kept = latest_checkpoint(self.folder)
        raise WorkError(
            f"training diverged at step {step:g}: loss {loss:g}{self.tally.no_numbers()}, gradient norm {norm:g}; "
            f"lower train.lr "
            f"({self.spec.train.lr:g}) or lengthen train.warmup ({self.spec.train.warmup}), in a new run folder. "
            f"The last good checkpoint is {kept.folder if kept else 'none: this was the beginning'}"
        )

    def _validate(self) -> bool:
        """Record the validation, before the first one what it is compared with; whether it is the best one so far."""
        found = self.validation.run(self.model, ThroughModule(self.stepper), self._prepare)
        if self.step == 0:
            self._record("unigram", self.validation.unigram(found["tokens"], self.objective))
        if (judged_by := getattr(self.objective, "judged_by", "best")) != "best":
            found["judged_by"] = judged_by
        self._record("validation", found)
        better = found["loss"] < self.best
        if better:
            self.best, self.best_step = found["loss"], self.step
        return better

    def _log(self, clips_per_second: float) -> None:
        """The mean losses since the last log line."""
        means, norm = self.tally.take()
        means = self._over_processes(means)
        lately, self.told = self.pace.total.since(self.told), self.pace.total
        numbers = {
            "loss": means.pop("loss"),
            "parts": means,
            "lr": self.optimizer.param_groups[0]["lr"],
            "gradient_norm": norm,
            "clips_per_second": clips_per_second,
            "data_wait": lately.data_wait,
        }
        self._record("train", numbers)

    def _tell_speed(self) -> None:
        """Record how fast the timed steps went, and how near they came to the device's best."""
        timed, dtype = self.pace.total, arithmetic(self.spec.run.precision)
        flops = step_flops(self.spec, self.tokenizer.space, self.registry) * timed.steps / timed.seconds
        peak = matmul_rate(self.fabric.device, dtype)
        numbers = {
            "clips_per_second": timed.steps * self._clips() / timed.seconds,
            "data_wait": timed.data_wait,
            "flops": flops,
            "arithmetic": str(dtype).removeprefix("torch."),
            "matmul_rate": peak,
            "matmul_share": flops / peak,
        }
        self._record("speed", numbers)
        if self.fabric.is_global_zero:
            say(speed_told(numbers))

    def _clips(self) -> int:
        """How many clips a step of all processes takes."""
        return self.spec.train.batch * self.spec.train.accumulate * self.fabric.world_size

    def _record(self, kind: str, numbers: dict[str, Any]) -> None:
        """To losses.jsonl, the loggers and the plugins that listen, once for all processes."""
        if not self.fabric.is_global_zero:
            return
        append_losses(self.folder, kind, self.step, numbers)
        flat = {**numbers, **numbers.get("parts", {})}
        flat = {f"{kind}/{name}": value for name, value in flat.items() if isinstance(value, float)}
        self.fabric.log_dict(flat, step=self.step)
        self.registry.tell("accomp_step", run=self.folder, step=self.step, losses=flat)

    def _save(self) -> None:
        """Write a checkpoint; all processes take part in making spread weights whole."""
        weights, optimizer = whole(dict(self.model.state_dict())), whole(self.plain_optimizer.state_dict())
        heads = None if self.heads is None else whole(dict(self.heads.state_dict()))
        since_log = self._over_processes(self.tally.state_dict())
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
                minutes=self._seconds() / 60,
            )
            prune_checkpoints(self.folder, self.spec.train.keep, spare={self.best_step})
        self.fabric.barrier()

    def _resume(self, checkpoint: Checkpoint, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; state: what it holds for training."""
        load_optimizer(self.plain_optimizer, state["optimizer"])
        if self.duel:
            self.duel.load_state_dict(state["adversary"])
        self.batches.load_state_dict(state["loader"])
        self.tally.load_state_dict(state["since_log"])
        self.best, self.best_step = state["best"], state["best_step"]
        self.step, self.before = checkpoint.step, 60 * checkpoint.minutes
        self.spent = self._spent()

    def _seconds(self) -> float:
        """Of training, earlier sittings included."""
        return self.before + time.monotonic() - self.began

    def _spent(self) -> float:
        """The share of [train] minutes that is over, by the slowest process's clock; 0 where time does not matter."""
        if self.spec.train.minutes is None:
            return 0.0
        here = self._seconds() / 60 / self.spec.train.minutes
        if self.fabric.world_size == 1:
            return here
        return float(
            cast(Tensor, self.fabric.all_reduce(torch.tensor(here, device=self.fabric.device), reduce_op="max"))
        )

    def _loader(self, split: str, rank: int = 0, world: int = 1) -> ClipLoader:
        spec = self.spec
        return ClipLoader(
            spec.store.path,
            split,
            self.tokenizer,
            frames=spec.train.frames,
            batch=spec.train.batch,
            seed=number_of(spec.seed, "clips", split) % 2**32,
            rules=spec.pairs,
            labels=spec.conditions.labels,
            timelines=spec.conditions.timelines,
            rank=rank,
            world=world,
            pin=self.fabric.device.type == "cuda",
        )

    def _prepare(self, batch: CodeBatch) -> Batch:
        """Codes -> what the objective sees, on the device and in the model's own precision."""
        device, dtype = self.fabric.device, self.model.dtype

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        with torch.no_grad():
            x = self.tokenizer.embed(moved(batch.context)).clone().to(dtype)
        labels = {name: moved(classes) for name, classes in batch.labels.items()}
        timelines = {name: moved(values) for name, values in batch.timelines.items()}
        y = moved(batch.target)
        return Batch(x, y.to(dtype) if y.is_floating_point() else y, moved(batch.valid), labels, timelines)

    def _over_processes(self, numbers: dict[str, float]) -> dict[str, float]:
        """The means of such numbers over all processes."""
        if self.fabric.world_size == 1 or not numbers:
            return numbers
        here = torch.tensor(list(numbers.values()), device=self.fabric.device)
        means = cast(Tensor, self.fabric.all_reduce(here, reduce_op="mean"))
        return dict(zip(numbers, means.tolist(), strict=True))

    def _anyone(self, here: bool) -> bool:
        """Whether it is so in any process."""
        if self.fabric.world_size == 1:
            return here
        return bool(self.fabric.all_reduce(torch.tensor(float(here), device=self.fabric.device), reduce_op="max"))
