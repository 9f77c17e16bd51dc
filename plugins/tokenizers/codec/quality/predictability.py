"""Predictability of a codec's codes: held-out loss of a small model that is trained on them.

One predictor for all codecs, so that they compare: two causal Transformer layers of width 128, 4 heads, a context of
4 s; a fixed number of steps from a fixed seed. Frame t depends on the codes of all levels of earlier frames, and each
level on the lower levels of its frame:

    h_t = Transformer(sum_q E_q[code_q(t - 1)], ...)      logits of level q = W_q (h_t + sum_{r < q} F_r[code_r(t)])
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from accomp.plugin import Advance, Corpus, DataError, Tokenizer, TokenSpace
from accomp.plugins.tokenizers.codec.quality.excerpts import Sound, mix_of
from accomp.plugins.tokenizers.codec.quality.intervals import Figure, figure, ratio

WIDTH, HEADS, LAYERS = 128, 4, 2
CONTEXT = 4.0
"""Seconds."""
BATCH, STEPS, WARM_UP, RATE = 16, 500, 50, 1e-3
PIECE = 30.0
"""Seconds of music that are encoded at once."""
_SEED = 0


class Predictor(nn.Module):
    """Codes [B, K, T] -> logits of each, from those before it: of earlier frames, and of lower levels of its own."""

    def __init__(self, levels: int, size: int, frames: int):
        """`frames`: largest T."""
        super().__init__()
        self.past = nn.ModuleList(nn.Embedding(size, WIDTH) for _ in range(levels))
        self.same = nn.ModuleList(nn.Embedding(size, WIDTH) for _ in range(levels - 1))
        self.first = nn.Parameter(torch.zeros(WIDTH))
        self.position = nn.Parameter(0.02 * torch.randn(frames, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, size) for _ in range(levels))

    def forward(self, codes: Tensor) -> list[Tensor]:
        """codes [B, K, T] -> K logits [B, T, C]."""
        batch, levels, frames = codes.shape
        past = torch.stack([table(codes[:, q, :-1]) for q, table in enumerate(self.past)]).sum(0) / math.sqrt(levels)
        seen = torch.cat([self.first.expand(batch, 1, WIDTH), past], dim=1) + self.position[:frames]
        mask = nn.Transformer.generate_square_subsequent_mask(frames, device=codes.device)
        h = self.layers(seen, mask=mask, is_causal=True)
        logits = [self.heads[0](h)]
        for q, table in enumerate(self.same):
            h = h + table(codes[:, q])
            logits.append(self.heads[q + 1](h))
        return logits

    def nats(self, codes: Tensor) -> Tensor:
        """codes [B, K, T] -> loss of each in nats [B, K, T]."""
        logits = self(codes)
        each = [F.cross_entropy(one.transpose(1, 2), codes[:, q], reduction="none") for q, one in enumerate(logits)]
        return torch.stack(each, dim=1)


@frozen(eq=False)
class Prediction:
    """A predictor trained on a codec's codes, for evaluation on held-out codes.

    Attributes:
        predictor: trained.
        frequencies: [K, C], shares of the codes in the training music, one added to every count.
        context: frames.
        seconds: of music that it was trained on.
        steps: of training.
    """

    predictor: Predictor
    frequencies: np.ndarray
    context: int
    seconds: float
    steps: int

    @torch.no_grad()
    def figures(self, codes: Sequence[np.ndarray]) -> dict[str, Figure]:
        """Codes [K, T] of each excerpt -> `predicted_q` and `frequency_q`, level by level, nats a code.

        The first: the predictor's loss over stretches of `context` frames. The second: the cross-entropy under the code
        frequencies of the training music, the loss without any context.
        """
        n, found = len(codes), {}
        frames = np.array([one.shape[1] for one in codes], dtype=np.float64)
        predicted = np.stack([self._nats(one) for one in codes])
        for q, shares in enumerate(self.frequencies, 1):
            alone = np.array([-np.log(shares[one[q - 1]]).sum() for one in codes])
            found[f"predicted_{q}"] = figure(ratio(predicted[:, q - 1], frames), n)
            found[f"frequency_{q}"] = figure(ratio(alone, frames), n)
        return found

    def _nats(self, codes: np.ndarray) -> np.ndarray:
        """codes [K, T] -> sums over T, [K]."""
        parts = torch.from_numpy(codes).long().split(self.context, dim=1)
        costs = [self.predictor.nats(part[None])[0].double().sum(dim=1) for part in parts]
        return torch.stack(costs).sum(0).numpy()


def learn(pieces: Sequence[np.ndarray], space: TokenSpace, advance: Advance, *, steps: int = STEPS) -> Prediction:
    """Train the predictor on codes [K, T] of pieces of music; `advance` is called at each step.

    AdamW, 1e-3 after a warm-up, then cosine decay to 0; batches of 16 stretches of 4 s (of the longest piece, if that
    is shorter), drawn uniformly over the frames of the pieces that are long enough. On the CPU, with generators of its
    own: the same codes give the same predictor on the same machine. Raises DataError without a piece of two frames.
    """
    context = min(max(2, round(CONTEXT * space.frame_rate)), max((one.shape[1] for one in pieces), default=0))
    long = [torch.from_numpy(one).long() for one in pieces if one.shape[1] >= max(2, context)]
    if not long:
        raise DataError("no music to train the predictor on; expected a piece of two frames or more")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        predictor = Predictor(space.codebooks, space.codebook_size, context)
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, steps))
    for batch in _batches(long, context, steps):
        loss = predictor.nats(batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        advance(1, note=f"{float(loss.detach()):.2f} nats a code")
    seconds = sum(one.shape[1] for one in long) / space.frame_rate
    return Prediction(predictor.eval(), frequencies(pieces, space), context, seconds, steps)


def frequencies(pieces: Sequence[np.ndarray], space: TokenSpace) -> np.ndarray:
    """Codes [K, T] of pieces -> shares [K, C], one added to every count."""
    size = space.codebook_size
    together = np.concatenate(pieces, axis=1)
    counts = np.stack([np.bincount(level, minlength=size) + 1 for level in together])
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def training_codes(
    corpus: Corpus, split: str, codec: Tokenizer, minutes: float, advance: Advance
) -> tuple[list[np.ndarray], list[str]]:
    """Codes [K, T] of mixes of a split, in pieces of 30 s at most, and a line for each song that could not be read.

    Of each song as much from its middle as makes `minutes` of all of them, or the whole of it; `advance` is called
    for each song. Raises DataError for a split that the corpus does not have.
    """
    tracks = list(corpus.tracks(split))
    found, failed = [], []
    for track in tracks:
        try:
            for piece in _pieces(mix_of(track), codec.space.sample_rate, 60 * minutes / len(tracks)):
                found.append(codec.encode(piece[None])[0].cpu().numpy())
        except DataError as error:
            failed += [f"{track.id}: {problem}" for problem in error.problems]
        advance(1, note=f"codes of {track.id}")
    return found, failed


def _pieces(mix: Sound, rate: int, seconds: float) -> Iterator[Tensor]:
    """`seconds` from the middle of a mix, in equal pieces of PIECE at most, each [N] at `rate` Hz."""
    length, _ = mix.lengths()
    seconds = min(seconds, length)
    begin = (length - seconds) / 2
    pieces = math.ceil(seconds / PIECE)
    for i in range(pieces):
        yield mix.read(rate, begin + i * seconds / pieces, seconds / pieces)


def _batches(pieces: Sequence[Tensor], context: int, steps: int) -> Iterator[Tensor]:
    """[BATCH, K, context] int64, `steps` times."""
    draw = torch.Generator().manual_seed(_SEED)
    starts = torch.tensor([one.shape[1] - context + 1 for one in pieces], dtype=torch.float64)
    for _ in range(steps):
        chosen = torch.multinomial(starts, BATCH, replacement=True, generator=draw)
        at = (torch.rand(BATCH, generator=draw, dtype=torch.float64) * starts[chosen]).long()
        yield torch.stack([pieces[i][:, a : a + context] for i, a in zip(chosen.tolist(), at.tolist(), strict=True)])


def _share(step: int, steps: int) -> float:
    """Of the learning rate."""
    warm = min(WARM_UP, max(1, steps // 10))
    return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / max(1, steps - warm))))
