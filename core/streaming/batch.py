"""Many sessions in one batch: they come and go, each with its own instrument, temperature and seed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from accomp.core.interfaces import CausalSampler, DenoisedSampler
from accomp.core.model.accompanist import Accompanist
from accomp.core.model.guidance import UNGUIDED, Guidance
from accomp.core.music.timelines import NOT_TOLD, Source
from accomp.core.spec.runtime import EAGER, Runtime
from accomp.core.streaming.latent_session import session_of
from accomp.core.streaming.session import no_timeline

NO_TEMPERATURE = "the sampler has no temperature"


class SessionBatch:
    """Up to B sessions that advance together, k frames a tick; a session's tokens do not depend on its neighbours.

    A batch of B rows is computed at every tick, whether they are taken or not: that is one graph that never changes.

    Attributes:
        taken: [B] bool, on the CPU: where somebody plays.
        has_temperature: whether the sampler has that dial.
    """

    def __init__(
        self,
        model: Accompanist,
        sampler: CausalSampler | DenoisedSampler,
        batch: int,
        *,
        window: int,
        guidance: Guidance = UNGUIDED,
        temperature: float = 1.0,
        runtime: Runtime = EAGER,
    ):
        """window, guidance, runtime: as for a TokenSession. temperature: of a session that asks for no other.

        Raises ValueError as a TokenSession does and for fewer than one slot, UserError where it cannot be compiled.
        """
        if batch < 1:
            raise ValueError(f"{batch} slots; at least one is needed")
        self.taken = torch.zeros(batch, dtype=torch.bool)
        self._usual = {name: temperature for name in getattr(sampler, "controls", ()) if name == "temperature"}
        self.has_temperature = bool(self._usual)
        self._sessions = torch.zeros(batch, dtype=torch.int64)
        self._seeds = torch.zeros(batch, dtype=torch.int64)
        self._labels = {name: torch.full((batch,), -1) for name in model.classes}
        self._controls = {name: torch.full((batch,), value) for name, value in self._usual.items()}
        self._tokens = session_of(
            model, sampler, sessions=self._sessions, labels=self._labels, window=window, guidance=guidance,
            controls=self._controls, runtime=runtime,
        )  # fmt: skip
        self._tokens.pull()
        self._clock = model.layout.clock
        self._heard = [0] * batch  # frames of input since a slot's session began

    def join(
        self,
        *,
        session: int = 0,
        seed: int = 0,
        labels: Mapping[str, int] | None = None,
        temperature: float | None = None,
        told: Mapping[str, Source] = NOT_TOLD,
    ) -> tuple[int, Tensor]:
        """Begin a session -> its slot, and the codes [K, m] that it puts out ahead of any input.

        It plays what a TokenSession with this `session`, `seed`, labels (name -> class; withheld where not given),
        temperature and timelines (`told`) plays alone. Raises ValueError where all slots are taken, for a label, class
        or timeline that the model does not know, and for a temperature where the sampler has none.
        """
        free = (~self.taken).nonzero().flatten()
        if not len(free):
            raise ValueError(f"all {len(self.taken)} slots are taken")
        slot = int(free[0])
        if unknown := sorted(set(labels or {}) - set(self._labels)):
            raise ValueError(f"unknown labels {unknown}; the model takes {sorted(self._labels)}")
        if temperature is not None and not self._controls:
            raise ValueError(NO_TEMPERATURE)
        if unknown := sorted(set(told) - set(self._tokens.model.timelines)):
            raise ValueError(no_timeline(unknown, self._tokens.model))
        self._sessions[slot], self._seeds[slot] = session, seed
        for name, classes in self._labels.items():
            classes[slot] = (labels or {}).get(name, -1)
        for name, dial in self._controls.items():
            dial[slot] = self._usual[name] if temperature is None else temperature
        rows = torch.zeros_like(self.taken)
        rows[slot] = True
        ahead = self._tokens.reset(
            rows, sessions=self._sessions, labels=self._labels, seed=self._seeds, controls=self._controls,
            timelines=[told if row == slot else {} for row in range(len(self.taken))],
        )  # fmt: skip
        self.taken[slot], self._heard[slot] = True, 0
        return slot, ahead[slot]

    def set_temperature(self, slot: int, temperature: float) -> None:
        """Another temperature for a session from its next frame on. Raises ValueError where the sampler has none."""
        if not self._controls:
            raise ValueError(NO_TEMPERATURE)
        self._tokens.set_control(self._playing(slot), "temperature", temperature)

    def tell(self, slot: int, name: str, source: Source | None) -> None:
        """Another timeline for a session from its next group of frames on; None withholds it. Raises ValueError."""
        self._tokens.tell(self._playing(slot), name, source)

    def listen(self, audio: Mapping[int, Tensor]) -> None:
        """Slot -> audio [n] at the codec's rate that its session hears next, for timelines followed in it."""
        for slot, heard in audio.items():
            self._tokens.listen(heard[None], rows=[slot])

    def complete(self, slot: int) -> int:
        """Frames of a session that are complete so far: the next one to come has this number."""
        return self._clock.frames_complete(self._heard[self._playing(slot)], self._tokens.model.space.levels)

    def leave(self, slot: int) -> None:
        """End the session of a slot; another one may have it. Raises ValueError where nobody plays."""
        self.taken[self._playing(slot)] = False
        for name in self._tokens.model.timelines:  # what follows its input would miss it
            self._tokens.tell(slot, name, None)

    def step(self, x: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Slot -> latents [k, E] of its next frames -> slot -> codes [K, m], the frames that became complete.

        m is k but for a session that has just begun. Raises ValueError unless just the slots that are taken
        have input, k frames each.
        """
        playing = self.taken.nonzero().flatten().tolist()
        k, width = self._clock.k, self._tokens.model.space.latent_dim
        if sorted(x) != playing:
            raise ValueError(f"input came for slots {sorted(x)}, but taken are {playing}")
        if wrong := {slot: tuple(one.shape) for slot, one in x.items() if one.shape != (k, width)}:
            raise ValueError(f"expected {(k, width)}, k frames of latents, for every slot; got {wrong}")
        silence = torch.zeros(k, width, device=self._tokens.device)
        self._tokens.push(torch.stack([x.get(slot, silence).to(silence) for slot in range(len(self.taken))]))
        codes = self._tokens.pull()
        return {slot: codes[slot, :, codes.shape[2] - self._complete(slot) :] for slot in playing}

    def _playing(self, slot: int) -> int:
        if not self.taken[slot]:
            raise ValueError(f"nobody plays in slot {slot}")
        return slot

    def _complete(self, slot: int) -> int:
        """How many frames another k of input complete for a session; that it has heard them is noted."""
        clock, levels, before = self._clock, self._tokens.model.space.levels, self._heard[slot]
        self._heard[slot] = before + clock.k
        return clock.frames_complete(before + clock.k, levels) - clock.frames_complete(before, levels)
