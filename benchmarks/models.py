"""What a training step and ten seconds of playing cost for the models of some specs, at their sizes, untrained.

    python benchmarks/models.py streaming_k1 streaming_chunked prefix_offline stemgen --device cuda --json models.json

Codes and latents are random, so neither corpus nor codec is needed. Each figure is the median of several after a
warm-up; beside it stands its ratio to the first spec's, measured in the same run. Nothing is compiled.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import attrs
import torch

from accomp.core.build import build_model, build_objective, build_sampler, space_of
from accomp.core.guidance import Guidance
from accomp.core.model import Model
from accomp.core.offline.compose import compose
from accomp.core.registry import Registry
from accomp.core.spec import Spec, load_spec
from accomp.core.streaming.session import TokenSession
from accomp.core.types import Batch, TokenSpace


def main() -> None:
    """Measure, print a table, write JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("specs", nargs="+")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--batch", type=int, help="clips a training step; each spec's own where not given")
    options.add_argument("--repeat", type=int, default=5)
    options.add_argument("--no-train", action="store_true")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    device, registry = torch.device(given.device), Registry()
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    rows = []
    for spec_name in given.specs:
        spec = load_spec(spec_name, registry)
        if given.batch:
            spec = attrs.evolve(spec, train=attrs.evolve(spec.train, batch=given.batch))
        space = space_of(spec, registry)
        model = build_model(spec, space, registry).to(device)
        row = {"spec": spec_name, "parameters": sum(p.numel() for p in model.parameters())}
        if not given.no_train:
            row |= training(spec, space, model, registry, given.repeat)
        row |= playing(spec, space, model, registry, given.repeat)
        rows.append(row)
        print(line(row, rows[0]), flush=True)
        del model
    if given.json:
        record = {"device": name, "torch": torch.__version__, "rows": rows}
        given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def training(spec: Spec, space: TokenSpace, model: Model, registry: Registry, repeat: int) -> dict[str, float]:
    """A step of AdamW at the spec's batch and precision: seconds, frames a second, peak memory."""
    device = model.table.weight.device
    objective = build_objective(spec, space, registry)
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.train.lr)
    batch = random_batch(spec, space, spec.train.batch, device)
    cast = torch.autocast(device.type, torch.bfloat16) if "bf16" in spec.run.precision else nullcontext()
    rng = torch.Generator().manual_seed(0)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()

    def step() -> None:
        with cast:
            loss = objective.loss(model, batch, model.clock, rng).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    model.train()
    seconds = timed(step, repeat, device)
    found = {"train_s": seconds, "train_frames_per_s": batch.y.shape[0] * batch.y.shape[2] / seconds}
    if device.type == "cuda":
        found["train_peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def playing(spec: Spec, space: TokenSpace, model: Model, registry: Registry, repeat: int) -> dict[str, float]:
    """Ten seconds for one session: a whole clip, and for streaming models milliseconds a frame."""
    device = model.table.weight.device
    sampler, frames = build_sampler(spec, space, registry), round(10 * space.frame_rate)
    x = torch.randn(1, frames, space.latent_dim, device=device)
    labels = {name: torch.zeros(1, dtype=torch.int64, device=device) for name in model.vocabulary.classes}
    sessions, guidance = torch.zeros(1, dtype=torch.int64, device=device), Guidance(spec.guidance)

    def clip() -> None:
        common = {"sessions": sessions, "labels": labels, "window": spec.train.frames, "guidance": guidance}
        if model.clock is None:
            compose(model, sampler, x, seed=0, **common)
        else:
            session = TokenSession(model, sampler, **common)
            session.push(x)
            session.pull()

    model.eval()
    seconds = timed(clip, max(1, repeat // 3), device)
    return {"play_10s_s": seconds, "frame_ms": 1000 * seconds / frames}


def random_batch(spec: Spec, space: TokenSpace, clips: int, device: torch.device) -> Batch:
    """Clips of random latents and codes."""
    frames = spec.train.frames
    x = torch.randn(clips, frames, space.latent_dim, device=device)
    y = torch.randint(space.codebook_size, (clips, space.codebooks, frames), device=device)
    labels = {name: torch.zeros(clips, dtype=torch.int64, device=device) for name in spec.conditions.labels}
    return Batch(x, y, torch.ones(clips, frames, dtype=torch.bool, device=device), labels)


def timed(work: Callable[[], None], repeat: int, device: torch.device) -> float:
    """Median seconds of `work`, after one warm-up."""
    times = []
    for _ in range(repeat + 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def line(row: dict, first: dict) -> str:
    """A row for people; ratios are to the first row."""
    cells = [f"{row['spec']:24}", f"{row['parameters'] / 1e6:7.1f} M"]
    for key, unit in (("train_s", "s a step"), ("play_10s_s", "s for 10 s")):
        if key in row:
            cells.append(f"{row[key]:8.3f} {unit} (x {row[key] / first[key]:.2f})")
    if "train_peak_gib" in row:
        cells.append(f"{row['train_peak_gib']:6.1f} GiB")
    return "  ".join(cells)


if __name__ == "__main__":
    main()
