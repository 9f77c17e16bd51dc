"""On a GPU the same music is played as on the CPU. Skipped, saying so, where there is none."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.utils import counters
from torch._inductor.utils import run_and_get_code
from torch.nn.attention.flex_attention import flex_attention

from accomp.core.bench.profile import kernel_times
from accomp.core.clock import Clock
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.attention_tiles import tiled
from accomp.core.model.chunks import Chunks, chunk_starts, draw_starts
from accomp.core.model.guidance import Guidance
from accomp.core.model.sequence import DelayPattern
from accomp.core.offline.compose import compose
from accomp.core.offline.framewise import Framewise
from accomp.core.registry import Registry
from accomp.core.runs.compiled import collected, keep, use
from accomp.core.spec.build import build_model, build_objective, build_sampler, space_of
from accomp.core.spec.runtime import EAGER, Runtime
from accomp.core.spec.schema import Spec, load_spec
from accomp.core.streaming.batch import SessionBatch
from accomp.core.streaming.buckets import powers
from accomp.core.streaming.precision import prepared
from accomp.core.streaming.row_kernels import RowKernels
from accomp.core.streaming.session import TokenSession
from accomp.core.training.compile import compile_loss
from accomp.core.training.meters import LossMeter
from accomp.core.training.optim import optimizer_of
from accomp.core.types import Batch, TokenSpace
from accomp.plugins.samplers.top_k import TopK

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

RUNTIMES = [
    Runtime(compile="off", kernels="triton"),
    Runtime(compile="on", kernels="torch"),
    Runtime(compile="on", kernels="triton"),
    Runtime(compile="on", kernels="triton", cache="int8"),
    Runtime(compile="on", kernels="triton", weights="bfloat16"),
    Runtime(compile="on", kernels="triton", weights="int8", cache="int8"),
    Runtime(compile="on", kernels="torch", weights="bfloat16"),
]
SPECS = ["streaming_k1_small", "streaming_chunked_small", "prefix_offline_small", "stemgen_small"]
FRAMES = 60


def played(spec: Spec, device: str, runtime: Runtime = EAGER, batch: int = 2) -> torch.Tensor:
    """What an untrained model of the spec plays to random latents."""
    registry = Registry()
    space = space_of(spec, registry)
    model = prepared(build_model(spec, space, registry).to(device).eval(), runtime)
    sampler = build_sampler(spec, space, registry)
    x = torch.randn(batch, FRAMES, space.latent_dim, generator=torch.Generator().manual_seed(0)).to(device)
    sessions, labels = torch.arange(batch), {"instrument": torch.tensor([4, 14]).repeat(batch)[:batch]}
    common = {"sessions": sessions, "labels": labels, "window": spec.train.frames, "guidance": Guidance(spec.guidance)}
    if model.clock is None:
        return compose(model, sampler, x, seed=3, **common).cpu()
    session = TokenSession(model, sampler, seed=3, runtime=runtime, **common)
    session.push(x)
    return session.pull().cpu()


@pytest.mark.parametrize("name", SPECS)
def test_a_gpu_plays_what_the_cpu_plays(name):
    """Sampling on: the noise is the same everywhere, and float32 rounding hardly ever turns a choice."""
    spec = load_spec(name, Registry())
    here, there = played(spec, "cpu"), played(spec, "cuda")
    assert (here == there).float().mean() > 0.98


@pytest.mark.parametrize("batch", [1, 2, 8])
@pytest.mark.parametrize("runtime", RUNTIMES, ids=str)
@pytest.mark.parametrize("name", ["streaming_k1_small", "streaming_chunked_small"])
def test_every_way_of_playing_plays_what_torch_plays_uncompiled(name, runtime, batch):
    """By matmul and by kernel, attention split and whole, keys as they are and as int8.

    Codes of an untrained model that draws are a strict measure: a rounding that turns one choice changes all after it,
    which lower precisions do sooner.
    """
    spec = load_spec(name, Registry())
    plain = Runtime(compile="off", weights=runtime.weights, cache=runtime.cache, kernels="torch")
    same = (played(spec, "cuda", plain, batch) == played(spec, "cuda", runtime, batch)).float().mean()
    exact = runtime.weights == "float32" and runtime.cache is None
    assert same > (0.98 if exact else 0.5)


@pytest.mark.parametrize("cache", [torch.float32, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("batch", [1, 4, 64])
def test_rows_by_kernels_are_those_of_torch_on_a_gpu(batch, weights, cache):
    """The outputs of the backbone, before any choice: attention by up to 3 programs, as the ring fills and wraps.

    A part that is read before it is written would show: what was there is of the position before.
    """
    pytest.importorskip("triton", reason="Triton is not installed")
    spec, registry = load_spec("streaming_k1_small", Registry()), Registry()
    model = build_model(spec, space_of(spec, registry), registry).to("cuda").eval()
    backbone = prepared(model, Runtime(weights=weights)).backbone
    h = torch.randn(batch, 150, spec.model.width, device="cuda").to(next(backbone.parameters()).dtype)
    found = []
    for processors in (0, 1, 1000):  # by torch, by a program for each head, and as many as there are blocks
        ring = backbone.new_state(batch, 130, pinned=range(1), dtype=cache)
        if processors:
            arrived = torch.zeros(batch * backbone.kv_heads, dtype=torch.int32, device="cuda")
            ring.kernels = RowKernels(processors, arrived)
        with torch.inference_mode():
            found.append(torch.cat([backbone(row, state=ring) for row in h.split(1, dim=1)], dim=1).float())
        assert ring.kernels is None or not ring.kernels.arrived.any()
    share = 0.06 if h.dtype == torch.bfloat16 else 1e-2 if cache != torch.float32 else 1e-3
    for seen in found[1:]:
        assert (seen - found[0]).abs().max() <= share * found[0].abs().max()


def test_a_compiled_masked_model_chooses_as_an_uncompiled_one():
    """The forward and the choice in one CUDA graph, for each level; a second clip uses it again."""
    spec, registry = load_spec("stemgen_small", Registry()), Registry()
    space = space_of(spec, registry)
    torch.manual_seed(0)
    model, sampler = build_model(spec, space, registry).cuda().eval(), build_sampler(spec, space, registry)
    guidance, labels = Guidance(spec.guidance), {"instrument": torch.tensor([4, 14])}
    sessions, compiled = torch.arange(2), Framewise(model, guidance, Runtime(compile="on"))
    for seed in range(2):
        x = torch.randn(2, FRAMES, space.latent_dim, generator=torch.Generator().manual_seed(seed))
        common = {"sessions": sessions, "labels": labels, "window": FRAMES, "guidance": guidance, "seed": 3}
        one = compose(model, sampler, x, framewise=compiled, **common)
        assert (one == compose(model, sampler, x, **common)).float().mean() > 0.9


def test_a_captured_step_reads_its_position_from_the_device():
    """One graph, replayed at a hundred positions, with a ring that wraps: the kernels take nothing from the host."""
    spec = load_spec("streaming_k1_small", Registry(), ["train.frames=16"])
    runtime = Runtime(compile="on", kernels="triton")
    here, there = played(spec, "cuda"), played(spec, "cuda", runtime)
    assert (here == there).float().mean() > 0.98


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_codes_are_drawn_in_one_kernel_as_by_sorting(dtype):
    """Logits without equals; 256 sessions, each with its temperature."""
    logits = torch.stack([torch.randperm(250) for _ in range(1024)]).view(256, 4, 250).to("cuda", dtype) / 32
    temperature, rng = torch.arange(256, device="cuda") % 5 / 2, KeyedRandom.seeded(1, "cuda")
    key = rng.fold(torch.arange(1024, device="cuda").view(256, 4)).key
    sampler = TopK(TopK.Config(k=50), TokenSpace(32000, 640, codebooks=4, codebook_size=250, latent_dim=8))

    def pick(logits):
        return sampler.pick(logits, KeyedRandom(key), temperature=temperature)

    found, code = run_and_get_code(torch.compile(pick, fullgraph=True, dynamic=False), logits)
    assert (found == pick(logits)).float().mean() > 0.999
    assert sum(one.count("@triton.jit") for one in code) == 1
    assert "topk" not in "".join(code).partition("def call")[2]


def test_the_peak_memory_is_known_before_anything_is_on_the_gpu():
    """In a process of its own, as benchmarks are: torch knows nothing of a device that it has not begun to use."""
    program = "import torch; from accomp.core.bench import memory; memory.begin_peak(torch.device('cuda'))"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_gpu_tells_kernels_from_operators():
    device = torch.device("cuda")
    x = torch.randn(512, 512, device=device)
    found = kernel_times(lambda: torch.mm(x, x), 3, device, {})
    assert found
    assert not [one for one in found if one.name.startswith("aten::")]
    assert sum(one.seconds for one in found) > 0


@pytest.mark.parametrize("name", SPECS)
def test_a_gpu_finds_the_same_loss(name):
    spec, registry = load_spec(name, Registry()), Registry()
    space, losses = space_of(spec, registry), []
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, spec.train.frames, space.latent_dim, generator=generator)
    y = torch.randint(space.codebook_size, (2, space.codebooks, spec.train.frames), generator=generator)
    valid, instrument = torch.ones(2, spec.train.frames, dtype=torch.bool), torch.tensor([4, 14])
    for device in ("cpu", "cuda"):
        model = build_model(spec, space, registry).to(device).eval()
        batch = Batch(x.to(device), y.to(device), valid.to(device), {"instrument": instrument.to(device)})
        rng = torch.Generator().manual_seed(2)
        losses.append(build_objective(spec, space, registry).loss(model, batch, model.clock, rng).total.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("name", SPECS)
def test_a_training_step_never_waits_for_the_gpu(name):
    """Every call that would wait is an error in the third step; the first ones set up what is kept."""
    spec, registry, device = load_spec(name, Registry()), Registry(), torch.device("cuda")
    space = space_of(spec, registry)
    model, objective = build_model(spec, space, registry).to(device).train(), build_objective(spec, space, registry)
    optimizer, tally = optimizer_of(model, spec.train), LossMeter(device)
    x = torch.randn(2, spec.train.frames, space.latent_dim, device=device)
    y = torch.randint(space.codebook_size, (2, space.codebooks, spec.train.frames), device=device)
    valid, instrument = torch.ones(2, spec.train.frames, dtype=torch.bool, device=device), torch.tensor([4, 14])
    batch = Batch(x, y, valid, {"instrument": instrument.to(device)})
    try:
        for step in range(3):
            torch.cuda.set_sync_debug_mode("error" if step == 2 else "default")
            loss = objective.loss(model, batch, model.clock, torch.Generator().manual_seed(step))
            loss.total.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            tally.add(step + 1, {"loss": loss.total.detach(), **loss.parts}, norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not tally.fault.any()


def learned(spec: Spec, choice: str) -> list[float]:
    """The losses of three steps of an untrained model on the same random clips, compiled or not."""
    registry, device = Registry(), torch.device("cuda")
    space = space_of(spec, registry)
    torch.manual_seed(0)
    model, objective = build_model(spec, space, registry).to(device).train(), build_objective(spec, space, registry)
    assert compile_loss(objective, choice, device) == (choice == "on")
    optimizer = optimizer_of(model, spec.train)
    found = []
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(2, spec.train.frames, space.latent_dim, generator=generator).to(device)
        y = torch.randint(space.codebook_size, (2, space.codebooks, spec.train.frames), generator=generator).to(device)
        valid = torch.ones(2, spec.train.frames, dtype=torch.bool, device=device)
        valid[1, 100 + step :] = False
        batch = Batch(x, y, valid, {"instrument": torch.tensor([4, 14], device=device)})
        loss = objective.loss(model, batch, model.clock, generator)
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        found.append(loss.total.item())
        if step == 0:
            torch.compiler.set_stance("fail_on_recompile")
    torch.compiler.set_stance("default")
    return found


@pytest.mark.parametrize("name", SPECS)
def test_a_compiled_training_step_learns_the_same(name, capsys):
    """One graph for all draws; where masks come by tiles, they are not taken in full after all."""
    spec = load_spec(name, Registry(), ["backbone.dropout=0.0", "train.frames=150"])
    compiled = learned(spec, "on")
    assert capsys.readouterr().err == ""
    assert compiled == pytest.approx(learned(spec, "off"), rel=1e-3)


@pytest.mark.parametrize(("k", "count"), [(4, 1), (50, 1), (10, None)])
def test_attention_by_tiles_is_attention_with_the_mask(k, count):
    """Output and gradients, with grouped queries."""
    layout = DelayPattern(Clock(0, k), 4)
    starts = draw_starts(chunk_starts(layout, 400), 2, count, torch.Generator().manual_seed(0)).cuda()
    pattern = tiled(Chunks(layout, 400, starts).sight())
    size = pattern.position.shape[1]
    q, k_, v = (torch.randn(2, heads, size, 64, device="cuda", requires_grad=True) for heads in (8, 2, 2))
    one = torch.compile(flex_attention)(q, k_, v, block_mask=pattern.blocks, enable_gqa=True)
    other = F.scaled_dot_product_attention(q, k_, v, attn_mask=pattern.visible[:, None], enable_gqa=True)
    torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3)
    weights = torch.randn_like(one)
    for ours, theirs in zip(
        torch.autograd.grad((one * weights).sum(), (q, k_, v)),
        torch.autograd.grad((other * weights).sum(), (q, k_, v)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)


def test_buckets_play_what_the_whole_batch_plays():
    """Each a CUDA graph over the same memory; a session stays in it while the bucket changes."""
    spec, registry = load_spec("streaming_k1_small", Registry(), ["train.frames=50"]), Registry()
    space = space_of(spec, registry)
    torch.manual_seed(0)
    model = build_model(spec, space, registry).cuda().eval()

    def play(buckets):
        sampler, runtime = build_sampler(spec, space, registry), Runtime(compile="on")
        batch = SessionBatch(model, sampler, 8, window=50, runtime=runtime, buckets=buckets)
        generator, heard = torch.Generator().manual_seed(0), []
        slots = [batch.join(seed=0)[0]]
        for step in range(30):
            if step in (10, 12, 14, 16):
                slots.append(batch.join(seed=step)[0])
            if step == 20:
                for slot in slots[2:]:
                    batch.leave(slot)
                slots = slots[:2]
            x = torch.randn(8, 1, space.latent_dim, generator=generator)
            heard.append(batch.step({slot: x[slot] for slot in slots})[0].cpu())
        return torch.cat(heard, dim=1)

    assert (play(powers(8)) == play(())).float().mean() > 0.98


def test_what_was_compiled_is_found_again(tmp_path, monkeypatch):
    """Kept beside a run and put into an empty cache: torch compiles nothing anew."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    device = torch.device("cuda")

    def compiled():
        torch.compiler.reset()
        counters.clear()
        x = torch.ones(1000, device=device)
        torch.compile(lambda x: (x.sin() + 1).cos(), fullgraph=True, dynamic=False)(x)
        return counters["inductor"]["fxgraph_cache_hit"]

    with collected() as cache:
        compiled()
        keep(cache, tmp_path / "run", device)
    with collected():
        assert use(tmp_path / "run", device)
        assert compiled() == 1
