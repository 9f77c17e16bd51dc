"""Anchors: what is judged beside a model's takes, to say what a number means.

true_stem       what the musicians played
random_pairing  another song's sounding stem of the same instrument class
codec           the true stem, encoded and decoded: the best that the codec lets a model do
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from attrs import frozen

from accomp.core.build import build_corpus, build_tokenizer
from accomp.core.interfaces import Tokenizer, decoder_fingerprint_of
from accomp.core.registry import Registry
from accomp.core.runner.cells import Cell, CodecClip, SongClip
from accomp.core.runner.computing import device_of
from accomp.core.runner.excerpts import Excerpt, Failure, choose, partner
from accomp.core.runner.train import TRAIN
from accomp.core.spec import Spec
from accomp.core.types import Track

ANCHORS = {"true_stem": "true stem", "random_pairing": "random pairing", "codec": "true stem through the codec"}
"""Name of each -> its title."""
NO_PARTNER = "no partner: no other held-out song has a sounding stem of this instrument class"


def anchor_cells(spec: Spec, registry: Registry, folder: Path) -> list[Cell]:
    """Those that [evaluate] names, each over the takes' clips and further ones from all splits but the one trained on.

    `folder` is where they keep what is made for them.
    """
    if not (set(spec.evaluate.cells) & set(ANCHORS)):
        return []
    corpus = build_corpus(spec, registry)
    home = spec.generate.split
    splits = [home, *(split for split in corpus.splits if split not in (home, TRAIN))]
    tracks = {split: list(corpus.tracks(split)) for split in splits}
    named: dict[str, list[tuple[str, Excerpt]]] = {}
    failures: list[Failure] = []
    for split in splits:
        found, failed = choose(tracks[split], spec.evaluate.anchors, spec.generate.seconds, spec.seed, spec.pairs)
        prefix = "" if split == home else f"{split}: "
        named[split] = [(f"{prefix}{excerpt.id}", excerpt) for excerpt in found]
        failures += [Failure(f"{prefix}{failure.clip}", failure.reason) for failure in failed]
    chosen = _takes_first(list(named.values()), spec.generate.takes)[: spec.evaluate.anchors]
    everything = list(chain.from_iterable(tracks.values()))
    true = tuple(SongClip(id, excerpt, excerpt) for id, excerpt in chosen)
    cells = [Cell("true_stem", ANCHORS["true_stem"], true, tuple(failures))]
    if "random_pairing" in spec.evaluate.cells:
        cells.append(_random_pairing(spec, true, everything, failures))
    if "codec" in spec.evaluate.cells:
        tokenizer = build_tokenizer(spec, registry).to(device_of(spec.run.accelerator))
        through = _Codec(tokenizer, device_of(spec.run.accelerator))
        heard = (CodecClip(clip, through, decoder_fingerprint_of(tokenizer), folder) for clip in true)
        cells.append(Cell("codec", ANCHORS["codec"], tuple(heard), tuple(failures)))
    return [cell for cell in cells if cell.name in spec.evaluate.cells]


def _random_pairing(spec: Spec, true: Sequence[SongClip], tracks: Sequence[Track], failures: Sequence[Failure]) -> Cell:
    """A clip is never paired with its own song."""
    pairs, lonely = [], []
    for clip in true:
        other = partner(clip.context, tracks, spec.seed, spec.pairs)
        if other is None:
            lonely.append(Failure(clip.id, NO_PARTNER))
        else:
            pairs.append(SongClip(clip.id, clip.context, other))
    return Cell("random_pairing", ANCHORS["random_pairing"], tuple(pairs), (*failures, *lonely))


@frozen
class _Codec:
    """A sound [N] through the codec's ears and out of its mouth."""

    tokenizer: Tokenizer
    device: torch.device

    @torch.inference_mode()
    def __call__(self, sound: np.ndarray) -> np.ndarray:
        heard = F.pad(torch.from_numpy(sound)[None].to(self.device), (0, self.tokenizer.space.delay))
        return self.tokenizer.decode(self.tokenizer.encode(heard))[0, : len(sound)].float().cpu().numpy()


def _takes_first(lists: Sequence[list[tuple[str, Excerpt]]], takes: int) -> list[tuple[str, Excerpt]]:
    """The first `takes` of the first list, then one of each list in turn."""
    turns = zip_longest(lists[0][takes:], *lists[1:])
    return lists[0][:takes] + [one for turn in turns for one in turn if one is not None]
