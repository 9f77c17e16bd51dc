"""A model's ear: the beat, the bar and the chord of the frame that is to be played, estimated from the input alone.

It takes the place of a timeline that is not given. The model's own output cannot mislead it, since it does not hear it.
It is learned beside the model, from the timelines of annotated songs; its estimates enter the model as a given timeline
does, and the model's loss does not train it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from attrs import define
from torch import Tensor, nn

from accomp.core.model.recurrences import Bank, against, times
from accomp.core.music.timelines import BAR_HARMONICS, BEAT_HARMONICS, KINDS, USUAL
from accomp.core.tensors import in_full

WIDTH = 96
"""Features of a frame."""

HISTORY = 3
"""Frames before the newest whose differences show onsets."""

TINY = 1e-4
"""Amplitudes below it have no phase."""

NOTHING = 1e-12
"""Energy beside which the square root of none still has a slope."""


class Linear(nn.Linear):
    """A linear layer that computes in the type of its input, whatever that of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class Ear(nn.Module):
    """Timelines of a model's rows from the input frame of each and those before it.

    A listener of each timeline has a bank of recurrences (core/model/recurrences.py), driven by features of the newest
    frames, and reads its estimate from them.
    """

    def __init__(self, latent_dim: int, frame_rate: float, names: Iterable[str]):
        super().__init__()
        self.latent_dim = latent_dim
        self.features = nn.Sequential(
            Linear((1 + HISTORY) * latent_dim, WIDTH), nn.RMSNorm(WIDTH, elementwise_affine=False), nn.GELU(),
            Linear(WIDTH, WIDTH), nn.GELU(),
        )  # fmt: skip
        self.listeners = nn.ModuleDict({name: LISTENERS[name](frame_rate) for name in names})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Input latents x [B, T, E] of clips -> name -> [B, T, N], the timeline of the row whose newest input is t."""
        u = self._features(torch.cat([x[:, :1].expand(-1, HISTORY, -1), x], dim=1))
        return {name: ear.read(ear.bank().scan(ear.drive(u))) for name, ear in self._each()}

    def begin(self, rows: int) -> EarState:
        """The state of `rows` sessions without any input so far."""
        weight = in_full(next(self.parameters()))
        return EarState(
            weight.new_zeros(rows, dtype=torch.bool),
            weight.new_zeros(rows, HISTORY, self.latent_dim),
            {name: ear.bank().zeros(rows) for name, ear in self._each()},
        )

    def step(self, x: Tensor, state: EarState, hearing: Tensor) -> dict[str, Tensor]:
        """Hear x [R, E] in the rows of the mask `hearing` [R] -> name -> [R, N]; zeros in the others, which stay.

        The state is written in place.
        """
        x = in_full(x)[:, None]
        before = torch.where(state.begun[:, None, None], state.frames, x)
        frames = torch.cat([before, x], dim=1)
        u = self._features(frames)[:, 0]
        values = {}
        for name, ear in self._each():
            z = ear.bank().advance(state.memory[name], ear.drive(u))
            state.memory[name].copy_(torch.where(hearing[:, None, None], z, state.memory[name]))
            values[name] = ear.read(z) * hearing[:, None]
        state.frames.copy_(torch.where(hearing[:, None, None], frames[:, 1:], state.frames))
        state.begun.copy_(state.begun | hearing)
        return values

    def ahead(self, heard: Mapping[str, Tensor], frames: Tensor) -> dict[str, Tensor]:
        """What was heard, name -> [B, S, N], for rows without input that are `frames` [B, S] or [S] further on."""
        return {name: ear.ahead(heard[name], frames) for name, ear in self._each()}

    def loss(self, heard: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Errors of estimates by name, [B, S, N] each, as means over the rows whose timeline is known."""
        return {name: ear.loss(heard[name], truth[name]) for name, ear in self._each()}

    def _features(self, frames: Tensor) -> Tensor:
        """Frames [B, HISTORY + T, E] -> features of the last T [B, T, WIDTH]: of each, and of how it came about."""
        steps = frames[:, 1:] - frames[:, :-1]
        late = steps.shape[1] - HISTORY + 1
        parts = [frames[:, HISTORY:], *(steps[:, HISTORY - 1 - back :][:, :late] for back in range(HISTORY))]
        return in_full(self.features(torch.cat(parts, dim=-1)))

    def _each(self) -> Iterable[tuple[str, Listener]]:
        return self.listeners.items()  # type: ignore[return-value]


@define(eq=False)
class EarState:
    """What sessions heard.

    Attributes:
        begun: [R] bool, rows with input so far.
        frames: [R, HISTORY, E], the newest.
        memory: name -> [R, ., M], the recurrences of a listener.
    """

    begun: Tensor
    frames: Tensor
    memory: dict[str, Tensor]

    def reset(self, rows: Tensor) -> None:
        """Forget everything in the rows of the mask [R]."""
        self.begun.masked_fill_(rows, False)
        for z in self.memory.values():
            z.masked_fill_(rows[:, None, None], 0)

    def first(self, rows: int) -> EarState:
        """The state of the first rows, in the memory of this one."""
        return EarState(self.begun[:rows], self.frames[:rows], {name: z[:rows] for name, z in self.memory.items()})


class Listener(nn.Module, ABC):
    """An estimate of one timeline, by a bank of M recurrences."""

    @abstractmethod
    def bank(self) -> Bank:
        """The recurrences."""

    @abstractmethod
    def drive(self, u: Tensor) -> Tensor:
        """Features [..., WIDTH] -> what drives the recurrences [..., ., M]."""

    @abstractmethod
    def read(self, z: Tensor) -> Tensor:
        """Recurrences [..., ., M] -> the timeline's numbers [..., N]."""

    def ahead(self, values: Tensor, frames: Tensor) -> Tensor:
        """Estimates [B, S, N] for rows that are `frames` [B, S] or [S] further on."""
        return values

    @abstractmethod
    def loss(self, values: Tensor, truth: Tensor) -> Tensor:
        """Error of estimates [B, S, N], where the truth is known."""


class BeatListener(Listener):
    """A metronome from resonators, that a periodic input makes swing with it (Large and Kolen, Connection Science 6,
    1994; Scheirer, JASA 103, 1998).

    M resonators of LOWEST to HIGHEST Hz, PER_OCTAVE to the octave, are driven by features at learned phases. A network
    weights their phasors, to give those of beat and bar. It knows only their levels, and the phases of those a factor
    of 2, 3 or 4 apart relative to each other: so the same input gives the same phasors whenever it comes.
    """

    LOWEST, HIGHEST, PER_OCTAVE = 0.25, 8.0, 12
    CYCLES = 4.0
    """Time constant of a resonator in its cycles, at first, within 0.8 and 8 s."""

    HIDDEN = 128

    def __init__(self, frame_rate: float):
        super().__init__()
        highest = min(self.HIGHEST, 0.4 * frame_rate)
        count = int(self.PER_OCTAVE * math.log2(highest / self.LOWEST))
        hertz = self.LOWEST * 2 ** (torch.arange(count) / self.PER_OCTAVE)
        self.frame_rate = frame_rate
        self.angle: Tensor
        self.register_buffer("angle", 2 * math.pi * hertz / frame_rate, persistent=False)
        self.log_frames = nn.Parameter(torch.log((self.CYCLES / hertz).clamp(0.8, 8.0) * frame_rate))
        self.onsets = Linear(WIDTH, 2 * count)
        self.apart = [round(self.PER_OCTAVE * math.log2(n)) for n in (2, 3, 4)]  # resonators from one to its multiples
        width = count + sum(2 * (count - apart) for apart in self.apart)
        self.first, self.second = Linear(width, self.HIDDEN), Linear(self.HIDDEN, self.HIDDEN)
        phasors = BEAT_HARMONICS + BAR_HARMONICS
        self.weights = Linear(self.HIDDEN, phasors * count)
        self.turn = nn.Parameter(torch.zeros(phasors, count))
        self.lengths = Linear(self.HIDDEN, 2)

    def bank(self) -> Bank:
        """See Listener."""
        return Bank(-torch.exp(-in_full(self.log_frames)), in_full(self.angle))

    def drive(self, u: Tensor) -> Tensor:
        """See Listener."""
        return in_full(self.onsets(u)).unflatten(-1, (2, -1))

    def read(self, z: Tensor) -> Tensor:
        """See Listener."""
        size = (z.square().sum(-2) + NOTHING).sqrt()
        unit = z / (size + TINY)[..., None, :]
        level = torch.log(size + TINY)
        parts = [level - level.mean(-1, keepdim=True)]
        power = unit
        for apart in self.apart:
            power = times(power, unit)
            parts.append(against(unit[..., apart:], power[..., :-apart]).flatten(-2))
        h = F.gelu(self.first(torch.cat(parts, dim=-1)))
        h = h + F.gelu(self.second(h))
        weights, turn = in_full(self.weights(h)).unflatten(-1, self.turn.shape), in_full(self.turn)
        turned = times(unit[..., None, :, :], torch.stack([turn.cos(), turn.sin()], dim=-2))
        phasor = (weights[..., None, :] * turned).sum(-1)
        phasor = phasor / torch.sqrt(1 + phasor.square().sum(-1, keepdim=True))  # the nearer to the circle, the surer
        beat, bar = phasor.flip(-1).flatten(-2).split([2 * BEAT_HARMONICS, 2 * BAR_HARMONICS], dim=-1)
        lengths, known = in_full(self.lengths(h)), torch.ones_like(beat[..., :1])
        return torch.cat([known, beat, lengths[..., :1], known, bar, lengths[..., 1:]], dim=-1)

    def ahead(self, values: Tensor, frames: Tensor) -> Tensor:
        """See Listener: beat and bar turn on at the tempo that was heard."""
        sizes = [1, 2 * BEAT_HARMONICS, 1, 1, 2 * BAR_HARMONICS, 1]
        known, beat, tempo, bars, bar, meter = values.split(sizes, dim=-1)
        frames_of_beat = self.frame_rate * USUAL * 2 ** (tempo[..., 0].clamp(-4, 4) / 2)
        beats_of_bar = (4 + 4 * meter[..., 0]).clamp(1, 16)
        beat, bar = _turned(beat, frames / frames_of_beat), _turned(bar, frames / (frames_of_beat * beats_of_bar))
        return torch.cat([known, beat, tempo, bars, bar, meter], dim=-1)

    def loss(self, values: Tensor, truth: Tensor) -> Tensor:
        """Mean squared error of what is known of the beat, and half that of the bar."""
        detail = KINDS["metronome"].detail
        error = (in_full(values) - in_full(truth)).square()
        beat = _mean(error[..., 1:detail].mean(-1), truth[..., 0])
        return beat + 0.5 * _mean(error[..., detail + 1 :].mean(-1), truth[..., detail])


class ChordListener(Listener):
    """A chart from leaky integrators of the features, with time constants of 0.06 to 2 s."""

    SECONDS = (0.06, 0.2, 0.6, 2.0)
    FEATURES, HIDDEN = 48, 128

    def __init__(self, frame_rate: float):
        super().__init__()
        rates = -1 / (torch.tensor(self.SECONDS) * frame_rate)
        self.rates: Tensor
        self.register_buffer("rates", rates.repeat_interleave(self.FEATURES), persistent=False)
        self.tones = Linear(WIDTH, self.FEATURES)
        self.first = Linear(len(rates) * self.FEATURES, self.HIDDEN)
        self.second = Linear(self.HIDDEN, KINDS["chart"].width - 1)

    def bank(self) -> Bank:
        """See Listener."""
        return Bank(in_full(self.rates))

    def drive(self, u: Tensor) -> Tensor:
        """See Listener."""
        tones = in_full(self.tones(u))
        return tones.repeat(*[1] * (tones.ndim - 1), len(self.SECONDS))[..., None, :]

    def read(self, z: Tensor) -> Tensor:
        """See Listener: 12 and 12 probabilities."""
        chances = in_full(self.second(F.gelu(self.first(z[..., 0, :])))).sigmoid()
        return torch.cat([torch.ones_like(chances[..., :1]), chances], dim=-1)

    def loss(self, values: Tensor, truth: Tensor) -> Tensor:
        """Mean cross entropy of each pitch class and of each bass note."""
        chance, there = in_full(values)[..., 1:].clamp(1e-6, 1 - 1e-6), in_full(truth)[..., 1:]
        nats = -(there * chance.log() + (1 - there) * torch.log1p(-chance))
        return _mean(nats.mean(-1), truth[..., 0])


LISTENERS: Mapping[str, type[BeatListener | ChordListener]] = {"metronome": BeatListener, "chart": ChordListener}


def with_heard(given: Mapping[str, Tensor], heard: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Timelines of rows, name -> [B, S, N], with what was heard in the rows where nothing is given."""
    return {
        name: torch.where(values[..., :1] == 0, heard[name].to(values), values) if name in heard else values
        for name, values in given.items()
    }


def _turned(circles: Tensor, turns: Tensor) -> Tensor:
    """(sin, cos) of harmonics 1, 2 ... [..., 2 H], `turns` [...] later."""
    sine, cosine = circles.unflatten(-1, (-1, 2)).unbind(-1)
    angle = 2 * math.pi * turns[..., None] * torch.arange(1, sine.shape[-1] + 1, device=turns.device)
    later = sine * angle.cos() + cosine * angle.sin(), cosine * angle.cos() - sine * angle.sin()
    return torch.stack(later, dim=-1).flatten(-2)


def _mean(error: Tensor, known: Tensor) -> Tensor:
    """Mean of errors [B, S] where `known` [B, S] is not 0; 0 where it nowhere is."""
    there = (known != 0).to(error)
    return (error * there).sum() / there.sum().clamp(min=1)
