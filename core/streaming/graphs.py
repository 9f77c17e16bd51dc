"""Compiling what is computed again and again while one plays: one graph, made before the music starts."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

OPTIONS: dict[str, Any] = {
    "realize_opcount_threshold": 6,  # a norm is worked out once, not for every row of the matrix behind it
    "size_asserts": False,  # what is read and written lies where it lay: looking takes a twentieth of a small step
}


def captured_step(step: Any, *example: Tensor) -> Callable[..., Tensor]:
    """The method `step` as one graph for arguments like the `example`; it is run, on a GPU more than once.

    It has to be called with such arguments, which are copied to where the `example` lies; its object must keep its
    tensors, which is not checked. On a GPU it becomes a CUDA graph: what it returns is overwritten by its next
    call. Raises what torch.compile raises where it is no one graph; a call, ValueError for arguments of another shape.
    """
    made: list[tuple[Callable[..., Sequence[Tensor]], Sequence[Any]]] = []

    def make(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Sequence[Tensor]]:
        on_cpu = not any(tensor.is_cuda for tensor in inputs)
        run = torch._inductor.compile(graph, inputs, options={**OPTIONS, "cpp_wrapper": on_cpu})
        made.append((run, inputs))
        return run

    on_gpu = torch.compile(_own_code(step), fullgraph=True, dynamic=False, backend=make)(*example).is_cuda
    [(run, inputs)] = made

    def again() -> Tensor:
        """Not through torch.compile, which looks up every tensor anew: a tenth of a small step."""
        [out] = run(*inputs)
        return out

    graph = cuda_graph(again) if on_gpu else again

    def call(*arguments: Tensor) -> Tensor:
        fill(example, arguments)
        return graph()

    return call


def _own_code(method: Any) -> Any:
    """The method with code of its own: by the code torch.compile counts how often it had to compile."""
    function = method.__func__
    code = function.__code__.replace()
    own = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    return types.MethodType(own, method.__self__)


def cuda_graph(run: Callable[..., Tensor], *example: Tensor) -> Callable[..., Tensor]:
    """`run`, which computes on a GPU, as a CUDA graph for arguments like the `example`; it is run, more than once.

    What it returns is overwritten by its next call.
    """
    places = [tensor.clone() for tensor in example]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # kernels and plans are made here, since a recording must not
        for _ in range(3):
            run(*places)
    torch.cuda.current_stream().wait_stream(side)
    recording = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recording):
        out = run(*places)

    def replay(*arguments: Tensor) -> Tensor:
        fill(places, arguments)
        recording.replay()
        return out

    return replay


def fill(places: Sequence[Tensor], arguments: Sequence[Tensor]) -> None:
    """Copy the arguments of a graph to where it reads them. Raises ValueError for another shape, which copy_ would
    broadcast."""
    for place, argument in zip(places, arguments, strict=True):
        if place.shape != argument.shape:
            raise ValueError(f"got shape {tuple(argument.shape)}; the graph was made for {tuple(place.shape)}")
        place.copy_(argument)
