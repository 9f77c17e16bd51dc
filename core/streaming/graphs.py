"""Compilation and graph capture of a streaming step: one graph, compiled before playing starts."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from accomp.core.streaming.kept_step import KeptStep, Run

OPTIONS: dict[str, Any] = {
    "realize_opcount_threshold": 6,  # compute a norm once, not for every row of the next matrix
    "size_asserts": False,  # memory is fixed; checks take a twentieth of a small step
}


def captured_step(step: Any, *example: Tensor) -> Callable[..., Tensor]:
    """Compile the method `step` into one graph for arguments like the `example`, or load it if it was compiled before.

    It is run, on a GPU more than once. Its arguments are copied to the memory of the `example`; its object must keep
    its tensors, which is not checked. On a GPU it becomes a CUDA graph: its result is overwritten by the next call.
    Raises the errors of torch.compile where it is not one graph; a call raises ValueError for arguments of another
    shape.
    """
    kept = KeptStep.of(step, example)
    run, inputs = kept.load() or _compile(step, example, kept)

    def call_compiled() -> Tensor:
        """Call without torch.compile, whose guards on every tensor take a tenth of a small step."""
        [out] = run(*inputs)
        return out

    graph = cuda_graph(call_compiled) if any(tensor.is_cuda for tensor in inputs) else call_compiled

    def call(*arguments: Tensor) -> Tensor:
        fill(example, arguments)
        return graph()

    return call


def _compile(step: Any, example: Sequence[Tensor], kept: KeptStep) -> tuple[Run, Sequence[Tensor]]:
    """Compile, keep, and run once -> the graph and its inputs."""
    compiled: list[tuple[Run, Sequence[Tensor]]] = []

    def make(graph: torch.fx.GraphModule, inputs: list[Any]) -> Run:
        on_cpu = not any(tensor.is_cuda for tensor in inputs)
        run = kept.make(graph, inputs, {**OPTIONS, "cpp_wrapper": on_cpu})
        compiled.append((run, inputs))
        return run

    torch.compile(_own_code(step), fullgraph=True, dynamic=False, backend=make)(*example)
    [(run, inputs)] = compiled
    return run, inputs


def _own_code(method: Any) -> Any:
    """Give the method code of its own: torch.compile counts recompilations by code object."""
    function = method.__func__
    code = function.__code__.replace()
    own = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    return types.MethodType(own, method.__self__)


def cuda_graph(run: Callable[..., Tensor], *example: Tensor) -> Callable[..., Tensor]:
    """Capture `run`, which computes on a GPU, as a CUDA graph for arguments like the `example`; it is run more than
    once.

    Its result is overwritten by the next call.
    """
    buffers = [tensor.clone() for tensor in example]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # make kernels and plans here, which a capture must not
        for _ in range(3):
            run(*buffers)
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        out = run(*buffers)

    def replay(*arguments: Tensor) -> Tensor:
        fill(buffers, arguments)
        captured.replay()
        return out

    return replay


def fill(places: Sequence[Tensor], arguments: Sequence[Tensor]) -> None:
    """Copy the arguments of a graph to where it reads them. Raises ValueError for another shape, which copy_ would
    broadcast."""
    for place, argument in zip(places, arguments, strict=True):
        if place.shape != argument.shape:
            raise ValueError(f"got shape {tuple(argument.shape)}; the graph was made for {tuple(place.shape)}")
        place.copy_(argument)
