"""Training: the model learns to play what the musicians played, and the run folder records how it went."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from accomp.core.build import build_model, build_objective, build_tokenizer
from accomp.core.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    load_training,
    load_weights,
    prune_checkpoints,
    save_checkpoint,
)
from accomp.core.console import Advance, progress, say
from accomp.core.errors import SpecError, WorkError
from accomp.core.interfaces import Objective
from accomp.core.model import Model
from accomp.core.registry import Registry
from accomp.core.run_folder import model_folder
from accomp.core.runner.batches import ClipLoader
from accomp.core.runner.computing import fabric_of, number_of, own_randomness, threads
from accomp.core.runner.labelling import told
from accomp.core.runner.loggers import loggers_of
from accomp.core.runner.losses import append_losses, rewind_losses
from accomp.core.runner.optimising import learning_rate, optimizer_of
from accomp.core.runner.stopping import stop_wish
from accomp.core.runner.validation import Validation
from accomp.core.spec import Spec, resolve
from accomp.core.types import Batch, CodeBatch

TRAIN, VALIDATION = "train", "validation"
"""Splits of the store."""


def train(spec: Spec, registry: Registry, run: Path) -> None:
    """Train to `spec.train.steps` from the run's last checkpoint, or from the start; nothing where that is done.

    An interrupted run that is started again ends with the same weights as one that was not. SIGINT and SIGTERM let the
    step end and write a checkpoint before they raise KeyboardInterrupt. With several devices the command starts again
    in a process for each; those leave here when training ends. Raises WorkError, with the last good checkpoint kept,
    when the loss is no longer a number; DataError and CheckpointError for a store or a checkpoint that does not fit;
    SpecError for a run that has borrowed its model.
    """
    if (model := model_folder(run)) != run:
        text = f"this run plays the model of {model}; train that, or give the training a folder of its own: --run NEW"
        raise SpecError(f"{text} @ {run}")
    resumed = latest_checkpoint(run)
    if resumed is not None and resumed.step >= spec.train.steps:
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
        f"trained {training.step} steps; lowest validation loss {training.best:.3f} nats a token after step "
        f"{training.best_step}"
    )


class _Objective(nn.Module):
    """Model and objective as one module, so that Fabric's precision and gradient averaging see the whole step."""

    def __init__(self, model: Model, objective: Objective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self.objective.loss(self.model, batch, self.model.clock, rng)
        return loss.total, loss.parts


class _Training:
    """One process's part of a run: everything that moves, and the loop that moves it."""

    def __init__(self, spec: Spec, registry: Registry, run: Path, fabric: Fabric, resumed: Checkpoint | None):
        self.spec, self.registry, self.folder, self.fabric = spec, registry, run, fabric
        self.tokenizer = build_tokenizer(spec, registry).to(fabric.device)
        self.objective = build_objective(spec, self.tokenizer.space, registry)
        self.model = build_model(spec, self.tokenizer.space, registry)
        self.loader = self._loader(TRAIN, fabric.global_rank, fabric.world_size)
        self.validation = Validation(
            self._loader(VALIDATION), spec.train.validation_batches, number_of(spec.seed, "validation")
        )
        self.step = 0
        self.since_log: dict[str, float] = {}  # sums over the steps since the last log line
        self.best = math.inf  # lowest validation loss, and the step it came after
        self.best_step = 0
        if resumed:
            load_weights(resumed, self.model)
        optimizer = optimizer_of(self.model, spec.train)
        self.stepper, self.optimizer = fabric.setup(_Objective(self.model, self.objective), optimizer)
        self.stepper.train()
        if resumed:
            self._resume(resumed, optimizer)
        if fabric.is_global_zero:
            say(f"{TRAIN}: {self.loader.told()}")
            for line in told(self.loader.label_counts(), len(self.loader)):
                say(line)
            rewind_losses(run, self.step if resumed else -1)
        if not resumed:
            self._validate()

    def run(self) -> None:
        """The remaining steps."""
        train = self.spec.train
        with stop_wish() as wish, self._progress() as advance:
            if self.step:
                advance(self.step, note=f"resumed at step {self.step}")
            began, clips = time.monotonic(), 0
            while self.step < train.steps:
                norm = self._optimizer_step()
                self.step += 1
                clips += train.batch * train.accumulate * self.fabric.world_size
                last, stop = self.step == train.steps, self._anyone(bool(wish.signal))
                if last or self.step % train.log_every == 0:
                    self._log(norm, clips / (time.monotonic() - began))
                better = (last or self.step % train.validate_every == 0) and self._validate()
                if last or stop or better or self.step % train.checkpoint_every == 0:
                    self._save()
                advance(1, note=f"validation loss {self.best:.3f} at best")
                if stop and not last:
                    if self.fabric.is_global_zero:
                        say(f"stopped by {wish.signal or 'a signal'} after step {self.step}; its checkpoint is written")
                    raise KeyboardInterrupt

    def _progress(self) -> AbstractContextManager[Advance]:
        """Shown by one process only."""
        if self.fabric.is_global_zero:
            return progress("train", self.spec.train.steps)
        return nullcontext(lambda units=1.0, *, note="": None)

    def _optimizer_step(self) -> float:
        """One step; returns the norm of the gradient. Random numbers belong to seed, step and process."""
        train, place = self.spec.train, (self.step, self.fabric.global_rank)
        torch.manual_seed(number_of(self.spec.seed, "step", *place))
        losses: dict[str, float] = {}
        for turn in range(train.accumulate):
            rng = torch.Generator().manual_seed(number_of(self.spec.seed, "objective", *place, turn))
            with self.fabric.no_backward_sync(self.stepper, enabled=turn + 1 < train.accumulate):
                total, parts = self.stepper(self._prepare(next(self.loader)), rng)
                self.fabric.backward(total / train.accumulate)
            for name, value in {"loss": total.detach(), **parts}.items():
                losses[name] = losses.get(name, 0.0) + float(value) / train.accumulate
        clipped = self.fabric.clip_gradients(
            self.stepper, self.optimizer, max_norm=train.clip, error_if_nonfinite=False
        )
        norm = float(clipped) if clipped is not None else math.nan
        rescaled = self.spec.run.precision.startswith("16")  # there a scaler skips steps whose gradients overflow
        if self._anyone(not math.isfinite(losses["loss"]) or not (rescaled or math.isfinite(norm))):
            self._diverged(losses["loss"], norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, train)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        for name, value in {"steps": 1.0, **losses}.items():
            self.since_log[name] = self.since_log.get(name, 0.0) + value
        return norm

    def _diverged(self, loss: float, norm: float) -> None:
        kept = latest_checkpoint(self.folder)
        raise WorkError(
            f"training diverged at step {self.step + 1}: loss {loss:g}, gradient norm {norm:g}; lower train.lr "
            f"({self.spec.train.lr:g}) or lengthen train.warmup ({self.spec.train.warmup}), in a new run folder. "
            f"The last good checkpoint is {kept.folder if kept else 'none: this was the beginning'}"
        )

    def _validate(self) -> bool:
        """Record the validation, before the first one what it is compared with; whether it is the best one so far."""
        with self.fabric.autocast():
            found = self.validation.run(self.model, self.objective, self._prepare)
        if self.step == 0:
            self._record("unigram", self.validation.unigram(found["tokens"]))
        self._record("validation", found)
        better = found["loss"] < self.best
        if better:
            self.best, self.best_step = found["loss"], self.step
        return better

    def _log(self, norm: float, clips_per_second: float) -> None:
        """The mean losses of this process since the last log line."""
        count = self.since_log.pop("steps")
        means = {name: value / count for name, value in self.since_log.items()}
        self.since_log = {}
        numbers = {
            "loss": means.pop("loss"),
            "parts": means,
            "lr": learning_rate(self.step - 1, self.spec.train),
            "gradient_norm": norm,
            "clips_per_second": clips_per_second,
        }
        self._record("train", numbers)

    def _record(self, kind: str, numbers: dict[str, Any]) -> None:
        """To losses.jsonl, the loggers and the plugins that listen, once for all processes."""
        if not self.fabric.is_global_zero:
            return
        append_losses(self.folder, kind, self.step, numbers)
        flat = {**numbers, **numbers["parts"]}
        flat = {f"{kind}/{name}": value for name, value in flat.items() if isinstance(value, float)}
        self.fabric.log_dict(flat, step=self.step)
        self.registry.pm.hook.accomp_step(run=self.folder, step=self.step, losses=flat)

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            training = {
                "optimizer": self.optimizer.state_dict(),
                "loader": self.loader.state_dict(),
                "since_log": self.since_log,
                "best": self.best,
                "best_step": self.best_step,
            }
            save_checkpoint(self.folder, self.step, self.model, resolve(self.spec), self.tokenizer, training)
            prune_checkpoints(self.folder, self.spec.train.keep, spare={self.best_step})
        self.fabric.barrier()

    def _resume(self, checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> None:
        state = load_training(checkpoint)
        optimizer.load_state_dict(state["optimizer"])
        self.loader.load_state_dict(state["loader"])
        self.since_log, self.best, self.best_step = state["since_log"], state["best"], state["best_step"]
        self.step = checkpoint.step

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
            rank=rank,
            world=world,
            pin=self.fabric.device.type == "cuda",
        )

    def _prepare(self, batch: CodeBatch) -> Batch:
        """Codes -> what the objective sees, on the device and in the model's own precision."""
        device, dtype = self.fabric.device, self.model.table.weight.dtype
        with torch.no_grad():
            x = self.tokenizer.embed(batch.context.to(device, non_blocking=True)).clone().to(dtype)
        labels = {name: classes.to(device) for name, classes in batch.labels.items()}
        return Batch(x, batch.target.to(device, non_blocking=True), batch.valid.to(device), labels)

    def _anyone(self, here: bool) -> bool:
        """Whether it is so in any process."""
        if self.fabric.world_size == 1:
            return here
        return bool(self.fabric.all_reduce(torch.tensor(float(here), device=self.fabric.device), reduce_op="max"))
