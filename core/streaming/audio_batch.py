"""Batches of audio sessions: one encoder, one model and one decoder whose rows advance together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from accomp.core.interfaces import CausalSampler, DenoisedSampler, Tokenizer
from accomp.core.model.accompanist import Accompanist
from accomp.core.model.guidance import UNGUIDED, Guidance
from accomp.core.music.timelines import NO_TIMELINES, Source
from accomp.core.spec.runtime import EAGER, Runtime
from accomp.core.streaming.batch import SessionBatch


class AudioSessionBatch:
    """Up to B audio sessions; every tick takes k frames of input from each and returns as much output.

    A session's samples are counted from its first input on: output sample n is the accompaniment of input sample n, and
    may come long before it. Its audio starts with the first tick that completes k frames for it, since the decoder's
    rows advance together; model output before that is discarded. There its decoder has no past yet: once it has one, as
    long as the decoder's receptive field, a session is identical to one that runs alone.

    Attributes:
        hop: samples of a tick and row, k frames.
        late: samples by which the encoder's rows wait for a frame to be complete (its lookahead in whole frames). The
            input of a session starts with as much silence.
        places: for each row the sample at which its next output starts; None for free slots and before any output.
        spent: seconds of the last tick by part: encode, generate, decode; on a GPU the last one waits for the others.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        model: Accompanist,
        sampler: CausalSampler | DenoisedSampler,
        batch: int,
        *,
        window: int,
        guidance: Guidance = UNGUIDED,
        temperature: float = 1.0,
        runtime: Runtime = EAGER,
        buckets: Sequence[int] = (),
    ):
        """The arguments are those of SessionBatch; the tokenizer is used as it was prepared.

        Raises ValueError as SessionBatch does, and for a tokenizer other than the model's.
        """
        if tokenizer.space != model.space:
            raise ValueError(f"tokenizer {tokenizer.name!r} has {tokenizer.space}, the model {model.space}")
        self.slots = SessionBatch(
            model,
            sampler,
            batch,
            window=window,
            guidance=guidance,
            temperature=temperature,
            runtime=runtime,
            buckets=buckets,
        )
        self.tokenizer, self.space, self.clock = tokenizer, tokenizer.space, model.layout.clock
        self.device = model.device
        self.hop = self.clock.k * self.space.hop
        self.late = -(-self.space.lookahead // self.space.hop) * self.space.hop
        self.places: list[int | None] = [None] * batch
        self.spent = {"encode": 0.0, "generate": 0.0, "decode": 0.0}
        self._open()

    @torch.inference_mode()
    def _open(self) -> None:
        """Open both streams and advance them until every tick yields k frames and k frames of audio."""
        batch = len(self.places)
        self._encoder, self._decoder = self.tokenizer.encoder(batch), self.tokenizer.decoder(batch)
        if self.late:
            self._encoder.push(torch.zeros(batch, self.late, device=self.device))
        for _ in range(max(1, -(-self.space.delay // self.hop))):
            self._decoder.push(self._blank())

    @property
    def taken(self) -> list[int]:
        """Slots with a session."""
        return self.slots.taken.nonzero().flatten().tolist()

    @property
    def free(self) -> int:
        """Number of slots without a session."""
        return len(self.places) - len(self.taken)

    @torch.inference_mode()
    def join(
        self,
        *,
        session: int = 0,
        seed: int = 0,
        labels: Mapping[str, int] | None = None,
        temperature: float | None = None,
        timelines: Mapping[str, Source] = NO_TIMELINES,
    ) -> int:
        """Start a session between two ticks -> its slot. Raises ValueError as `SessionBatch.join` does."""
        slot, _ = self.slots.join(
            session=session, seed=seed, labels=labels, temperature=temperature, timelines=timelines
        )
        self._encoder.reset(self._row(slot))
        self.places[slot] = None
        if self.late:
            self.slots.listen({slot: torch.zeros(self.late)})
        return slot

    def leave(self, slot: int) -> None:
        """End the session of a slot. Raises ValueError for a free slot."""
        self.slots.leave(slot)
        self.places[slot] = None

    def set_temperature(self, slot: int, temperature: float) -> int:
        """Set the temperature -> the session's sample from which it applies. Raises ValueError as SessionBatch does."""
        self.slots.set_temperature(slot, temperature)
        return self.next_place(slot)

    def set_timeline(self, slot: int, name: str, source: Source | None) -> int:
        """Set or remove a timeline -> the session's sample from which it applies. Raises ValueError as SessionBatch
        does.

        Its value at frame f applies to audio from sample `place_of(f)` on.
        """
        self.slots.set_timeline(slot, name, source)
        return self.next_place(slot)

    def place_of(self, frame: int) -> int:
        """Sample of a session at which the audio of this frame starts."""
        return frame * self.space.hop - self.late

    def next_place(self, slot: int) -> int:
        """Sample at which a session's next output starts. Raises ValueError for a free slot."""
        return self.place_of(self.slots.complete(slot)) - self.space.delay

    def first_place(self) -> int:
        """Sample at which the output of a session that has just joined starts."""
        k, levels, frames = self.clock.k, self.space.levels, 0
        while self.clock.frames_complete(frames + k, levels) - self.clock.frames_complete(frames, levels) < k:
            frames += k
        return self.place_of(self.clock.frames_complete(frames, levels)) - self.space.delay

    @torch.inference_mode()
    def step(self, audio: Mapping[int, np.ndarray]) -> dict[int, tuple[int, np.ndarray]]:
        """Slot -> its next input [hop] -> slot -> the first sample's place and its output [hop], where there is any.

        Input of slots without any, free or not, is zeros. NaN and Inf become zeros, and values beyond [-1, 1] are
        clipped. Raises ValueError for input of another shape, and for slots that are free.
        """
        start = time.perf_counter()
        x = self._latents(audio)
        encoded = time.perf_counter()
        frames = self.slots.step(x)
        generated = time.perf_counter()
        whole = {slot: given for slot, given in frames.items() if given.shape[1] == self.clock.k}
        for slot in whole:
            if self.places[slot] is None:
                self._decoder.reset(self._row(slot))
                self.places[slot] = self.next_place(slot) - self.hop
        sound = self._decode(whole)
        self.spent = {
            "encode": encoded - start, "generate": generated - encoded, "decode": time.perf_counter() - generated,
        }  # fmt: skip
        out = {}
        for slot in whole:
            place = self.places[slot]
            assert place is not None, "set above"
            out[slot] = place, sound[slot]
            self.places[slot] = place + self.hop
        return out

    def _latents(self, audio: Mapping[int, np.ndarray]) -> dict[int, Tensor]:
        taken, rows = self.taken, np.zeros((len(self.places), self.hop), np.float32)
        for slot, sound in audio.items():
            if slot not in taken:
                raise ValueError(f"input came for slot {slot}, which is free")
            if sound.shape != (self.hop,):
                raise ValueError(f"input of shape {sound.shape} @ slot {slot}; expected ({self.hop},)")
            rows[slot] = clean(sound)
        batch = torch.from_numpy(rows)
        self.slots.listen({slot: batch[slot] for slot in taken})
        x = self.tokenizer.embed(self._encoder.push(batch.to(self.device)))
        return {slot: x[slot] for slot in taken}

    def _blank(self) -> Tensor:
        """A tick's codes [B, K, k] or latents [B, E, k] of slots that play nothing."""
        of = torch.float32 if self.space.continuous else torch.int64
        return torch.zeros(len(self.places), self.space.channels, self.clock.k, dtype=of, device=self.device)

    def _decode(self, frames: Mapping[int, Tensor]) -> np.ndarray:
        batch = self._blank()
        for slot, given in frames.items():
            batch[slot] = given
        return self._decoder.push(batch).float().cpu().numpy()

    def _row(self, slot: int) -> Tensor:
        rows = torch.zeros(len(self.places), dtype=torch.bool)
        rows[slot] = True
        return rows


def clean(sound: np.ndarray) -> np.ndarray:
    """Clean samples [n] for a codec: NaN and Inf become 0, and values beyond [-1, 1] are clipped."""
    return np.clip(np.where(np.isfinite(sound), sound, 0), -1, 1).astype(np.float32)
