"""What a stream computes in a push, as one graph that torch.compile makes, for a whole batch at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch._dynamo.exc import BackendCompilerFailed
from torch.fx.experimental.proxy_tensor import make_fx

from accomp.plugin import PluginError
from accomp.plugin.sequences import cuda_graph
from accomp.plugins.tokenizers.codec.streams.causal import FixedHistory, History


class Graph:
    """run(x, history) -> output, for inputs exactly like an example [B, ..., n]; see codec.Live.

    What the layers remember are inputs of fixed size, which the graph advances in place: so it is compiled once, now,
    and serves any number of streams. On a GPU each stream records it when it begins, as a CUDA graph over tensors of
    its own, and a push replays that. Raises PluginError where torch cannot compile on this machine.
    """

    def __init__(self, run: Callable[[Tensor, History], Tensor], example: Tensor, frames: int):
        """`frames` is how many the example holds."""
        self._frames, history = frames, History()
        with torch.inference_mode(False), torch.no_grad():
            self._example = torch.zeros_like(example)
            run(self._example, history)
            self._begin = {layer: torch.zeros_like(past) for layer, past in history.items()}
            layers = list(self._begin)

            def step(x: Tensor, *pasts: Tensor) -> Tensor:
                return run(x, FixedHistory(dict(zip(layers, pasts, strict=True))))

            # Traced before it is compiled: the code of a traced function is its own, and so is the room for what is
            # compiled of it, of which torch grants each code little; and dac's layers hold scripts that dynamo refuses.
            traced = make_fx(step)(self._example, *[past.clone() for past in self._begin.values()])
            self._step: Callable[..., Tensor] = torch.compile(traced, fullgraph=True, dynamic=False)
            try:
                self.begin(len(example)).advance(self._example)
            except BackendCompilerFailed as error:
                raise PluginError(
                    f"the codec's streams could not be compiled on this machine ({str(error).splitlines()[0]}); "
                    'install a C++ compiler such as g++, or set compile = "off"'
                ) from error

    def takes(self, batch: int, frames: int) -> bool:
        """Whether it is for so many frames of so many rows."""
        return batch == len(self._example) and frames == self._frames

    def begin(self, batch: int) -> Recording:
        """An empty past of a stream of `batch` rows."""
        return Recording(self._step, self._example, self._begin)

    def __call__(self, x: Tensor, history: FixedHistory) -> Tensor:
        assert isinstance(history, Recording)
        return history.advance(x)


class Recording(FixedHistory):
    """A stream's past, and the graph over it: recorded where the device is a GPU."""

    def __init__(self, step: Callable[..., Tensor], example: Tensor, begin: Mapping[object, Tensor]):
        super().__init__({layer: past.clone() for layer, past in begin.items()})
        pasts = tuple(self._past.values())

        def run(x: Tensor) -> Tensor:
            return step(x, *pasts)

        self._run = cuda_graph(run, example) if example.is_cuda else run
        self._input, self._copied = example.clone(), example.is_cuda  # what a recording returns, its next run replaces
        self.reset(torch.ones(len(example), dtype=torch.bool))

    def advance(self, x: Tensor) -> Tensor:
        """The graph's output for an input like the example."""
        with torch.inference_mode(False), torch.no_grad():  # always the same, or torch compiles anew
            self._input.copy_(x)
            out = self._run(self._input)
            return out.clone() if self._copied else out
