"""What a step launches on a GPU, found without one: torch's compiler generates its code for a GPU that is pretended.

    python benchmarks/gpu_kernels.py streaming_k1 --set tokenizer.codebook_size=1024 [--batch 256] [--code FILE]
        [--runtime kernels=torch --runtime weights=int8]

Prints the launches of a step by kernel, `decode` for k > 1 as well: Triton kernels that the compiler has made
(`triton_...`), accomp's own (core/streaming/kernels), and calls of libraries, of which each may be several launches.
Each costs a GPU a microsecond or two whatever it does, which is most of the time of one session. Nothing is timed, and
nothing is run: that takes a GPU (`accomp bench stream --profile`).

The pretended GPU is an H200 to torch (compute capability 9.0, 132 processors). This replaces internals of torch; it is
written for the version in requirements/.
"""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

PROCESSORS, CAPABILITY = 132, 90
LAUNCH = re.compile(r"\b(\w+)\.run\(|\b(extern_kernels\.\w+|(?:torch\.ops\.)?aten\.[\w.]+)\(")


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
    plain = torch.Tensor.__getitem__
    torch.Tensor.__getitem__ = lambda x, index: _item(x, index) if x.is_cuda else plain(x, index)
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


def code_of(step: Callable[..., Any], example: Sequence[Tensor], options: dict[str, Any]) -> str:
    """The code that torch's compiler generates for a step on fake tensors of the GPU."""
    from torch._inductor.compile_fx import compile_fx
    from torch._inductor.graph import GraphLowering

    found: list[str] = []

    class Done(Exception): ...

    def generated(graph: Any) -> None:
        found.append(graph.codegen()[0].value)
        raise Done

    def backend(module: Any, inputs: list[Any]) -> Any:
        more = {"force_disable_caches": True, "joint_graph_constant_folding": False, "compile_threads": 1}
        return compile_fx(module, inputs, config_patches={**options, **more, "triton.autotune_at_compile_time": False})

    compile_to_module, GraphLowering.compile_to_module = GraphLowering.compile_to_module, generated
    try:
        torch.compile(step, fullgraph=True, dynamic=False, backend=backend)(*example)
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


def step_of(spec_name: str, settings: Sequence[str], batch: int, runtime: dict[str, str]) -> Any:
    """The step of `batch` sessions of an untrained model; call under a FakeTensorMode with the model's tensors."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    from accomp.core.bench.subject import subject
    from accomp.core.keyed_random import KeyedRandom
    from accomp.core.model.guidance import Guidance
    from accomp.core.registry import Registry
    from accomp.core.spec.runtime import Runtime
    from accomp.core.streaming.precision import prepared
    from accomp.core.streaming.step import Sessions, Step

    with unset_fake_temporarily():
        made = subject(spec_name, settings, Registry(), device="cpu")
        playing = Runtime(**{"weights": "bfloat16", "kernels": "triton", **runtime, "compile": "off"})  # type: ignore[arg-type]
        model = made.model() if playing.weights == "float32" else made.model().bfloat16()
        model = prepared(model, playing)
    on_gpu(model)
    sampler, device = made.sampler(), torch.device("cuda")
    sessions = Sessions(
        KeyedRandom(torch.zeros(batch, made.space.codebooks, dtype=torch.int64, device=device)),
        {name: torch.zeros(batch, dtype=torch.int64, device=device) for name in made.spec.conditions.labels},
        {name: torch.ones(batch, device=device) for name in getattr(sampler, "controls", ())},
    )
    guidance, window = Guidance(made.spec.guidance), made.spec.train.frames
    return Step(model, sampler, guidance, window=window, sessions=sessions, runtime=playing)


def on_gpu(model: nn.Module) -> None:
    """Replace the tensors of a model by fake ones of the GPU."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
                    tensors[name] = nn.Parameter(fake, requires_grad=False) if tensors is module._parameters else fake


def main() -> None:
    """Read the command line, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec")
    parser.add_argument("--set", action="append", default=[], help="of the spec, as for accomp bench")
    parser.add_argument("--batch", type=int, default=1, help="sessions")
    parser.add_argument("--runtime", action="append", default=[], help="weights, cache, kernels; weights are bfloat16")
    parser.add_argument("--code", type=Path, help="write the generated code here")
    given = parser.parse_args()
    pretend()
    from torch._subclasses.fake_tensor import FakeTensorMode

    from accomp.core.streaming.graphs import OPTIONS

    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        step = step_of(given.spec, given.set, given.batch, dict(one.split("=", 1) for one in given.runtime))
        k, weight = step.layout.clock.k, step.model.table.weight
        x = torch.zeros(step.rows, k, step.model.space.latent_dim, dtype=weight.dtype, device=weight.device)
        codes = {"prefill": code_of(step._prefill, [x], OPTIONS)}
        if k > 1:
            codes["decode"] = code_of(step._decode, [], OPTIONS)
    for name, code in codes.items():
        found = launches(code)
        print(f"{name}: {found.total()} launches")
        for kernel, count in found.most_common():
            print(f"  {count:4} {kernel}")
    if given.code:
        given.code.write_text("\n".join(codes.values()), encoding="utf-8")


if __name__ == "__main__":
    main()
