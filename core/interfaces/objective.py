"""Interface of training objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from accomp.core.interfaces.samplers import Decoding
from accomp.core.types import Batch, Loss

if TYPE_CHECKING:
    import torch

    from accomp.core.clock import Clock


@runtime_checkable
class Objective(Protocol):
    """A training loss, which also decides how the trained model decodes.

    Optional attributes and methods:

        unit        unit of the loss where that is not nats a token.
        line(variance [E]) -> {"loss", "parts"}     for continuous latents: the loss of a predictor that knows no more
                    than mean and variance of the latents.
        loss_of(...)    the part of `loss` that is compiled, called after all random draws, with tensors whose shapes
                    depend on the batch's shape alone. It must trace to one graph, without reading tensor values.
        tiles       False; set to True by training that compiles for a GPU: `loss` then passes attention masks to
                    `loss_of` by tiles (core/model/attention_tiles.py).
        hears       True where the model may have an ear that supplies timelines (core/model/ear.py), which the loss
                    trains and listens to.
        judged_by   "newest": the newest checkpoint plays, not that of the lowest validation loss.
        adversary(model), turn(step), turn_loss(turn, model, adversary, batch, rng, shared)     adversarial training:
                    the adversary's module, the side that a step trains ("generator" for the model), and the loss of
                    that side; see plugins/objectives/arc_forcing.py.
        new_heads(model), heads     a module that learns beside the model and does not play, or None; the trainer sets
                    it as `heads`, trains it and keeps it with the run (core/model/future_heads.py).

    Attributes:
        decoding: kind of the samplers that fit the trained model.
        chunked: False where the model can emit single frames only (k = 1).
        clocked: True where a clock (t_f, k) limits the input of a prediction, so that the model can stream; False for
            a model of whole clips.
    """

    decoding: ClassVar[Decoding]
    chunked: ClassVar[bool]
    clocked: ClassVar[bool]

    def loss(self, model: Any, batch: Batch, clock: Clock | None, rng: torch.Generator) -> Loss:
        """Compute the loss of a batch.

        Args:
            model: a core.model.Model or a LatentModel.
            batch: latents, targets and conditions.
            clock: the model's clock; None exactly where the objective is not `clocked`.
            rng: source of all random draws.

        Returns:
            The loss with its parts.
        """
        ...
