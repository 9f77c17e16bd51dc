"""Streaming sessions of audio: a session of tokens between the streams of a tokenizer."""

from __future__ import annotations

import torch
from torch import Tensor

from accomp.core.interfaces import Tokenizer
from accomp.core.streaming.session import TokenSession


class AudioSession:
    """B streaming sessions of audio: audio in, audio out, through the streams of a tokenizer.

    Output sample n accompanies input sample n: where t_f > 0 it comes later, where t_f < 0 it can be pulled before, by
    LatencyBudget.algorithmic.
    """

    def __init__(self, tokenizer: Tokenizer, tokens: TokenSession):
        """Take over a TokenSession that has not begun. Raises ValueError for a tokenizer other than its model's."""
        if tokenizer.space != tokens.model.space:
            raise ValueError(f"tokenizer {tokenizer.name!r} has {tokenizer.space}, the model {tokens.model.space}")
        self.tokenizer, self.tokens = tokenizer, tokens
        self._encoder, self._decoder = tokenizer.encoder(tokens.batch), tokenizer.decoder(tokens.batch)
        self._pushed = self._pulled = 0  # samples pushed, samples pulled
        self._ready: list[Tensor] = []  # audio [B, n] that was not pulled
        self._closed = False

    @property
    def closed(self) -> bool:
        """True once the input has ended."""
        return self._closed

    @torch.inference_mode()
    def push(self, audio: Tensor) -> None:
        """audio [B, n] float in [-1, 1], any n. Raises ValueError for another shape and for a closed session."""
        if self._closed:
            raise ValueError("the session is closed; begin a new one")
        if audio.ndim != 2 or len(audio) != self.tokens.batch:
            raise ValueError(f"audio has shape {tuple(audio.shape)}, expected [B, n] with B = {self.tokens.batch}")
        self._pushed += audio.shape[1]
        self.tokens.listen(audio)
        self._push_codes(self._encoder.push(audio))

    @torch.inference_mode()
    def pull(self, *, ahead: bool = False) -> Tensor:
        """Audio [B, n] that is ready: at most as much as was pushed, or, `ahead`, all of it. Never waits.

        To play live at t_f < 0 pull ahead: the audio is ready before its input.
        """
        if not self._closed:  # afterwards its token session may belong to another
            self._decode()
        return self._take(None if ahead else max(0, self._pushed - self._pulled))

    @torch.inference_mode()
    def close(self) -> Tensor:
        """End the input; the rest [B, n] of the audio, so that as many samples came out as went in.

        Lookahead of the clock and the codec reads silence. Nothing is left where more was pulled ahead.
        """
        if self._closed:
            raise ValueError("the session is closed already")
        space, clock = self.tokenizer.space, self.tokens.layout.clock
        frames = space.frames(self._pushed + space.delay)
        needed = clock.inputs_needed(frames, space.levels) * space.hop
        silence = torch.zeros(self.tokens.batch, max(0, needed - self._pushed))
        padding = -(self._pushed + silence.shape[1]) % space.hop  # padding of the encoder's last frame
        self.tokens.listen(torch.cat([silence, torch.zeros(self.tokens.batch, padding)], dim=1))
        self._push_codes(self._encoder.push(silence.to(self.tokens.device)))
        self._push_codes(self._encoder.flush())
        self._closed = True
        self._decode()
        self._ready.append(self._decoder.flush())
        rest = self._take(max(0, self._pushed - self._pulled))
        if self._pulled < self._pushed:
            raise ValueError(
                f"{self._pushed} samples in, {self._pulled} out: the streams of tokenizer {self.tokenizer.name!r} come "
                f"later than its lookahead {space.lookahead} and delay {space.delay} say"
            )
        return rest

    def end(self) -> None:
        """Close the session without its rest, so that another one may use the token session."""
        self._closed = True

    def _push_codes(self, codes: Tensor) -> None:
        if codes.shape[2]:
            self.tokens.push(self.tokenizer.embed(codes))

    def _decode(self) -> None:
        codes = self.tokens.pull()
        if codes.shape[2]:
            self._ready.append(self._decoder.push(codes))

    def _take(self, samples: int | None) -> Tensor:
        """Take the first `samples` of the ready audio, or all of it."""
        ready = torch.cat([torch.zeros(self.tokens.batch, 0, device=self.tokens.device), *self._ready], dim=1)
        out = ready[:, :samples]
        self._ready = [ready[:, out.shape[1] :]]
        self._pulled += out.shape[1]
        return out
