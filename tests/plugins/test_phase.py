"""Phase rules: sound from magnitudes alone, the same however it comes in pieces, and what must hold of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from accomp.plugins.tokenizers.phase import phase_rule

RATE, WINDOW, HOP = 32_000, 1280, 160
DELAY = WINDOW - HOP


def hann(window: int) -> np.ndarray:
    return np.sin(np.pi * np.arange(window) / window) ** 2


def magnitudes(x: np.ndarray, window: int = WINDOW, hop: int = HOP) -> torch.Tensor:
    """x [N] or [B, N] -> exact magnitudes [B, N / hop, bins] float32 of windows that end at samples hop * (n + 1)."""
    x = np.atleast_2d(x)
    x = np.concatenate([np.zeros((len(x), window - hop)), x], axis=1)
    frames = np.stack([x[:, at : at + window] for at in range(0, x.shape[1] - window + 1, hop)], axis=1)
    return torch.from_numpy(np.abs(np.fft.rfft(frames * hann(window))) / (window / 4)).float()


def sound(rule, x: np.ndarray) -> np.ndarray:
    """x [N] through magnitudes and back, in place [N]."""
    state = rule.begin(1)
    said = magnitudes(x, rule.framing.window, rule.framing.hop)
    return torch.cat([rule(said, state), rule.flush(state)], dim=1)[0, rule.delay :].numpy()


def music(rows: int, seconds: float = 0.4) -> np.ndarray:
    """Decaying chords over noise, with a silence [B, N]."""
    rng = np.random.default_rng(rows)
    t = np.arange(round(seconds * RATE / HOP) * HOP) / RATE
    tones = np.sin(2 * np.pi * 110 * 2 ** (rng.integers(0, 36, (rows, 3, 1)) / 12) * t).sum(1)
    x = 0.2 * tones * np.exp(-(t * 6 % 1) * 5) + 0.01 * rng.standard_normal((rows, len(t)))
    x[:, len(t) // 2 : len(t) // 2 + 3000] = 0
    return x


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 80), max_size=8), rows=st.integers(1, 3))
def test_streamed_is_whole(cuts, rows):
    rule, said = phase_rule("heap"), magnitudes(music(rows))
    whole, state = rule.begin(rows), rule.begin(rows)
    expected = torch.cat([rule(said, whole), rule.flush(whole)], dim=1)
    edges = [0, *sorted(cuts), said.shape[1]]
    heard = [rule(said[:, a:b], state) for a, b in itertools.pairwise(edges)]
    assert torch.equal(torch.cat([*heard, rule.flush(state)], dim=1), expected)
    assert torch.equal(state, rule.begin(rows))
