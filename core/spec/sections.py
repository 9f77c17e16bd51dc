"""The sections of a spec, one class each; those of conditions, pairs, runtime and runner have files of their own."""

from __future__ import annotations

from typing import Any, Literal, get_args

import attrs
from attrs import field, frozen
from attrs import validators as v

from accomp.core.diffusion.kinds import Regime
from accomp.core.spec.durations import Frames
from accomp.core.spec.limits import at_most


@frozen
class PluginSpec:
    """A section `{plugin = NAME, ...}`: the name, and the rest of the section as that plugin's Config."""

    plugin: str
    config: Any


@frozen
class RunSpec:
    """Where and how to compute; nothing here changes what is computed, up to rounding.

    Attributes:
        folder: the run folder: resolved spec, versions, checkpoints, takes, metrics, report.
        accelerator: the kind of device, in Lightning Fabric's words.
        devices: how many of them.
        strategy: how several share the training: "ddp", each holds all weights, or "fsdp", each holds a part of them;
            "auto" is "ddp" for several. Checkpoints are the same for all.
        precision: of weights ("true") or of arithmetic on them ("mixed"), in Lightning Fabric's words.
        threads: CPU threads of torch; where absent, its own choice, and one for playing.
        logger: where training curves go.
    """

    folder: str
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = field(default=1, validator=[v.ge(1), v.le(4096)])
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true"] = "32-true"
    threads: int | None = field(default=None, validator=v.optional([v.ge(1), v.le(1024)]))
    logger: Literal["tensorboard", "wandb", "none"] = "tensorboard"


@frozen
class StoreSpec:
    """The token store.

    Attributes:
        path: Zarr folder that ingest fills and training reads, or a place in an object store: "s3://bucket/name".
        submixes: input mixtures made per target stem, each from another random choice of the other stems.
        seed: of those choices. Apart from the experiment's seed, so that experiments with many seeds share one store.
    """

    path: str = field(validator=v.min_len(1))
    submixes: int = field(default=2, validator=v.ge(1))
    seed: int = field(default=0, validator=v.ge(0))


@frozen
class ModelSpec:
    """The sequence model.

    Attributes:
        width: D.
        regime: of models of continuous latents, what was played as they remember it (core/diffusion/regimes.py):
            "block_causal", each block encoded once; or "enc_dec", the last frames encoded anew for every block, where
            all of them hear one another. "block_causal" where absent; models of codes have none.
    """

    width: int = field(validator=[v.ge(1), v.le(65_536)])
    regime: Regime | None = None


@frozen
class TrainSpec:
    """Training. The learning rate warms up linearly and falls along a cosine to `final_lr` at `steps`.

    Attributes:
        steps: optimizer steps.
        minutes: time of training, earlier sittings and validation included, after which it ends though steps are left;
            the learning rate then falls with the time. How many steps that is depends on the machine.
        batch: clips a forward pass (per device).
        lr: peak learning rate of AdamW.
        frames: length of a clip, in frames or as "10s".
        start: whose weights training begins with: a run folder, or a name of `accomp models`; "": random ones.
        final_lr: learning rate at the end.
        warmup: steps of linear warm-up.
        clip: largest gradient norm.
        weight_decay: of AdamW.
        accumulate: forward passes an optimizer step, whose loss is the mean of theirs.
        log_every: steps between log lines.
        validate_every: steps between validations.
        validation_batches: batches a validation.
        checkpoint_every: steps between checkpoints.
        keep: how many checkpoints are kept, the best one on validation beside them.
        compile: whether loss and gradients are compiled to one graph, which takes a minute or so at the start; "auto":
            on a CUDA device that can.
    """

    steps: int = field(validator=v.ge(1), metadata=at_most(10**9))
    batch: int = field(validator=v.ge(1))
    lr: float = field(validator=v.gt(0.0))
    frames: Frames = field(validator=v.ge(1))
    start: str = ""
    minutes: float | None = field(default=None, validator=v.optional(v.gt(0.0)))
    final_lr: float = field(default=1e-5, validator=v.ge(0.0))
    warmup: int = field(default=0, validator=v.ge(0), metadata=at_most(10**9))
    clip: float = field(default=1.0, validator=v.gt(0.0))
    weight_decay: float = field(default=0.0, validator=v.ge(0.0))
    accumulate: int = field(default=1, validator=v.ge(1))
    log_every: int = field(default=10, validator=v.ge(1), metadata=at_most(10**9))
    validate_every: int = field(default=500, validator=v.ge(1), metadata=at_most(10**9))
    validation_batches: int = field(default=8, validator=v.ge(1), metadata=at_most(10**9))
    checkpoint_every: int = field(default=500, validator=v.ge(1), metadata=at_most(10**9))
    keep: int = field(default=2, validator=v.ge(1), metadata=at_most(10**9))
    compile: Literal["auto", "on", "off"] = "auto"


TimelineFrom = Literal["annotations", "follow", "off"]


@frozen
class GenerateSpec:
    """Which accompaniments are made for judging.

    Attributes:
        split: of the corpus.
        takes: how many.
        seconds: length of each (s).
        input: what the model hears: the context that its stem is judged with ("paired"), or that of another song's take
            ("random"), which shows how much of a score it owes to listening.
        prompt: frames, or "2s": so much of the true stem is given as the beginning of what the model plays. It goes on
            from there, and only what comes after is judged.
        deaf: whether each take is played a second time to another song's context, with all else the same, and judged
            beside the first with the context it should have heard: what a score owes to listening.
        metronome, chart: where a model that takes it has this timeline from: the song's "annotations", what is heard in
            the input by then ("follow"), or nowhere ("off").
    """

    split: str = "test"
    takes: int = field(default=8, validator=v.ge(1))
    seconds: float = field(default=10.0, validator=v.gt(0.0))
    input: Literal["paired", "random"] = "paired"
    prompt: Frames = field(default=0, validator=v.ge(0))
    deaf: bool = False
    metronome: TimelineFrom = "annotations"
    chart: TimelineFrom = "annotations"

    @property
    def timelines_from(self) -> dict[str, TimelineFrom]:
        """Timeline -> where it comes from."""
        return {"metronome": self.metronome, "chart": self.chart}


CellName = Literal["model", "deaf", "true_stem", "random_pairing", "codec"]
CELLS: tuple[CellName, ...] = get_args(CellName)
OF_TAKES: tuple[CellName, ...] = ("model", "deaf")
"""Cells of what a model played; the others are anchors."""


def _each_once(_: Any, attribute: attrs.Attribute, names: tuple[str, ...]) -> None:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{attribute.name} is {list(names)}; expected at least one of {', '.join(CELLS)}, none twice")


@frozen
class EvaluateSpec:
    """How takes are judged, beside what else.

    Attributes:
        cells: what is judged: the model's takes, and anchors that say what a number means (core/evaluation/anchors.py).
        anchors: clips of held-out songs for each of the anchors, the takes' own among them.
        loudness: LUFS at which metrics hear context, stem and true stem, each by itself; "as_played" leaves them be.
        cache: folder of what metrics found out, for other runs to use again; where absent, one in the run folder.
    """

    cells: tuple[CellName, ...] = field(default=CELLS, validator=_each_once)
    anchors: int = field(default=24, validator=v.ge(1))
    loudness: float | Literal["as_played"] = -18.0
    cache: str | None = None
