"""Compiled, in other precisions, for hours: the same music."""

from __future__ import annotations

import attrs
import pytest
import torch
from marks import NEEDS_COMPILER
from small import latents, session_of, small_model, space_with
from torch import Tensor, nn
from traced_memory import least_growth

from accomp.core.bench.variants import variants
from accomp.core.errors import UserError
from accomp.core.model.guidance import Guidance
from accomp.core.offline.compose import compose
from accomp.core.offline.framewise import Framewise
from accomp.core.spec.runtime import EAGER, Runtime
from accomp.core.streaming.graphs import fill
from accomp.core.streaming.kv_cache import RingKVCache
from accomp.core.streaming.precision import prepared
from accomp.core.streaming.quantize import Int8Linear, W8A8Linear, to_int8
from accomp.core.streaming.session import TokenSession
from accomp.plugins.samplers.greedy import Greedy
from accomp.plugins.samplers.top_k import TopK
from accomp.plugins.samplers.vampnet import VampNet

FRAMES = 40
COMPILED = Runtime(compile="on")


def played(session: TokenSession, x: Tensor) -> Tensor:
    codes = [session.pull()]
    for piece in x.split([3, 1, 9, x.shape[1] - 13], dim=1):
        session.push(piece)
        codes.append(session.pull())
    return torch.cat(codes, dim=2)


def graphs() -> int:
    """How many graphs torch.compile has made, and how often it gave up."""
    counters = torch._dynamo.utils.counters
    return counters["stats"]["unique_graphs"] + sum(counters["graph_break"].values())


@NEEDS_COMPILER
@pytest.mark.parametrize("has", [{}, {"timelines": ("metronome", "chart"), "heard": 1.0}], ids=["", "ear"])
@pytest.mark.parametrize(("t_f", "k"), [(-2, 1), (3, 4)])
@pytest.mark.usefixtures("kept_steps")
def test_a_compiled_session_plays_the_same_by_graphs_that_are_made_once(t_f, k, has):
    model, x = small_model(t_f, k, **has), latents(FRAMES)
    expected = played(session_of(model), x)
    before = graphs()
    session = session_of(model, runtime=COMPILED)
    made = graphs() - before
    assert made == (1 if k == 1 else 2)
    assert torch.equal(played(session, x), expected)
    session.begin(torch.tensor([5, 6]), labels={"instrument": torch.tensor([2, -1])}, seed=9)
    other = session_of(model)
    other.begin(torch.tensor([5, 6]), labels={"instrument": torch.tensor([2, -1])}, seed=9)
    assert torch.equal(played(session, x), played(other, x)), "other people, by the same graph"
    session.reset(torch.tensor([True, False]))
    assert graphs() - before == made, "nothing was compiled again"


@NEEDS_COMPILER
def test_compiled_sessions_side_by_side_share_no_state():
    model, x = small_model(-2, 1), latents(FRAMES)
    inputs = (x, x.flip(1))
    expected = [played(session_of(model), one) for one in inputs]
    pair = [session_of(model, runtime=COMPILED) for _ in inputs]
    codes = [[session.pull()] for session in pair]
    for pieces in zip(*(one.split(4, dim=1) for one in inputs), strict=True):
        for session, piece, out in zip(pair, pieces, codes, strict=True):
            session.push(piece)
            out.append(session.pull())
    for out, whole in zip(codes, expected, strict=True):
        assert torch.equal(torch.cat(out, dim=2), whole)


def test_a_graph_refuses_arguments_that_copy_would_broadcast():
    place = torch.zeros(2, 3)
    for wrong in (torch.ones(3), torch.ones(1, 3), torch.ones(2, 1)):
        with pytest.raises(ValueError, match=r"the graph was made for \(2, 3\)"):
            fill([place], [wrong])
    assert not place.any()
    fill([place], [torch.ones(2, 3)])
    assert place.all()


@NEEDS_COMPILER
def test_a_single_codebook_and_keys_for_every_query_head_compile_too():
    x = latents(FRAMES)
    for model in (small_model(-1, space=space_with(1)), small_model(-1, kv_heads=4), small_model(1, 3, kv_heads=4)):
        assert torch.equal(played(session_of(model, runtime=COMPILED), x), played(session_of(model), x))


@NEEDS_COMPILER
def test_whole_numbers_play_the_same_compiled():
    runtime, x = Runtime(weights="w8a8", cache="bfloat16"), latents(FRAMES)
    model = prepared(small_model(-2), runtime)
    compiled = played(session_of(model, runtime=attrs.evolve(runtime, compile="on")), x)
    assert torch.equal(compiled, played(session_of(model, runtime=runtime), x))


@NEEDS_COMPILER
def test_two_compiled_sessions_of_unlike_models_do_not_share_a_graph():
    x = latents(FRAMES)
    one, two = small_model(-2), small_model(-2, labels={"instrument": 3})
    sessions = [session_of(model, runtime=COMPILED) for model in (one, two)]
    for model, session in zip((one, two), sessions, strict=True):
        assert torch.equal(played(session, x), played(session_of(model), x))


def test_compiling_is_asked_for_on_a_cpu_and_usual_on_a_gpu(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr("accomp.core.spec.runtime.lacking", lambda device: "")
    assert [Runtime(compile=how).compiles(gpu) for how in ("auto", "on", "off")] == [True, True, False]
    assert [Runtime(compile=how).compiles(cpu) for how in ("auto", "on", "off")] == [False, True, False]


def test_where_it_cannot_be_compiled_that_is_said(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(
        UserError, match=r'no C\+\+ compiler .*; runtime.compile = "off" plays without @ runtime.compile'
    ):
        COMPILED.compiles(torch.device("cpu"))
    assert not Runtime().compiles(torch.device("cuda"))
    assert "the model plays uncompiled:" in capsys.readouterr().err


def logits_of(runtime: Runtime) -> Tensor:
    """Teacher-forced through a state, so that the cache's precision is heard: [2, K, S, V]."""
    model, x = prepared(small_model(0), runtime), latents(FRAMES)
    y = torch.randint(10, (2, 3, FRAMES), generator=torch.Generator().manual_seed(0))
    x = model.layout.inputs(x, model.input_padding).to(model.table.weight.dtype)
    state = model.backbone.new_state(2, FRAMES, chunk=FRAMES + 1, dtype=runtime.cache_type)
    start = model.start({"instrument": torch.tensor([0, 1])})
    return model.step(x, model.layout.inputs_of(y), start, state).float()


@pytest.mark.parametrize(
    ("runtime", "share"),
    [
        (Runtime(weights="int8"), 0.05),
        (Runtime(weights="w8a8"), 0.1),
        (Runtime(cache="int8"), 0.03),
        (Runtime(cache="bfloat16"), 0.02),
        (Runtime(weights="bfloat16"), 0.1),
        (Runtime(weights="bfloat16", cache="int8"), 0.1),
    ],
)
def test_lower_precision_is_near_and_is_not_the_same(runtime, share):
    exact, near = logits_of(EAGER), logits_of(runtime)
    error = ((near - exact).pow(2).mean() / exact.pow(2).mean()).sqrt()
    assert 1e-6 < error < share
    model = prepared(small_model(-2), runtime)
    assert played(session_of(model, runtime=runtime), latents(FRAMES)).shape[2] == model.clock.frames_complete(
        FRAMES, 3
    )


def test_an_int8_matrix_is_off_by_half_a_step_at_most():
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(24, 7)
    linear.weight.data = torch.randn(7, 24, generator=generator)
    linear.weight.data[3] = 0
    whole = Int8Linear(linear)
    step = linear.weight.abs().amax(1) / 127
    for vectors in (1, 2, 9):
        x = torch.randn(vectors, 3, 24, generator=generator)
        bound = (x.abs().sum(-1, keepdim=True) * step / 2) + 1e-5
        assert ((whole(x) - linear(x)).abs() <= bound).all()
    assert not [m for m in to_int8(nn.Sequential(nn.Linear(2, 2), nn.ReLU())).modules() if isinstance(m, nn.Linear)]


def test_a_product_of_whole_numbers_is_that_of_the_rounded_vectors_however_many_there_are():
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(24, 7)
    linear.weight.data = torch.randn(7, 24, generator=generator)
    x = torch.randn(9, 3, 24, generator=generator)
    x[4, 1] = 0
    scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
    exact, near = Int8Linear(linear).double(), W8A8Linear(linear)
    torch.testing.assert_close(near(x).double(), exact((x / scale).round().double() * scale), rtol=1e-5, atol=1e-6)
    assert torch.equal(near(x)[2:3, 1:2], near(x[2:3, 1:2])), "alone as among others"
    assert torch.equal(near(x, slice(2, 5)), near(x)[..., 2:5])
    torch.testing.assert_close(exact(x.double(), slice(2, 5)), exact(x.double())[..., 2:5])


def test_whole_vectors_are_for_cpus():
    with pytest.raises(UserError, match='"w8a8" is for CPUs; a GPU computes with "int8" weights'):
        prepared(small_model(0).to("meta"), Runtime(weights="w8a8"))
    assert not [one for one in variants((), torch.device("cuda")) if one.runtime.weights == "w8a8"]
    assert [one for one in variants() if one.runtime.weights == "w8a8"]


def test_an_int8_ring_takes_about_a_quarter():
    shape = {"layers": 2, "heads": 2, "head_dim": 64}
    small, large = (RingKVCache(2, 100, dtype=dtype, **shape) for dtype in (torch.int8, torch.float32))
    taken = [sum(one.bytes for one in (*ring.keys, *ring.values)) for ring in (small, large)]
    assert taken[0] / taken[1] == pytest.approx((64 + 4) / (4 * 64))


@pytest.mark.parametrize("kv_heads", [2, 4])
def test_eight_hours_later_it_plays_as_a_fresh_session_that_heard_the_last_window(kv_heads):
    """Positions after 8 hours of 50 frames a second; one layer sees the window and no further.

    The start row is nearer to the fresh one at first: their first codes differ, and are heard for some windows.
    """
    window, hours = 24, 8 * 3600 * 50
    model, greedy = small_model(-1, labels={}, kv_heads=kv_heads), Greedy(Greedy.Config(), small_model().space)
    old, fresh = (session_of(model, window=window, sampler=greedy) for _ in range(2))
    state = old._step.state
    x = latents(9 * window, seed=5)
    first, rest = x[:, :1], x[:, 1:]
    for session in (old, fresh):
        session.push(first)
        session.pull()
    with torch.inference_mode():
        state.rollback(state.position + hours // state.capacity * state.capacity)
    for session in (old, fresh):
        session.push(rest)
    codes = [session.pull() for session in (old, fresh)]
    assert int(state.position[0]) > hours - state.capacity
    assert torch.equal(codes[0][:, :, -window:], codes[1][:, :, -window:])


def test_memory_does_not_grow_with_time():
    session = session_of(small_model(-1), window=8)
    x = latents(1)

    def play(frames: int) -> None:
        for _ in range(frames):
            session.push(x)
            session.pull()

    play(50)
    tensors = sum(keys.bytes for keys in session._step.state.keys)
    assert least_growth(lambda: play(500)) < 10_000, "bytes after 500 frames"
    assert sum(keys.bytes for keys in session._step.state.keys) == tensors


def test_a_temperature_of_its_own_for_every_session():
    model, x = small_model(-2), latents(FRAMES, batch=1).expand(2, -1, -1)
    both = TokenSession(
        model,
        TopK(TopK.Config(k=6), model.space),
        sessions=torch.tensor([4, 4]),
        labels={"instrument": torch.tensor([1, 1])},
        window=64,
        controls={"temperature": torch.tensor([0.0, 0.7])},
    )
    together = played(both, x)
    for row, temperature in enumerate((0.0, 0.7)):
        one = TokenSession(
            model,
            TopK(TopK.Config(k=6, temperature=temperature), model.space),
            sessions=torch.tensor([4]),
            labels={"instrument": torch.tensor([1])},
            window=64,
        )
        assert torch.equal(played(one, x[:1])[0], together[row])
    mine, again = torch.tensor([0.0, 0.7]), {"labels": {"instrument": torch.tensor([1, 1])}}
    session = TokenSession(
        model, both.sampler, sessions=torch.tensor([4, 4]), window=64, controls={"temperature": mine}, **again
    )
    session.begin(torch.tensor([4, 4]), controls={"temperature": torch.ones(2)}, **again)
    assert mine.tolist() == pytest.approx([0.0, 0.7]), "what was given is not written into"
    with pytest.raises(ValueError, match="controls must be given always or never"):
        session.begin(torch.tensor([4, 4]), **again)
    with pytest.raises(ValueError, match="controls must be given from the start or never"):
        session_of(model).begin(torch.tensor([0, 1]), controls={"temperature": mine}, **again)
    with pytest.raises(ValueError, match=r"controls \['hue'\] were given to a sampler that has \['temperature'\]"):
        both.begin(
            torch.tensor([0, 1]),
            labels={"instrument": torch.tensor([1, 1])},
            controls={"hue": torch.zeros(2)},
        )


@NEEDS_COMPILER
@pytest.mark.usefixtures("kept_steps")
def test_a_masked_model_fills_in_the_same_compiled_by_one_graph_a_level():
    model = small_model(0)
    model.clock = None
    sampler = VampNet(VampNet.Config(steps=(4,)), model.space)
    guidance = Guidance({"context": 2.0})
    framewise = [Framewise(model, guidance, runtime) for runtime in (EAGER, COMPILED)]
    before = graphs()
    for seed in (0, 1):
        given = {
            "sessions": torch.tensor([seed, 7]),
            "labels": {"instrument": torch.tensor([seed, -1])},
            "window": 16,
            "guidance": guidance,
        }
        plain, fast = (compose(model, sampler, latents(30, seed=seed), **given, framewise=one) for one in framewise)
        assert torch.equal(plain, fast)
        assert graphs() - before == 3, "one a level, for every window and clip"
