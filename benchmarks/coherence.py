"""Discrimination of the metric `coherence` on held-out songs: AUC of true pairs against other pairs.

    python benchmarks/coherence.py ROOT [ROOT ...] [--pairs 100] [--weights FILE] [--cache FOLDER] [--json FILE]

Excerpts of 10 s are chosen as `accomp evaluate` chooses them, from the splits validation and test of corpora in
Slakh2100's layout: the context is the mean of all other stems. The stem's own score is compared with those of

    random     another song's stem of the same instrument class, as in the anchor of random pairing
    shifted    the same stem of the same song, 1 to 4 s earlier or later
    late       the same, 0.1 to 0.4 s earlier or later
    transposed the same stem 1 to 6 semitones higher or lower, both rendered from its MIDI (no drums; mini-slakh only)
    coded      random again, with both stems reconstructed by the tokenizer `magnitude`, like takes

as AUC, the probability that a true pair scores above another one, with 95 % intervals of a bootstrap over songs.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import evolve

from accomp.core.audio import io as audio
from accomp.core.data.excerpts import Excerpt, choose, keyed, partner
from accomp.core.evaluation.cache import Cache
from accomp.core.music.instruments import CLASSES
from accomp.core.registry import Registry
from accomp.core.spec.pairs import PairRules
from accomp.plugins.corpora.mini_slakh import midi, synth
from accomp.plugins.metrics.coherence.files import load, shipped
from accomp.plugins.metrics.coherence.hpss_mels import MODES, RECIPE, SAMPLE_RATE, features, masked, windows
from accomp.plugins.metrics.coherence.measure import auc, song_interval
from accomp.plugins.metrics.coherence.network import CoherenceNetwork

SECONDS = 10.0


def main() -> None:
    """Measure, print a table, write JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("roots", nargs="+", type=Path)
    options.add_argument("--pairs", type=int, default=100)
    options.add_argument("--weights", type=Path, default=shipped())
    options.add_argument("--cache", type=Path, help="where features are kept for another time")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    torch.set_num_threads(1)
    network, fingerprint = load(given.weights)
    ear = Ear(network, Cache(given.cache))
    corpus = Registry().find("corpus", "slakh2100").load()
    sources = [corpus(corpus.Config(str(root))) for root in given.roots]
    tracks = [track for source in sources for split in ("validation", "test") for track in source.tracks(split)]
    chosen, _ = choose(tracks, given.pairs, SECONDS, given.seed, PairRules())
    rows: list[dict[str, Any]] = []
    for number, excerpt in enumerate(chosen):
        rows += judged(excerpt, partner(excerpt, tracks, given.seed, PairRules()), ear, given.seed)
        print(f"{number + 1}/{len(chosen)} {excerpt.id}", flush=True)
    told = {"weights": fingerprint, "songs": len({row["song"] for row in rows}), **tables(rows)}
    print(f"weights {fingerprint}, {told['songs']} songs")
    for name, numbers in [*told["numbers"].items(), *told["classes"].items()]:
        interval = f"[{numbers['low']:.3f}, {numbers['high']:.3f}]"
        print(
            f"{name:24} AUC {numbers['auc']:.3f} {interval}, own first {numbers['own_first']:.2f}, {numbers['pairs']}"
        )
    if given.json:
        given.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


class Ear:
    """Embeds sounds in every mode, and reconstructs them by the codec."""

    def __init__(self, network: CoherenceNetwork, cache: Cache):
        codec = Registry().find("tokenizer", "magnitude").load()
        self.network, self.cache, self.codec = network, cache, codec(codec.Config())

    def embedded(self, sound: np.ndarray) -> list[torch.Tensor]:
        """A sound at SAMPLE_RATE -> embedded windows [W, T, D] for each mode."""
        heard = self.cache.array(
            f"features {RECIPE}", sound, lambda x: np.stack([features(part) for part in windows(x)])
        )
        with torch.inference_mode():
            return [self.network.embed(torch.from_numpy(masked(heard.copy(), mode))) for mode in MODES]

    def scores(self, context: list[torch.Tensor], stem: list[torch.Tensor]) -> list[float]:
        """Return the mean score of all windows for each mode."""
        with torch.inference_mode():
            return [self.network.pair(*pair).mean().item() for pair in zip(context, stem, strict=True)]

    def coded(self, excerpt: Excerpt) -> np.ndarray:
        """Encode and decode the stem of an excerpt; return it at SAMPLE_RATE."""
        rate = self.codec.space.sample_rate
        sound = torch.from_numpy(excerpt.stem_audio(rate))[None]
        with torch.inference_mode():
            decoded = self.codec.decode(self.codec.encode(sound))[0, : sound.shape[1]]
        return audio.resample(decoded.numpy(), rate, SAMPLE_RATE)


def judged(excerpt: Excerpt, other: Excerpt | None, ear: Ear, seed: int) -> list[dict[str, Any]]:
    """Return a row for each possible comparison with both scores in every mode."""
    own = ear.embedded(excerpt.stem_audio(SAMPLE_RATE))
    pairs = {
        "shifted": (own, moved(excerpt, 1.0, 4.0, seed)),
        "late": (own, moved(excerpt, 0.1, 0.4, seed)),
    }
    if other is not None:
        pairs["random"] = own, other.stem_audio(SAMPLE_RATE)
        pairs["coded"] = ear.embedded(ear.coded(excerpt)), ear.coded(other)
    if (both := transposed(excerpt, seed)) is not None:
        pairs["transposed"] = ear.embedded(both[0]), both[1]
    context = ear.embedded(excerpt.context_audio(SAMPLE_RATE))
    return [
        {
            "song": excerpt.track.id,
            "instrument": excerpt.instrument,
            "against": name,
            "scores": list(zip(ear.scores(context, true), ear.scores(context, ear.embedded(wrong)), strict=True)),
        }
        for name, (true, wrong) in pairs.items()
        if wrong is not None
    ]


def moved(excerpt: Excerpt, least: float, most: float, seed: int) -> np.ndarray | None:
    """Return the same stem shifted by `least` to `most` s; None if outside the song."""
    rng = keyed(seed, "moved", excerpt.id, least)
    samples, rate = audio.duration(excerpt.track.stems[excerpt.target].files)
    for sign in rng.permutation([-1, 1]):
        start = excerpt.start + float(sign) * float(rng.uniform(least, most))
        if 0 <= start <= samples / rate - SECONDS - 0.1:
            return Excerpt(excerpt.track, excerpt.target, (), start, SECONDS).stem_audio(SAMPLE_RATE)
    return None


def transposed(excerpt: Excerpt, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Render the stem from MIDI, original and transposed; None for drums and without MIDI."""
    stem = excerpt.track.stems[excerpt.target]
    file = stem.path.parent.parent / "MIDI" / f"{excerpt.target}.mid"
    if not file.is_file() or CLASSES[stem.instrument] == "Percussive":
        return None
    song = midi.read(file.read_bytes(), longest=math.inf)
    semitones = int(keyed(seed, "transposed", excerpt.id).choice([n for n in range(-6, 7) if n]))
    part, begin, end = song.parts[0], round(song.begin * synth.RATE), round((excerpt.start + SECONDS) * synth.RATE)
    sounds = []
    for by in (0, semitones):
        events = tuple(
            event._replace(message=event.message.copy(note=min(127, max(0, event.message.note + by))))
            if hasattr(event.message, "note")
            else event
            for event in part.events
        )
        sound = np.zeros(end + synth.RATE, dtype=np.float32)  # the fade-out at the end is cut
        sound[begin:] = synth.render(evolve(part, events=events), synth.carried_font(), len(sound) - begin)
        excerpted = sound[round(excerpt.start * synth.RATE) : end]
        sounds.append(audio.resample(excerpted, synth.RATE, SAMPLE_RATE))
    return sounds[0], sounds[1]


def tables(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the AUC by mode and comparison, and by instrument class for `random`."""
    numbers: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
    classes: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
    for row in rows:
        for mode, (true, wrong) in zip(MODES, row["scores"], strict=True):
            numbers[f"{row['against']}, {mode}"].append((row["song"], true, wrong))
        if row["against"] == "random":
            classes[CLASSES[row["instrument"]]].append((row["song"], *row["scores"][0]))
    return {
        "numbers": {name: measured(found) for name, found in sorted(numbers.items())},
        "classes": {name: measured(found) for name, found in sorted(classes.items())},
    }


def measured(found: list[tuple[str, float, float]]) -> dict[str, float]:
    """(song, true, wrong) of each pair -> AUC, interval, share of true scores above their own alternative, count."""
    songs = [song for song, _, _ in found]
    true, wrong = np.array([pair for _, *pair in found]).T
    low, high = song_interval(true, wrong, songs)
    first = float((true > wrong).mean())
    return {"auc": auc(true, wrong), "low": low, "high": high, "own_first": first, "pairs": len(found)}


if __name__ == "__main__":
    main()
