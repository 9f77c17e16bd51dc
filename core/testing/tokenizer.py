"""What a tokenizer promises: shapes, ranges, stated lookahead and delay, and streams that equal the offline result."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from accomp.core.testing.common import Subject, generator
from accomp.core.testing.findings import Findings, expect, expect_close, expect_tensor
from accomp.core.types import TokenSpace

BATCH, FRAMES = 2, 9
AUDIO_TOLERANCE = 1e-4


def check(subject: Subject, findings: Findings) -> None:
    """All properties of a tokenizer."""
    tokenizer = None
    with findings.property("is built by cls(config) and states name, fingerprint and space"):
        built = subject.build()
        expect(isinstance(built.space, TokenSpace), f"space is {built.space!r}")
        for attribute in ("name", "fingerprint"):
            value = getattr(built, attribute)
            expect(isinstance(value, str) and bool(value), f"{attribute} is {value!r}")
        expect(built.fingerprint == subject.build().fingerprint, "two built alike have different fingerprints")
        tokenizer = built
    with findings.property("space_of(config) is the space, known without building"):
        expect(subject.cls.space_of(subject.config) == getattr(tokenizer, "space", None), "it is another")
    if tokenizer is None:
        return
    space = tokenizer.space
    audio = _audio(space)
    codes = None
    with torch.inference_mode():
        with findings.property("encode: audio [B, N] -> codes [B, K, ceil(N / hop)] int64 in [0, C)"):
            for samples in (audio.shape[1], space.hop, 1):
                some = tokenizer.encode(audio[:, :samples])
                expect_codes(some, BATCH, space, space.frames(samples), f"codes of {samples} samples")
            codes = tokenizer.encode(audio)
            expect(torch.equal(codes, tokenizer.encode(audio)), "the same audio gave other codes the second time")
        if codes is None:
            return
        _check_latents(tokenizer, codes, findings)
        _check_sight(tokenizer, audio, codes, findings)
        _check_encoder(tokenizer, audio, codes, findings)
        _check_decoder(tokenizer, codes, findings)


def expect_codes(codes: Any, batch: int, space: TokenSpace, frames: int, what: str) -> None:
    """Raises Mismatch unless these are codes [B, K, T] of that space."""
    expect_tensor(codes, (batch, space.codebooks, frames), what, torch.int64)
    inside = (codes >= 0) & (codes < space.codebook_size)
    expect(inside.all(), f"{what} leave [0, {space.codebook_size}): {codes[~inside][:3].tolist()}")


def _check_latents(tokenizer: Any, codes: Tensor, findings: Findings) -> None:
    space = tokenizer.space
    with findings.property("embed: codes [B, K, T] -> latents [B, T, E], frame by frame"):
        latents = tokenizer.embed(codes)
        expect_tensor(latents, (BATCH, codes.shape[2], space.latent_dim), "latents")
        expect_close(tokenizer.embed(codes[:, :, 2:3]), latents[:, 2:3], "latents of one frame alone", 1e-5)
    with findings.property("decode: codes [B, K, T] -> audio [B, T * hop]"):
        expect_tensor(tokenizer.decode(codes), (BATCH, codes.shape[2] * space.hop), "audio")


def _check_sight(tokenizer: Any, audio: Tensor, codes: Tensor, findings: Findings) -> None:
    """What lookahead and delay state, held against what changes when the future does."""
    space = tokenizer.space
    with findings.property("codes depend on no more future audio than `lookahead` states"):
        cut = 5 * space.hop + space.lookahead
        changed = audio.clone()
        changed[:, cut:] = -0.9 * changed[:, cut:].flip(1)
        frames = (cut - space.lookahead) // space.hop
        _expect_equal_codes(
            tokenizer.encode(changed)[:, :, :frames], codes[:, :, :frames], f"audio changed from {cut} on"
        )
    with findings.property("audio depends on no more future codes than `delay` states"):
        frames = FRAMES // 2
        other = codes.clone()
        other[:, :, frames:] = (other[:, :, frames:] + 1) % space.codebook_size
        settled = max(0, frames * space.hop - space.delay)
        before, after = tokenizer.decode(codes), tokenizer.decode(other)
        expect_close(after[:, :settled], before[:, :settled], f"audio up to sample {settled}", 1e-5)


def _check_encoder(tokenizer: Any, audio: Tensor, codes: Tensor, findings: Findings) -> None:
    space = tokenizer.space
    with findings.property("encoder stream: every split of the audio gives the offline codes"):
        for seed in range(3):
            sizes = _split(audio.shape[1], seed)
            streamed = _stream(tokenizer.encoder(BATCH), audio.split(sizes, dim=1), 2)
            _expect_equal_codes(streamed, codes, f"pushes of {sizes} samples")
    with findings.property("encoder stream: a frame comes as soon as its samples and the lookahead are there"):
        stream, out, pushed = tokenizer.encoder(BATCH), 0, 0
        for part in audio.split(_split(audio.shape[1], 7), dim=1):
            pushed += part.shape[1]
            out += stream.push(part).shape[2]
            due = max(0, pushed - space.lookahead) // space.hop
            expect(out >= due, f"{out} frames came out of {pushed} samples, {due} were due")
    with findings.property("encoder streams do not disturb each other"):
        parts = audio.split(_split(audio.shape[1], 1), dim=1)
        first, second = tokenizer.encoder(BATCH), tokenizer.encoder(BATCH)
        mine = []
        for part in parts:
            mine.append(first.push(part))
            second.push(part.flip(0) * 0.5)
        mine.append(first.flush())
        _expect_equal_codes(torch.cat(mine, dim=2), codes, "one of two streams that were fed in turns")
    with findings.property("encoder stream: reset(rows) starts those rows anew and leaves the others"):
        start = 4 * space.hop
        stream = tokenizer.encoder(BATCH)
        before = stream.push(audio[:, :start])
        stream.reset(torch.tensor([True, False]))
        joined = torch.cat([before, stream.push(audio[:, start:]), stream.flush()], dim=2)
        _expect_equal_codes(joined[1:], codes[1:], "the row that was not reset")
        fresh = tokenizer.encode(audio[:1, start:])
        _expect_equal_codes(joined[:1, :, 4:], fresh, "the row that was reset")


def _check_decoder(tokenizer: Any, codes: Tensor, findings: Findings) -> None:
    space = tokenizer.space
    audio = tokenizer.decode(codes)
    with findings.property(
        f"decoder stream: every split of the codes gives the offline audio within {AUDIO_TOLERANCE}"
    ):
        for seed in range(3):
            sizes = _split(codes.shape[2], seed)
            streamed = _stream(tokenizer.decoder(BATCH), codes.split(sizes, dim=2), 1)
            expect_close(streamed, audio, f"pushes of {sizes} frames", AUDIO_TOLERANCE)
    with findings.property("decoder stream: a sample comes as soon as its frames and the delay allow"):
        stream, out = tokenizer.decoder(BATCH), 0
        for pushed in range(1, codes.shape[2] + 1):
            out += stream.push(codes[:, :, pushed - 1 : pushed]).shape[1]
            due = pushed * space.hop - space.delay
            expect(out >= due, f"{out} samples came out of {pushed} frames, {due} were due")
    with findings.property("decoder streams do not disturb each other"):
        first, second = tokenizer.decoder(BATCH), tokenizer.decoder(BATCH)
        mine = []
        for part in codes.split(1, dim=2):
            mine.append(first.push(part))
            second.push(part.flip(0))
        mine.append(first.flush())
        expect_close(torch.cat(mine, dim=1), audio, "one of two streams that were fed in turns", AUDIO_TOLERANCE)
    with findings.property("decoder stream: reset(rows) starts those rows anew and leaves the others"):
        start = 4
        stream = tokenizer.decoder(BATCH)
        before = stream.push(codes[:, :, :start])
        stream.reset(torch.tensor([True, False]))
        joined = torch.cat([before, stream.push(codes[:, :, start:]), stream.flush()], dim=1)
        expect_close(joined[1:], audio[1:], "the row that was not reset", AUDIO_TOLERANCE)
        fresh = tokenizer.decode(codes[:1, :, start:])
        expect_close(joined[:1, start * space.hop :], fresh, "the row that was reset", AUDIO_TOLERANCE)


def _audio(space: TokenSpace) -> Tensor:
    """[B, N]: chords under noise, N not a whole number of frames."""
    samples = FRAMES * space.hop - space.hop // 3
    t = torch.arange(samples) / space.sample_rate
    tones = [sum(torch.sin(2 * torch.pi * f * t) for f in chord) for chord in ((220, 277, 330), (98, 147, 233))]
    noise = torch.randn(BATCH, samples, generator=generator())
    return 0.2 * torch.stack(tones) + 0.05 * noise  # type: ignore[arg-type]  # sum of tensors


def _split(total: int, seed: int) -> list[int]:
    """Random sizes that add up to `total`, a push of nothing among them."""
    rng = generator(seed)
    sizes = [0]
    while (left := total - sum(sizes)) > 0:
        sizes.append(min(left, int(torch.randint(1, max(2, total // 4), (), generator=rng))))
    return sizes


def _stream(stream: Any, parts: tuple[Tensor, ...], dim: int) -> Tensor:
    return torch.cat([*(stream.push(part) for part in parts), stream.flush()], dim=dim)


def _expect_equal_codes(codes: Tensor, wanted: Tensor, what: str) -> None:
    expect(codes.shape == wanted.shape, f"{what}: shape {list(codes.shape)}, expected {list(wanted.shape)}")
    wrong = int((codes != wanted).sum())
    expect(wrong == 0, f"{what}: {wrong} of {wanted.numel()} codes differ")
