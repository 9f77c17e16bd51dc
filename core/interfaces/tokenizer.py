"""Interface of audio codecs, offline and streaming."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor

from accomp.core.types import TokenSpace

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Stream(Protocol):
    """A tokenizer that works on audio or codes as they arrive. All rows of a batch advance together.

    An encoder stream takes audio [B, n] (any n >= 0) and returns codes [B, K, m]; a decoder stream takes codes
    [B, K, m] and returns audio [B, n]. The outputs of all pushes and of the final flush, concatenated, equal the
    offline result: codes exactly, audio within 1e-4. All streaming state is held by the stream, none by the tokenizer.

    Example:
        stream = tokenizer.encoder(batch=1)
        codes = torch.cat([*(stream.push(block) for block in blocks), stream.flush()], dim=2)
    """

    def push(self, chunk: Tensor) -> Tensor:
        """Process the next chunk.

        Args:
            chunk: audio [B, n] or codes [B, K, m]; may be empty.

        Returns:
            The output that is complete now: codes [B, K, m] or audio [B, n]; possibly empty.
        """
        ...

    def flush(self) -> Tensor:
        """End the stream.

        Returns:
            The remaining output: a last partial frame padded with zeros, or the decoder's delayed tail.
        """
        ...

    def reset(self, rows: Tensor) -> None:
        """Clear the history of some rows; the others continue unchanged.

        Args:
            rows: [B] bool, true for the rows to be reset.
        """
        ...


@runtime_checkable
class Tokenizer(Protocol):
    """A frozen audio codec.

    A tokenizer of continuous latents (a space without codebooks) takes and returns latents [B, E, T] float32 wherever
    others have codes [B, K, T]. They are approximately normal with unit variance, which diffusion assumes, and can be
    represented in float16, so that a store holds exactly the values of a live stream; `embed` only transposes them.

    The class also has a classmethod `space_of(config) -> TokenSpace`, which returns the space without loading weights:
    durations in a spec are converted to frames by it. Optional method:

        prepare(batch, frames)  compile the computation of streams of `batch` rows for pushes of about `frames` frames.
                    Streams opened afterwards use it, and nothing is compiled while they work. Streams of other batch
                    sizes, and pushes that compilation does not speed up, work as before; outputs are the same. Raises
                    PluginError, with the reason and the remedy, where compilation is impossible; nothing has changed
                    then.
        decoder_fingerprint     hash of everything that determines the sound of codes; see decoder_fingerprint_of.

    Attributes:
        space: shape and rate of the codes.
        name: registered name of the plugin.
        fingerprint: hash of everything that determines codes and the vectors they stand for; a better decoder keeps
            it, so that token stores and models stay valid.

    Example:
        codes = tokenizer.encode(audio)                 # [B, N] -> [B, K, ceil(N / hop)]
        decoded = tokenizer.decode(codes)               # [B, K, T] -> [B, T * hop]
    """

    space: TokenSpace
    name: str
    fingerprint: str

    def encode(self, audio: Tensor) -> Tensor:
        """Encode whole clips.

        Args:
            audio: [B, N] float in [-1, 1] at `space.sample_rate`.

        Returns:
            Codes [B, K, ceil(N / hop)] int64, or latents [B, E, ceil(N / hop)] float32.
        """
        ...

    def embed(self, codes: Tensor) -> Tensor:
        """Look up the latents of codes.

        Args:
            codes: [B, K, T].

        Returns:
            Latents [B, T, E], summed over the codebooks.
        """
        ...

    def decode(self, codes: Tensor) -> Tensor:
        """Decode whole clips.

        Args:
            codes: [B, K, T].

        Returns:
            Audio [B, T * hop].
        """
        ...

    def encoder(self, batch: int = 1) -> Stream:
        """Open an encoder stream of `batch` rows."""
        ...

    def decoder(self, batch: int = 1) -> Stream:
        """Open a decoder stream of `batch` rows."""
        ...

    def to(self, device: torch.device | str) -> Tokenizer:
        """Move the codec to a device.

        Returns:
            The tokenizer itself.
        """
        ...


def decoder_fingerprint_of(tokenizer: Tokenizer) -> str:
    """Return a hash of everything that determines the sound of codes; the fingerprint where there is no such hash."""
    found: str = getattr(tokenizer, "decoder_fingerprint", tokenizer.fingerprint)
    return found
