"""Encoding of many mixtures of a song: fast, in bounded memory, with the same result for any number of cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

from accomp.core.errors import PluginError
from accomp.core.interfaces import Tokenizer

ROWS = 8
"""Parts encoded together. Constant, so that rounding, and with it the codes, does not depend on the machine."""
SAMPLES = 2**19
"""Samples, over the rows, in one call of the tokenizer."""


class PartEncoder:
    """Encoder of stems [S, N] to codes [P, T, K] of P parts, each the mean of some of the stems.

    It processes a song with the tokenizer's streams, so that memory grows neither with its length nor with the number
    of parts. `workers` groups of parts are encoded concurrently, each on one core.
    """

    def __init__(self, tokenizer: Tokenizer, device: torch.device | str = "cpu", workers: int = 1):
        """Take a tokenizer that is already on `device`."""
        self.tokenizer, self._device, self._workers = tokenizer, device, workers

    def __call__(self, stems: np.ndarray, members: Sequence[tuple[int, ...]]) -> np.ndarray:
        """Encode stems [S, N]; `members` are the rows of stems whose mean each part is. Returns codes [P, T, K] uint16.

        Latents, of a tokenizer without codebooks, are [P, T, E] float16. Raises PluginError for a tokenizer that
        returns another number of frames than ceil(N / hop), or latents outside the range of float16.
        """
        groups = [members[first : first + ROWS] for first in range(0, len(members), ROWS)]
        with ThreadPoolExecutor(self._workers) as pool, _one_core_each():
            return np.concatenate(list(pool.map(lambda group: self._encode(stems, group), groups)))

    def _encode(self, stems: np.ndarray, group: Sequence[tuple[int, ...]]) -> np.ndarray:
        tokenizer, samples = self.tokenizer, stems.shape[1]
        hop, frames = tokenizer.space.hop, tokenizer.space.frames(samples)
        step = max(1, SAMPLES // len(group) // hop) * hop
        stream = tokenizer.encoder(len(group))
        codes = []
        with torch.inference_mode():
            for start in range(0, samples, step):
                piece = stems[:, start : start + step]
                audio = np.empty((len(group), piece.shape[1]), piece.dtype)
                for part, rows in zip(audio, group, strict=True):
                    _mean(piece, rows, part)
                codes.append(stream.push(torch.from_numpy(audio).to(self._device)).cpu())
            codes.append(stream.flush().cpu())
        whole = torch.cat(codes, dim=2)  # [B, K, T]
        if whole.shape[2] != frames:
            raise PluginError(
                f"tokenizer {tokenizer.name!r} gave {whole.shape[2]} frames for {samples} samples, expected {frames}; "
                f"`accomp check-plugin tokenizer {tokenizer.name}` shows more"
            )
        tokens: np.ndarray = whole.transpose(1, 2).numpy()
        if not tokenizer.space.continuous:
            return tokens.astype(np.uint16)
        with np.errstate(over="ignore"):
            latents = tokens.astype(np.float16)
        if not np.array_equal(latents, tokens):
            raise PluginError(
                f"tokenizer {tokenizer.name!r} gives latents that float16, in which the store keeps them, cannot hold; "
                f"`accomp check-plugin tokenizer {tokenizer.name}` shows more"
            )
        return latents


def _mean(stems: np.ndarray, rows: Sequence[int], out: np.ndarray) -> None:
    """Average some rows [N], bit-identical to np.mean, without its copy."""
    out[:] = stems[rows[0]]
    for row in rows[1:]:
        out += stems[row]
    out /= len(rows)


@contextmanager
def _one_core_each() -> Iterator[None]:
    """Limit threads that start within the block to one core each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
