"""Takes of held-out songs, one folder each: streamed frame by frame, or clip by clip for models without a clock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accomp.core.compute.devices import PLAYING_THREADS, device_of, threads
from accomp.core.console import progress, say, warn
from accomp.core.data.excerpts import Excerpt, Failure, choose
from accomp.core.errors import DataError, UserError
from accomp.core.files import hash_file, write_atomic
from accomp.core.generation.followers import followed
from accomp.core.generation.latency import as_records, budget_of
from accomp.core.generation.take import take_of
from accomp.core.generation.take_files import TAKE
from accomp.core.registry import Registry
from accomp.core.runs.player import Player, load_player
from accomp.core.spec.build import build_corpus
from accomp.core.spec.runtime import Runtime
from accomp.core.spec.schema import Spec, resolve
from accomp.core.training.validation import other_songs
from accomp.core.trouble import raise_trouble

RECORD = "takes.json"
NO_OTHER_SONG = "no other song whose context could be the input: all takes are of one"


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
                    takes.append(take_of(excerpt, source, spec, player, run, following, other))
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
