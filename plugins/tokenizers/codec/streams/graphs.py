"""The computation of a stream per push as one compiled graph for a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from accomp.plugin import PluginError
from accomp.plugin.sequences import cuda_graph
from accomp.plugins.tokenizers.codec.streams.causal import FixedHistory, History


class Graph:
    """run(x, history) -> output, for inputs exactly like an example [B, ..., n], a LivePath.

    Layer states are inputs of fixed size, updated in place, so the graph is compiled once in the constructor and shared
    by all streams. On a GPU each stream captures a CUDA graph over its own tensors when it starts, and a push replays
    it. Raises PluginError if torch cannot compile on this machine.
    """

    def __init__(self, run: Callable[[Tensor, History], Tensor], example: Tensor, frames: int):
        """`frames`: number of frames in the example."""
        from torch._dynamo.exc import BackendCompilerFailed  # the compiler takes a second to import
        from torch.fx.experimental.proxy_tensor import make_fx

        self._frames, history = frames, History()
        with torch.inference_mode(False), torch.no_grad():
            self._example = torch.zeros_like(example)
            run(self._example, history)
            self._begin = {layer: torch.zeros_like(past) for layer, past in history.items()}
            layers = list(self._begin)

            def step(x: Tensor, *pasts: Tensor) -> Tensor:
                return run(x, FixedHistory(dict(zip(layers, pasts, strict=True))))

            # Traced before compilation: a traced function has its own code object and thus its own compile cache,
            # which torch limits per code object; also, dac's layers contain scripts that dynamo rejects.
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
        """Return True if this number of frames and rows is supported."""
        return batch == len(self._example) and frames == self._frames

    def begin(self, batch: int) -> Recording:
        """Return an empty history of a stream of `batch` rows."""
        return Recording(self._step, self._example, self._begin)

    def __call__(self, x: Tensor, history: FixedHistory) -> Tensor:
        assert isinstance(history, Recording)
        return history.advance(x)


class Recording(FixedHistory):
    """History of a stream with its graph, captured as CUDA graph on a GPU."""

    def __init__(self, step: Callable[..., Tensor], example: Tensor, begin: Mapping[object, Tensor]):
        super().__init__({layer: past.clone() for layer, past in begin.items()})
        pasts = tuple(self._past.values())

        def run(x: Tensor) -> Tensor:
            return step(x, *pasts)

        self._run = cuda_graph(run, example) if example.is_cuda else run
        self._input, self._copied = example.clone(), example.is_cuda  # a replay overwrites the previous output
        self.reset(torch.ones(len(example), dtype=torch.bool))

    def advance(self, x: Tensor) -> Tensor:
        """Return the output of the graph for an input of the shape of the example."""
        with torch.inference_mode(False), torch.no_grad():  # a constant mode avoids recompilation
            self._input.copy_(x)
            out = self._run(self._input)
            return out.clone() if self._copied else out
