"""The compiled loss is the loss: the same numbers and gradients, one graph, made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from accomp.core.errors import SpecError, WorkError
from accomp.core.spec.build import build_model, build_objective, space_of
from accomp.core.spec.schema import Spec, structure
from accomp.core.training.compile import compile_loss
from accomp.core.types import Batch, Loss

CPU, GPU = torch.device("cpu"), torch.device("cuda")

KINDS: dict[str, dict[str, Any]] = {
    "ar": {},
    "prefix": {"objective": {"plugin": "prefix", "chunks": 3}, "clock": {"t_f": -1, "k": 4}},
    "prefix_offline": {"objective": {"plugin": "prefix_offline"}, "clock": None},
    "mlm": {"objective": {"plugin": "mlm"}, "clock": None, "sampler": {"plugin": "causal_bias"}},
}


def spec_of(kind: str = "ar") -> Spec:
    """The tiny experiment with one of the objectives, everything random but dropout."""
    sections = {**tiny.plain(".", "run", "store"), **KINDS[kind]}  # type: ignore[arg-type]
    sections["backbone"] = {"plugin": "llama", "depth": 1, "heads": 2, "hidden": 32}
    sections["conditions"] = {"context": {"drop": 0.5}, "instrument": {"classes": 18, "drop": 0.5}}
    return structure({key: value for key, value in sections.items() if value is not None}, tiny.registry())


def learn(spec: Spec, prepare: Callable[[Any], object], steps: int = 3) -> list[tuple[Loss, dict[str, Tensor]]]:
    """Losses and gradients of some steps on other clips with other draws, a clip ending early."""
    registry = tiny.registry()
    space = space_of(spec, registry)
    model = build_model(spec, space, registry)
    objective = build_objective(spec, space, registry)
    prepare(objective)
    found = []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        valid = torch.ones(3, 24, dtype=torch.bool)
        valid[1, 15 + step :] = False
        batch = Batch(
            torch.randn(3, 24, space.latent_dim, generator=generator),
            torch.randint(space.codebook_size, (3, space.codebooks, 24), generator=generator),
            valid,
            {"instrument": torch.randint(18, (3,), generator=generator)},
        )
        model.zero_grad()
        loss = objective.loss(model, batch, model.clock, generator)
        loss.total.backward()
        found.append((loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}))
        if step == 0:
            torch.compiler.set_stance("fail_on_recompile")
    return found


@pytest.fixture(autouse=True)
def _stance() -> Any:
    yield
    torch.compiler.set_stance("default")


def same(one: list[tuple[Loss, dict[str, Tensor]]], other: list[tuple[Loss, dict[str, Tensor]]]) -> None:
    for (loss, gradients), (there, those) in zip(one, other, strict=True):
        torch.testing.assert_close(loss.total, there.total, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(loss.parts, there.parts, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(loss.counts, there.counts)
        torch.testing.assert_close(gradients, those, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_objective_is_one_graph_that_is_made_once(kind: str) -> None:
    """Traced and differentiated as for any backend, run without one; another draw makes no other graph."""
    spec = spec_of(kind)

    def trace(objective: Any) -> None:
        objective.loss_of = torch.compile(objective.loss_of, fullgraph=True, dynamic=False, backend="aot_eager")

    same(learn(spec, trace), learn(spec, lambda objective: None))


def test_what_the_machine_makes_of_it_agrees_with_eager() -> None:
    spec = spec_of()
    compiled = learn(spec, lambda objective: compile_loss(objective, "on", CPU))
    same(compiled, learn(spec, lambda objective: None))


class WithoutParts:
    """An objective that draws and computes in one go."""

    def loss(self, model: Any, batch: Batch, clock: Any, rng: torch.Generator) -> Loss:
        return Loss(batch.x.sum(), {})


class Broken(WithoutParts):
    """One whose loss no graph can hold."""

    def loss_of(self, x: Tensor) -> Loss:
        return Loss(x.sum() if x.sum().item() > 0 else x.mean(), {})


def test_auto_compiles_on_a_gpu_only_and_off_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accomp.core.compute.compilers.find_spec", lambda name: object())
    whether = {
        (choice, device.type): compile_loss(Broken(), choice, device)  # type: ignore[arg-type]
        for choice in ("auto", "on", "off")
        for device in (CPU, GPU)
    }
    assert {key for key, compiled in whether.items() if compiled} == {("auto", "cuda"), ("on", "cpu"), ("on", "cuda")}


def test_what_hinders_is_an_error_where_it_was_asked_for_and_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    objective: Any = WithoutParts()
    with pytest.raises(SpecError, match=r"WithoutParts has no `loss_of`.*train\.compile = \"off\""):
        compile_loss(objective, "on", CPU)
    with pytest.raises(SpecError, match=r"fsdp.*train\.compile = \"off\""):
        compile_loss(Broken(), "on", CPU, sharded=True)  # type: ignore[arg-type]
    monkeypatch.setattr("accomp.core.compute.compilers.find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"Triton is not installed.*train\.compile = \"off\""):
        compile_loss(Broken(), "on", GPU)  # type: ignore[arg-type]
    assert not compile_loss(Broken(), "auto", GPU)  # type: ignore[arg-type]
    assert "not compiled: Triton is not installed" in capsys.readouterr().out
    monkeypatch.setattr("accomp.core.compute.compilers.cpp_compiler", lambda: "")
    with pytest.raises(SpecError, match=r"no C\+\+ compiler.*train\.compile = \"off\""):
        compile_loss(Broken(), "on", CPU)  # type: ignore[arg-type]


def test_auto_goes_on_uncompiled_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the compiler stumbles over an error that is none of its own kind."""
    from accomp.core.training.compile import _Compiled

    class Doubles:
        def loss_of(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    calls = []
    compiled: Any = _Compiled(Doubles(), insists=False)

    def stumbles(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        raise ValueError("The argument '-1 + ((0))' is not comparable.")

    monkeypatch.setattr(compiled, "_compiled", stumbles)
    assert compiled(torch.ones(2)).tolist() == compiled(torch.ones(2)).tolist() == [2, 2]
    assert len(calls) == 1
    assert "runs uncompiled: The argument '-1 + ((0))'" in capsys.readouterr().err
    insisting: Any = _Compiled(Doubles(), insists=True)
    monkeypatch.setattr(insisting, "_compiled", stumbles)
    with pytest.raises(WorkError, match="cannot be compiled: The argument"):
        insisting(torch.ones(2))


def test_a_loss_that_is_no_single_graph_is_told() -> None:
    objective: Any = Broken()
    assert compile_loss(objective, "on", CPU)
    with pytest.raises(WorkError, match=r"cannot be compiled: .*train\.compile = \"off\""):
        objective.loss_of(torch.ones(3))
