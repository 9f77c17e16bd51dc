"""Playing a masked model: what it is asked, how guidance mixes its answers, and what is given stays."""

from __future__ import annotations

import pytest
import torch
from marks import COMPILES, NEEDS_COMPILER
from small import WIDTH, latents, space_with

from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.conditions import Conditions, ContextCondition, LabelCondition
from accomp.core.model.guidance import Guidance
from accomp.core.model.model import Model
from accomp.core.model.tokens import MASK
from accomp.core.offline.framewise import Framewise, hidden
from accomp.core.spec.runtime import Runtime
from accomp.core.streaming.graphs import fill
from accomp.plugins.backbones.llama import Llama
from accomp.plugins.fusers.concat import Concat
from accomp.plugins.samplers.causal_bias import CausalBias
from accomp.plugins.samplers.vampnet import VampNet

B, K, T = 2, 3, 20
SPACE = space_with(K)
LABELS = {"instrument": torch.tensor([3, 1])}


def model_of() -> Model:
    conditions = Conditions(ContextCondition(0.2), {"instrument": LabelCondition(5, 0.1)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        backbone = Llama(Llama.Config(depth=1, heads=4), SPACE, WIDTH)
        model = Model(Concat(Concat.Config(), SPACE, WIDTH), backbone, SPACE, None, conditions, WIDTH)
        for weight in model.parameters():
            weight.data += 0.3 * torch.randn_like(weight)
    return model.eval()


class Asks:
    """A sampler that keeps what the model answered about one canvas."""

    decoding = "masked"

    def __init__(self, canvas: torch.Tensor):
        self.canvas, self.answers = canvas, []

    def fill(self, predict, canvas, todo, rng):
        self.given = canvas, todo, rng
        self.answers = [predict(self.canvas, level) for level in range(K)]
        return canvas.clamp(min=0)


def canvas_of() -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    codes = torch.randint(10, (B, K, T), generator=rng)
    return codes.masked_fill(torch.rand(B, K, T, generator=rng) < 0.5, MASK)


def nothing_known() -> torch.Tensor:
    return torch.zeros(B, K, 0, dtype=torch.int64)


def play(model: Model, sampler, *, known=None, scales=None, x=None, labels=LABELS, rows=slice(None), seed=0):
    x, known = latents(T) if x is None else x, nothing_known() if known is None else known
    noise = KeyedRandom.of_sessions(seed, torch.arange(B)[rows], K)
    labels = {name: classes[rows] for name, classes in labels.items()}
    framewise = Framewise(model, Guidance(scales or {}))
    return framewise.fill(sampler, x[rows], known[rows], labels=labels, noise=noise)


SCALES = [
    {}, {"context": 2.0}, {"instrument": 3.0}, {"context": 3.0, "instrument": 3.0}, {"context": 0.4, "instrument": 0.6},
    {"context": 1.0}, {"context": 0.0, "instrument": 1.5},
]  # fmt: skip


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_guidance_is_the_weighted_sum_of_separate_forwards(scales):
    """Eq. 3 of StemGen, each condition at a time; what is not guided is always given."""
    model, canvas = model_of(), canvas_of()

    def logits(withheld: set[str]) -> torch.Tensor:
        x = torch.zeros_like(latents(T)) if "context" in withheld else latents(T)
        labels = {"instrument": torch.tensor([-1, -1])} if "instrument" in withheld else LABELS
        with torch.inference_mode():
            return model.logits(hidden(model, x, canvas, labels))[..., model.vocabulary.first_code :]

    expected = (1 - sum(scales.values())) * logits(set(scales)) if scales else logits(set())
    for name, scale in scales.items():
        expected = expected + scale * logits(set(scales) - {name})
    asks = Asks(canvas)
    play(model, asks, scales=scales)
    for level, answer in enumerate(asks.answers):
        assert answer.shape == (B, T, SPACE.codebook_size), "codes alone"
        assert torch.allclose(answer, expected[:, level], atol=1e-4)


def test_every_frame_sees_all_others_and_no_position_sees_what_is_masked():
    model, canvas = model_of(), canvas_of()
    with torch.inference_mode():
        h = hidden(model, latents(T), canvas, LABELS)
        for t in (0, T // 2, T - 1):
            x = latents(T)
            x[:, t] += 1.0
            assert (hidden(model, x, canvas, LABELS) - h).abs().amax(-1).gt(0).all()
        assert torch.equal(hidden(model, latents(T), canvas.where(canvas >= 0, -7), LABELS), h)


@pytest.mark.parametrize("known", [0, 1, 7, T])
def test_what_is_known_is_on_the_canvas_and_stays(known):
    codes = torch.randint(10, (B, K, T), generator=torch.Generator().manual_seed(4))[:, :, :known]
    asks = Asks(canvas_of())
    play(model_of(), asks, known=codes)
    canvas, todo, rng = asks.given
    assert torch.equal(canvas[:, :, :known], codes)
    assert (canvas[:, :, known:] == MASK).all()
    assert torch.equal(todo, (torch.arange(T) >= known).expand(B, K, T))
    assert rng.key.shape == (B, K)
    filled = play(model_of(), VampNet(VampNet.Config(steps=(4,)), SPACE), known=codes)
    assert filled.shape == (B, K, T)
    assert torch.equal(filled[:, :, :known], codes)
    assert ((filled >= 0) & (filled < 10)).all()


@pytest.mark.parametrize("sampler", [VampNet, CausalBias])
@pytest.mark.parametrize("scales", [{}, {"context": 2.0}, {"context": 3.0, "instrument": 3.0}], ids=str)
def test_one_forward_a_step_whatever_is_guided_and_one_head_a_forward(sampler, scales):
    model, batches, heads = model_of(), [], []
    model.backbone.register_forward_hook(lambda _, given, out: batches.append(len(out)))
    level_logits = model.level_logits
    model.level_logits = lambda h, level: (heads.append(level), level_logits(h, level))[1]
    model.logits = None
    play(model, sampler(sampler.Config(steps=(6, 3, 2)), SPACE), scales=scales)
    assert batches == [B * (len(scales) + 1)] * 11
    assert heads == [0] * 6 + [1] * 3 + [2] * 2


def test_a_clip_is_played_the_same_beside_others():
    model, sampler = model_of(), VampNet(VampNet.Config(steps=(6, 3, 2)), SPACE)
    whole = play(model, sampler, scales={"context": 2.0})
    for row in range(B):
        assert torch.equal(play(model, sampler, scales={"context": 2.0}, rows=slice(row, row + 1))[0], whole[row])
    assert not torch.equal(whole, play(model, sampler, scales={"context": 2.0}, seed=1))


def test_the_input_and_the_labels_are_heard():
    """Greedy and without chance, so that nothing else can tell two fillings apart."""
    model = model_of()
    sampler = VampNet(VampNet.Config(temperatures=(0.0,), steps=(4,), temperature=0.0), SPACE)
    here = play(model, sampler)
    assert torch.equal(here, play(model, sampler, seed=9))
    assert not torch.equal(here, play(model, sampler, x=latents(T, seed=1)))
    assert not torch.equal(here, play(model, sampler, labels={"instrument": torch.tensor([4, 4])}))


def test_it_leaves_no_gradient_and_the_arguments_alone():
    model, x, known = model_of(), latents(T), torch.ones(B, K, 4, dtype=torch.int64)
    codes = play(model, VampNet(VampNet.Config(steps=(2,)), SPACE), x=x, known=known)
    assert torch.equal(x, latents(T))
    assert (known == 1).all()
    assert all(weight.grad is None for weight in model.parameters())
    assert codes.dtype == torch.int64


@pytest.mark.parametrize("sampler", [VampNet, CausalBias])
def test_a_forward_and_the_choice_after_it_may_be_one_graph(sampler, monkeypatch):
    """As on a GPU; made once for a level, and used again for the next clip."""
    made = []

    def captured(step, *example):
        made.append((step.__name__, step.__self__.level))
        places = [tensor.clone() for tensor in example]

        def call(*given):
            fill(places, given)
            return step(*places)

        return call

    model, sampler = model_of(), sampler(sampler.Config(steps=(6, 3, 2)), SPACE)
    given = {"labels": LABELS, "noise": KeyedRandom.of_sessions(3, torch.arange(B), K)}
    wanted = [Framewise(model).fill(sampler, latents(T, seed=n), nothing_known(), **given) for n in range(2)]
    monkeypatch.setattr("accomp.core.offline.framewise.captured_step", captured)
    monkeypatch.setattr("accomp.core.offline.framewise.joined", lambda _: True)
    monkeypatch.setattr("accomp.core.spec.runtime.lacking", lambda _: "")
    framewise = Framewise(model, runtime=Runtime(compile="on"))
    for n in range(2):
        assert torch.equal(framewise.fill(sampler, latents(T, seed=n), nothing_known(), **given), wanted[n])
    assert made == [("chosen", level) for level in range(K)]
    assert framewise.forwards == 2 * 11


@COMPILES
@NEEDS_COMPILER
@pytest.mark.parametrize("sampler", [VampNet, CausalBias])
def test_that_graph_compiles_and_fills_in_the_same(sampler, monkeypatch):
    monkeypatch.setattr("accomp.core.offline.framewise.joined", lambda _: True)
    model, sampler = model_of(), sampler(sampler.Config(steps=(6, 3, 2)), SPACE)
    given = {"labels": LABELS, "noise": KeyedRandom.of_sessions(3, torch.arange(B), K)}
    compiled = Framewise(model, runtime=Runtime(compile="on"))
    for n in range(2):
        seen = compiled.fill(sampler, latents(T, seed=n), nothing_known(), **given)
        assert torch.equal(seen, Framewise(model).fill(sampler, latents(T, seed=n), nothing_known(), **given))
