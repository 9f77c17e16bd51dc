"""A compiled step is kept by all that its graph depends on, and loaded where that is the same, with its own tensors."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import latents as latent_models
import numpy as np
import pytest
import torch
from marks import NEEDS_COMPILER
from small import latents, session_of, small_model, space_with
from torch import Tensor
from torch.testing import assert_close

from accomp.core.model.guidance import UNGUIDED, Guidance
from accomp.core.model.model import Model
from accomp.core.offline.compose import compose
from accomp.core.offline.framewise import Framewise
from accomp.core.spec.runtime import EAGER, Runtime
from accomp.core.streaming.graphs import captured_step
from accomp.core.streaming.kept_step import GRAPH, KeptStep
from accomp.core.streaming.session import TokenSession
from accomp.core.streaming.step_facts import step_facts
from accomp.plugins.samplers.top_k import TopK
from accomp.plugins.samplers.vampnet import VampNet

COMPILED = Runtime(compile="on")


def played(session: TokenSession) -> Tensor:
    session.push(latents(9))
    return session.pull()


def folder_of(session: TokenSession) -> Path:
    step = session._step
    x = step.model.table.weight.new_zeros(step.rows, step.layout.clock.k, 6)
    with torch.inference_mode():
        return KeptStep.of(step._prefill, [x]).folder


# -------------------------------------------------------------------------------------------------- kept and loaded


def in_steps(model: Any, runtime: Runtime) -> Tensor:
    return played(session_of(model, runtime=runtime))


def masked(model: Any, runtime: Runtime) -> Tensor:
    model.clock = None
    sampler = VampNet(VampNet.Config(steps=(2,)), model.space)
    given = {"sessions": torch.arange(2), "labels": {"instrument": torch.zeros(2).long()}, "window": 16}
    return compose(model, sampler, latents(20), **given, framewise=Framewise(model, UNGUIDED, runtime))


def denoised(model: Any, runtime: Runtime) -> Tensor:
    live = latent_models.session(model, window=8, runtime=runtime)
    return latent_models.played(live, latent_models.normal(2, 9, latent_models.E))


WAYS = {
    "frame by frame": (in_steps, partial(small_model, -2, 1), 1),
    "chunks": (in_steps, partial(small_model, -2, 2), 2),
    "with an ear": (in_steps, partial(small_model, -2, 1, timelines=("metronome", "chart"), heard=1.0), 1),
    "with an ear, chunks": (in_steps, partial(small_model, -2, 2, timelines=("metronome",), heard=1.0), 2),
    "masked, by level": (masked, partial(small_model, 0), 3),
    "latents": (denoised, partial(latent_models.model, -2, 2), 2),
    "latents, whole windows": (denoised, partial(latent_models.model, -2, 2, "enc_dec"), 1),
}
"""How it plays, a model for it, and the number of its graphs."""


@NEEDS_COMPILER
@pytest.mark.parametrize("way", WAYS)
def test_a_step_that_was_compiled_before_is_not_traced_again(
    way: str, kept_steps: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    plays, model, graphs = WAYS[way]
    other = model()
    for weight in other.parameters():
        weight.data *= 1.5
    first = plays(model(), COMPILED)
    assert_close(first, plays(model(), EAGER), rtol=1e-5, atol=1e-5)  # latents to rounding, codes exactly
    assert len(list(kept_steps.iterdir())) == graphs

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("traced again")

    monkeypatch.setattr(torch, "compile", refuse)
    assert torch.equal(plays(model(), COMPILED), first)
    own = plays(other, COMPILED)
    assert_close(own, plays(other, EAGER), rtol=1e-5, atol=1e-5, msg="with its own weights")
    assert not torch.equal(own, first)
    assert capsys.readouterr().err == ""


@NEEDS_COMPILER
def test_what_does_not_work_is_compiled_again(kept_steps: Path, capsys: Any) -> None:
    model = small_model()
    expected = played(session_of(model, runtime=COMPILED))
    [graph] = kept_steps.glob(f"*/{GRAPH}")
    whole = graph.read_bytes()
    for damaged in (whole[:1000], b"", None):
        graph.unlink() if damaged is None else graph.write_bytes(damaged)
        assert torch.equal(played(session_of(model, runtime=COMPILED)), expected)
        assert "compiled before does not work, and is compiled again" in capsys.readouterr().err
        assert graph.stat().st_size > 1000, "kept again"


@NEEDS_COMPILER
def test_where_torch_keeps_nothing_no_step_is_kept_or_loaded(kept_steps: Path, capsys: Any) -> None:
    from torch._inductor import config

    model = small_model()
    expected = played(session_of(model))
    with config.patch(fx_graph_cache=False):
        assert torch.equal(played(session_of(model, runtime=COMPILED)), expected)
    assert not kept_steps.exists()
    played(session_of(model, runtime=COMPILED))
    [graph] = kept_steps.glob(f"*/{GRAPH}")
    graph.write_bytes(b"broken")
    with config.patch(fx_graph_cache=False):
        assert torch.equal(played(session_of(model, runtime=COMPILED)), expected)
    assert graph.read_bytes() == b"broken", "left alone"
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")


class Holds:
    """Adds what it holds, and what it does not."""

    def __init__(self, own: Tensor):
        self.own = own

    def add(self, x: Tensor) -> Tensor:
        return x + self.own + OUTSIDE[0]


OUTSIDE: list[Tensor] = [torch.full((3,), 100.0)]


@NEEDS_COMPILER
def test_a_graph_that_reads_what_its_object_does_not_hold_is_not_kept(kept_steps: Path) -> None:
    """Another such object could not be given the tensor."""
    for own in (1.0, 2.0):
        with torch.inference_mode():
            add = captured_step(Holds(torch.full((3,), own)).add, torch.zeros(3))
            assert add(torch.ones(3)).tolist() == [101 + own] * 3
    assert not kept_steps.exists()


# ------------------------------------------------------------------------------------------------ what it depends on


def gated_inside() -> Model:
    model = small_model()
    model.fuser.gate_inside = not model.fuser.gate_inside
    return model


def transposed() -> Model:
    model = small_model()
    model.heads.weight.data = model.heads.weight.data.t().contiguous().t()
    return model


CHANGES: dict[str, Callable[[], TokenSession]] = {
    "the sampler": lambda: session_of(small_model(), sampler=TopK(TopK.Config(k=5), space_with())),
    "the window": lambda: session_of(small_model(), window=32),
    "the batch": lambda: session_of(small_model(), 3),
    "a scale of guidance": lambda: session_of(small_model(), guidance=Guidance({"context": 2.0})),
    "another scale": lambda: session_of(small_model(), guidance=Guidance({"context": 2.5})),
    "the clock": lambda: session_of(small_model(-1)),
    "the codec": lambda: session_of(small_model(space=space_with(2))),
    "the heads": lambda: session_of(small_model(kv_heads=4)),
    "the cache": lambda: session_of(small_model(), runtime=Runtime(compile="off", cache="bfloat16")),
    "a timeline": lambda: session_of(small_model(timelines=("metronome",))),
    "a number in a module": lambda: session_of(gated_inside()),
    "a weight's layout": lambda: session_of(transposed()),
    "the weights' type": lambda: session_of(small_model().to(torch.float64)),
}
"""Sessions that differ in one thing from session_of(small_model())."""


def test_each_thing_that_the_graph_depends_on_changes_the_place() -> None:
    folders = [folder_of(session_of(small_model())), *(folder_of(changed()) for changed in CHANGES.values())]
    assert len(set(folders)) == 1 + len(CHANGES)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert folder_of(session_of(small_model())) not in folders
    finally:
        torch.set_num_threads(threads)
    assert folder_of(session_of(small_model())) == folders[0], "and nothing else does"


def test_the_place_is_the_same_in_another_process() -> None:
    code = "import test_kept_step as t; print(t.folder_of(t.session_of(t.small_model())))"
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    words = f"import sys, torch; torch.set_num_threads({torch.get_num_threads()}); sys.path[:0] = {path}; {code}"
    told = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout
    assert Path(told.strip()) == folder_of(session_of(small_model()))


@attrs.define
class Slotted:
    number: int
    other: Any = None


def text(value: Any) -> str:
    return step_facts(value).text


def closure(value: Any) -> Callable[[], Any]:
    return lambda: value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Slotted(1), Slotted(2)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),  # code may go through it in order
        ([1, 2], (1, 2)),
        (deque([1]), deque([2])),
        (closure(1), closure(2)),
        (partial(closure, 1), partial(closure, 2)),
        (Slotted(1).__repr__, Slotted(2).__repr__),
        (np.arange(3), np.arange(3) + 1),
        (np.float32(1), np.float32(2)),
        ({1, 2}, {1, 3}),
        (Slotted, Holds),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
        (torch.zeros(2, 3), torch.zeros(3, 2).t()),
        ({(1, 2): 3}, {(1, 4): 3}),
    ],
)
def test_what_differs_reads_differently(one: Any, other: Any) -> None:
    assert text(one) == text(one)
    assert text(one) != text(other)
    assert text([0, Slotted(0, one)]) != text([0, Slotted(0, other)]), "deep inside, too"


def test_the_same_object_twice_is_not_two_equal_ones() -> None:
    a, b = torch.zeros(2), torch.zeros(2)
    assert text([a, a]) != text([a, b])
    assert list(step_facts([a, a, b]).tensors) == [".0", ".2"]
    loop: list[Any] = [1]
    loop.append(loop)
    assert text(loop) == "\n".join([" builtins.list", ".0 1", ".1 = "])
    deep: Any = 0
    for _ in range(200):  # of which temporary lists are made, whose ids others then get
        deep = closure(deep)
    assert ".closure = " not in text(deep)


def test_code_of_others_belongs_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "samplers_of_others"
    package.mkdir()
    (package / "__init__.py").write_text("class Sampler:\n    pass\n")
    (package / "helper.py").write_text("K = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    sampler = importlib.import_module("samplers_of_others").Sampler()
    before = text([sampler])
    assert text([sampler]) == before
    (package / "helper.py").write_text("K = 2\n")
    assert text([sampler]) != before
