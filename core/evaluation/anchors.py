"""Anchors: clip sets that are scored beside a model's takes, for comparison.

true_stem       the recorded stem random_pairing  another song's sounding stem of the same instrument class codec
the true stem, encoded and decoded: the upper bound of the codec
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from attrs import frozen

from accomp.core.compute.devices import device_of
from accomp.core.data.excerpts import Excerpt, Failure, choose, partner
from accomp.core.data.stored_songs import TRAIN
from accomp.core.evaluation.clip_sets import ClipSet, CodecClip, SongClip
from accomp.core.interfaces import Tokenizer, decoder_fingerprint_of
from accomp.core.registry import Registry
from accomp.core.spec.build import build_corpus, build_tokenizer
from accomp.core.spec.schema import Spec
from accomp.core.types import Track

ANCHORS = {"true_stem": "true stem", "random_pairing": "random pairing", "codec": "true stem through the codec"}
"""Anchor -> its title."""
NO_PARTNER = "no partner: no other held-out song has a sounding stem of this instrument class"


def anchor_cells(spec: Spec, registry: Registry, folder: Path) -> list[ClipSet]:
    """Build the anchors of [evaluate], each over the takes' clips and further ones from all splits but the training
    split.

    `folder` is where generated audio is kept.
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
    cells = [ClipSet("true_stem", ANCHORS["true_stem"], true, tuple(failures))]
    if "random_pairing" in spec.evaluate.cells:
        cells.append(_random_pairing(spec, true, everything, failures))
    if "codec" in spec.evaluate.cells:
        tokenizer = build_tokenizer(spec, registry).to(device_of(spec.run.accelerator))
        through = _Codec(tokenizer, device_of(spec.run.accelerator))
        decoded = (CodecClip(clip, through, decoder_fingerprint_of(tokenizer), folder) for clip in true)
        cells.append(ClipSet("codec", ANCHORS["codec"], tuple(decoded), tuple(failures)))
    return [cell for cell in cells if cell.name in spec.evaluate.cells]


def _random_pairing(
    spec: Spec, true: Sequence[SongClip], tracks: Sequence[Track], failures: Sequence[Failure]
) -> ClipSet:
    """Pair each clip with a stem of another song."""
    pairs, lonely = [], []
    for clip in true:
        other = partner(clip.context, tracks, spec.seed, spec.pairs)
        if other is None:
            lonely.append(Failure(clip.id, NO_PARTNER))
        else:
            pairs.append(SongClip(clip.id, clip.context, other))
    return ClipSet("random_pairing", ANCHORS["random_pairing"], tuple(pairs), (*failures, *lonely))


@frozen
class _Codec:
    """A function that encodes and decodes a sound [N]."""

    tokenizer: Tokenizer
    device: torch.device

    @torch.inference_mode()
    def __call__(self, sound: np.ndarray) -> np.ndarray:
        padded = F.pad(torch.from_numpy(sound)[None].to(self.device), (0, self.tokenizer.space.delay))
        return self.tokenizer.decode(self.tokenizer.encode(padded))[0, : len(sound)].float().cpu().numpy()


def _takes_first(lists: Sequence[list[tuple[str, Excerpt]]], takes: int) -> list[tuple[str, Excerpt]]:
    """Interleave lists: the first `takes` of the first list, then one of each list in turn."""
    turns = zip_longest(lists[0][takes:], *lists[1:])
    return lists[0][:takes] + [one for turn in turns for one in turn if one is not None]
