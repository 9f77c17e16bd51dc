"""Continuous batching: sessions join and leave a batch, each with its own labels, temperature and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from accomp.core.interfaces import CausalSampler, DenoisedSampler
from accomp.core.model.accompanist import Accompanist
from accomp.core.model.guidance import UNGUIDED, Guidance
from accomp.core.music.timelines import NO_TIMELINES, Source
from accomp.core.spec.runtime import EAGER, Runtime
from accomp.core.streaming.buckets import Buckets
from accomp.core.streaming.checks import no_timeline
from accomp.core.streaming.latent_session import session_of

NO_TEMPERATURE = "the sampler has no temperature"


class SessionBatch:
    """Up to B sessions that advance together, k frames a tick; a session's tokens do not depend on its neighbours.

    Every tick computes all B rows, taken or not, so that one graph of fixed shape serves always; or the smallest of
    some buckets that holds all sessions, each with a graph of its own.

    Attributes:
        taken: [B] bool, on the CPU: slots with a session.
        has_temperature: whether the sampler has a temperature for each session.
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
        buckets: Sequence[int] = (),
    ):
        """window, guidance, runtime: as for a TokenSession. temperature: the default of a session. buckets: numbers of
        slots that are computed alone (buckets.py); each is compiled, which takes its time.

        Raises ValueError as a TokenSession and Buckets do and for fewer than one slot, UserError where it cannot be
        compiled.
        """
        if batch < 1:
            raise ValueError(f"{batch} slots; at least one is needed")
        self.taken = torch.zeros(batch, dtype=torch.bool)
        self._defaults = {name: temperature for name in getattr(sampler, "controls", ()) if name == "temperature"}
        self.has_temperature = bool(self._defaults)
        self._sessions = torch.zeros(batch, dtype=torch.int64)
        self._seeds = torch.zeros(batch, dtype=torch.int64)
        self._labels = {name: torch.full((batch,), -1) for name in model.classes}
        self._controls = {name: torch.full((batch,), value) for name, value in self._defaults.items()}
        self._tokens = session_of(
            model, sampler, sessions=self._sessions, labels=self._labels, window=window, guidance=guidance,
            controls=self._controls, runtime=runtime,
        )  # fmt: skip
        self._buckets: Buckets | None = None
        if buckets:
            self._buckets = self._tokens.buckets(buckets, compiled=runtime.compiles(self._tokens.device))
        self._tokens.pull()
        self._clock = model.layout.clock
        self._frames_in = [0] * batch  # frames of input since the start of a slot's session

    def join(
        self,
        *,
        session: int = 0,
        seed: int = 0,
        labels: Mapping[str, int] | None = None,
        temperature: float | None = None,
        timelines: Mapping[str, Source] = NO_TIMELINES,
    ) -> tuple[int, Tensor]:
        """Start a session -> its slot, and the codes [K, m] or latents [E, m] that it outputs before any input.

        Its tokens are those of a TokenSession of its own with this `session`, `seed`, labels (name -> class; withheld
        where not given), temperature and timelines. Raises ValueError where all slots are taken, for a label, class or
        timeline that the model lacks, and for a temperature where the sampler has none.
        """
        free = (~self.taken).nonzero().flatten()
        if not len(free):
            raise ValueError(f"all {len(self.taken)} slots are taken")
        slot = int(free[0])
        if unknown := sorted(set(labels or {}) - set(self._labels)):
            raise ValueError(f"unknown labels {unknown}; the model takes {sorted(self._labels)}")
        if temperature is not None and not self._controls:
            raise ValueError(NO_TEMPERATURE)
        if unknown := sorted(set(timelines) - set(self._tokens.model.timelines)):
            raise ValueError(no_timeline(unknown, self._tokens.model))
        self._sessions[slot], self._seeds[slot] = session, seed
        for name, classes in self._labels.items():
            classes[slot] = (labels or {}).get(name, -1)
        for name, control in self._controls.items():
            control[slot] = self._defaults[name] if temperature is None else temperature
        rows = torch.zeros_like(self.taken)
        rows[slot] = True
        self._compute(rows)
        early = self._tokens.reset(
            rows, sessions=self._sessions, labels=self._labels, seed=self._seeds, controls=self._controls,
            timelines=[timelines if row == slot else {} for row in range(len(self.taken))],
        )  # fmt: skip
        self.taken[slot], self._frames_in[slot] = True, 0
        return slot, early[slot]

    def set_temperature(self, slot: int, temperature: float) -> None:
        """Set a session's temperature from its next frame on. Raises ValueError where the sampler has none."""
        if not self._controls:
            raise ValueError(NO_TEMPERATURE)
        self._tokens.set_control(self._taken(slot), "temperature", temperature)

    def set_timeline(self, slot: int, name: str, source: Source | None) -> None:
        """Set a session's timeline from its next group of frames on; None withholds it. Raises ValueError."""
        self._tokens.set_timeline(self._taken(slot), name, source)

    def listen(self, audio: Mapping[int, Tensor]) -> None:
        """Feed slot -> audio [n] at the codec's rate, the next input of its session, to timelines that follow the
        input.
        """
        for slot, samples in audio.items():
            self._tokens.listen(samples[None], rows=[slot])

    def complete(self, slot: int) -> int:
        """Number of frames of a session that are complete so far."""
        return self._clock.frames_complete(self._frames_in[self._taken(slot)], self._tokens.model.space.levels)

    def leave(self, slot: int) -> None:
        """End the session of a slot and free it. Raises ValueError for a free slot."""
        self.taken[self._taken(slot)] = False
        for name in self._tokens.model.timelines:  # a follower would miss input from here on
            self._tokens.set_timeline(slot, name, None)

    def step(self, x: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Slot -> latents [k, E] of its next frames -> slot -> codes [K, m] or latents [E, m], the frames that
        became complete.

        m is k but for a session that has just begun. Raises ValueError unless exactly the taken slots have input, k
        frames each.
        """
        playing = self.taken.nonzero().flatten().tolist()
        k, width = self._clock.k, self._tokens.model.space.latent_dim
        if sorted(x) != playing:
            raise ValueError(f"input came for slots {sorted(x)}, but taken are {playing}")
        if wrong := {slot: tuple(one.shape) for slot, one in x.items() if one.shape != (k, width)}:
            raise ValueError(f"expected {(k, width)}, k frames of latents, for every slot; got {wrong}")
        self._compute()
        silence = torch.zeros(k, width, device=self._tokens.device)
        self._tokens.push(torch.stack([x.get(slot, silence).to(silence) for slot in range(len(self.taken))]))
        codes = self._tokens.pull()
        return {slot: codes[slot, :, codes.shape[2] - self._completed_by_next(slot) :] for slot in playing}

    def _compute(self, joining: Tensor | None = None) -> None:
        """Choose the bucket for the sessions that there are, and those that join [B] bool."""
        if self._buckets is not None:
            rows = self.taken if joining is None else self.taken | joining
            self._buckets.use(int(rows.nonzero().max()) + 1 if rows.any() else 1)

    def _taken(self, slot: int) -> int:
        if not self.taken[slot]:
            raise ValueError(f"slot {slot} is free")
        return slot

    def _completed_by_next(self, slot: int) -> int:
        """Count k more frames of input for a session -> the number of frames that they complete."""
        clock, levels, before = self._clock, self._tokens.model.space.levels, self._frames_in[slot]
        self._frames_in[slot] = before + clock.k
        return clock.frames_complete(before + clock.k, levels) - clock.frames_complete(before, levels)
