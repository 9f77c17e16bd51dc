"""One take of a held-out song: what the model plays to an excerpt, with its record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from accomp.core.audio import io as audio
from accomp.core.audio.loudness import mix_for_listening, within_full_scale
from accomp.core.compute.devices import describe, number_of
from accomp.core.console import warn
from accomp.core.data.excerpts import Excerpt
from accomp.core.files import folder_atomic, write_atomic
from accomp.core.generation.followers import set_chord_forecast
from accomp.core.generation.latency import part_times, step_times
from accomp.core.generation.play_twice import play_checked
from accomp.core.generation.take_files import TAKE, changed_in, files_in, read_take
from accomp.core.interfaces import decoder_fingerprint_of
from accomp.core.model.conditions import class_numbers, labels_of
from accomp.core.music.annotations import Annotations
from accomp.core.music.instruments import CLASSES
from accomp.core.music.timelines import Source, sources
from accomp.core.runs.player import Player
from accomp.core.runs.run import Played, codes_of, perform
from accomp.core.spec.runtime import Runtime
from accomp.core.spec.schema import Spec, resolve
from accomp.core.streaming.followed_timeline import FollowedTimeline


def take_of(
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
    timelines: dict[str, Source] = {
        **sources(player.model.timelines, annotations, space.frame_rate, excerpt.start),
        **following,
    }
    seed, session = spec.seed, number_of(excerpt.id)
    options: dict[str, Any] = {
        "labels": labels,
        "seed": seed,
        "session": session,
        "prompt": prompt,
        "timelines": timelines,
    }
    played, same = play_checked(player, sound, options, excerpt.id)
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
        "told": sorted(timelines),
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
    known, given = excerpt.track.annotations, spec.generate.timelines_from
    return Annotations(
        beats=known.beats if given["metronome"] == "annotations" else None,
        chords=known.chords if given["chart"] == "annotations" else (),
        by=known.by,
    )


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
