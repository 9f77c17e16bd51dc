"""Rectified flow: the objective of blockwise latent diffusion models."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from accomp.plugin import Decoding, TokenSpace
from accomp.plugin.diffusion import Flow, FlowKeys, check_trained_space


class RectifiedFlow(Flow):
    """Mean squared error of the velocity of noisy blocks, given the input visible under the clock and the past output.

    arXiv 2605.22717; core/diffusion/flow.py has the loss.
    """

    decoding: ClassVar[Decoding] = "denoised"
    chunked: ClassVar[bool] = True
    clocked: ClassVar[bool] = True
    unit: ClassVar[str] = "squared error"

    @frozen
    class Config(FlowKeys):
        """`blocks`, `timesteps`, `shift`, `context_drop` and `input_drop`, see core/diffusion/flow.py."""

    def __init__(self, config: Config, space: TokenSpace):
        """Raises CombinationError for a space of codes."""
        check_trained_space("rectified_flow", space)
        super().__init__(config)
