"""Run folders that no model made, and the pages of reports as a browser would read them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from accomp.core.audio import io as audio
from accomp.core.runs.history import append_losses

RATE = 32000
NASTY = "<b>R&B</b> \"x\" 'y'"


def music(seed: int, seconds: float = 2.0) -> np.ndarray:
    """A few decaying tones."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    notes = [np.sin(2 * np.pi * f * t) * np.exp(-3 * (t % 0.5)) for f in rng.uniform(80, 2000, 4)]
    return (0.1 * np.sum(notes, axis=0)).astype(np.float32)


def take_record(id: str, track: str, rng: np.random.Generator) -> dict[str, Any]:
    steps = (4 + rng.gamma(2.0, 1.0, 500)).round(3).tolist()
    return {
        "id": id, "track": track, "source": "a source", "licence": "CC0", "stem": "S03", "instrument": 4,
        "instrument_name": "Bass", "context_stems": ["S00", "S01"], "start": 12.0, "seconds": 2.0,
        "input": "random", "heard": {"track": "another song", "stems": ["S01"], "start": 3.0}, "prompt_seconds": 0.5,
        "sample_rate": RATE, "streamed_equals_offline": True,
        "timings": {
            "step_ms": steps, "median_ms": float(np.median(steps)), "p99_ms": float(np.quantile(steps, 0.99)),
            "max_ms": max(steps), "real_time_factor": float(np.mean(steps) / 20), "frame_ms": 20.0,
            "device": "cpu, 1 thread",
        },
    }  # fmt: skip


def judged(values: list[float], takes: dict[str, dict[str, float]], failed: list[dict[str, str]]) -> dict[str, Any]:
    value, low, high = values
    numbers = {"beat_f1": {"value": value, "low": low, "high": high}}
    alone = {"beat_f1": {"value": value + 0.11, "low": None, "high": None}}
    beat_f1 = {"provenance": "beats: madmom (CC BY-NC-SA 4.0)", "best": {"beat_f1": 1.0},
               "answers": {"beat_f1": "in time"}, "scored": len(takes),
               "empty": [{"clip": "an empty clip", "reason": "the stem is silent"}], "failed": failed, "applies": True,
               "needs": [], "numbers": numbers, "classes": {"Bass": {"scored": 1, "numbers": alone}},
               "takes": takes}  # fmt: skip
    token = {"provenance": "", "best": {}, "scored": 0, "empty": [], "failed": [], "applies": False,
             "needs": ["losses"], "numbers": {}, "classes": {}, "takes": {}}  # fmt: skip
    return {"beat_f1": beat_f1, "token": token}


def make_run(folder: Path, takes: int = 2, name: str = "song", seconds: float = 1.0) -> Path:
    """A run folder with every record, as the stages write them."""
    rng = np.random.default_rng(0)
    kinds = ("corpus", "tokenizer", "fuser", "backbone", "objective", "sampler")
    spec = {"seed": 7, **{kind: {"plugin": f"a_{kind}"} for kind in kinds}, "clock": {"t_f": -10, "k": 1},
            "metric": [{"plugin": "beat_f1"}], "train": {"steps": 600, "lr": 3e-4}}  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps(spec))
    (folder / "versions.json").write_text(json.dumps({"accomp": "0.1.0", "torch": "2.13.0"}))
    levels = [f"level {q}" for q in range(4)]
    append_losses(folder, "unigram", 0, {"loss": 6.1, "parts": dict.fromkeys(levels, 6.1)})
    for step in range(0, 601, 10):
        loss = 4.9 + 2.1 * float(np.exp(-step / 150))
        if step % 100 == 0:
            gain = 0.3 * (1 - float(np.exp(-step / 300)))
            parts = {level: loss + 0.2 * i for i, level in enumerate(levels)}
            known = {"parts": parts, "accuracy": dict.fromkeys(levels, 0.123)}
            append_losses(folder, "validation", step, {"loss": loss, "context_gain": gain, **known})
        if step:
            append_losses(folder, "train", step, {"loss": loss + float(rng.normal(0, 0.08)), "parts": {}, "lr": 1e-4})
    ids = [f"{i:03d}-{name}" for i in range(takes)]
    for i, id in enumerate(ids):
        sounds = [music(i + 50 * j, seconds) for j in range(4)]
        for sound, kind in zip(sounds, ("context", "stem", "mix", "true"), strict=True):
            audio.write(folder / "takes" / id / f"{kind}.wav", sound, RATE)
        (folder / "takes" / id / "take.json").write_text(json.dumps(take_record(id, f"{name} {i}", rng)))
    made = {"takes": ids, "failed": [{"clip": "a lost clip", "reason": f"silent {NASTY}"}],
            "tokenizer": "magnitude 1234abcd",
            "budget": {"items": [{"name": "encoder", "ms": 0.5}, {"name": "one step", "ms": 6.0}],
                       "verdict": "t_f = -10 leaves 200 ms; 95 ms are needed."}}  # fmt: skip
    (folder / "takes.json").write_text(json.dumps(made))
    scored = {id: {"beat_f1": 0.4 + 0.01 * i} for i, id in enumerate(ids)}
    cells = {
        "model": {"title": "model", "left_out": [], "metrics": judged([0.41, 0.2, 0.6], scored, [])},
        "true_stem": {"title": "true stem", "left_out": [],
                      "metrics": judged([0.63, 0.5, 0.74], scored, [{"clip": "a failed clip", "reason": "NaN"}])},
        "random_pairing": {"title": "random pairing", "left_out": [{"clip": "a lonely clip", "reason": "no partner"}],
                           "metrics": judged([0.24, 0.15, 0.36], scored, [])},
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps({"loudness": -18.0, "cells": cells}))
    return folder


class Page(HTMLParser):
    """Counts tags, checks that they close in order, and collects attributes and visible text."""

    VOID = frozenset({"meta", "img", "br", "hr", "input", "wbr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read_page(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page
