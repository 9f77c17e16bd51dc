"""Playing without a clock: as the teacher-forced forward says, frame by frame, and any length in windows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import WIDTH, latents, space_with
from torch import Tensor

from accomp.core.clock import Clock
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.conditions import Conditions, ContextCondition, LabelCondition
from accomp.core.model.guidance import UNGUIDED, Guidance
from accomp.core.model.model import Model
from accomp.core.offline import prepended
from accomp.core.offline.compose import compose
from accomp.core.offline.prepended import Prepended, continue_
from accomp.plugins.backbones.llama import Llama
from accomp.plugins.fusers.gated_add import GatedAdd
from accomp.plugins.samplers.top_k import TopK


def offline_model(codebooks: int = 3, clock: Clock | None = None) -> Model:
    """Every weight random; without a clock unless one is given."""
    space = space_with(codebooks)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        fuser = GatedAdd(GatedAdd.Config(), space, WIDTH)
        backbone = Llama(Llama.Config(depth=1, heads=4, kv_heads=2), space, WIDTH)
        conditions = Conditions(ContextCondition(0.1), {"instrument": LabelCondition(5, 0.1)})
        model = Model(fuser, backbone, space, clock, conditions, WIDTH)
        for weight in model.parameters():
            weight.data += 0.3 * torch.randn_like(weight)
    return model.eval()


class Recorder:
    """A sampler that keeps what it was shown."""

    decoding = "causal"

    def __init__(self, model: Model, temperature: float = 1.0):
        self.inner = TopK(TopK.Config(k=6, temperature=temperature), model.space)
        self.logits: list[Tensor] = []
        self.keys: list[Tensor] = []

    def pick(self, logits: Tensor, rng: KeyedRandom) -> Tensor:
        self.logits.append(logits.clone())
        self.keys.append(rng.key.clone())
        return self.inner.pick(logits, rng)


class Filler:
    """A masked sampler: the likeliest codes, level by level; keeps where it was asked to begin, and the noise."""

    decoding = "masked"

    def __init__(self) -> None:
        self.given: list[tuple[int, int, int]] = []

    def fill(self, predict: Callable[[Tensor, int], Tensor], canvas: Tensor, todo: Tensor, rng: KeyedRandom) -> Tensor:
        known = int((~todo).all(1).all(0).sum())
        self.given.append((known, canvas.shape[2], int(rng.key[0, 0])))
        for level in range(canvas.shape[1]):
            likeliest = predict(canvas, level).argmax(-1)
            canvas = canvas.clone()
            canvas[:, level] = torch.where(todo[:, level], likeliest, canvas[:, level])
        return canvas


def teacher_forced(model: Model, x: Tensor, codes: Tensor, labels: dict[str, Tensor]) -> Tensor:
    """Logits [B, K, T + K - 1, C] of one forward over input and output."""
    layout = Prepended(model.space.codebooks)
    rows = [
        model.fuser.fuse(x, None),
        model.fuser.fuse(None, model.embed(layout.tokens_in(codes), model.start(labels))),
    ]
    h = model.backbone(torch.cat(rows, dim=1), causal=True)
    return model.logits(h[:, x.shape[1] :])[..., model.vocabulary.first_code :]


def noise(batch: int = 2, codebooks: int = 3, seed: int = 0) -> KeyedRandom:
    return KeyedRandom.of_sessions(seed, torch.arange(batch), codebooks)


LABELS = {"instrument": torch.tensor([0, 3])}
SESSIONS = torch.arange(2)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(1, 12), st.integers(0, 12), st.sampled_from([1, 4, 128]))
def test_every_step_is_what_the_teacher_forced_forward_says(codebooks, frames, known, at_once):
    model, x = offline_model(codebooks), latents(frames)
    known = min(known, frames)
    given_codes = torch.randint(10, (2, codebooks, known), generator=torch.Generator().manual_seed(1))
    sampler = Recorder(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepended, "ABSORBED_AT_ONCE", at_once)
        codes = continue_(
            model, sampler, x, given_codes, labels=LABELS, noise=noise(2, codebooks), guidance=UNGUIDED, first=7
        )
    assert codes.shape == (2, codebooks, frames)
    assert torch.equal(codes[:, :, :known], given_codes)
    logits = teacher_forced(model, x, codes, LABELS)
    assert len(sampler.logits) == frames + codebooks - 1 - known
    for step, shown, key in zip(range(known, frames + codebooks), sampler.logits, sampler.keys, strict=False):
        assert torch.allclose(shown, logits[:, :, step], atol=1e-4)
        picked = sampler.inner.pick(shown, KeyedRandom(key))
        for q in range(codebooks):
            assert torch.equal(key[:, q], noise(2, codebooks).fold(7 + step - q).key[:, q]), "noise belongs to a frame"
            if known <= step - q < frames:
                assert torch.equal(codes[:, q, step - q], picked[:, q])


def test_every_row_is_absorbed_once():
    model, absorbed = offline_model(), []
    model.backbone.register_forward_pre_hook(lambda backbone, given: absorbed.append(given[0].shape[1]))
    x = latents(20)
    known = torch.zeros(2, 3, 6, dtype=torch.int64)
    continue_(model, Recorder(model), x, known, labels=LABELS, noise=noise(), guidance=UNGUIDED)
    assert sum(absorbed) == 20 + 20 + 3 - 1


@pytest.mark.parametrize("known", [0, 2, 5])
def test_guidance_is_the_weighted_sum_of_separate_forwards(known):
    model, x = offline_model(), latents(5)
    sampler, guidance = Recorder(model, temperature=0.0), Guidance({"context": 2.0, "instrument": 1.5})
    codes = torch.randint(10, (2, 3, known), generator=torch.Generator().manual_seed(1))
    codes = continue_(model, sampler, x, codes, labels=LABELS, noise=noise(), guidance=guidance)
    nobody = {"instrument": torch.tensor([-1, -1])}
    heard, seen, nothing = (
        teacher_forced(model, x * there, codes, labels) for there, labels in ((1, nobody), (0, LABELS), (0, nobody))
    )
    expected = 2.0 * heard + 1.5 * seen - 2.5 * nothing
    for step, shown in enumerate(sampler.logits, start=known):
        assert torch.allclose(shown, expected[:, :, step], atol=1e-3)


def composed(
    model: Model,
    sampler,
    x: Tensor,
    *,
    window: int = 64,
    seed: int = 0,
    rows: Tensor = SESSIONS,
    prompt: Tensor | None = None,
) -> Tensor:
    labels = {"instrument": rows % 5}
    return compose(model, sampler, x, sessions=rows, labels=labels, window=window, seed=seed, prompt=prompt)


@pytest.mark.parametrize("prompted", [0, 1, 7, 12])
def test_a_prompt_is_played_and_the_rest_follows_from_it(prompted):
    """Given what it plays anyway, it plays the same; given something else, that comes out."""
    model = offline_model()
    free = composed(model, Recorder(model), latents(12))
    same = composed(model, Recorder(model), latents(12), prompt=free[:, :, :prompted])
    assert torch.equal(same, free)
    other = (free[:, :, :prompted] + 1) % 10
    for sampler in (Recorder(model), Filler()):
        assert torch.equal(composed(model, sampler, latents(12), prompt=other, window=8)[:, :, :prompted], other)
    with pytest.raises(ValueError, match="a prompt of 12 frames does not fit in an input of 5"):
        composed(model, Recorder(model), latents(5), prompt=free)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 30), st.integers(1, 12), st.sampled_from(["causal", "masked"]))
def test_any_length_comes_out_in_windows_of_which_at_most_half_is_given(frames, window, decoding):
    model = offline_model()
    sampler = Recorder(model) if decoding == "causal" else Filler()
    codes = composed(model, sampler, latents(frames), window=window)
    assert codes.shape == (2, 3, frames)
    assert codes.dtype == torch.int64
    assert ((codes >= 0) & (codes < 10)).all()
    if isinstance(sampler, Filler):
        done = 0
        for known, length, _ in sampler.given:
            assert length == min(window, frames)
            assert known == (0 if done == 0 else max(window // 2, done - (frames - window)))
            done += length - known
        assert done == frames
        assert len({key for _, _, key in sampler.given}) == len(sampler.given), "each window has its own noise"


@pytest.mark.parametrize("window", [8, 9])
def test_a_long_input_is_the_windows_continued(window):
    model, x, T = offline_model(), latents(21), 21
    whole = composed(model, TopK(TopK.Config(k=6), model.space), x, window=window)
    sampler, key = TopK(TopK.Config(k=6), model.space), noise()
    labels = {"instrument": SESSIONS}
    codes = torch.zeros(2, 3, 0, dtype=torch.int64)
    for begin in (0, *range(window - window // 2, T - window, window - window // 2), T - window):
        heard, known = x[:, begin : begin + window], codes[:, :, begin:]
        new = continue_(model, sampler, heard, known, labels=labels, noise=key, guidance=UNGUIDED, first=begin)
        codes = torch.cat([codes[:, :, :begin], new], dim=2)
    assert torch.equal(whole, codes)


@pytest.mark.parametrize("sampler", [TopK(TopK.Config(k=6), space_with()), Filler()], ids=["causal", "masked"])
def test_a_row_is_the_same_alone_and_in_a_batch(sampler):
    model, x = offline_model(), latents(11, batch=3)
    rows = torch.tensor([4, 5, 8])
    together = composed(model, sampler, x, window=6, rows=rows)
    assert torch.equal(together, composed(model, sampler, x, window=6, rows=rows))
    for row in range(3):
        one = slice(row, row + 1)
        assert torch.equal(composed(model, sampler, x[one], window=6, rows=rows[one]), together[one])


def test_seed_session_and_input_matter():
    model, x = offline_model(), latents(10, batch=1).expand(2, -1, -1)
    sampler = TopK(TopK.Config(k=6), model.space)
    codes = composed(model, sampler, x, rows=torch.tensor([3, 8]))  # class 3 both
    assert not torch.equal(codes[0], codes[1])
    assert not torch.equal(codes, composed(model, sampler, x, rows=torch.tensor([3, 8]), seed=1))
    end = x.clone()
    end[:, -1] *= -3
    greedy = TopK(TopK.Config(temperature=0.0), model.space)
    pair = [composed(model, greedy, heard)[:, :, :5] for heard in (x, end)]
    assert not torch.equal(*pair), "the last frame of the input is heard from the first on"


def test_composing_takes_no_part_in_training_and_plays_in_reduced_precision():
    for model in (offline_model(), offline_model().bfloat16()):
        codes = composed(model, TopK(TopK.Config(), model.space), latents(5).requires_grad_())
        assert codes.is_inference()
        assert codes.shape == (2, 3, 5)


def test_wrong_calls_say_what_is_wrong():
    model = offline_model()
    sampler = TopK(TopK.Config(), model.space)

    def play(model: Model = model, x: Tensor | None = None, **changes):
        given = {"sessions": SESSIONS, "labels": LABELS, "window": 4} | changes
        return compose(model, sampler, latents(3) if x is None else x, **given)

    with pytest.raises(ValueError, match=r"a model with Clock\(t_f=0, k=1\) streams, in sessions"):
        play(offline_model(clock=Clock()))
    with pytest.raises(ValueError, match=r"shape \(2, 3, 5\), expected \[B, T, E\] = \(2, 'T', 6\) with T >= 1"):
        play(x=torch.zeros(2, 3, 5))
    for x in (torch.zeros(2, 0, 6), torch.zeros(2), torch.zeros(1, 3, 6)):
        with pytest.raises(ValueError, match="input latents have shape"):
            play(x=x)
    with pytest.raises(ValueError, match="window 0 must be at least 1 frame"):
        play(window=0)
    with pytest.raises(ValueError, match="label 'instrument' is missing"):
        play(labels={})
    with pytest.raises(ValueError, match="training mode"):
        play(offline_model().train())
