"""Compiled steps in torch's cache, by all that they depend on: loaded without tracing, which takes seconds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from attrs import frozen
from torch import Tensor

from accomp.core.compute.compiled_code import facts, torch_cache
from accomp.core.console import say, warn
from accomp.core.errors import first_line
from accomp.core.files import folder_atomic
from accomp.core.streaming.step_facts import step_facts

Run = Callable[..., Sequence[Tensor]]

FOLDER = "accomp-steps"
"""In torch's cache: a folder for each step, with GRAPH and INPUTS."""
GRAPH, INPUTS = "graph.bin", "inputs.json"


@frozen(eq=False)
class KeptStep:
    """Where a step is kept, or will be.

    Attributes:
        folder: its folder, by the hash of all that the compiled code depends on.
        tensors: place -> tensor that the step can reach, arguments included.
    """

    folder: Path
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, step: Any, example: Sequence[Tensor]) -> Self:
        """Where the method `step` of an object with tensors is kept, for arguments like the `example`."""
        found = step_facts((step, list(example)))
        flags = (
            torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled(),
            torch.is_inference_mode_enabled(), torch.is_grad_enabled(),
        )  # fmt: skip
        device = next(iter(found.tensors.values())).device
        known = {"step": found.text, "flags": repr(flags), **facts(device)}
        name = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
        return cls(torch_cache() / FOLDER / name, found.tensors)

    def load(self) -> tuple[Run, list[Tensor]] | None:
        """Load the graph, find its inputs, and run it once; None where none is kept, or, with a warning, where it does
        not work.
        """
        if not (self.folder / INPUTS).exists() or not _torch_caches():
            return None
        from torch._inductor.standalone_compile import CompiledArtifact

        try:
            inputs = [self.tensors[place] for place in json.loads((self.folder / INPUTS).read_text())]
            run = CompiledArtifact.load(path=str(self.folder / GRAPH))
            run(*inputs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of torch, of pickle, of what they call
            why = f"{type(error).__name__}: {first_line(error)}"
            warn(f"a step that was compiled before does not work, and is compiled again: {why} @ {self.folder}")
            return None
        return run, inputs

    def make(self, graph: torch.fx.GraphModule, inputs: list[Any], options: Mapping[str, Any]) -> Run:
        """Compile a graph with `options` of torch's compiler, and keep it.

        A graph with an input that the step does not hold is not kept, nor one that torch cannot write, nor any where
        torch's cache is off.
        """
        places = {id(tensor): place for place, tensor in self.tensors.items()}
        names = [places.get(id(tensor)) for tensor in inputs]
        if None not in names and _torch_caches():
            try:
                run = _whole(graph, inputs, options)
                with folder_atomic(self.folder) as work:
                    run.save(path=str(work / GRAPH))
                    (work / INPUTS).write_text(json.dumps(names))
                return run
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # what it really is shows below, where the graph is at fault
                say(f"the compiled step is not kept: {type(error).__name__}: {first_line(error)}")
        return torch._inductor.compile(graph, inputs, options=dict(options))


def _torch_caches() -> bool:
    """Whether torch keeps what it compiles (TORCHINDUCTOR_FX_GRAPH_CACHE)."""
    from torch._inductor import config

    return bool(config.fx_graph_cache)


def _whole(graph: torch.fx.GraphModule, inputs: list[Any], options: Mapping[str, Any]) -> Any:
    """Compile a graph into one object that can be written to a file."""
    # torch would time kernels of ours and its own on made-up numbers, indices included, and fail where those are wrong
    patches = {**options, "triton.autotune_at_compile_time": False}
    return torch._inductor.standalone_compile(
        graph, inputs, dynamic_shapes="from_graph", options={"config_patches": patches}, aot=True
    )
