"""A tokenizer and a corpus small enough for tests, and made to be checked by hand.

The tokenizer hears how loud each frame is, and how loud it is against the frame before; the corpus is a folder of
WAV or FLAC files, split/track/CLASS_NAME.suffix.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import soundfile
import torch
from attrs import frozen

from accomp.core.component import Component
from accomp.core.errors import DataError
from accomp.core.music.annotations import NOTHING, Annotations, Beats, Span
from accomp.core.registry import Registry
from accomp.core.types import Stem, TokenSpace, Track

RATE, HOP = 32000, 640


class EnergyTokenizer:
    """Level 0: RMS of the frame, in steps from silence to full scale. Level 1: its difference to the frame before.

    Causal; decoding gives each frame a square wave whose loudness is that of level 0.
    """

    name = "energy"

    @frozen
    class Config:
        codebook_size: int = 8
        fingerprint: str = "loud"

    @classmethod
    def space_of(cls, config: Config) -> TokenSpace:
        return TokenSpace(RATE, HOP, codebooks=2, codebook_size=config.codebook_size, latent_dim=6)

    def __init__(self, config: Config | None = None):
        config = config or self.Config()
        self.space = self.space_of(config)
        self.fingerprint = config.fingerprint
        self._table = torch.randn(2, config.codebook_size, 6, generator=torch.Generator().manual_seed(0))

    def encode(self, audio: torch.Tensor) -> torch.Tensor:
        stream = self.encoder(len(audio))
        return torch.cat([stream.push(audio), stream.flush()], dim=2)

    def embed(self, codes: torch.Tensor) -> torch.Tensor:
        return self._table[0][codes[:, 0]] + self._table[1][codes[:, 1]]

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        level = codes[:, 0].float() / self.space.codebook_size
        wave = torch.tensor([0.5, -0.5]).repeat_interleave(40).repeat(HOP // 80)
        return (level[:, :, None] * wave).flatten(1)

    def encoder(self, batch: int = 1) -> _Encoder:
        return _Encoder(self.space.codebook_size, batch)

    def decoder(self, batch: int = 1) -> _Decoder:
        return _Decoder(self, batch)

    def to(self, device: torch.device | str) -> EnergyTokenizer:
        self._table = self._table.to(device)
        return self


class _Encoder:
    def __init__(self, size: int, batch: int):
        self._size = size
        self._rest = torch.zeros(batch, 0)
        self._before = torch.zeros(batch, 1, dtype=torch.int64)

    def push(self, chunk: torch.Tensor) -> torch.Tensor:
        audio = torch.cat([self._rest, chunk], dim=1)
        frames = audio.shape[1] // HOP
        self._rest = audio[:, frames * HOP :]
        rms = audio[:, : frames * HOP].unflatten(1, (frames, HOP)).double().pow(2).mean(2).sqrt()
        loud = (rms.sqrt() * self._size).long().clamp(max=self._size - 1)
        before = torch.cat([self._before, loud], dim=1)
        self._before = before[:, -1:]
        return torch.stack([loud, (loud - before[:, :-1]) % self._size], dim=1)

    def flush(self) -> torch.Tensor:
        missing = -self._rest.shape[1] % HOP
        return self.push(torch.zeros(len(self._rest), missing))

    def reset(self, rows: torch.Tensor) -> None:
        self._rest[rows] = 0
        self._before[rows] = 0


class _Decoder:
    def __init__(self, tokenizer: EnergyTokenizer | LoudnessTokenizer, batch: int):
        self._tokenizer, self._batch = tokenizer, batch

    def push(self, chunk: torch.Tensor) -> torch.Tensor:
        return self._tokenizer.decode(chunk)

    def flush(self) -> torch.Tensor:
        return torch.zeros(self._batch, 0)

    def reset(self, rows: torch.Tensor) -> None:
        """There is nothing to forget."""


class LoudnessTokenizer:
    """A codec of continuous latents: how loud each fifth of a frame is, its root between -1.7 and 1.7.

    Causal, without delay; decoding gives each fifth a square wave as loud.
    """

    name = "loudness"
    EACH = HOP // 5

    @frozen
    class Config:
        fingerprint: str = "smooth"

    @classmethod
    def space_of(cls, config: Config) -> TokenSpace:
        return TokenSpace(RATE, HOP, codebooks=0, codebook_size=0, latent_dim=5)

    def __init__(self, config: Config | None = None):
        config = config or self.Config()
        self.space, self.fingerprint = self.space_of(config), config.fingerprint

    def encode(self, audio: torch.Tensor) -> torch.Tensor:
        stream = self.encoder(len(audio))
        return torch.cat([stream.push(audio), stream.flush()], dim=2)

    def embed(self, codes: torch.Tensor) -> torch.Tensor:
        return codes.transpose(1, 2)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        level = ((codes / 3.4 + 0.5).clamp(0, 1) ** 2).transpose(1, 2).flatten(1)
        return (level[:, :, None] * torch.tensor([0.5, -0.5]).repeat(self.EACH // 2)).flatten(1)

    def encoder(self, batch: int = 1) -> _LoudnessEncoder:
        return _LoudnessEncoder(batch)

    def decoder(self, batch: int = 1) -> _Decoder:
        return _Decoder(self, batch)

    def to(self, device: torch.device | str) -> LoudnessTokenizer:
        return self


class _LoudnessEncoder:
    def __init__(self, batch: int):
        self._rest = torch.zeros(batch, 0)

    def push(self, chunk: torch.Tensor) -> torch.Tensor:
        audio = torch.cat([self._rest, chunk], dim=1)
        frames = audio.shape[1] // HOP
        self._rest = audio[:, frames * HOP :]
        parts = audio[:, : frames * HOP].unflatten(1, (frames, 5, HOP // 5)).double()
        root = parts.square().mean(3).sqrt().sqrt()
        return ((root - 0.5) * 3.4).transpose(1, 2).half().float()

    def flush(self) -> torch.Tensor:
        return self.push(torch.zeros(len(self._rest), -self._rest.shape[1] % HOP))

    def reset(self, rows: torch.Tensor) -> None:
        self._rest[rows] = 0


class FolderCorpus:
    """split/track/NAME-CLASS.suffix: stems in alphabetical order, CLASS an instrument's number.

    Beside them there may be labels.json: {"song": {label: text}, "stems": {NAME: {label: text}}}.
    """

    @frozen
    class Config:
        root: str = ""

    def __init__(self, config: Config):
        self._root = Path(config.root)
        if not self._root.is_dir():
            raise DataError(f"no such corpus folder @ {self._root}")
        self.splits = tuple(sorted(folder.name for folder in self._root.iterdir()))

    def tracks(self, split: str) -> Iterator[Track]:
        for folder in sorted((self._root / split).iterdir()):
            stems = {}
            file = folder / "labels.json"
            labels = json.loads(file.read_text()) if file.is_file() else {"song": {}, "stems": {}}
            for path in sorted(set(folder.iterdir()) - {file}):
                name, _, instrument = path.stem.partition("-")
                stems[name] = Stem(path, int(instrument), name, labels["stems"].get(name, {}))
            yield Track(folder.name, stems, source="folder of tests", licence="CC0", labels=labels["song"])


def tone(seconds: float, seed: int, *, rate: int = RATE, silent: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Audible noise [N] float32 whose loudness wanders, with a silent stretch [from, to) in seconds."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    corners = np.arange(0, n + rate // 10, rate // 10)
    slow = np.interp(np.arange(n), corners, rng.uniform(0.05, 0.9, len(corners)))
    audio = (slow * rng.uniform(-1, 1, n)).astype(np.float32)
    audio[round(silent[0] * rate) : round(silent[1] * rate)] = 0
    return audio


def write_track(folder: Path, stems: Mapping[str, np.ndarray], *, rate: int = RATE, suffix: str = "flac") -> None:
    """A track of FolderCorpus. `stems`: "NAME-CLASS" -> audio."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, audio in stems.items():
        soundfile.write(folder / f"{name}.{suffix}", audio, rate, subtype="PCM_16" if suffix == "flac" else "FLOAT")


def write_labels(folder: Path, song: Mapping[str, str], **stems: Mapping[str, str]) -> None:
    """The labels of a track of FolderCorpus, and those of some of its stems."""
    (folder / "labels.json").write_text(json.dumps({"song": song, "stems": stems}))


def write_corpus(root: Path, tracks: Mapping[str, int], *, stems: int = 3, seconds: float = 3.0) -> Path:
    """`tracks`: split -> how many songs t0, t1, ... of `stems` stems s0, s1, ... (classes 0, 4, 8, ...)."""
    for split_number, (split, count) in enumerate(sorted(tracks.items())):
        for number in range(count):
            seed = 1000 * split_number + 10 * number
            parts = {f"s{k}-{4 * k % 16}": tone(seconds, seed + k) for k in range(stems)}
            write_track(root / split / f"t{number}", parts)
    return root


class Pulse:
    """A follower of the beat: half a second long, from the beginning on, once the sound has been loud."""

    follows = "metronome"
    fingerprint = "pulse 1"
    provenance = "loudness"

    @frozen
    class Config:
        pass

    def __init__(self, config: Config, sample_rate: int):
        self.begin()

    def begin(self) -> None:
        self._loud = False

    def push(self, audio: np.ndarray) -> None:
        self._loud |= bool((np.abs(audio) > 0.02).any())

    def known(self) -> Annotations:
        return Annotations(Beats((0.0, 0.5))) if self._loud else NOTHING


class Drone(Pulse):
    """A follower of the chords: E minor, once the sound has been loud."""

    follows = "chart"
    fingerprint = "drone 1"

    def known(self) -> Annotations:
        return Annotations(chords=(Span(0.0, 0.1, "E:min"),)) if self._loud else NOTHING


def with_followers(registry: Registry, *classes: type) -> Registry:
    """The registry, in which these are all the followers there are."""
    kept = {key: row for key, row in registry._rows.items() if row.kind != "follower"}
    rows = (Component("follower", cls.__name__.lower(), f"{cls.__module__}:{cls.__name__}") for cls in classes)
    registry._rows = kept | {("follower", row.name): row for row in rows}
    return registry
