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
    """Devices, precision and logging; nothing here changes results, up to rounding.

    Attributes:
        folder: the run folder: resolved spec, versions, checkpoints, takes, metrics, report.
        accelerator: kind of device, as Lightning Fabric names it.
        devices: number of devices.
        strategy: distribution of the training: "ddp" replicates the weights, "fsdp" shards them; "auto" is "ddp" for
            several devices. Checkpoints are the same for all.
        precision: of weights ("true") or of arithmetic on them ("mixed"), as Lightning Fabric names it.
        threads: CPU threads of torch; where absent, torch's default, and one for playing.
        logger: destination of training curves.
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
        submixes: input mixtures per target stem, each another random subset of the other stems.
        seed: of those subsets. Separate from the experiment's seed, so that experiments with many seeds share one
            store.
    """

    path: str = field(validator=v.min_len(1))
    submixes: int = field(default=2, validator=v.ge(1))
    seed: int = field(default=0, validator=v.ge(0))


@frozen
class ModelSpec:
    """The sequence model.

    Attributes:
        width: D.
        regime: of models of continuous latents, the encoding of past output (core/diffusion/regimes.py): "block_causal"
            encodes each block once; "enc_dec" encodes the last frames anew for every block, with attention among all of
            them. "block_causal" where absent; models of codes have none.
    """

    width: int = field(validator=[v.ge(1), v.le(65_536)])
    regime: Regime | None = None


@frozen
class TrainSpec:
    """Training. The learning rate warms up linearly and falls along a cosine to `final_lr` at `steps`.

    Attributes:
        steps: optimizer steps.
        minutes: limit of training time, earlier sessions and validation included, after which training ends even before
            `steps`; the learning rate then follows the time. The number of steps depends on the machine.
        batch: clips a forward pass (per device).
        lr: peak learning rate of AdamW.
        frames: length of a clip, in frames or as "10s".
        start: source of the initial weights: a run folder, or a name of `accomp models`; "": random ones.
        final_lr: learning rate at the end.
        warmup: steps of linear warm-up.
        clip: largest gradient norm.
        weight_decay: of AdamW.
        accumulate: forward passes an optimizer step, whose losses are averaged.
        log_every: steps between log lines.
        validate_every: steps between validations.
        validation_batches: batches a validation.
        checkpoint_every: steps between checkpoints.
        keep: number of recent checkpoints that are kept, beside the best one on validation.
        compile: compile loss and gradients to one graph, which takes a minute or so at the start; "auto": on a CUDA
            device that supports it.
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
    """Takes that are generated for scoring.

    Attributes:
        split: of the corpus.
        takes: number of takes.
        seconds: length of each (s).
        input: the model's input: the context of the scored stem ("paired"), or that of another song's take ("random"),
            which shows the contribution of the input to a score.
        prompt: frames, or "2s": length of the true stem that is given as the beginning of the output. Only the
            continuation is scored.
        deaf: generate each take a second time with another song's context, all else equal, and score it with the
            original context, to measure the contribution of the input to a score.
        metronome, chart: source of this timeline for a model that takes it: the song's "annotations", a causal tracker
            of the input ("follow"), or none ("off").
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
        """Return timeline -> its source."""
        return {"metronome": self.metronome, "chart": self.chart}


CellName = Literal["model", "deaf", "true_stem", "random_pairing", "codec"]
CELLS: tuple[CellName, ...] = get_args(CellName)
OF_TAKES: tuple[CellName, ...] = ("model", "deaf")
"""Clip sets of a model's takes; the others are anchors."""


def _each_once(_: Any, attribute: attrs.Attribute, names: tuple[str, ...]) -> None:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{attribute.name} is {list(names)}; expected at least one of {', '.join(CELLS)}, none twice")


@frozen
class EvaluateSpec:
    """Scoring of takes and anchors.

    Attributes:
        cells: clip sets to be scored: the model's takes, and anchors for comparison (core/evaluation/anchors.py).
        anchors: clips of held-out songs for each of the anchors, the takes' own among them.
        loudness: LUFS of context, stem and true stem, each by itself; "as_played" leaves them unchanged.
        cache: folder of cached embeddings, shared between runs; where absent, one in the run folder.
    """

    cells: tuple[CellName, ...] = field(default=CELLS, validator=_each_once)
    anchors: int = field(default=24, validator=v.ge(1))
    loudness: float | Literal["as_played"] = -18.0
    cache: str | None = None
