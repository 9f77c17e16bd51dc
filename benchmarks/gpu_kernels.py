"""What a GPU is given to do, found without one: torch's compiler generates its code for a GPU that is pretended.

    python benchmarks/gpu_kernels.py streaming_k1 --set tokenizer.codebook_size=1024 [--batch 256] [--code FILE]
        [--runtime kernels=torch --runtime weights=int8]
    python benchmarks/gpu_kernels.py streaming_k1 --set tokenizer.codebook_size=1024 --set backbone.depth=2 --train

Prints the launches of a step by kernel, for k > 1 of `decode` as well, of a masked model those of the first level:
Triton kernels that the compiler has made (`triton_...`), accomp's own (core/streaming/kernels), and calls of libraries,
of which each may be several launches. Each costs a GPU a microsecond or two whatever it does, which is most of the time
of one session.

With --train, those of the loss and its gradients (bfloat16 by autocast), with the gigabytes that each reads and writes
at least, all its tensors once, and the operations of matrix products.

Nothing is timed, and nothing is run: that takes a GPU (`accomp bench stream --profile`, `accomp bench train
--profile`). The pretended GPU is an H200 to torch (compute capability 9.0, 132 processors). This replaces internals of
torch; it is written for the version in requirements/.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

PROCESSORS, CAPABILITY = 132, 90
LAUNCH = re.compile(r"\b(\w+)\.run\(|\b(?:torch\.ops\.)?(extern_kernels\.\w+|aten\.[\w.]+|accomp\.\w+)(?:\.default)?\(")


# --- a GPU that is not there


def pretend() -> None:
    """Let torch and Triton take this machine for one with a GPU, as far as compiling goes."""
    os.environ.pop("TRITON_INTERPRET", None)
    from torch._dynamo.device_interface import CudaInterface
    from torch._inductor.fx_passes import fuse_attention, pad_mm
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    torch.version.cuda = "13.0"
    torch._C._ensureCUDADeviceGuardSet()
    properties = SimpleNamespace(
        name="H200", multi_processor_count=PROCESSORS, major=CAPABILITY // 10, minor=CAPABILITY % 10, warp_size=32,
        regs_per_multiprocessor=65536, max_threads_per_multi_processor=2048, max_threads_per_block=1024,
        shared_memory_per_block_optin=232448, total_memory=141 * 2**30, L2_cache_size=50 * 2**20,
    )  # fmt: skip
    state = torch.zeros(16, dtype=torch.uint8)
    known = {
        "is_available": True, "is_initialized": True, "device_count": 1, "current_device": 0, "_lazy_init": None,
        "get_device_properties": properties, "get_device_capability": divmod(CAPABILITY, 10), "get_rng_state": state,
        "set_rng_state": None, "synchronize": None, "set_device": None, "_exchange_device": 0,
        "_maybe_exchange_device": 0, "is_bf16_supported": True, "get_arch_list": [f"sm_{CAPABILITY}"],
    }  # fmt: skip
    for name, value in known.items():
        setattr(torch.cuda, name, _always(value))
    known |= {"get_compute_capability": CAPABILITY, "exchange_device": 0, "maybe_exchange_device": 0}
    for name, value in known.items():
        setattr(CudaInterface, name, staticmethod(_always(value)))
        setattr(CudaInterface.Worker, name, staticmethod(_always(value)))
    nothing = _always(None)
    fuse_attention._sfdp_init = pad_mm._pad_mm_init = nothing  # patterns are traced on real tensors of the device
    target, device = GPUTarget("cuda", CAPABILITY, 32), torch.device("cuda", 0)
    answers = {"get_current_target": target, "get_current_device": 0, "get_active_torch_device": device}
    driver.set_active(SimpleNamespace(**{name: _always(value) for name, value in answers.items()}))
    item, inverse = torch.Tensor.__getitem__, torch.Tensor.__invert__
    torch.Tensor.__getitem__ = lambda x, index: _item(x, index) if x.is_cuda else item(x, index)
    torch.Tensor.__invert__ = lambda x: torch.ops.aten.bitwise_not(x) if x.is_cuda else inverse(x)
    torch.Tensor.copy_ = lambda x, other, non_blocking=False: torch.ops.aten.copy_(x, other, non_blocking)


def _always(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


def _item(x: Tensor, index: Any) -> Tensor:
    """x[index] by torch's operators: its own indexing wants a driver."""
    parts = index if isinstance(index, tuple) else (index,)
    if Ellipsis in [part for part in parts if not isinstance(part, Tensor)]:
        at = next(n for n, part in enumerate(parts) if part is Ellipsis)
        rest = x.ndim - sum(part is not None for part in parts) + 1
        parts = (*parts[:at], *[slice(None)] * rest, *parts[at + 1 :])
    dim, tensors = 0, {}
    for part in parts:
        if isinstance(part, int):
            x = x.select(dim, part)
            continue
        if part is None:
            x = x.unsqueeze(dim)
        elif isinstance(part, Tensor):
            tensors[dim] = part
        elif part != slice(None):
            x = torch.ops.aten.slice(x, dim, part.start, part.stop, part.step or 1)
        dim += 1
    return torch.ops.aten.index(x, [tensors.get(n) for n in range(max(tensors) + 1)]) if tensors else x


class _Generated(Exception):
    """There is code; nothing more is wanted."""


def code_of(compile_graph: Callable[[], Any], **options: Any) -> str:
    """The code that torch's compiler generates within a call, under these options of its."""
    from torch._inductor import config
    from torch._inductor.graph import GraphLowering

    found: list[str] = []

    def stop(graph: Any) -> None:
        found.append(graph.codegen()[0].value)
        raise _Generated

    options |= {"force_disable_caches": True, "joint_graph_constant_folding": False, "compile_threads": 1}
    compile_to_module, GraphLowering.compile_to_module = GraphLowering.compile_to_module, stop
    try:
        with config.patch({**options, "triton.autotune_at_compile_time": False}):
            compile_graph()
    except Exception:
        if not found:
            raise
    finally:
        GraphLowering.compile_to_module = compile_to_module
    return found[0]


def launches(code: str) -> Counter[str]:
    """Kernels and library calls of generated code -> how often each is launched."""
    calls = code.partition("def call(")[2].partition("\ndef ")[0]
    return Counter(named or library for named, library in LAUNCH.findall(calls))


# --- the step


def prepared_model(spec_name: str, settings: Sequence[str], runtime: dict[str, str]) -> tuple[Any, Any, Any]:
    """An untrained model in the runtime's precision, on the GPU -> the spec's parts, the model, the runtime."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    from accomp.core.bench.subject import subject
    from accomp.core.registry import Registry
    from accomp.core.spec.runtime import Runtime
    from accomp.core.streaming.precision import prepared

    with unset_fake_temporarily():
        made = subject(spec_name, settings, Registry(), device="cpu")
        playing = Runtime(**{"weights": "bfloat16", "kernels": "triton", **runtime, "compile": "off"})  # type: ignore[arg-type]
        model = made.model() if playing.weights == "float32" else made.model().bfloat16()
        model = prepared(model, playing)
    on_gpu(model)
    return made, model, playing


def step_of(spec_name: str, settings: Sequence[str], batch: int, runtime: dict[str, str]) -> Any:
    """The step of `batch` sessions of an untrained model; call under a FakeTensorMode."""
    from accomp.core.keyed_random import KeyedRandom
    from accomp.core.model.guidance import Guidance
    from accomp.core.streaming.step import Sessions, Step

    made, model, playing = prepared_model(spec_name, settings, runtime)
    sampler, device = made.sampler(), torch.device("cuda")
    sessions = Sessions(
        KeyedRandom(torch.zeros(batch, made.space.codebooks, dtype=torch.int64, device=device)),
        {name: torch.zeros(batch, dtype=torch.int64, device=device) for name in made.spec.conditions.labels},
        {name: torch.ones(batch, device=device) for name in getattr(sampler, "controls", ())},
    )
    guidance, window = Guidance(made.spec.guidance), made.spec.train.frames
    return Step(model, sampler, guidance, window=window, sessions=sessions, runtime=playing)


def masked_step_of(
    spec_name: str, settings: Sequence[str], batch: int, runtime: dict[str, str]
) -> tuple[Callable[..., Any], list[Tensor]]:
    """A step of an untrained masked model's first level, and its arguments, as `step_of`."""
    from accomp.core.model.guidance import Guidance
    from accomp.core.model.masking import Choice, Draw
    from accomp.core.offline.framewise import ClipInputs, LevelForward

    made, model, _ = prepared_model(spec_name, settings, runtime)
    sampler: Any = made.sampler()
    guidance, frames, device = Guidance(made.spec.guidance), made.spec.train.frames, torch.device("cuda")
    x = torch.zeros(batch, frames, made.space.latent_dim, dtype=model.table.weight.dtype, device=device)
    labels = {name: torch.zeros(batch, dtype=torch.int64, device=device) for name in made.spec.conditions.labels}
    inputs = ClipInputs(model, guidance, *guidance.spread(x, labels), {})
    level = LevelForward(inputs, 0, Choice(0, Draw(), sampler._rank))
    row = torch.zeros(batch, frames, dtype=torch.int64, device=device)
    canvas = torch.zeros(batch, made.space.codebooks, frames, dtype=torch.int64, device=device)
    return level.chosen, [canvas, row == 0, row, row[:, :1].clone(), torch.zeros(batch, 1, device=device)]


def on_gpu(model: nn.Module) -> None:
    """Replace the tensors of a model by fake ones of the GPU."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
                    tensors[name] = nn.Parameter(fake, requires_grad=False) if tensors is module._parameters else fake


def step_code(spec_name: str, settings: Sequence[str], batch: int, runtime: dict[str, str]) -> dict[str, str]:
    """Graph -> its code."""
    from torch._inductor.compile_fx import compile_fx
    from torch._subclasses.fake_tensor import FakeTensorMode

    from accomp.core.registry import Registry
    from accomp.core.spec.schema import load_spec
    from accomp.core.streaming.graphs import OPTIONS

    def code(run: Callable[..., Any], *example: Tensor) -> str:
        compiled = torch.compile(run, fullgraph=True, dynamic=False, backend=compile_fx)
        return code_of(lambda: compiled(*example), **OPTIONS)

    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        if load_spec(spec_name, Registry(), settings).clock is None:
            run, example = masked_step_of(spec_name, settings, batch, runtime)
            return {"step": code(run, *example)}
        step = step_of(spec_name, settings, batch, runtime)
        k, weight = step.layout.clock.k, step.model.table.weight
        x = torch.zeros(step.rows, k, step.model.space.latent_dim, dtype=weight.dtype, device=weight.device)
        found = {"prefill": code(step._prefill, x)}
        return found | ({"decode": code(step._decode)} if k > 1 else {})


# --- training


def training_code(spec_name: str, settings: Sequence[str]) -> dict[str, str]:
    """Graph -> its code: the loss of a batch, and its gradients.

    Autograd wants a driver, so that the graphs are made for a CPU, and their tensors then moved.
    """
    from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
    from torch._dynamo.backends.common import aot_autograd
    from torch._inductor.compile_fx import select_decomp_table
    from torch._inductor.fx_utils import FakeTensorUpdater
    from torch.nn.attention import flex_attention

    from accomp.core.bench.subject import subject
    from accomp.core.registry import Registry
    from accomp.core.spec.build import build_objective
    from accomp.core.training.random_init import random_batch

    made = subject(spec_name, settings, Registry(), device="cpu")
    objective: Any = build_objective(made.spec, made.space, made.registry)
    if hasattr(objective, "tiles"):
        objective.tiles = True
    flex_attention._validate_device = FakeTensorUpdater.incremental_update = _always(0)  # type: ignore[attr-defined]
    found: dict[str, str] = {}

    def partition(joint: Any, inputs: Any, **more: Any) -> Any:
        forward, backward = min_cut_rematerialization_partition(joint, inputs, **more)
        for name, graph in (("forward", forward), ("backward", backward)):
            found[name] = _moved_code(graph)
        return forward, backward

    def finish(*_: Any) -> Any:
        raise _Generated

    backend = aot_autograd(
        fw_compiler=lambda *_: make_boxed_func(finish), partition_fn=partition, decompositions=select_decomp_table()
    )
    objective.loss_of = torch.compile(objective.loss_of, fullgraph=True, dynamic=False, backend=backend)
    model, batch = made.model().train(), random_batch(made.spec, made.space, torch.device("cpu"))
    try:
        with torch.autocast("cpu", torch.bfloat16):
            objective.loss(model, batch, model.clock, torch.Generator().manual_seed(0))
    except _Generated:
        return found
    raise AssertionError("the loss was not compiled")


def _moved_code(graph: torch.fx.GraphModule) -> str:
    """The code of a graph, its tensors on the GPU."""
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.fx_passes.replace_random import replace_random_passes
    from torch._inductor.virtualized import V
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.passes.fake_tensor_prop import FakeTensorProp

    graph, mode = copy.deepcopy(graph), FakeTensorMode(allow_non_fake_inputs=True)
    inputs = [node.meta["val"] for node in graph.graph.nodes if node.op == "placeholder"]
    with mode:
        inputs = [
            torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cuda") if isinstance(x, Tensor) else x
            for x in inputs
        ]

    def spread() -> None:
        graph.recompile()
        for node in graph.graph.nodes:
            node.meta.pop("val", None)
        FakeTensorProp(graph, mode).propagate_dont_convert_inputs(*inputs)

    for node in graph.graph.nodes:
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": torch.device("cuda", 0)}
    spread()
    with V.set_fake_mode(mode):
        replace_random_passes(graph)
    spread()
    with torch._guards.tracing(torch._guards.TracingContext(mode)):
        return code_of(lambda: compile_fx_inner(graph, inputs))


class Work(NamedTuple):
    """Bytes that launches read and write at least, and multiplications and additions of matrix products."""

    bytes: int = 0
    operations: int = 0


BYTES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8, "i64": 8, "i32": 4, "i8": 1, "u8": 1, "i1": 1}


def work_of(code: str) -> dict[str, Work]:
    """Kernels and matrix products of generated code -> their work, all launches together."""
    kernels = re.findall(r"(\w+) = async_compile\.triton\(.*?'signature': \{(.*?)\}", code, re.DOTALL)
    types = {name: re.findall(r"'(\w+)': '\*?(\w+)'", signature) for name, signature in kernels}
    sizes: dict[str, list[int]] = {}
    found: dict[str, Work] = defaultdict(Work)
    for line in code.partition("def call(")[2].splitlines():
        if (made := re.search(r"assert_size_stride\((\w+), \(([^)]*)\)", line)) or (
            made := re.match(r"\s*(\w+) = (?:empty_strided_cuda\(|reinterpret_tensor\(\w+, )\(([^)]*)\)", line)
        ):
            sizes[made[1]] = _numbers(made[2])
        elif made := re.match(r"\s*(\w+) = (\w+);.*# reuse", line):
            sizes[made[1]] = sizes.get(made[2], [])
        elif made := re.search(r"(\w+)\.run\((.*), stream", line):
            shapes = _shapes(made[2], sizes)
            parts = zip(types.get(made[1], ()), shapes, strict=False)
            read = sum(
                math.prod(shape) * BYTES[kind] * (2 if name.startswith("in_out") else 1)
                for (name, kind), shape in parts
                if shape is not None
            )
            found[made[1]] = Work(found[made[1]].bytes + read, 0)
        elif made := re.search(r"extern_kernels\.(\w+)\((.*)\)", line):
            shapes = [shape for shape in _shapes(made[2], sizes) if shape]
            a, b = shapes[1:3] if made[1] == "addmm" else shapes[:2]
            moved = 2 * (math.prod(a) + math.prod(b) + a[-2] * b[-1])
            before = found[made[1]]
            found[made[1]] = Work(before.bytes + moved, before.operations + 2 * math.prod(a) * b[-1])
    return found


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _shapes(arguments: str, sizes: dict[str, list[int]]) -> list[list[int] | None]:
    """Shapes of the arguments of a call; None of those that are no tensors."""
    view = r"reinterpret_tensor\(\w+, \(([^)]*)\), \([^)]*\), \d+\)|(?:\w+=)?(-?\w+)"
    return [_numbers(shape) if shape else sizes.get(name) for shape, name in re.findall(view, arguments)]


# --- the command


def main() -> None:
    """Read the command line, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec")
    parser.add_argument("--set", action="append", default=[], help="of the spec, as for accomp bench")
    parser.add_argument("--batch", type=int, default=1, help="sessions")
    parser.add_argument("--runtime", action="append", default=[], help="weights, cache, kernels; weights are bfloat16")
    parser.add_argument("--train", action="store_true", help="the loss and its gradients instead of a step")
    parser.add_argument("--code", type=Path, help="write the generated code here")
    given = parser.parse_args()
    pretend()
    if given.train:
        codes = training_code(given.spec, given.set)
    else:
        runtime = dict(one.split("=", 1) for one in given.runtime)
        codes = step_code(given.spec, given.set, given.batch, runtime)
    for name, code in codes.items():
        found, work = launches(code), work_of(code) if given.train else {}
        total = Work(*map(sum, zip(*work.values(), strict=True))) if work else Work()
        print(f"{name}: {found.total()} launches{_said(total)}")
        for kernel, count in sorted(found.items(), key=lambda one: (-work.get(one[0], Work()).bytes, -one[1])):
            print(f"  {count:4} {kernel}{_said(work.get(kernel.removeprefix('extern_kernels.'), Work()))}")
    if given.code:
        given.code.write_text("\n".join(codes.values()), encoding="utf-8")


def _said(work: Work) -> str:
    operations = f", {work.operations / 1e12:.3g} T operations" if work.operations else ""
    return f"  {work.bytes / 1e9:.3g} GB{operations}" if work.bytes else ""


if __name__ == "__main__":
    main()
