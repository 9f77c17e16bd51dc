"""A trained network as Tokenizer, offline and streaming with equal codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from accomp.plugin import Stream, TokenSpace
from accomp.plugins.tokenizers.codec.fingerprint import fingerprint_of
from accomp.plugins.tokenizers.codec.networks.quantizer import FrozenQuantizer
from accomp.plugins.tokenizers.codec.streams.causal import FixedHistory, History
from accomp.plugins.tokenizers.codec.streams.chunks import blocks, check_rows, checked_audio
from accomp.plugins.tokenizers.codec.streams.graphs import Graph
from accomp.plugins.tokenizers.codec.streams.live_path import LivePath, new_history

BLOCK = 500
"""Block size of offline processing in frames (10 s), which bounds memory."""


class FrozenCodec:
    """A causal codec with encode, embed, decode, and the corresponding streams.

    The network provides quantizer, encoder_parts(), encoder_tensors(), encode(audio, history) and decode(z, history,
    final=...).

    Encoding runs in float64. Float32 matrix products depend on the number of frames in a call in the last digits, which
    could change the code of a vector near a decision boundary. In float64 the difference is about 1e-15 of a latent, so
    codes do not depend on block sizes, batch composition or device. (Quantization is in float64 too; embedding and
    decoding in float32.)
    """

    def __init__(
        self, name: str, space: TokenSpace, network: Any, architecture: Mapping[str, Any], codebooks: Any = None
    ):
        """Take ownership of `network`, freeze it and fold its weight norm.

        The fingerprint covers `architecture` and the tensors that determine codes and the vectors they stand for; a
        better decoder leaves it, and with it token stores and models, valid. `decoder_fingerprint` covers the decoder.

        `codebooks` provides quantize and embed like FrozenQuantizer; None if network.quantizer is dac's.
        """
        self.name = name
        self.space = space
        self.fingerprint = fingerprint_of([name, dict(architecture)], self.identity_of(network))
        self.decoder_fingerprint = fingerprint_of([name, "decoder"], network.state_dict())
        network.eval()
        for module in network.modules():
            if hasattr(module, "weight_g"):
                nn.utils.remove_weight_norm(module)
        network.float().requires_grad_(False)
        for part in network.encoder_parts():
            part.double()
        self.network = network
        self.codebooks = codebooks or FrozenQuantizer(network.quantizer)
        self._live: dict[int, tuple[LivePath, LivePath]] = {}
        """Encoder and decoder by number of rows."""

    def identity_of(self, network: Any) -> dict[str, Tensor]:
        """The tensors of a network that the fingerprint covers, by name."""
        tensors: dict[str, Tensor] = network.encoder_tensors()
        return tensors

    def to(self, device: torch.device | str) -> FrozenCodec:
        """Move to a device in place and return self. Open streams become invalid."""
        self.network.to(device)
        self.codebooks.to(device)
        self._live.clear()
        return self

    def prepare(self, batch: int = 1, frames: int = 1) -> None:
        """Compile streams of `batch` rows for pushes of about `frames` frames; see Tokenizer."""
        self._live[batch] = self._compiled(batch, frames)

    @property
    def prepares_quickly(self) -> bool:
        """True if `prepare` takes seconds at most; torch.compile may take minutes for a deep network."""
        return False

    def _compiled(self, batch: int, frames: int) -> tuple[LivePath, LivePath]:
        space, device = self.space, self.device
        audio = torch.zeros(batch, frames * space.hop, dtype=torch.float64, device=device)
        codes = torch.zeros(batch, space.codebooks, frames, dtype=torch.int64, device=device)
        return Graph(self.encode_on, audio, frames), Graph(self.decode_on, codes, frames)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """audio [B, N] float in [-1, 1] -> codes [B, K, ceil(N / hop)] int64; the last frame is padded with zeros."""
        stream = self._encoder(len(checked_audio(audio)), None)
        return torch.cat([stream.push(audio), stream.flush()], dim=-1)

    @torch.no_grad()
    def embed(self, codes: Tensor) -> Tensor:
        """codes [B, K, T] -> latents [B, T, E] float32, the sum over levels."""
        return self.codebooks.embed(self.check(codes))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K, T] -> audio [B, T * hop] float32."""
        stream = self._decoder(len(self.check(codes)), None)
        return torch.cat([stream.push(codes), stream.flush()], dim=-1)

    def encoder(self, batch: int = 1) -> Stream:
        return self._encoder(batch, self._live[batch][0] if batch in self._live else None)

    def decoder(self, batch: int = 1) -> Stream:
        return self._decoder(batch, self._live[batch][1] if batch in self._live else None)

    def _encoder(self, batch: int, live: LivePath | None) -> Stream:
        return EncoderStream(self, batch, live)

    def _decoder(self, batch: int, live: LivePath | None) -> Stream:
        return DecoderStream(self, batch, live)

    def encode_on(self, audio: Tensor, history: History) -> Tensor:
        """audio [B, T * hop] float64 following the history -> codes [B, K, T]."""
        return self.codebooks.quantize(self.network.encode(audio, history))

    def decode_on(self, codes: Tensor, history: History) -> Tensor:
        """codes [B, K, T] following the history -> audio [B, T * hop], delayed by `delay`."""
        return self.network.decode(self.codebooks.embed(codes), history)

    def tail_on(self, history: History, batch: int) -> Tensor:
        """Return the remaining `delay` samples [B, delay] at the end of the codes."""
        nothing = torch.zeros(batch, 0, self.space.latent_dim, device=self.device)
        tail: Tensor = self.network.decode(nothing, history, final=True)
        return tail

    def nothing(self, batch: int) -> Tensor:
        """Return codes of no frame [B, K, 0], or latents [B, E, 0] of a codec without codebooks."""
        if self.space.codebooks:
            return torch.zeros(batch, self.space.codebooks, 0, dtype=torch.int64, device=self.device)
        return torch.zeros(batch, self.space.latent_dim, 0, device=self.device)

    def check(self, codes: Tensor) -> Tensor:
        """Return codes, or latents without codebooks, on this device. Raises ValueError for other shapes or values."""
        if not self.space.codebooks:
            return self._check_latents(codes)
        if codes.dim() != 3 or codes.shape[1] != self.space.codebooks or codes.is_floating_point():
            shape = f"{codes.dtype} {list(codes.shape)}"
            raise ValueError(f"{self.name}: codes are {shape}; expected int64 [B, {self.space.codebooks}, T]")
        if codes.numel():
            low, high = (int(end) for end in codes.aminmax())
            if low < 0 or high >= self.space.codebook_size:
                raise ValueError(f"{self.name}: codes lie in {low}..{high}; expected 0..{self.space.codebook_size - 1}")
        return codes.to(self.device)

    def _check_latents(self, latents: Tensor) -> Tensor:
        if latents.dim() != 3 or latents.shape[1] != self.space.latent_dim or not latents.is_floating_point():
            shape = f"{latents.dtype} {list(latents.shape)}"
            raise ValueError(f"{self.name}: latents are {shape}; expected float [B, {self.space.latent_dim}, T]")
        if not torch.isfinite(latents).all():
            raise ValueError(f"{self.name}: latents hold NaN or Inf")
        return latents.to(self.device)


class EncoderStream:
    """audio [B, n] -> codes [B, K, m], each frame as soon as its last sample arrives. `flush` restarts it.

    For a row reset within a frame, earlier samples of that frame are zeros.
    """

    def __init__(self, codec: FrozenCodec, batch: int, live: LivePath | None = None):
        self._codec, self._batch, self._live = codec, batch, live
        self._begin()

    def _begin(self) -> None:
        self._history = new_history(self._live, self._batch)
        self._pending = torch.zeros(self._batch, 0, dtype=torch.float64, device=self._codec.device)

    @torch.no_grad()
    def push(self, chunk: Tensor) -> Tensor:
        """Raises ValueError for audio that is not float [B, n] with this stream's B, or holds NaN or Inf."""
        if len(checked_audio(chunk)) != self._batch:
            raise ValueError(f"audio has {len(chunk)} rows; this stream was opened for {self._batch}")
        audio = chunk.to(self._pending)
        audio = torch.cat([self._pending, audio], dim=1) if self._pending.shape[1] else audio
        hop = self._codec.space.hop
        whole = audio.shape[1] // hop * hop
        self._pending = audio[:, whole:].clone()
        codes = [self._encode(block) for block in blocks(audio[:, :whole], BLOCK * hop)]
        return torch.cat(codes, dim=-1) if codes else self._codec.nothing(self._batch)

    def _encode(self, audio: Tensor) -> Tensor:
        if self._live and self._live.takes(self._batch, audio.shape[1] // self._codec.space.hop):
            assert isinstance(self._history, FixedHistory)
            return self._live(audio, self._history)
        return self._codec.encode_on(audio, self._history)

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


class DecoderStream:
    """codes [B, K, m] -> audio [B, n]: `delay` samples fewer than the frames contain; `flush` returns them.

    `flush` restarts it. A reset row starts `delay` samples before its first frame, with the network output there
    (dropped in a stream of one row).
    """

    def __init__(self, codec: FrozenCodec, batch: int, live: LivePath | None = None):
        self._codec, self._batch, self._live = codec, batch, live
        self._begin()

    def _begin(self) -> None:
        self._history = new_history(self._live, self._batch)
        self._to_drop = self._codec.space.delay
        self._started = False

    @torch.no_grad()
    def push(self, chunk: Tensor) -> Tensor:
        """Raises ValueError for codes that are not int [B, K, m] with this stream's B, or out of range."""
        if len(self._codec.check(chunk)) != self._batch:
            raise ValueError(f"codes have {len(chunk)} rows; this stream was opened for {self._batch}")
        self._started = self._started or chunk.shape[-1] > 0
        return self._emit([self._decode(block) for block in blocks(chunk.to(self._codec.device), BLOCK)])

    def _decode(self, codes: Tensor) -> Tensor:
        if self._live and self._live.takes(self._batch, codes.shape[2]):
            assert isinstance(self._history, FixedHistory)
            return self._live(codes, self._history)
        return self._codec.decode_on(codes, self._history)

    @torch.no_grad()
    def flush(self) -> Tensor:
        if not self._started:
            return self._emit([])
        tail = self._emit([self._codec.tail_on(self._history, self._batch)])
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
