"""Codes that music hardly uses, moved onto tones; see RareCodesTrainer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from accomp.plugin import SpecError
from accomp.plugins.tokenizers.codec.music.clips import Music
from accomp.plugins.tokenizers.codec.music.tones import tones
from accomp.plugins.tokenizers.codec.training.codebooks import sums
from accomp.plugins.tokenizers.codec.training.magnitude.trainer import MagnitudeTrainer, MagnitudeTrainSpec

SHARES = (0.2, 0.05, 0.05, 0.05, 0.65)
"""Of the tones: see tones.SHARES."""
ROUNDS, MOVES = 15, 12
"""Iterations of k-means, and in how many of them codes that no tone uses begin anew elsewhere."""
AT_ONCE = 20_000
"""Frames looked up together."""
LEAST = 30
"""Times that a code must be expected where it is not rare: of fewer frames nothing follows."""


class RareCodesTrainer(MagnitudeTrainer):
    """Fits the first level's codes that music uses in less than the share `rare` of its frames, in a single step.

    Music is dense. Codebooks that are fitted to it hold a lone tone, which is silence but for one band, so badly that
    it returns 10 dB too soft; but some of their codes stand for next to no music either. These are fitted by k-means to
    tones, and to as much music. All other codes stay what they stand for, so that what models have learned of them
    stays true. Codes of later levels stay as well: music would use what tones need there, too, gain next to nothing by
    it, and be harder to predict.
    """

    def __init__(
        self, network: Any, spec: MagnitudeTrainSpec, clips: Music, seed: int, device: torch.device, **timing: Any
    ):
        """Raises SpecError for too few frames."""
        super().__init__(network, spec, clips, seed, device, **timing)
        if 0 < spec.fit_frames * spec.rare < LEAST:
            raise SpecError(
                f"fit_frames = {spec.fit_frames}: too few to find codes that music uses in less than {spec.rare:g} "
                f"of its frames; expected at least {round(LEAST / spec.rare)} @ train.fit_frames"
            )

    def optimize(self) -> None:
        """No gradient moves anything; checkpoints have an optimizer's state all the same."""
        self.optimizer = torch.optim.AdamW([level.codebook for level in self.codebooks.levels])

    @torch.no_grad()
    def learn(self, done: float) -> dict[str, float]:
        """How many codes are rare, and what share of music and of tones uses them then."""
        music = self.latents(self._encode)
        made = self.latents(self._encode, self._tones)
        level = self.codebooks.levels[0]
        rare = _use(level, music) < self.spec.rare
        self._fit_to(level, rare, made, music)
        users = {"music": music, "tones": made}
        shares = {f"{name}_on_them": float(_use(level, z)[rare].sum()) for name, z in users.items()}
        return {"total": 0.0, "rare_codes": float(rare.sum())} | shares

    def _tones(self) -> Tensor:
        """Clips [batch, N]."""
        network = self.network
        samples = self.frames * network.hop
        return tones(self.spec.batch, samples, network.sample_rate, self.rng, SHARES).to(self.device)

    def _fit_to(self, level: Any, free: Tensor, made: Tensor, music: Tensor) -> None:
        book, rows = level.codebook, free.nonzero()[:, 0]
        self._begin(level, rows, made)
        for i in range(ROUNDS):
            (by_made, total), (by_music, more) = (
                sums(_codes(level, z), z[:, : level.width], len(book)) for z in (made, music)
            )
            count = by_made + by_music
            moved = free & (count > 0)
            book[moved] = (total + more)[moved] / count[moved, None]
            if i < MOVES:
                self._begin(level, (free & (by_made == 0)).nonzero()[:, 0], made)

    def _begin(self, level: Any, rows: Tensor, z: Tensor) -> None:
        """Set codes to latents [n, E], the likelier the worse these are quantized."""
        if len(rows):
            errors = level.rest(z, _codes(level, z))[:, : level.width].square().sum(1)
            chosen = torch.multinomial(errors.cpu() + 1e-9, len(rows), generator=self.rng, replacement=True)
            level.codebook[rows] = z[chosen.to(z.device), : level.width]


def _codes(level: Any, z: Tensor) -> Tensor:
    """z [n, E] -> codes [n]."""
    return torch.cat([level.nearest(part) for part in z.split(AT_ONCE)])


def _use(level: Any, z: Tensor) -> Tensor:
    """z [n, E] -> share of the vectors that use each code [C]."""
    return torch.bincount(_codes(level, z), minlength=len(level.codebook)) / len(z)
