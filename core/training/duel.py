"""Adversarial training in turns: the adversary's side, and the choice of the side that a step trains."""

from __future__ import annotations

from typing import Any, cast

import torch
from lightning.fabric import Fabric
from torch import nn

from accomp.core.compute.sharding import load_optimizer, whole
from accomp.core.errors import SpecError
from accomp.core.spec.schema import Spec
from accomp.core.training.loss_module import AdversaryModule, Against

BETAS = (0.9, 0.95)
"""Betas of the adversary's AdamW (arXiv 2605.22717, appendix)."""


class Duel:
    """The adversary of an objective that has one, with its optimizer. The weights of the other side are frozen in each
    turn.

    Attributes:
        adversary: the module that learns in its own turns.
        stepper: its loss, as Fabric set it up.
    """

    def __init__(self, fabric: Fabric, objective: Any, model: nn.Module, spec: Spec, seed: int):
        """`seed`: of its initial weights. Raises SpecError under "fsdp", which shards one module alone."""
        train = spec.train
        if spec.run.strategy == "fsdp":
            raise SpecError('an objective with an adversary has two modules; set run.strategy = "ddp" @ run.strategy')
        self._objective, self._model, self._train = objective, model, train
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.adversary = objective.adversary(model)
        self.stepper = fabric.setup_module(AdversaryModule(self.adversary, objective))
        self.stepper.train()
        weights = [weight for weight in self.adversary.parameters() if weight.requires_grad]
        self.plain = torch.optim.AdamW(
            weights, lr=objective.adversary_lr, betas=BETAS, weight_decay=train.weight_decay
        )  # fmt: skip
        self.optimizer = cast(torch.optim.Optimizer, fabric.setup_optimizers(self.plain))

    def begin(self, step: int, shared: torch.Generator) -> tuple[bool, Against]:
        """Freeze the other side; return True for a step of the generator, and the opponent."""
        turn = self._objective.turn(step)
        generator = turn == "generator"
        for weight in self._model.parameters():
            weight.requires_grad_(generator)
        self.adversary.set_trainable(not generator)
        return generator, Against(turn, self.adversary if generator else self._model, shared)

    def rate(self, lr: float) -> None:
        """Set the learning rate for a model's rate of `lr`."""
        for group in self.plain.param_groups:
            group["lr"] = self._objective.adversary_lr * lr / self._train.lr

    def state_dict(self) -> dict[str, Any]:
        """Return weights and optimizer state."""
        return {"weights": dict(self.adversary.state_dict()), "optimizer": whole(self.plain.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load weights and optimizer state."""
        self.adversary.load_state_dict(state["weights"])
        load_optimizer(self.plain, state["optimizer"])
