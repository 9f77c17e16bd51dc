"""Ingest: tokenization of a corpus, stems and mixtures, into the store.

Mixtures are encoded here and not while training, since a codec is not linear: the tokens of a mixture do not follow
from those of its stems, and training would have to read, mix and encode audio for each clip of each step. A full-size
codec takes 44 GFLOP a second of audio, more than a training step itself; a frame-rate codec 4 ms, still some 3 s for 64
clips of 10 s, and either way training would need the corpus at hand. A few mixtures a target cost a few times the disk
space of the stems, kilobytes a minute, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs
import torch

from accomp.core.console import progress, say
from accomp.core.data.ingest.encode import PartEncoder
from accomp.core.data.ingest.summary import IngestSummary, Padded, Skipped
from accomp.core.data.ingest.tokenize_song import SongTokenizer, SongTokens
from accomp.core.data.stored_records import is_stored, misfits, open_writer, record_of, relabel
from accomp.core.engines import Outcome, Task, check_engine, run_tasks
from accomp.core.errors import DataError, WorkError
from accomp.core.interfaces import Corpus
from accomp.core.music.instruments import CLASSES
from accomp.core.registry import Registry
from accomp.core.spec.pairs import PairRules
from accomp.core.spec.runner import RunnerSpec
from accomp.core.spec.schema import Spec
from accomp.core.types import Track
from accomp.zarr_store.layout import SkipRecord, TrackRecord
from accomp.zarr_store.writer import StoreWriter


def ingest(spec: Spec, registry: Registry) -> IngestSummary:
    """Fill the spec's store from its corpus and return a summary. Stored songs are not tokenized again.

    Raises DataError for an unreadable corpus and for a store of another tokenizer or other settings, UserError for an
    unavailable engine, WorkError where songs failed on their workers.
    """
    from accomp.core.spec.build import (
        build_corpus,  # imports for seconds, and readers of the store do not need it
    )

    corpus = build_corpus(spec, registry)
    encode = encoder_of(spec, registry)
    store = spec.store
    summary = ingest_corpus(
        corpus,
        encode,
        store.path,
        submixes=store.submixes,
        seed=store.seed,
        rules=spec.pairs,
        runner=spec.runner,
        build=partial(encoder_of, spec),
    )
    say(str(summary))
    return summary


def encoder_of(spec: Spec, registry: Registry | None = None) -> PartEncoder:
    """Build the encoder of a spec, on this machine's device, with as many threads as this process has."""
    from accomp.core.compute.devices import device_of
    from accomp.core.spec.build import build_tokenizer

    device = device_of(spec.run.accelerator)
    tokenizer = build_tokenizer(spec, registry or Registry()).to(device)
    cores = spec.run.threads or torch.get_num_threads()
    return PartEncoder(tokenizer, device, workers=cores if device.type == "cpu" else 1)


def ingest_corpus(
    corpus: Corpus,
    encode: PartEncoder,
    store: str | Path,
    *,
    submixes: int = 2,
    seed: int = 0,
    rules: PairRules | None = None,
    runner: RunnerSpec | None = None,
    build: Callable[[], PartEncoder] | None = None,
) -> IngestSummary:
    """Ingest parts that are already built. `rules`: of pairs; the defaults of [pairs] where not given.

    Songs are tokenized here, or by the workers of `runner`; `build`, required for these, gives each of them an encoder
    like `encode` and can be pickled. Only this process writes.

    A killed ingest is resumable. The same corpus, tokenizer and settings give the same bytes, for any number of
    workers. A song whose audio has changed is tokenized again; one whose labels alone have changed is relabelled;
    skipped songs are tried again each time.
    """
    tokenizer, rules = encode.tokenizer, rules or PairRules()
    space = tokenizer.space
    if not space.continuous and not 1 <= space.codebook_size <= 2**16:
        raise DataError(f"the store keeps codes of at most 16 bits; tokenizer {tokenizer.name!r} has {space}")
    tracks = _all_tracks(corpus)
    settings = {"submixes": submixes, "seed": seed, **rules.ingested()}
    if runner and (runner.engine == "local" and (runner.workers or 1) == 1):
        runner = None
    if runner:
        assert build is not None, "workers build their own"
        check_engine(runner.engine)
    make = SongTokenizer(
        build if runner and build else lambda: encode,
        submixes=submixes,
        seed=seed,
        rules=rules,
        fingerprint=tokenizer.fingerprint,
    )
    failed: list[str] = []
    with open_writer(store, tokenizer, settings) as writer:
        todo: list[tuple[str, Track]] = []
        present: list[tuple[str, Track]] = []
        for split, track in tracks:
            (present if is_stored(writer, split, track) else todo).append((split, track))
        relabelled = sum(relabel(writer, split, track, space.sample_rate) for split, track in present)
        if todo:
            writer.begin()
        replaced = sum((split, track.id) in writer.records for split, track in todo)
        rates: set[int] = set()
        with progress("ingest", len(tracks)) as advance, _tokenized(todo, make, runner, failed) as songs:
            if present:
                advance(len(present), note="already there")
            for split, track, song in songs:
                if isinstance(song, str):
                    writer.skip(SkipRecord(track.id, split, song))
                elif song is not None:
                    _announce_rates(song, space.sample_rate, rates)
                    writer.add(record_of(split, track, song, space), song.codes, song.levels)
                advance(1, note=f"{split}/{track.id}")
        if failed:
            raise WorkError("\n".join((*failed, f"{len(failed)} songs failed; the others are in the store, and the "
                                                "same command goes on with these")))  # fmt: skip
        writer.finish()
        summary = _summary(store, tracks, writer, done=todo, replaced=replaced, rate=space.sample_rate)
    problems, notes = (tuple(getattr(corpus, what, ())) for what in ("problems", "notes"))
    problems += misfits(tracks, writer, space.sample_rate)
    return attrs.evolve(summary, relabelled=relabelled, problems=problems, notes=notes)


@contextmanager
def _tokenized(
    todo: Sequence[tuple[str, Track]], make: SongTokenizer, runner: RunnerSpec | None, failed: list[str]
) -> Iterator[Iterator[tuple[str, Track, SongTokens | str | None]]]:
    """Yield each song with its tokens, or the reason why it has none, as they finish here or on the workers of
    `runner`.

    A failed task yields None and a line in `failed`. Raises UserError where a worker reports invalid input.
    """
    if runner is None or not todo:
        yield _tokenized_here(todo, make)
        return

    def songs(outcomes: Iterator[Outcome]) -> Iterator[tuple[str, Track, SongTokens | str | None]]:
        for outcome in outcomes:
            if outcome.error:
                raise outcome.error
            if outcome.failure:
                failed.append(f"{outcome.task.name}: {outcome.failure}")
            yield *outcome.task.argument, outcome.value

    tasks = (Task(f"{split}/{track.id}", (split, track)) for split, track in todo)
    with run_tasks(runner, tasks, make) as outcomes:
        yield songs(outcomes)


def _tokenized_here(
    todo: Sequence[tuple[str, Track]], make: SongTokenizer
) -> Iterator[tuple[str, Track, SongTokens | str | None]]:
    """Tokenize songs here; the next song is read while one is encoded."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = [pool.submit(make.load, track) for _, track in todo[:1]]
        for number, (split, track) in enumerate(todo):
            song = waiting.pop().result()
            waiting = [pool.submit(make.load, track) for _, track in todo[number + 1 : number + 2]]
            yield split, track, song if isinstance(song, str) else make.encode(track, song)
            del song


def _all_tracks(corpus: Corpus) -> list[tuple[str, Track]]:
    tracks = [(split, track) for split in corpus.splits for track in corpus.tracks(split)]
    seen: set[tuple[str, str]] = set()
    for split, track in tracks:
        if (split, track.id) in seen:
            raise DataError(f"two songs of split {split!r} are called {track.id!r}; each needs its own name")
        seen.add((split, track.id))
    return tracks


def _announce_rates(song: SongTokens, rate: int, announced: set[int]) -> None:
    for native in sorted({source.rate for source in song.sources if not source.skipped} - announced - {rate}):
        announced.add(native)
        less = f"; the songs hold nothing above {native // 2} Hz" if native < rate else ""
        say(f"resampling from {native} Hz to the tokenizer's {rate} Hz (soxr, best quality){less}")


def _summary(
    store: str | Path, tracks: Sequence[tuple[str, Track]], writer: StoreWriter, *, done: Sequence[tuple[str, Track]],
    replaced: int, rate: int,
) -> IngestSummary:  # fmt: skip
    names = [(split, track.id) for split, track in tracks]
    records = [writer.records[name] for name in names if name in writer.records]
    skipped = [Skipped(*name, "", writer.skipped[name]) for name in names if name in writer.skipped]
    skipped += [Skipped(r.split, r.id, file.name, file.skipped) for r in records for file in r.skipped]
    padded = [Padded(r.split, r.id, file.name, file.padded / rate) for r in records for file in r.files if file.padded]
    return IngestSummary(
        store=store,
        tracks={split: sum(r.split == split for r in records) for split, _ in tracks},
        seconds=sum(r.samples for r in records) / rate,
        parts=sum(len(r.parts) for r in records),
        pairs=sum(len(r.pairs) for r in records),
        context_only=dict(Counter(CLASSES[number] for r in records for number in _never_targets(r))),
        added=sum((split, track.id) in writer.records for split, track in done) - replaced,
        replaced=replaced,
        others=len(writer.records) - len(records),
        annotated={what: sum(what in r.annotations for r in records) for what in ("beats", "bar", "chords")},
        skipped=tuple(skipped),
        padded=tuple(padded),
    )


def _never_targets(record: TrackRecord) -> list[int]:
    """List the instrument classes of stems that are the target of no pair."""
    targets = {pair.target for pair in record.pairs}
    return [int(part.instrument or 0) for row, part in enumerate(record.stems) if row not in targets]
