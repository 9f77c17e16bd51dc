"""Checks of tokenizers: shapes, ranges, stated lookahead and delay, and streams that equal the offline result."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from accomp.core.testing.common import PluginUnderTest, generator
from accomp.core.testing.results import Findings, expect, expect_close, expect_tensor
from accomp.core.types import TokenSpace

BATCH, FRAMES = 2, 9
AUDIO_TOLERANCE = 1e-4
RESET_AT = 4
"""Frames after which a row is reset."""


def check(subject: PluginUnderTest, findings: Findings) -> None:
    """Check all properties of a tokenizer."""
    tokenizer = None
    with findings.property("is built by cls(config) and states name, fingerprint and space"):
        built = subject.build()
        expect(isinstance(built.space, TokenSpace), f"space is {built.space!r}")
        for attribute in ("name", "fingerprint"):
            value = getattr(built, attribute)
            expect(isinstance(value, str) and bool(value), f"{attribute} is {value!r}")
        expect(built.fingerprint == subject.build().fingerprint, "two built alike have different fingerprints")
        tokenizer = built
    if tokenizer is None:
        return
    with findings.property("space_of(config) is the space, known without building"):
        expect(subject.cls.space_of(subject.config) == tokenizer.space, "it is another")
    audio = _audio(tokenizer.space)
    codes = decoded = None
    with torch.inference_mode():
        what = "codes [B, K, ceil(N / hop)] int64 in [0, C)"
        if tokenizer.space.continuous:
            what = "latents [B, E, ceil(N / hop)] that float16 holds"
        with findings.property(f"encode: audio [B, N] -> {what}"):
            codes = _encoded(tokenizer, audio)
        if codes is None:
            return
        _check_encoder(tokenizer, audio, codes, findings)
        with findings.property("embed: codes [B, K, T] -> latents [B, T, E], frame by frame"):
            latents = tokenizer.embed(codes)
            expect_tensor(latents, (BATCH, codes.shape[2], tokenizer.space.latent_dim), "latents")
            expect_close(tokenizer.embed(codes[:, :, 2:3]), latents[:, 2:3], "latents of one frame alone", 1e-5)
        with findings.property("decode: codes [B, K, T] -> audio [B, T * hop]"):
            decoded = _decoded(tokenizer, codes)
        if decoded is not None:
            _check_decoder(tokenizer, codes, decoded, findings)


def _encoded(tokenizer: Any, audio: Tensor) -> Tensor:
    space = tokenizer.space
    for samples in (1, space.hop, audio.shape[1]):
        codes = tokenizer.encode(audio[:, :samples])
        dtype = torch.float32 if space.continuous else torch.int64
        expect_tensor(codes, (BATCH, space.channels, space.frames(samples)), f"codes of {samples} samples", dtype)
        if space.continuous:
            expect(codes.isfinite().all() and torch.equal(codes, codes.half().float()), "latents float16 cannot hold")
        else:
            inside = (codes >= 0) & (codes < space.codebook_size)
            expect(inside.all(), f"codes leave [0, {space.codebook_size}): {codes[~inside][:3].tolist()}")
    expect(torch.equal(codes, tokenizer.encode(audio)), "the same audio gave other codes the second time")
    expect(not torch.equal(codes[0], codes[1]), f"a chord and another have the same codes, {codes[0, :, 0].tolist()}")
    return codes


def _decoded(tokenizer: Any, codes: Tensor) -> Tensor:
    audio = tokenizer.decode(codes)
    expect_tensor(audio, (BATCH, codes.shape[2] * tokenizer.space.hop), "audio")
    expect(not torch.equal(audio[0], audio[1]), "two rows of different codes have the same audio")
    return audio


def _check_encoder(tokenizer: Any, audio: Tensor, codes: Tensor, findings: Findings) -> None:
    space = tokenizer.space
    with findings.property("codes depend on no more future audio than `lookahead` states"):
        for frames in range(1, FRAMES - 1):
            cut = frames * space.hop + space.lookahead
            changed = audio.clone()
            changed[:, cut:] = 0.5 * torch.randn(changed[:, cut:].shape, generator=generator(frames))
            seen = tokenizer.encode(changed)[:, :, :frames]
            _expect_equal(seen, codes[:, :, :frames], f"audio changed from sample {cut} on")
    with findings.property("encoder stream: every split of the audio gives the offline codes"):
        for seed in range(3):
            sizes = _split(audio.shape[1], seed)
            _expect_equal(_stream(tokenizer.encoder(BATCH), audio, sizes, 2), codes, f"pushes of {sizes} samples")
    with findings.property("encoder stream: a frame comes as soon as its samples and the lookahead are there"):
        stream, out, pushed = tokenizer.encoder(BATCH), 0, 0
        for part in audio.split(_split(audio.shape[1], 7), dim=1):
            pushed += part.shape[1]
            out += stream.push(part).shape[2]
            due = max(0, pushed - space.lookahead) // space.hop
            expect(out >= due, f"{out} frames came out of {pushed} samples, {due} were due")
    with findings.property("encoder streams do not disturb each other"):
        mine = _in_turns(tokenizer.encoder(BATCH), tokenizer.encoder(BATCH), audio, _split(audio.shape[1], 1), 2)
        _expect_equal(mine, codes, "one of two streams that were fed in turns")
    with findings.property("encoder stream: reset(rows) starts those rows anew and leaves the others"):
        start = RESET_AT * space.hop
        joined = _with_reset(tokenizer.encoder(BATCH), audio, start, 2)
        _expect_equal(joined[1:], codes[1:], "the row that was not reset")
        fresh = tokenizer.encode(audio[:1, start:])
        _expect_equal(joined[:1, :, RESET_AT:], fresh, "the row that was reset")


def _check_decoder(tokenizer: Any, codes: Tensor, audio: Tensor, findings: Findings) -> None:
    space = tokenizer.space
    with findings.property("audio depends on no more future codes than `delay` states"):
        for frames in range(1, FRAMES):
            other = codes.clone()
            other[:, :, frames:] = _another(other[:, :, frames:], space)
            settled = max(0, frames * space.hop - space.delay)
            seen = tokenizer.decode(other)[:, :settled]
            expect_close(seen, audio[:, :settled], f"codes changed from frame {frames} on", 1e-5)
    with findings.property(
        f"decoder stream: every split of the codes gives the offline audio within {AUDIO_TOLERANCE}"
    ):
        for seed in range(3):
            sizes = _split(codes.shape[2], seed)
            streamed = _stream(tokenizer.decoder(BATCH), codes, sizes, 1)
            expect_close(streamed, audio, f"pushes of {sizes} frames", AUDIO_TOLERANCE)
    with findings.property("decoder stream: a sample comes as soon as its frames and the delay allow"):
        stream, out = tokenizer.decoder(BATCH), 0
        for frame in range(codes.shape[2]):
            out += stream.push(codes[:, :, frame : frame + 1]).shape[1]
            due = (frame + 1) * space.hop - space.delay
            expect(out >= due, f"{out} samples came out of {frame + 1} frames, {due} were due")
    with findings.property("decoder streams do not disturb each other"):
        mine = _in_turns(tokenizer.decoder(BATCH), tokenizer.decoder(BATCH), codes, [1] * codes.shape[2], 1)
        expect_close(mine, audio, "one of two streams that were fed in turns", AUDIO_TOLERANCE)
    with findings.property("decoder stream: reset(rows) starts those rows anew and leaves the others"):
        joined = _with_reset(tokenizer.decoder(BATCH), codes, RESET_AT, 1)
        expect_close(joined[1:], audio[1:], "the row that was not reset", AUDIO_TOLERANCE)
        fresh = tokenizer.decode(codes[:1, :, RESET_AT:])
        expect_close(joined[:1, RESET_AT * space.hop :], fresh, "the row that was reset", AUDIO_TOLERANCE)


def _another(codes: Tensor, space: TokenSpace) -> Tensor:
    return codes + 1 if space.continuous else (codes + 1) % space.codebook_size


def _audio(space: TokenSpace) -> Tensor:
    """Return [B, N]: a chord for each row, under noise; N is not a whole number of frames."""
    samples = FRAMES * space.hop - space.hop // 3
    t = torch.arange(samples) / space.sample_rate
    chords = torch.tensor([[220.0, 277.0, 330.0], [98.0, 147.0, 233.0]])
    tones = torch.sin(2 * torch.pi * chords[..., None] * t).sum(1)
    return 0.2 * tones + 0.05 * torch.randn(BATCH, samples, generator=generator())


def _split(total: int, seed: int) -> list[int]:
    """Draw random sizes that add up to `total`, an empty push among them."""
    rng = generator(seed)
    sizes = [0]
    while (left := total - sum(sizes)) > 0:
        sizes.append(min(left, int(torch.randint(1, max(2, total // 4), (), generator=rng))))
    return sizes


def _stream(stream: Any, value: Tensor, sizes: list[int], dim: int) -> Tensor:
    """Concatenate the outputs of pushes of those sizes and of the flush along `dim`."""
    return torch.cat([*(stream.push(part) for part in value.split(sizes, dim=-1)), stream.flush()], dim=dim)


def _in_turns(first: Any, second: Any, value: Tensor, sizes: list[int], dim: int) -> Tensor:
    """Return the output of `first` while `second` is fed other input in between."""
    out = []
    for part in value.split(sizes, dim=-1):
        out.append(first.push(part))
        second.push(part.flip(0))
    return torch.cat([*out, first.flush()], dim=dim)


def _with_reset(stream: Any, value: Tensor, at: int, dim: int) -> Tensor:
    """Return the output of a stream whose row 0 is reset after `at` samples or frames."""
    before = stream.push(value[..., :at])
    stream.reset(torch.tensor([True, False]))
    return torch.cat([before, stream.push(value[..., at:]), stream.flush()], dim=dim)


def _expect_equal(codes: Tensor, expected: Tensor, what: str) -> None:
    expect(codes.shape == expected.shape, f"{what}: shape {list(codes.shape)}, expected {list(expected.shape)}")
    wrong = int((codes != expected).sum())
    expect(wrong == 0, f"{what}: {wrong} of {expected.numel()} codes differ")
