"""Training in turns: the adversary's side, and whose step it is."""

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
"""Of the adversary's AdamW (arXiv 2605.22717, appendix)."""


class Duel:
    """The adversary of an objective that has one, with its optimizer. In each turn the other side's weights rest.

    Attributes:
        adversary: the module that learns in its own turns.
        stepper: its loss, as Fabric set it up.
    """

    def __init__(self, fabric: Fabric, objective: Any, model: nn.Module, spec: Spec, seed: int):
        """`seed`: of its random weights. Raises SpecError under "fsdp", which spreads one module alone."""
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
        """Whether the step is the generator's, and whom it is against, whose weights rest."""
        turn = self._objective.turn(step)
        generator = turn == "generator"
        for weight in self._model.parameters():
            weight.requires_grad_(generator)
        self.adversary.set_trainable(not generator)
        return generator, Against(turn, self.adversary if generator else self._model, shared)

    def rate(self, lr: float) -> None:
        """Set its learning rate where the model's is `lr`."""
        for group in self.plain.param_groups:
            group["lr"] = self._objective.adversary_lr * lr / self._train.lr

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizer."""
        return {"weights": dict(self.adversary.state_dict()), "optimizer": whole(self.plain.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.adversary.load_state_dict(state["weights"])
        load_optimizer(self.plain, state["optimizer"])
