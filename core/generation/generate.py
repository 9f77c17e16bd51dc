"""Takes of held-out songs, one folder each: streamed frame by frame, or clip by clip for models without a clock."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from accomp.core.audio import io as audio
from accomp.core.audio.loudness import mix_for_listening, within_full_scale
from accomp.core.compute.devices import PLAYING_THREADS, describe, device_of, number_of, threads
from accomp.core.console import progress, say, warn
from accomp.core.data.excerpts import Excerpt, Failure, choose, keyed
from accomp.core.errors import DataError, UserError
from accomp.core.files import folder_atomic, hash_file, write_atomic
from accomp.core.generation.followers import followed, set_chord_forecast
from accomp.core.generation.latency import as_records, budget_of, part_times, step_times
from accomp.core.generation.take_files import TAKE, changed_in, files_in, read_take
from accomp.core.interfaces import decoder_fingerprint_of
from accomp.core.model.conditions import class_numbers, labels_of
from accomp.core.music.annotations import Annotations
from accomp.core.music.instruments import CLASSES
from accomp.core.music.timelines import Source, sources
from accomp.core.registry import Registry
from accomp.core.runs.player import Player, load_player
from accomp.core.runs.run import Played, codes_of, perform, play
from accomp.core.spec.build import build_corpus
from accomp.core.spec.runtime import Runtime
from accomp.core.spec.schema import Spec, resolve
from accomp.core.streaming.followed_timeline import FollowedTimeline
from accomp.core.training.validation import other_songs
from accomp.core.trouble import raise_trouble

RECORD = "takes.json"
NO_OTHER_SONG = "no other song whose context could be the input: all takes are of one"
TOLERANCE = 1e-4
"""Tolerance of the audio between different block sizes of the input; codes must be equal."""


def generate(spec: Spec, registry: Registry, run: Path) -> None:
    """Make the takes of [generate] with the run's trained model, and takes.json, which lists them.

    An existing take is kept if it was made of the same audio with the same weights and settings. A clip that fails is
    recorded by name, with the reason, and the others go on. Raises CheckpointError for an untrained run, DataError for
    a corpus that cannot be read or gives no take at all.
    """
    with threads(spec.run.threads or PLAYING_THREADS):
        device = device_of(spec.run.accelerator)
        player = load_player(run, registry, device, sampler=spec.sampler, guidance=spec.guidance, runtime=spec.runtime)
        tracks = list(build_corpus(spec, registry).tracks(spec.generate.split))
        excerpts, failures = choose(tracks, spec.generate.takes, spec.generate.seconds, spec.seed, spec.pairs)
        inputs = _inputs(excerpts, spec)
        others = _others(excerpts) if spec.generate.deaf else [None] * len(excerpts)
        following = followed(player, registry, spec.generate.timelines_from)
        (run / RECORD).unlink(missing_ok=True)  # it exists only while all takes do
        takes = []
        with progress("generate", len(excerpts)) as advance:
            for excerpt, source, other in zip(excerpts, inputs, others, strict=True):
                try:
                    if source is None:
                        raise DataError(NO_OTHER_SONG)
                    takes.append(_take(excerpt, source, spec, player, run, following, other))
                except (UserError, ValueError) as error:
                    raise_trouble(error)
                    failures.append(Failure(excerpt.id, str(error)))
                    warn(f"no take of {excerpt.id}: {error}")
                advance(1, note=excerpt.id)
    if not takes:
        problems = (f"{failure.clip}: {failure.reason}" for failure in failures)
        raise DataError(f"no take could be made of split {spec.generate.split!r}", *problems)
    _write_record(run, spec, player, takes, failures)


def settings(spec: Spec) -> dict[str, Any]:
    """Settings of a spec that determine the takes, given a model."""
    resolved = resolve(spec)
    chosen = {name: resolved[name] for name in ("generate", "sampler", "guidance", "seed")}
    return {**chosen, "precision": spec.runtime.precision}


def settings_of(made: dict[str, Any]) -> dict[str, Any]:
    """The `settings` in takes.json, completed by defaults of options newer than the takes."""
    defaults: dict[str, Any] = {"guidance": {}, "precision": Runtime().precision, **made["settings"]}
    newer = {"input": "paired", "prompt": 0, "deaf": False, "metronome": "annotations", "chart": "annotations"}
    return {**defaults, "generate": {**newer, **defaults["generate"]}}


def _inputs(excerpts: Sequence[Excerpt], spec: Spec) -> list[Excerpt | None]:
    """For each excerpt the one whose context is the model's input; None if another song's is required and missing."""
    return list(excerpts) if spec.generate.input == "paired" else _others(excerpts)


def _others(excerpts: Sequence[Excerpt]) -> list[Excerpt | None]:
    """For each excerpt one of another song; None if there is none."""
    others = other_songs([excerpt.track.id for excerpt in excerpts])
    return [None if other is None else excerpts[other] for other in others]


def _take(
    excerpt: Excerpt,
    heard: Excerpt,
    spec: Spec,
    player: Player,
    run: Path,
    following: Mapping[str, FollowedTimeline],
    other: Excerpt | None = None,
) -> dict[str, Any]:
    """Return the record of an excerpt's take: the existing one if it is current, else that of a new one.

    The input is the context of `heard`, the excerpt itself unless its input is random; timelines are the known ones and
    those of `following`. With `other` a second, deaf take is made with that one's context as input.
    """
    space = player.tokenizer.space
    context, truth = excerpt.context_audio(space.sample_rate), excerpt.stem_audio(space.sample_rate)
    sound = context if heard is excerpt else heard.context_audio(space.sample_rate)
    labels = class_numbers(labels_of(excerpt.track, excerpt.target), player.model.conditions.labels)
    annotations = _annotations(excerpt, spec)
    known = annotations.table() if player.model.timelines else {}
    made_from = _inputs_record(spec, player, context, truth, labels)
    if known:
        made_from["told"] = {"start": excerpt.start, **known}
    if following:
        made_from["followed"] = {name: source.follower.fingerprint for name, source in following.items()}
    if heard is not excerpt:
        made_from["heard"] = hashlib.sha256(sound.tobytes()).hexdigest()
    elsewhere = None if other is None else other.context_audio(space.sample_rate)
    if elsewhere is not None:
        made_from["deaf"] = hashlib.sha256(elsewhere.tobytes()).hexdigest()
    folder = run / "takes" / excerpt.id
    if record := _current(folder, made_from):
        return record

    frames = spec.generate.prompt
    prompt = codes_of(player.tokenizer, truth, player.device)[:, :frames] if frames else None
    set_chord_forecast(following, annotations.later(-excerpt.start).beats)
    told: dict[str, Source] = {
        **sources(player.model.timelines, annotations, space.frame_rate, excerpt.start),
        **following,
    }
    seed, session = spec.seed, number_of(excerpt.id)
    options: dict[str, Any] = {"labels": labels, "seed": seed, "session": session, "prompt": prompt, "told": told}
    played, same = _play_checked(excerpt, sound, options, player)
    stem, gain = within_full_scale(played.audio)
    record = {
        "id": excerpt.id,
        "track": excerpt.track.id,
        "source": excerpt.track.source,
        "licence": excerpt.track.licence,
        "stem": excerpt.target,
        "instrument": excerpt.instrument,
        "instrument_name": CLASSES[excerpt.instrument],
        "context_stems": list(excerpt.context),
        "start": excerpt.start,
        "seconds": excerpt.seconds,
        "input": spec.generate.input,
        "deaf": None if other is None else {"track": other.track.id, "start": other.start},
        "heard": {"track": heard.track.id, "stems": list(heard.context), "start": heard.start},
        "told": sorted(told),
        "followed": {name: source.summary().since for name, source in following.items()},
        "prompt_frames": spec.generate.prompt,
        "prompt_seconds": spec.generate.prompt / space.frame_rate,
        "sample_rate": space.sample_rate,
        "gain": gain,
        "streamed_equals_offline": same,
        "checkpoint": {"step": player.step, "weights": player.weights},
        "made_from": made_from,
        "timings": _timings(played, player, len(context) / space.sample_rate),
    }
    with folder_atomic(folder) as work:
        sounds = {"context": context, "stem": stem, "true": truth}
        if heard is not excerpt:
            sounds["heard"] = sound
        if elsewhere is not None:
            sounds["deaf"] = _deaf(elsewhere, len(context), options, player)
        sounds["mix"] = mix_for_listening(context, stem, space.sample_rate, stems=len(excerpt.context))
        for name, sound in sounds.items():
            audio.write(work / f"{name}.wav", sound, space.sample_rate)
        record["files"] = files_in(work)
        write_atomic(work / TAKE, json.dumps(record) + "\n")
    return record


def _deaf(elsewhere: np.ndarray, samples: int, options: dict[str, Any], player: Player) -> np.ndarray:
    """Stem that the model plays with another input, `elsewhere`, of the same length."""
    sound = np.zeros(samples, dtype=np.float32)
    sound[: len(elsewhere)] = elsewhere[:samples]
    return within_full_scale(perform(player, sound, **options).audio)[0]


def _annotations(excerpt: Excerpt, spec: Spec) -> Annotations:
    """Annotations of the song that are given to the model."""
    known, told_by = excerpt.track.annotations, spec.generate.timelines_from
    return Annotations(
        beats=known.beats if told_by["metronome"] == "annotations" else None,
        chords=known.chords if told_by["chart"] == "annotations" else (),
        by=known.by,
    )


def _play_checked(
    excerpt: Excerpt, sound: np.ndarray, options: dict[str, Any], player: Player
) -> tuple[Played, bool | None]:
    """Play to `sound`; for a model with a clock also check that block sizes of the input do not matter.

    options: the keyword arguments of `perform`.
    """
    if not player.clocked:
        return perform(player, sound, **options), None
    hop = player.tokenizer.space.hop
    live = play(player, sound, repeat(hop), **options)
    again = play(player, sound, _odd_pieces(len(sound), hop, keyed(options["seed"], "pieces", excerpt.id)), **options)
    return live, _same(live, again)


def _inputs_record(
    spec: Spec, player: Player, context: np.ndarray, truth: np.ndarray, labels: dict[str, int]
) -> dict[str, Any]:
    """All inputs of a take, as a record."""
    return {
        "weights": player.weights,
        "tokenizer": decoder_fingerprint_of(player.tokenizer),
        "window": player.window,
        "sampler": resolve(spec)["sampler"],
        "guidance": resolve(spec)["guidance"],
        "labels": labels,
        "seed": spec.seed,
        "prompt": spec.generate.prompt,
        "precision": spec.runtime.precision,
        "sound": hashlib.sha256(context.tobytes() + truth.tobytes()).hexdigest(),
    }


def _current(folder: Path, made_from: dict[str, Any]) -> dict[str, Any] | None:
    """Record of the take in a folder, if it was made from the same inputs and its files are unchanged.

    Defaults for takes of earlier versions: no guidance, the instrument as the only label, no prompt, float32.
    """
    record = read_take(folder)
    earlier = {"guidance": {}, "labels": made_from["labels"], "prompt": 0, "precision": Runtime().precision}
    if record is None or {**earlier, **record.get("made_from", {})} != made_from:
        return None
    if changed := changed_in(folder, record):
        warn(f"take {folder.name} is regenerated: {', '.join(changed)}")
        return None
    return record


def _odd_pieces(samples: int, hop: int, rng: np.random.Generator) -> Iterator[int]:
    """Blocks of random size, zero to four frames, for the first half of the clip; then the rest at once."""
    given = 0
    while given < samples // 2:
        size = int(rng.integers(0, 4 * hop + 1))
        given += size
        yield size


def _same(live: Played, again: Played) -> bool:
    equal = np.array_equal(live.codes, again.codes)
    return equal and bool(np.abs(live.audio - again.audio).max(initial=0.0) <= TOLERANCE)


def _timings(played: Played, player: Player, seconds: float) -> dict[str, Any]:
    """Times by step of k frames for a model that streams; for others of the whole clip."""
    times: dict[str, Any] = {
        "device": describe(player.device),
        "frame_ms": 1000 / player.tokenizer.space.frame_rate,
        "total_ms": 1000 * sum(played.whole),
        "real_time_factor": sum(played.whole) / seconds,
    }
    if (clock := player.model.clock) is not None:
        steps = 1000 * step_times(played, clock)
        times |= {
            "step_ms": steps.round(3).tolist(),
            "median_ms": float(np.median(steps)),
            "p99_ms": float(np.quantile(steps, 0.99)),
            "max_ms": float(steps.max()),
            "start_ms": 1000 * played.start,
            "parts": part_times(played, clock),
        }
    return times


def _write_record(
    run: Path, spec: Spec, player: Player, takes: Sequence[dict[str, Any]], failures: Sequence[Failure]
) -> None:
    clock, space = player.model.clock, player.tokenizer.space
    record: dict[str, Any] = {
        "settings": settings(spec),
        "prompt_frames": spec.generate.prompt,
        "takes": [take["id"] for take in takes],
        "sha256": {take["id"]: hash_file(run / "takes" / take["id"] / TAKE) for take in takes},
        "failed": [{"clip": failure.clip, "reason": failure.reason} for failure in failures],
        "checkpoint": {"step": player.step, "weights": player.weights},
        "tokenizer": f"{player.tokenizer.name} {player.tokenizer.fingerprint}",
        "sample_rate": space.sample_rate,
    }
    streamed = "no streaming model"
    if clock is not None:
        budget = budget_of(clock, space, [take["timings"]["parts"] for take in takes])
        record["budget"] = {"items": as_records(budget), "verdict": budget.verdict()}
        streamed = f"streamed equals offline in {sum(take['streamed_equals_offline'] for take in takes)}"
    write_atomic(run / RECORD, json.dumps(record, indent=1) + "\n")
    slowest = max(take["timings"]["real_time_factor"] for take in takes)
    say(
        f"{len(takes)} of {spec.generate.takes} takes with the model of step {player.step}; {len(failures)} clips "
        f"failed; {streamed}; real-time factor at most {slowest:.2f}"
    )
