"""Imported models compute what the reference's arithmetic says at every t_f, k and attention scale, not only where it
was run; test_reference_parity.py shows that the arithmetic is the reference's."""

from __future__ import annotations

from functools import partial

import pytest
import reference_arithmetic as reference
import torch
import torch.nn.functional as F
from reference_runs import imported, saved
from torch import Tensor

from accomp.core.clock import Clock
from accomp.core.model.chunks import Chunks
from accomp.core.model.tokens import MASK
from accomp.core.offline.compose import compose
from accomp.core.offline.framewise import hidden
from accomp.core.offline.prepended import Prepended
from accomp.core.streaming.session import TokenSession
from accomp.plugins.samplers.greedy import Greedy

BATCH, FRAMES, LEVELS, FIRST_CODE = 2, 13, reference.LEVELS, 1 + reference.INSTRUMENTS
LABELS = {"instrument": torch.tensor([4, 14])}
INSTRUMENTS = LABELS["instrument"] + 1
SCALES = [10.0, 0.125]
MASKING = {"sampler": {"plugin": "vampnet"}}


def clip(latents: int = reference.LATENTS, frames: int = FRAMES) -> tuple[Tensor, Tensor]:
    """Input latents x and target codes y."""
    rng = torch.Generator().manual_seed(7)
    x = torch.randn(BATCH, frames, latents, generator=rng)
    return x, torch.randint(reference.CODES, (BATCH, LEVELS, frames), generator=rng)


def close(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=0, atol=1e-4)


def streaming_logits(model, x: Tensor, y: Tensor) -> Tensor:
    return model(x, model.layout.inputs_of(y), LABELS)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("t_f", [-6, -1, 0, 1, 2, 5])
def test_frame_by_frame(t_f, scale, tmp_path):
    w, (x, y) = reference.random_weights("add", t_f=t_f, seed=t_f), clip()
    prefix = "model._orig_mod." if t_f % 2 else "model."
    file = saved(w, tmp_path / "x.ckpt", prefix=prefix)
    model = imported(file, tmp_path / "run", scale=scale, t_f=t_f if t_f > 0 else None, k=1)
    assert model.clock == Clock(t_f, 1)
    ours = streaming_logits(model, x, y)
    assert close(ours, reference.streaming(w, x, y + FIRST_CODE, INSTRUMENTS, t_f, scale))
    other = SCALES[SCALES.index(scale) - 1]
    assert not close(ours, reference.streaming(w, x, y + FIRST_CODE, INSTRUMENTS, t_f, other))


@pytest.mark.parametrize("t_f", [-3, 2])
def test_latents_as_wide_as_the_model_are_not_projected(t_f, tmp_path):
    w = reference.random_weights("add", t_f=t_f, latents=reference.WIDTH)
    x, y = clip(latents=reference.WIDTH)
    codec = {"plugin": "named", "latent_dim": reference.WIDTH}
    model = imported(saved(w, tmp_path / "x.ckpt"), tmp_path / "run", t_f=t_f, k=1, tokenizer=codec)
    assert close(streaming_logits(model, x, y), reference.streaming(w, x, y + FIRST_CODE, INSTRUMENTS, t_f, 10.0))


@pytest.mark.parametrize("t_f", [-3, 2])
def test_fusing_by_concatenation(t_f, tmp_path):
    w, (x, y) = reference.random_weights("concat", t_f=t_f), clip()
    model = imported(saved(w, tmp_path / "x.ckpt"), tmp_path / "run", t_f=t_f)
    assert model.clock.k == 1
    assert close(streaming_logits(model, x, y), reference.streaming(w, x, y + FIRST_CODE, INSTRUMENTS, t_f, 10.0))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("t_f", "k"), [(-4, 3), (0, 2), (1, 5), (3, 4)])
def test_in_chunks(t_f, k, scale, tmp_path):
    w, (x, y) = reference.random_weights("add", t_f=t_f, seed=k), clip()
    model = imported(saved(w, tmp_path / "x.ckpt"), tmp_path / "run", scale=scale, t_f=t_f, k=k)
    assert model.clock == Clock(t_f, k)
    starts = torch.arange(0, model.layout.steps(FRAMES) - k, k).expand(BATCH, -1)
    assert starts.shape[1] >= 2
    chunks, rows = Chunks(model.layout, FRAMES, starts), model.layout.rows(FRAMES)
    e = model.embed(chunks.tokens_in(y), model.start(LABELS))
    fused = model.fuser.fuse(model.layout.inputs(x, model.input_padding), e[:, :rows])
    h = torch.cat([fused, model.fuser.fuse(None, e[:, rows:])], dim=1)
    ours = model.logits(chunks.predicting_rows(model.backbone(h, sight=chunks.sight())))
    given = x, y + FIRST_CODE, INSTRUMENTS, t_f, scale, k
    theirs = torch.cat([reference.chunk(w, *given, start)[1] for start in starts[0].tolist()], dim=2)
    assert close(ours, theirs)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("t_f", "k"), [(-3, 1), (0, 1), (3, 1), (-4, 3), (0, 5), (1, 2), (4, 4)])
def test_sessions_play_the_likeliest_codes(t_f, k, scale, tmp_path):
    w, (x, _) = reference.random_weights("add", t_f=t_f, seed=10 * k), clip()
    model = imported(saved(w, tmp_path / "x.ckpt"), tmp_path / "run", scale=scale, t_f=t_f, k=k)
    sampler = Greedy(Greedy.Config(), model.space)
    session = TokenSession(model, sampler, sessions=torch.arange(BATCH), labels=LABELS, window=64)
    played = []
    for piece in x.split([2, 1, 5, FRAMES - 8], dim=1):
        session.push(piece)
        played.append(session.pull())
    y = torch.cat(played, dim=2)
    frames = y.shape[2]
    assert frames == model.clock.frames_complete(FRAMES, LEVELS) > 4

    beyond = FRAMES + 2 * k  # what no step sees, so that every chunk is whole
    ids = F.pad(y, (0, beyond - frames)) + FIRST_CODE
    given = w, F.pad(x, (0, 0, 0, beyond - FRAMES)), ids, INSTRUMENTS, t_f, scale
    if k == 1:
        logits = reference.streaming(*given)[:, :, max(0, t_f - 1) :]
    else:
        logits = torch.cat([reference.chunk(*given, k, start)[1] for start in range(0, frames, k)], dim=2)
    likeliest = logits[..., FIRST_CODE:].argmax(-1)
    for q in range(LEVELS):
        assert torch.equal(likeliest[:, q, q:frames], y[:, q, : frames - q])


@pytest.mark.parametrize("scale", SCALES)
def test_behind_the_whole_input(scale, tmp_path):
    w, (x, y) = reference.random_weights("offline"), clip()
    file = saved(w, tmp_path / "x.ckpt", prefix="model._orig_mod.")
    model = imported(file, tmp_path / "run", scale=scale)
    e = model.embed(Prepended(LEVELS).tokens_in(y), model.start(LABELS))
    h = torch.cat([model.fuser.fuse(x, None), model.fuser.fuse(None, e)], dim=1)
    theirs = partial(reference.offline_prefix, w, x, instrument=INSTRUMENTS, scale=scale)
    ours = model.logits(model.backbone(h))[:, :, FRAMES:]
    assert close(ours[:, :, : FRAMES + 1], theirs(ids=y + FIRST_CODE))

    sampler, who = Greedy(Greedy.Config(), model.space), torch.arange(BATCH)
    y = compose(model, sampler, x, sessions=who, labels=LABELS, window=64)
    likeliest = theirs(ids=y + FIRST_CODE)[..., FIRST_CODE:].argmax(-1)
    for q in range(LEVELS):
        assert torch.equal(likeliest[:, q, q:FRAMES], y[:, q, : FRAMES - q])


@pytest.mark.parametrize("scale", SCALES)
def test_stemgen(scale, tmp_path):
    w, (x, y) = reference.random_weights("stemgen"), clip()
    file = saved(w, tmp_path / "x.ckpt", prefix="model._orig_mod.")
    model = imported(file, tmp_path / "run", scale=scale, **MASKING)
    masked = torch.rand(y.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    held = y.masked_fill(masked, MASK)
    tokens = (y + 2).masked_fill(masked, 1)
    ours = model.logits(hidden(model, x, held, LABELS))[..., model.vocabulary.first_code :]
    assert close(ours, reference.stemgen(w, x, tokens, LABELS["instrument"], scale)[1])
