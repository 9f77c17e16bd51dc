"""Rows by Triton's kernels are the rows that torch computes; who gets which is decided by device and runtime."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
import torch._inductor.graph
from kernel_inputs import DEVICE
from marks import COMPILES, NEEDS_COMPILER
from small import latents, session_of, small_model, space_with
from torch import Tensor

from accomp.core.errors import UserError
from accomp.core.model.guidance import Guidance
from accomp.core.spec.runtime import Runtime
from accomp.core.streaming import row_kernels as choosing
from accomp.core.streaming.graphs import captured_step
from accomp.core.streaming.kernels import ring_attention
from accomp.core.streaming.quantize import to_int8
from accomp.core.streaming.row_kernels import RowKernels, in_loops, row_kernels
from accomp.core.streaming.session import TokenSession
from accomp.plugins.backbones.llama import Llama
from accomp.plugins.samplers.greedy import Greedy

CPU = torch.device("cpu")
TORCH, TRITON = Runtime(compile="off", kernels="torch"), Runtime(compile="off", kernels="triton")
FRAMES = 6


def backbone(**changes: object) -> Llama:
    """A layer with every weight random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        made = Llama(Llama.Config(**{"depth": 1, "heads": 4, "kv_heads": 2, "hidden": 24, **changes}), space_with(), 16)
        for weight in made.parameters():
            weight.data += 0.2 * torch.randn_like(weight)
    return made.eval().to(DEVICE)


def kernels(heads: int) -> RowKernels:
    """On a GPU of so many processors that attention is split wherever it can be."""
    return RowKernels(132, torch.zeros(heads, dtype=torch.int32, device=DEVICE))


def stepwise(model: Llama, h: Tensor, *, by_kernels: bool, **state: object) -> tuple[Tensor, list[Tensor]]:
    """The rows h [B, S, D] one by one -> the outputs, and the caches."""
    ring = model.new_state(len(h), **state)
    ring.kernels = kernels(len(h) * model.kv_heads) if by_kernels else None
    with torch.inference_mode():
        out = torch.cat([model(row, state=ring) for row in h.split(1, dim=1)], dim=1)
    return out, [buffer.data for buffer in (*ring.keys, *ring.values)]


@pytest.mark.parametrize(
    ("dtype", "whole", "cache", "changes"),
    [
        (torch.float32, False, torch.float32, {}),
        (torch.float32, True, torch.int8, {"kv_heads": 1}),
        (torch.bfloat16, False, torch.bfloat16, {"feedforward": "silu"}),
        (torch.bfloat16, True, torch.int8, {}),
        (torch.float32, False, torch.int8, {"kv_heads": 4, "head_dim": 6, "rope_dim": 2}),
        (torch.float32, True, torch.bfloat16, {"feedforward": "silu"}),
    ],
    ids=str,
)
def test_a_backbone_row_by_row(dtype, whole, cache, changes):
    """A window of 3: the ring wraps, and the pinned row leaves the window."""
    model = backbone(**changes).to(dtype)
    model = to_int8(model) if whole else model
    h = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0)).to(DEVICE, dtype)
    state = {"window": 3, "pinned": range(1, 2), "dtype": cache}
    (seen, ours), (wanted, theirs) = (stepwise(model, h, by_kernels=one, **state) for one in (True, False))
    near = 0.06 if dtype == torch.bfloat16 else 1e-4
    if cache != dtype == torch.float32:
        near = 1e-2  # where a key is rounded the other way
    assert (seen - wanted).float().abs().max() <= near * wanted.float().abs().max()
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.float() - other.float()).abs().max() <= near * other.float().abs().max() + (cache == torch.int8)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_backbone_whose_attention_is_divided(batch, monkeypatch):
    """Among 1 program, then 2, then 3, as the ring fills; then it wraps."""
    monkeypatch.setattr(ring_attention, "BLOCK", 16)
    model = backbone(depth=2)
    h = torch.randn(batch, 54, 16, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    state = {"window": 40, "pinned": range(1)}
    (seen, ours), (wanted, theirs) = (stepwise(model, h, by_kernels=one, **state) for one in (True, False))
    torch.testing.assert_close(seen, wanted, rtol=1e-4, atol=1e-5)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_attention_is_divided_for_the_sessions_that_are_computed(monkeypatch):
    """A bucket of few sessions has more programs for each than the batch that it is part of."""
    seen, attend = [], ring_attention.attend
    monkeypatch.setattr(ring_attention, "attend", lambda *given: (seen.append(given[11]), attend(*given))[1])
    model = backbone()
    for batch in (1, 66):
        h = torch.zeros(batch, 1, 16, device=DEVICE)
        stepwise(model, h, by_kernels=True, window=500)
    assert seen == [ring_attention.splits_of(500, 2, 132), ring_attention.splits_of(500, 132, 132)] == [8, 2]


@pytest.mark.parametrize("batch", [1, 4, 5, 8])
def test_any_batch_by_kernel_or_by_torchs_matmul(batch):
    model = backbone()
    h = torch.randn(batch, 3, 16, generator=torch.Generator().manual_seed(batch)).to(DEVICE)
    (seen, _), (wanted, _) = (stepwise(model, h, by_kernels=one, window=2) for one in (True, False))
    torch.testing.assert_close(seen, wanted, rtol=1e-4, atol=1e-5)


def played(session: TokenSession, x: Tensor) -> Tensor:
    codes = [session.pull()]
    for piece in x.split([3, x.shape[1] - 3], dim=1):
        session.push(piece)
        codes.append(session.pull())
    return torch.cat(codes, dim=2)


@pytest.mark.parametrize(("t_f", "k"), [(-2, 1), (1, 3)])
def test_a_session_plays_the_same(t_f, k):
    model, x = small_model(t_f, k).to(DEVICE), latents(FRAMES).to(DEVICE)
    greedy = Greedy(Greedy.Config(), model.space)
    codes = [played(session_of(model, sampler=greedy, window=4, runtime=one), x) for one in (TORCH, TRITON)]
    assert torch.equal(*codes)


def test_a_session_with_variants_of_guidance_plays_the_same():
    model, x = small_model(-2, labels={}).to(DEVICE), latents(3, batch=1).to(DEVICE)
    guided = {"guidance": Guidance({"context": 2.0}), "sampler": Greedy(Greedy.Config(), model.space), "window": 4}
    codes = []
    for one in (TORCH, TRITON):
        session = session_of(model, 1, runtime=one, **guided)
        session.push(x)
        codes.append(session.pull())
    assert torch.equal(*codes)


class Rows:
    """Rows of a backbone after each other, as captured_step takes them."""

    def __init__(self, model: Llama, kernels: RowKernels | None, **state: object):
        self.model, self.ring = model, model.new_state(2, **state)
        self.ring.kernels = kernels

    def row(self, h: Tensor) -> Tensor:
        return self.model(h, state=self.ring)


@pytest.mark.parametrize("kernels", ["auto", "triton"])
def test_kernels_that_fail_give_way_to_torchs_unless_a_setting_insists(kernels, monkeypatch, capsys):
    """What is played then is what torch's kernels play from the beginning."""
    made = []

    def compiled(step, *example):
        made.append(step.__self__.state.kernels)
        if made[-1] is not None:
            step(*example)  # fails half-way, and leaves traces
            raise RuntimeError("no kernel image\nfor this device")
        return step

    monkeypatch.setattr("accomp.core.streaming.step.captured_step", compiled)
    monkeypatch.setattr("accomp.core.spec.runtime.lacking", lambda _: "")
    model, x = small_model(1, 3).to(DEVICE), latents(FRAMES).to(DEVICE)
    greedy = {"sampler": Greedy(Greedy.Config(), model.space), "window": 4}
    runtime = Runtime(compile="on", kernels=kernels)
    if kernels == "triton":
        with pytest.raises(RuntimeError, match="no kernel image"):
            session_of(model, runtime=runtime, **greedy)
        return
    session = session_of(model, runtime=runtime, **greedy)
    assert made[0] is not None
    assert made[1:] == [None, None]
    warning = capsys.readouterr().err
    assert "compiled with torch's kernels" in warning
    assert "no kernel image" in warning
    assert torch.equal(played(session, x), played(session_of(model, runtime=TORCH, **greedy), x))


@COMPILES
@NEEDS_COMPILER
@pytest.mark.skipif(
    DEVICE == "cuda", reason="reads the C++ that is generated on a CPU; tests/core/compute/test_cuda.py"
)
@torch.no_grad()
def test_compiled_rows_are_one_graph_that_writes_the_cache_in_place(monkeypatch):
    """The generated code allocates nothing, and loops over nothing, of the size of a cache: it makes no copy."""
    model, state = to_int8(backbone()), {"window": 1009, "pinned": range(1), "dtype": torch.int8}
    inputs, sources = torch.randn(4, 2, 1, 16, generator=torch.Generator().manual_seed(0)), []
    eager, rows = Rows(model, None, **state), Rows(model, kernels(4), **state)
    monkeypatch.setattr(torch._inductor.graph.GraphLowering, "save_output_code", staticmethod(sources.append))
    with torch._inductor.config.patch(fx_graph_cache=False):  # a graph out of the cache has no source
        row = captured_step(rows.row, torch.zeros(2, 1, 16))
    rows.ring.reset(torch.ones(2, dtype=torch.bool))
    for h in inputs:
        torch.testing.assert_close(row(h), eager.row(h), rtol=1e-2, atol=1e-2)
    assert torch.equal(rows.ring.position, eager.ring.position)
    (source,) = sources
    assert rows.ring.keys[0].data.shape[2] == 1010
    assert "accomp::attend" in source
    assert not re.search(r"\b1010L?\b", source.partition("rand_strided")[0])


def test_loops_are_for_single_vectors_on_a_cpu():
    assert in_loops(torch.zeros(1, 2, 1, 4))
    assert not in_loops(torch.zeros(1, 2, 2, 4))
    assert not in_loops(SimpleNamespace(shape=(1, 2, 1, 4), is_cuda=True))


def chosen(runtime: Runtime, *, compiled: bool, device: torch.device = CPU) -> RowKernels | None:
    return row_kernels(runtime, device, compiled=compiled, heads=2)


def test_a_compiled_step_has_kernels_where_the_machine_has_them(monkeypatch):
    assert chosen(Runtime(kernels="torch"), compiled=True) is None
    assert chosen(Runtime(), compiled=False) is None
    monkeypatch.setattr(choosing, "_lacking", lambda device: "")
    for one in (chosen(Runtime(), compiled=True), chosen(Runtime(kernels="triton"), compiled=False)):
        assert one is not None
        assert one.processors == 4
        assert one.arrived.tolist() == [0, 0]
    monkeypatch.setattr(choosing, "_lacking", lambda device: "it is too old")
    assert chosen(Runtime(), compiled=True) is None
    with pytest.raises(UserError, match=r'it is too old; runtime.kernels = "torch" plays without @ runtime.kernels'):
        chosen(Runtime(kernels="triton"), compiled=True)


def test_what_a_machine_lacks_is_said(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(UserError, match="Triton's kernels are for NVIDIA's GPUs, and this device is 'cpu'"):
        chosen(Runtime(kernels="triton"), compiled=False)
    monkeypatch.setattr(choosing, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="Triton is not installed, which the kernels are written in"):
        chosen(Runtime(kernels="triton"), compiled=False)
    monkeypatch.undo()
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(UserError, match="TRITON_INTERPRET=1 runs the kernels on a CPU only"):
        chosen(Runtime(kernels="triton"), compiled=False, device=torch.device("cuda"))
