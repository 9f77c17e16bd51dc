"""Multi-token prediction: in training, further heads predict from hidden states what comes some steps later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from accomp.core.errors import CheckpointError
from accomp.core.model.ahead_keys import AheadKeys
from accomp.core.model.model import Model
from accomp.core.types import Loss


class LooksAhead:
    """An objective whose heads, in training, predict the tokens of the model's own output 1..n steps further on.

    L + w / n (L_1 + ... + L_n), where L_j is the cross entropy of head j, whose target at step s is what step s + j
    puts out: y[q, s + j - q] (arXiv 2609.07688; w = `ahead_weight`). Heads are of the objective, not of the model: they
    learn beside it, and nothing of them plays.

    Attributes:
        heads: n linear layers, each as the model's own heads. Until they are given None: nothing further is predicted.
    """

    heads: nn.Module | None = None

    def __init__(self, config: AheadKeys):
        self.ahead, self.ahead_weight = config.ahead, config.ahead_weight

    def new_heads(self, model: Model) -> nn.Module | None:
        """Heads for a model, with random weights drawn from the global generator; None where n = 0."""
        if not self.ahead:
            return None
        sizes = model.heads.in_features, model.heads.out_features
        return nn.ModuleList(nn.Linear(*sizes) for _ in range(self.ahead))

    def looking_ahead(
        self, loss: Loss, model: Model, h: Tensor, targets: Callable[[int], Tensor], weights: Sequence[float] | None
    ) -> Loss:
        """A loss with those of the heads: parts `ahead_j`, in training also in its total.

        h [B, S, D] are the hidden states of the rows that predict; targets(j) [B, K, S] what they should predict j
        steps ahead, negative where nothing is to be. weights: of the levels, as in the loss itself.
        """
        if self.heads is None:
            return loss
        errors = {
            f"ahead_{steps}": model.cross_entropy(_logits(head, h, model), targets(steps), weights).total
            for steps, head in enumerate(_each(self.heads), 1)
        }
        addend = self.ahead_weight * torch.stack(list(errors.values())).mean() if model.training else None
        return loss.beside(errors, addend)


def give_heads(model: Model, seed: int, *objectives: Any) -> nn.Module | None:
    """Heads for a model from the first of some equal objectives, which all of them then use; None where it has none.

    seed: of their random weights; the global generator is left as it was.
    """
    if not hasattr(objectives[0], "new_heads"):
        return None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        heads: nn.Module | None = objectives[0].new_heads(model)
    for objective in objectives:
        objective.heads = heads
    return heads


def load_heads(heads: nn.Module | None, state: dict[str, Tensor] | None, where: Any) -> None:
    """Put the weights of an earlier sitting into heads. Raises CheckpointError for other heads than those."""
    own = {} if heads is None else heads.state_dict()
    state = state or {}
    if {name: weight.shape for name, weight in own.items()} != {name: weight.shape for name, weight in state.items()}:
        raise CheckpointError(
            f"the training there {_described(state)} @ {where}",
            f"but the spec's objective {_described(own)}; set objective.ahead as it was, or begin with its model in "
            f"another run folder: train.start",
        )
    if heads is not None:
        heads.load_state_dict(state)


def _described(state: dict[str, Tensor]) -> str:
    shapes = [tuple(weight.shape) for name, weight in state.items() if name.endswith("weight")]
    told = f"looks {len(shapes)} step{'' if len(shapes) == 1 else 's'} ahead"
    return f"{told} by heads {shapes}" if shapes else told


def _each(heads: nn.Module) -> Sequence[nn.Module]:
    assert isinstance(heads, nn.ModuleList)
    return list(heads)


def _logits(head: nn.Module, h: Tensor, model: Model) -> Tensor:
    """h [B, S, D] -> [B, K, S, V], as Model.logits."""
    return head(h).unflatten(-1, (-1, model.vocabulary.size)).transpose(1, 2)
