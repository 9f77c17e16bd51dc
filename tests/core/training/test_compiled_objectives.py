"""Compiled objectives: they lower as on a GPU with torch 2.11, and masks by tiles are the masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tiny
import torch
from functorch.compile import make_boxed_func
from marks import COMPILES
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.exc import BackendCompilerFailed
from torch._inductor import config
from torch._inductor.debug import DebugContext
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.graph import GraphLowering
from torch._inductor.virtualized import V
from torch.nn.attention import flex_attention as flex
from torch.utils._sympy.functions import Identity

from accomp.core.clock import Clock
from accomp.core.model.attention_tiles import TILE, tiled
from accomp.core.model.chunks import Chunks, chunk_starts, draw_starts
from accomp.core.model.sequence import DelayPattern
from accomp.core.offline.framewise import whole_clip
from accomp.core.offline.prepended import Prepended
from accomp.core.spec.build import build_model, build_objective, space_of
from accomp.core.spec.schema import Spec, structure
from accomp.core.training.compile import _Compiled
from accomp.core.types import AttentionPattern, Batch, Loss

KINDS: dict[str, dict[str, Any]] = {
    "prefix": {"objective": {"plugin": "prefix", "chunks": 1}, "clock": {"t_f": 0, "k": 4}},
    "prefix_offline": {"objective": {"plugin": "prefix_offline"}, "clock": None},
    "mlm": {"objective": {"plugin": "mlm"}, "clock": None, "sampler": {"plugin": "causal_bias"}},
}
UNTILED: dict[str, dict[str, Any]] = {
    regime: {
        "objective": {"plugin": "rectified_flow"},
        "clock": {"t_f": -3, "k": 5},
        "model": {"width": 32, "regime": regime},
        "tokenizer": {"plugin": "loudness"},
        "sampler": {"plugin": "dpmpp", "steps": 2},
    }
    for regime in ("block_causal", "enc_dec")
}
"""Objectives whose masks are never by tiles."""
FRAMES = 150


def spec_of(kind: str) -> Spec:
    sections = {**tiny.plain(".", "run", "store"), **(KINDS | UNTILED)[kind]}  # type: ignore[arg-type]
    sections["backbone"] = {"plugin": "llama", "depth": 1, "heads": 2, "kv_heads": 1, "hidden": 32}
    sections["conditions"] = {"instrument": {"classes": 18, "drop": 0.5}}
    return structure({key: value for key, value in sections.items() if value is not None}, tiny.registry())


class Learning:
    """The tiny model of a kind, and its objective."""

    def __init__(self, kind: str):
        spec, registry = spec_of(kind), tiny.registry()
        self.space = space_of(spec, registry)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = build_model(spec, self.space, registry)
        self.objective: Any = build_objective(spec, self.space, registry)

    def step(self, seed: int = 0, frames: int = FRAMES) -> tuple[Loss, dict[str, Tensor]]:
        """Loss and gradients of a batch of its own, one clip of which ends early."""
        generator = torch.Generator().manual_seed(seed)
        valid = torch.ones(2, frames, dtype=torch.bool)
        valid[1, frames - 20 - seed :] = False
        batch = Batch(
            torch.randn(2, frames, self.space.latent_dim, generator=generator),
            torch.randn(2, self.space.channels, frames, generator=generator)
            if self.space.continuous
            else torch.randint(self.space.codebook_size, (2, self.space.codebooks, frames), generator=generator),
            valid,
            {"instrument": torch.randint(18, (2,), generator=generator)},
        )
        self.model.zero_grad()
        loss = self.objective.loss(self.model, batch, self.model.clock, generator)
        loss.total.backward()
        found = {name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None}
        return loss, found


@pytest.fixture(autouse=True)
def backward_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch's flex_attention has gradients on a CPU, uncompiled, but refuses them as slow."""
    monkeypatch.setattr(flex, "_validate_device", lambda *_: None)
    yield
    torch.compiler.set_stance("default")
    torch.compiler.reset()


def same(one: tuple[Loss, dict[str, Tensor]], other: tuple[Loss, dict[str, Tensor]]) -> None:
    torch.testing.assert_close(one[0].total, other[0].total, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one[1], other[1], rtol=1e-4, atol=1e-6)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """A backend of torch.compile: inductor's lowering for a GPU and torch 2.11, as far as a CPU can; then run without.

    There, concatenated indices are computed where they are used, and a wrapped constant cannot be compared.
    """
    for name in ("is_number", "is_comparable", "__ge__", "__gt__", "__le__", "__lt__"):
        monkeypatch.delattr(Identity, name, raising=False)

    def lower(module: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        assert all(isinstance(size, int) for tensor in inputs for size in tensor.shape), "no symbolic sizes"
        mode = torch._guards.detect_fake_mode(inputs)
        assert mode is not None
        with V.set_fake_mode(mode), V.set_debug_handler(DebugContext()):
            graph = GraphLowering(module, example_inputs=inputs, shape_env=mode.shape_env)
            with V.set_graph_handler(graph):
                graph.run(*inputs)
                graph.codegen()
        return make_boxed_func(module.forward)

    def only_run(module: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        return make_boxed_func(module.forward)

    with config.patch(force_pointwise_cat=True):
        yield aot_autograd(fw_compiler=lower, bw_compiler=only_run, decompositions=select_decomp_table())


@COMPILES
def test_the_lowering_that_is_imitated_stops_at_indices_out_of_a_cat(as_on_a_gpu: Callable[..., Any]) -> None:
    """So that the next test would notice one."""

    def first_frames(y: Tensor) -> Tensor:
        frame = (torch.arange(5, device=y.device)[:, None] - torch.arange(2, device=y.device)).mT
        picked = y.gather(2, frame.clamp(0, y.shape[2] - 1).expand(len(y), -1, -1))
        return torch.cat([picked, picked[..., :2]], dim=2) + 1

    with pytest.raises(BackendCompilerFailed, match="is not comparable"):
        torch.compile(first_frames, fullgraph=True, dynamic=False, backend=as_on_a_gpu)(torch.ones(3, 2, 5))


@COMPILES
@pytest.mark.parametrize("kind", KINDS | UNTILED)
def test_an_objective_is_lowered_once_for_all_batches(kind: str, as_on_a_gpu: Callable[..., Any]) -> None:
    learning, plain = Learning(kind), Learning(kind)
    learning.objective.loss_of = torch.compile(
        learning.objective.loss_of, fullgraph=True, dynamic=False, backend=as_on_a_gpu
    )
    for seed in range(2):
        same(learning.step(seed, 24), plain.step(seed, 24))
        torch.compiler.set_stance("fail_on_recompile")


PATTERNS = {
    **{
        f"chunks, t_f = {t_f}, k = {k}, {count or 'all'}": (t_f, k, count)
        for t_f, k, count in [(0, 4, 1), (-3, 5, 3), (6, 4, None), (0, 50, 1), (20, 25, 2), (1, 1, 3)]
    },
    "prefix_offline": None,
    "mlm": None,
}


def pattern_of(name: str) -> AttentionPattern:
    valid = torch.arange(FRAMES) < torch.tensor([[FRAMES], [FRAMES - 37]])
    if name == "mlm":
        return whole_clip(valid)
    if name == "prefix_offline":
        return Prepended(3).sight(valid)
    t_f, k, count = PATTERNS[name]  # type: ignore[misc]
    layout = DelayPattern(Clock(t_f, k), 3)
    starts = draw_starts(chunk_starts(layout, FRAMES), 2, count, torch.Generator().manual_seed(0))
    return Chunks(layout, FRAMES, starts).sight()


@pytest.mark.parametrize("name", PATTERNS)
def test_tiles_are_those_of_the_mask(name: str) -> None:
    """As torch finds them, which holds the whole mask for it; and none is left out that some row attends to."""
    pattern = tiled(pattern_of(name))
    batch, length = pattern.position.shape
    theirs = flex.create_block_mask(pattern.blocks.mask_mod, batch, None, length, length, device="cpu")
    assert pattern.blocks.BLOCK_SIZE == theirs.BLOCK_SIZE == (TILE, TILE)
    assert torch.equal(pattern.blocks.to_dense(), theirs.to_dense())
    for ours, there in zip(pattern.blocks.as_tuple()[2:-3], theirs.as_tuple()[2:-3], strict=True):
        assert (ours is None) == (there is None)
    assert torch.equal(pattern.blocks.full_kv_num_blocks, theirs.full_kv_num_blocks)
    assert torch.equal(pattern.blocks.kv_num_blocks, theirs.kv_num_blocks)


@pytest.mark.parametrize("name", PATTERNS)
def test_attention_by_tiles_is_attention_with_the_mask(name: str) -> None:
    pattern = tiled(pattern_of(name))
    batch, length = pattern.position.shape
    assert length > TILE, "or a tile would be the whole"
    torch.manual_seed(0)
    q, k, v = (torch.randn(batch, 2, length, 16) for _ in range(3))
    seen = flex.flex_attention(q, k, v, block_mask=pattern.blocks)
    wanted = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=pattern.visible[:, None])
    torch.testing.assert_close(seen, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_by_tiles_is_the_loss(kind: str) -> None:
    """Also traced, which makes one graph for all draws."""
    learning, plain = Learning(kind), Learning(kind)
    learning.objective.tiles = True
    wanted = [plain.step(seed) for seed in range(2)]
    same(learning.step(0), wanted[0])
    learning.objective.loss_of = torch.compile(
        learning.objective.loss_of, fullgraph=True, dynamic=False, backend="aot_eager"
    )
    for seed in range(2):
        same(learning.step(seed), wanted[seed])
        torch.compiler.set_stance("fail_on_recompile")


@COMPILES
def test_where_tiles_cannot_be_compiled_masks_are_taken_in_full(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    learning, plain = Learning("mlm"), Learning("mlm")
    learning.objective.tiles = True
    compiled = learning.objective.loss_of = _Compiled(learning.objective, insists=True)
    loss_of = compiled._loss_of

    def refuses(*given: Any) -> Loss:
        if any(isinstance(one, AttentionPattern) and one.blocks is not None for one in given):
            raise RuntimeError("no kernel for 48 numbers")
        return loss_of(*given)

    monkeypatch.setattr(compiled, "_compiled", refuses)
    same(learning.step(0), plain.step(0))
    assert "takes them in full: no kernel for 48 numbers" in capsys.readouterr().err
    assert not learning.objective.tiles
