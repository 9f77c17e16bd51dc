"""A trained network as a Tokenizer: offline and streamed, with equal codes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from accomp.core.interfaces import Stream
from accomp.core.types import TokenSpace
from accomp.plugins.tokenizers.causal import History
from accomp.plugins.tokenizers.quantizer import FrozenQuantizer

BLOCK = 500
"""Frames (10 s) that offline work takes at a time, so that memory does not grow with the song."""


class FrozenCodec:
    """A causal codec at work: encode, embed, decode, and the same as streams.

    Its network offers quantizer, encoder_parts(), encode(audio, history) and decode(z, history, final=...).

    Encoding runs in float64. Float32 matrix products differ in the last digits with the number of frames in a call, and
    a vector near the border of two codes would then get either; in float64 the difference is some 1e-15 of a latent, so
    that codes are equal however the audio is split, whichever rows share the batch, and on whichever device.
    (Quantizing runs in float64 too; embedding and decoding in float32, where a code more or less is not at stake.)
    """

    def __init__(
        self, name: str, space: TokenSpace, network: Any, architecture: Mapping[str, Any], codebooks: Any = None
    ):
        """`network` is taken over: frozen, and its weight norm folded. `architecture` enters the fingerprint.

        `codebooks` offers quantize and embed, as FrozenQuantizer does; None where network.quantizer is dac's.
        """
        self.name = name
        self.space = space
        self.fingerprint = _fingerprint(name, network, architecture)
        network.eval()
        for module in network.modules():
            if hasattr(module, "weight_g"):
                nn.utils.remove_weight_norm(module)
        network.float().requires_grad_(False)
        for part in network.encoder_parts():
            part.double()
        self.network = network
        self.codebooks = codebooks or FrozenQuantizer(network.quantizer)

    def to(self, device: torch.device | str) -> FrozenCodec:
        """Move to a device, in place; returns itself. Streams that were open must not be used any more."""
        self.network.to(device)
        self.codebooks.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """audio [B, N] float in [-1, 1] -> codes [B, K, ceil(N / hop)] int64; the last frame is padded with zeros."""
        stream = self._encoder(len(checked_audio(audio)))
        return torch.cat([stream.push(audio), stream.flush()], dim=-1)

    @torch.no_grad()
    def embed(self, codes: Tensor) -> Tensor:
        """codes [B, K, T] -> latents [B, T, E] float32, the sum over levels."""
        return self.codebooks.embed(self.check(codes))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K, T] -> audio [B, T * hop] float32."""
        stream = self._decoder(len(self.check(codes)))
        return torch.cat([stream.push(codes), stream.flush()], dim=-1)

    def encoder(self, batch: int = 1) -> Stream:
        return self._encoder(batch)

    def decoder(self, batch: int = 1) -> Stream:
        return self._decoder(batch)

    def _encoder(self, batch: int) -> Stream:
        return EncoderStream(self, batch)

    def _decoder(self, batch: int) -> Stream:
        return DecoderStream(self, batch)

    def check(self, codes: Tensor) -> Tensor:
        """The codes, on this device. Raises ValueError unless they are integers [B, K, T] in [0, codebook_size)."""
        if codes.dim() != 3 or codes.shape[1] != self.space.codebooks or codes.is_floating_point():
            shape = f"{codes.dtype} {list(codes.shape)}"
            raise ValueError(f"{self.name}: codes are {shape}; expected int64 [B, {self.space.codebooks}, T]")
        if codes.numel():
            low, high = (int(end) for end in codes.aminmax())
            if low < 0 or high >= self.space.codebook_size:
                raise ValueError(f"{self.name}: codes lie in {low}..{high}; expected 0..{self.space.codebook_size - 1}")
        return codes.to(self.device)


class EncoderStream:
    """audio [B, n] -> codes [B, K, m], a frame as soon as its last sample is there. After `flush` it begins anew.

    A row reset in the middle of a frame hears that frame's earlier samples as zeros.
    """

    def __init__(self, codec: FrozenCodec, batch: int):
        self._codec, self._batch = codec, batch
        self._begin()

    def _begin(self) -> None:
        self._history = History()
        self._pending = torch.zeros(self._batch, 0, dtype=torch.float64, device=self._codec.device)

    @torch.no_grad()
    def push(self, chunk: Tensor) -> Tensor:
        """Raises ValueError for audio that is not float [B, n] with this stream's B, or holds NaN or Inf."""
        if len(checked_audio(chunk)) != self._batch:
            raise ValueError(f"audio has {len(chunk)} rows; this stream was opened for {self._batch}")
        audio = torch.cat([self._pending, chunk.to(self._pending)], dim=1)
        hop = self._codec.space.hop
        whole = audio.shape[1] // hop * hop
        self._pending = audio[:, whole:].clone()
        codes = [
            self._codec.codebooks.quantize(self._codec.network.encode(block, self._history))
            for block in blocks(audio[:, :whole], BLOCK * hop)
        ]
        return torch.cat(codes or [self._none()], dim=-1)

    @torch.no_grad()
    def flush(self) -> Tensor:
        missing = -self._pending.shape[1] % self._codec.space.hop
        codes = self.push(self._pending.new_zeros(self._batch, missing))
        self._begin()
        return codes

    def reset(self, rows: Tensor) -> None:
        check_rows(rows, self._batch)
        self._history.reset(rows)
        self._pending[rows.to(self._pending.device)] = 0.0

    def _none(self) -> Tensor:
        return torch.zeros(self._batch, self._codec.space.codebooks, 0, dtype=torch.int64, device=self._codec.device)


class DecoderStream:
    """codes [B, K, m] -> audio [B, n]: the first `delay` samples less than the frames hold, made up for by `flush`.

    After `flush` it begins anew. A row that is reset starts `delay` samples before its first frame, with what the
    network gives there (a lone stream drops that part).
    """

    def __init__(self, codec: FrozenCodec, batch: int):
        self._codec, self._batch = codec, batch
        self._begin()

    def _begin(self) -> None:
        self._history = History()
        self._to_drop = self._codec.space.delay
        self._started = False

    @torch.no_grad()
    def push(self, chunk: Tensor) -> Tensor:
        """Raises ValueError for codes that are not int [B, K, m] with this stream's B, or out of range."""
        if len(self._codec.check(chunk)) != self._batch:
            raise ValueError(f"codes have {len(chunk)} rows; this stream was opened for {self._batch}")
        self._started = self._started or chunk.shape[-1] > 0
        codec = self._codec
        latents = (codec.codebooks.embed(block.to(codec.device)) for block in blocks(chunk, BLOCK))
        return self._emit([codec.network.decode(z, self._history) for z in latents])

    @torch.no_grad()
    def flush(self) -> Tensor:
        if not self._started:
            return self._emit([])
        nothing = torch.zeros(self._batch, 0, self._codec.space.latent_dim, device=self._codec.device)
        tail = self._emit([self._codec.network.decode(nothing, self._history, final=True)])
        self._begin()
        return tail

    def reset(self, rows: Tensor) -> None:
        check_rows(rows, self._batch)
        self._history.reset(rows)

    def _emit(self, pieces: list[Tensor]) -> Tensor:
        audio = torch.cat(pieces or [torch.zeros(self._batch, 0, device=self._codec.device)], dim=1)
        drop = min(self._to_drop, audio.shape[1])
        self._to_drop -= drop
        return audio[:, drop:]


def checked_audio(audio: Tensor) -> Tensor:
    """The audio. Raises ValueError unless it is float [B, N] without NaN and Inf."""
    if audio.dim() != 2 or not audio.is_floating_point():
        raise ValueError(f"audio is {audio.dtype} {list(audio.shape)}; expected float [B, N]")
    if not math.isfinite(audio.sum()) and not torch.isfinite(audio).all():  # a sum of great numbers may overflow
        raise ValueError("audio holds NaN or Inf")
    return audio


def blocks(x: Tensor, size: int) -> Iterator[Tensor]:
    """x [..., n] in pieces of up to `size`, none where n is 0."""
    yield from (x[..., i : i + size] for i in range(0, x.shape[-1], size))


def check_rows(rows: Tensor, batch: int) -> None:
    """Raises ValueError unless `rows` is a bool mask [batch]."""
    if rows.dtype != torch.bool or list(rows.shape) != [batch]:
        raise ValueError(f"rows is {rows.dtype} {list(rows.shape)}; expected bool [{batch}]")


def _fingerprint(name: str, network: nn.Module, architecture: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps([name, dict(architecture)], sort_keys=True).encode())
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().to(torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
