"""Broken plugins: tokenizer."""

import attrs
import torch
from attrs import frozen

from accomp.plugins.tokenizers.magnitude import Magnitude
from broken_plugins.register import breaks


class Codec(Magnitude):
    """Good, untrained and small."""

    @frozen(kw_only=True)
    class Config(Magnitude.Config):
        weights: str = "random"
        width: int = 16
        hidden: int = 16
        codebook_size: int = 64
        stay: float = 0.0
        encoder_blocks: int = 1
        decoder_blocks: int = 1


@breaks("tokenizer", "is built by cls(config) and states name, fingerprint and space: fingerprint is ''")
class NoFingerprint(Codec):
    def __init__(self, config):
        super().__init__(config)
        self.fingerprint = ""


@breaks("tokenizer", "is built by cls(config) and states name, fingerprint and space: two built alike")
class RandomFingerprint(Codec):
    def __init__(self, config):
        super().__init__(config)
        self.fingerprint = str(id(self))
        self.friend = object()


@breaks("tokenizer", "space_of(config) is the space, known without building: it is another")
class OtherSpace(Codec):
    @classmethod
    def space_of(cls, config):
        return attrs.evolve(super().space_of(config), lookahead=1)

    def __init__(self, config):
        super().__init__(config)
        self.space = attrs.evolve(self.space, lookahead=0)


@breaks("tokenizer", "encode: audio [B, N] -> codes [B, K, ceil(N / hop)] int64 in [0, C): codes of")
class RoundsDown(Codec):
    def encode(self, audio):
        return super().encode(audio)[:, :, : audio.shape[1] // self.space.hop]


@breaks("tokenizer", "encode: audio [B, N] -> codes [B, K, ceil(N / hop)] int64 in [0, C): codes leave")
class ShiftedCodes(Codec):
    def encode(self, audio):
        return super().encode(audio) + self.space.codebook_size // 2


@breaks("tokenizer", "encode: audio [B, N] -> codes [B, K, ceil(N / hop)] int64 in [0, C): a chord and another")
class Constant(Codec):
    def encode(self, audio):
        return super().encode(audio) * 0


@breaks("tokenizer", "embed: codes [B, K, T] -> latents [B, T, E], frame by frame: latents has shape")
class Transposed(Codec):
    def embed(self, codes):
        return super().embed(codes).mT


@breaks("tokenizer", "embed: codes [B, K, T] -> latents [B, T, E], frame by frame: latents of one frame alone")
class BlurredLatents(Codec):
    def embed(self, codes):
        latents = super().embed(codes)
        return latents + latents.mean(1, keepdim=True)


@breaks("tokenizer", "decode: codes [B, K, T] -> audio [B, T * hop]: audio has shape")
class ShortAudio(Codec):
    def decode(self, codes):
        return super().decode(codes)[:, 1:]


@breaks("tokenizer", "codes depend on no more future audio than `lookahead` states: audio changed from")
class LooksAhead(Codec):
    def encode(self, audio):
        return super().encode(audio.roll(-self.space.hop, 1))


@breaks("tokenizer", "audio depends on no more future codes than `delay` states")
class UnstatedDelay(Codec):
    def decode(self, codes):
        return super().decode(codes.roll(-1, 2))


class _Wrapped:
    """A stream around another, which does the work."""

    def __init__(self, inner):
        self.inner = inner

    def push(self, chunk):
        return self.inner.push(chunk)

    def flush(self):
        return self.inner.flush()

    def reset(self, rows):
        self.inner.reset(rows)


class _Loudest(_Wrapped):
    def push(self, chunk):
        return super().push(chunk / chunk.abs().amax().clamp(min=0.1) if chunk.numel() else chunk)


@breaks("tokenizer", "encoder stream: every split of the audio gives the offline codes: pushes of")
class NormalisesChunks(Codec):
    def encoder(self, batch=1):
        return _Loudest(super().encoder(batch))

    def encode(self, audio):
        return torch.cat([(stream := Codec.encoder(self, len(audio))).push(audio), stream.flush()], dim=2)


class _Late(_Wrapped):
    def __init__(self, inner):
        super().__init__(inner)
        self.kept = []

    def push(self, chunk):
        self.kept.append(chunk)
        return super().push(chunk[:, :0] if chunk.dim() == 2 else chunk[:, :, :0])

    def flush(self):
        whole = torch.cat(self.kept, dim=-1)
        return torch.cat([self.inner.push(whole), self.inner.flush()], dim=-1)


@breaks("tokenizer", "encoder stream: a frame comes as soon as its samples and the lookahead are there: 0 frames")
class LateCodes(Codec):
    def encoder(self, batch=1):
        return _Late(super().encoder(batch))

    def encode(self, audio):
        return torch.cat([(stream := Codec.encoder(self, len(audio))).push(audio), stream.flush()], dim=2)


@breaks("tokenizer", "decoder stream: a sample comes as soon as its frames and the delay allow: 0 samples")
class LateAudio(Codec):
    def decoder(self, batch=1):
        return _Late(super().decoder(batch))

    def decode(self, codes):
        return torch.cat([(stream := Codec.decoder(self, len(codes))).push(codes), stream.flush()], dim=1)


@breaks("tokenizer", "encoder streams do not disturb each other")
class OneEncoder(Codec):
    shared = None

    def encoder(self, batch=1):
        self.shared = self.shared or super().encoder(batch)
        return self.shared


@breaks("tokenizer", "decoder streams do not disturb each other")
class OneDecoder(Codec):
    shared = None

    def decoder(self, batch=1):
        self.shared = self.shared or super().decoder(batch)
        return self.shared


class _ForgetsAll(_Wrapped):
    def reset(self, rows):
        self.inner.reset(torch.ones_like(rows))


class _ForgetsNone(_Wrapped):
    def reset(self, rows):
        pass


@breaks(
    "tokenizer", "encoder stream: reset(rows) starts those rows anew and leaves the others: the row that was not reset"
)
class ResetsEveryEncoderRow(Codec):
    def encoder(self, batch=1):
        return _ForgetsAll(super().encoder(batch))


@breaks("tokenizer", "encoder stream: reset(rows) starts those rows anew and leaves the others: the row that was reset")
class ResetsNoEncoderRow(Codec):
    def encoder(self, batch=1):
        return _ForgetsNone(super().encoder(batch))


@breaks(
    "tokenizer", "decoder stream: reset(rows) starts those rows anew and leaves the others: the row that was not reset"
)
class ResetsEveryDecoderRow(Codec):
    def decoder(self, batch=1):
        return _ForgetsAll(super().decoder(batch))


@breaks("tokenizer", "decoder stream: reset(rows) starts those rows anew and leaves the others: the row that was reset")
class ResetsNoDecoderRow(Codec):
    def decoder(self, batch=1):
        return _ForgetsNone(super().decoder(batch))


class _Drifting(_Wrapped):
    calls = 0

    def push(self, chunk):
        self.calls += 1
        return super().push(chunk) + 1e-3 * (self.calls - 1)


@breaks("tokenizer", "decoder stream: every split of the codes gives the offline audio within 0.0001: pushes of")
class Drifts(Codec):
    def decoder(self, batch=1):
        return _Drifting(super().decoder(batch))

    def decode(self, codes):
        return torch.cat([(stream := Codec.decoder(self, len(codes))).push(codes), stream.flush()], dim=1)
