"""Many sessions with sound in one batch: rows of one encoder, one model and one decoder that advance together."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from accomp.core.interfaces import CausalSampler, Tokenizer
from accomp.core.model.guidance import UNGUIDED, Guidance
from accomp.core.model.model import Model
from accomp.core.music.timelines import NOT_TOLD, Source
from accomp.core.spec.runtime import EAGER, Runtime
from accomp.core.streaming.batch import SessionBatch


class AudioSessionBatch:
    """Up to B sessions with sound; every tick takes k frames of input from each and gives as much output.

    A session's samples are counted from its first input on: output sample n is the accompaniment of input sample n, and
    may come long before it. Its sound begins with the first tick that completes k frames for it, since the decoder's
    rows advance together; what the model plays before that is not heard. There its decoder has no past yet: once it has
    one, as long as what it looks back for, a session sounds as it does alone.

    Attributes:
        hop: samples of a tick and row, k frames.
        late: samples by which the encoder's rows wait for a frame to be whole (its lookahead in whole frames). A
            session hears as many of silence first.
        places: for each row the sample that its next output begins with; None where nobody plays or nothing came yet.
        spent: seconds of the last tick by part: encode, generate, decode; on a GPU the last one waits for the others.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        model: Model,
        sampler: CausalSampler,
        batch: int,
        *,
        window: int,
        guidance: Guidance = UNGUIDED,
        temperature: float = 1.0,
        runtime: Runtime = EAGER,
    ):
        """The arguments are those of Slots; what the tokenizer has prepared is used.

        Raises ValueError as Slots does, and where the tokenizer is not the one that the model was made for.
        """
        if tokenizer.space != model.space:
            raise ValueError(f"tokenizer {tokenizer.name!r} has {tokenizer.space}, the model {model.space}")
        self.slots = SessionBatch(
            model, sampler, batch, window=window, guidance=guidance, temperature=temperature, runtime=runtime
        )
        self.tokenizer, self.space, self.clock = tokenizer, tokenizer.space, model.layout.clock
        self.device = model.table.weight.device
        self.hop = self.clock.k * self.space.hop
        self.late = -(-self.space.lookahead // self.space.hop) * self.space.hop
        self.places: list[int | None] = [None] * batch
        self.spent = {"encode": 0.0, "generate": 0.0, "decode": 0.0}
        self._open()

    @torch.inference_mode()
    def _open(self) -> None:
        """Open both streams, and bring them to where every tick gives k frames, and k frames of sound."""
        batch = len(self.places)
        self._encoder, self._decoder = self.tokenizer.encoder(batch), self.tokenizer.decoder(batch)
        if self.late:
            self._encoder.push(torch.zeros(batch, self.late, device=self.device))
        silent = torch.zeros(batch, self.space.codebooks, self.clock.k, dtype=torch.int64, device=self.device)
        for _ in range(max(1, -(-self.space.delay // self.hop))):
            self._decoder.push(silent)

    @property
    def taken(self) -> list[int]:
        """The slots in which somebody plays."""
        return self.slots.taken.nonzero().flatten().tolist()

    @property
    def free(self) -> int:
        """How many slots nobody plays in."""
        return len(self.places) - len(self.taken)

    @torch.inference_mode()
    def join(
        self,
        *,
        session: int = 0,
        seed: int = 0,
        labels: Mapping[str, int] | None = None,
        temperature: float | None = None,
        told: Mapping[str, Source] = NOT_TOLD,
    ) -> int:
        """Begin a session between two ticks -> its slot. Raises ValueError as `Slots.join` does."""
        slot, _ = self.slots.join(session=session, seed=seed, labels=labels, temperature=temperature, told=told)
        self._encoder.reset(self._row(slot))
        self.places[slot] = None
        if self.late:
            self.slots.listen({slot: torch.zeros(self.late)})
        return slot

    def leave(self, slot: int) -> None:
        """End the session of a slot. Raises ValueError where nobody plays."""
        self.slots.leave(slot)
        self.places[slot] = None

    def set_temperature(self, slot: int, temperature: float) -> int:
        """Another temperature -> the sample of the session from which it holds. Raises ValueError as Slots does."""
        self.slots.set_temperature(slot, temperature)
        return self.next_place(slot)

    def tell(self, slot: int, name: str, source: Source | None) -> int:
        """Another timeline, or none -> the sample of the session from which it holds. Raises ValueError as Slots does.

        What it says of frame f is of the sound from sample `place_of(f)` on.
        """
        self.slots.tell(slot, name, source)
        return self.next_place(slot)

    def place_of(self, frame: int) -> int:
        """Where, in a session's samples, the sound of its frame begins that is told of by this number."""
        return frame * self.space.hop - self.late

    def next_place(self, slot: int) -> int:
        """The sample with which a session's next output will begin. Raises ValueError where nobody plays."""
        return self.place_of(self.slots.complete(slot)) - self.space.delay

    def first_place(self) -> int:
        """The sample with which the output of a session that has just joined will begin."""
        k, levels, heard = self.clock.k, self.space.codebooks, 0
        while self.clock.frames_complete(heard + k, levels) - self.clock.frames_complete(heard, levels) < k:
            heard += k
        return self.place_of(self.clock.frames_complete(heard, levels)) - self.space.delay

    @torch.inference_mode()
    def step(self, heard: Mapping[int, np.ndarray]) -> dict[int, tuple[int, np.ndarray]]:
        """Slot -> its next input [hop] -> slot -> the first sample's place and its output [hop], where there is any.

        Slots that are taken and have no input hear zeros, as those that are free. NaN and Inf are heard as zeros, and
        what is beyond [-1, 1] is clipped. Raises ValueError for input of another shape, and for slots that are free.
        """
        began = time.perf_counter()
        x = self._latents(heard)
        encoded = time.perf_counter()
        codes = self.slots.step(x)
        generated = time.perf_counter()
        whole = {slot: given for slot, given in codes.items() if given.shape[1] == self.clock.k}
        for slot in whole:
            if self.places[slot] is None:
                self._decoder.reset(self._row(slot))
                self.places[slot] = self.next_place(slot) - self.hop
        sound = self._decoded(whole)
        self.spent = {
            "encode": encoded - began, "generate": generated - encoded, "decode": time.perf_counter() - generated,
        }  # fmt: skip
        made = {}
        for slot in whole:
            place = self.places[slot]
            assert place is not None, "it was just given one"
            made[slot] = place, sound[slot]
            self.places[slot] = place + self.hop
        return made

    def _latents(self, heard: Mapping[int, np.ndarray]) -> dict[int, Tensor]:
        taken, audio = self.taken, np.zeros((len(self.places), self.hop), np.float32)
        for slot, sound in heard.items():
            if slot not in taken:
                raise ValueError(f"input came for slot {slot}, where nobody plays")
            if sound.shape != (self.hop,):
                raise ValueError(f"input of shape {sound.shape} @ slot {slot}; expected ({self.hop},)")
            audio[slot] = cleaned(sound)
        batch = torch.from_numpy(audio)
        self.slots.listen({slot: batch[slot] for slot in taken})
        x = self.tokenizer.embed(self._encoder.push(batch.to(self.device)))
        return {slot: x[slot] for slot in taken}

    def _decoded(self, codes: Mapping[int, Tensor]) -> np.ndarray:
        batch = torch.zeros(len(self.places), self.space.codebooks, self.clock.k, dtype=torch.int64, device=self.device)
        for slot, given in codes.items():
            batch[slot] = given
        return self._decoder.push(batch).float().cpu().numpy()

    def _row(self, slot: int) -> Tensor:
        rows = torch.zeros(len(self.places), dtype=torch.bool)
        rows[slot] = True
        return rows


def cleaned(sound: np.ndarray) -> np.ndarray:
    """Samples [n] as a codec may hear them: what is NaN or Inf is 0, and what is beyond [-1, 1] is clipped."""
    return np.clip(np.where(np.isfinite(sound), sound, 0), -1, 1).astype(np.float32)
