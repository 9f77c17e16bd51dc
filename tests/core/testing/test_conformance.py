"""The conformance kit: every shipped plugin passes, and every broken promise is noticed by its name."""

import sys

import pytest
import torch
from broken_plugins import BROKEN, backbones, causal_samplers

from accomp.core.component import KINDS, Component
from accomp.core.errors import CombinationError, PluginError
from accomp.core.registry import Registry
from accomp.core.testing import CHECKS, check_component, check_plugin

TOP_K = "accomp.plugins.samplers.top_k:TopK"
ROWS = [(row.kind, row.name) for row in Registry(third_party=False).components()]


@pytest.mark.parametrize(("kind", "name"), ROWS, ids=[" ".join(row) for row in ROWS])
def test_every_shipped_plugin_keeps_its_promises(kind, name):
    held = check_plugin(kind, name, Registry(third_party=False))
    assert "has a docstring" in held
    assert held[-1].startswith("touches no global random generator")


def test_the_kit_knows_every_kind():
    assert set(CHECKS) == set(KINDS) == {kind for kind, _, _ in BROKEN}


@pytest.mark.parametrize(
    ("kind", "target", "promise"), BROKEN, ids=[target.partition(":")[2] for _, target, _ in BROKEN]
)
def test_a_broken_promise_is_named(kind, target, promise, monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    name = target.partition(":")[2]
    with torch.random.fork_rng(devices=[]), pytest.raises(PluginError) as caught:
        check_component(Component(kind, name, target))
    assert any(problem.startswith(promise) for problem in caught.value.problems), caught.value.problems
    assert all(f"{kind} {name} ({target})" in problem for problem in caught.value.problems)


GOOD = [
    ("corpus", "broken_plugins.corpora:Songs"),
    ("tokenizer", "broken_plugins.tokenizers:Codec"),
    ("fuser", "accomp.plugins.fusers.gated_add:GatedAdd"),
    ("backbone", "broken_plugins.backbones:Small"),
    ("objective", "accomp.plugins.objectives.ar:AR"),
    ("objective", "accomp.plugins.objectives.prefix:Prefix"),
    ("objective", "accomp.plugins.objectives.prefix_offline:PrefixOffline"),
    ("objective", "accomp.plugins.objectives.mlm:MLM"),
    ("objective", "accomp.plugins.objectives.rectified_flow:RectifiedFlow"),
    ("sampler", "accomp.plugins.samplers.euler:Euler"),
    ("sampler", TOP_K),
    ("sampler", "broken_plugins.masked_samplers:AtOnce"),
    ("metric", "broken_plugins.metrics:Likeness"),
    ("metric", "broken_plugins.metrics:Spread"),
    ("embedder", "broken_plugins.embedders:Loudness"),
    ("follower", "fakes:Pulse"),
    ("command", "broken_plugins.commands:good"),
    ("model", "accomp.plugins.models:pretrained"),
]


@pytest.mark.parametrize(("kind", "target"), GOOD, ids=[target.partition(":")[2] for _, target in GOOD])
def test_good_plugins_pass_and_every_promise_is_tried_by_a_broken_one(kind, target):
    """No property of the kit goes untried, and what the broken plugins are made of is not itself broken."""
    common = ("has a docstring", "Config", "touches no global")
    tried = [promise for k, _, promise in BROKEN if k == kind or promise.startswith(common)]
    for held in check_component(Component(kind, target.partition(":")[2], target)):
        assert any(f"{promise}:".startswith(f"{held}:") for promise in tried), held


def test_a_backbone_for_streams_alone_may_refuse_what_they_do_not_need(monkeypatch):
    class InLine(backbones.Small):
        """Refuses whole attention and sights."""

        def forward(self, h, *, causal=True, state=None, sight=None):
            if not causal or sight is not None:
                raise CombinationError("rows see what came before them, here")
            return super().forward(h, state=state)

    monkeypatch.setattr(backbones, "InLine", InLine, raising=False)
    held = check_component(Component("backbone", "in_line", "broken_plugins.backbones:InLine"))
    assert "stepwise equals full, and the state counts positions" in held


def test_all_broken_promises_come_at_once(monkeypatch):
    class Twice(causal_samplers.InPlace):
        """Two faults."""

        def pick(self, logits, rng):
            return super().pick(logits, rng).int()

    monkeypatch.setattr(causal_samplers, "Twice", Twice, raising=False)
    with pytest.raises(PluginError) as caught:
        check_component(Component("sampler", "twice", "broken_plugins.causal_samplers:Twice"))
    begins = [problem.partition(":")[0] for problem in caught.value.problems]
    assert begins == ["pick", "does not change its logits"]


def test_a_config_is_given_as_in_a_spec_and_refused_alike():
    component = Component("sampler", "top_k", TOP_K)
    check_component(component, k=3, temperature=0.5)
    with pytest.raises(PluginError) as caught:
        check_component(component, kk=3, temperature="hot")
    assert list(caught.value.problems) == [
        "Config: unknown key 'kk'; did you mean 'k'?",
        "temperature: expected float, got str 'hot'",
    ]


def test_a_plugin_that_needs_a_config_says_how_to_give_it():
    with pytest.raises(
        PluginError,
        match=r"missing key 'root'; give the keys of its Config .*--config KEY=VALUE.*, or .* example_config",
    ):
        check_component(Component("corpus", "x", "spec_plugins:Folder"))
    with pytest.raises(PluginError, match="a command has no Config; folder cannot be set"):
        check_component(Component("command", "x", "broken_plugins.commands:bare"), folder="x")


def test_an_unknown_plugin_suggests_the_nearest():
    with pytest.raises(PluginError, match="did you mean 'beat_f1'"):
        check_plugin("metric", "beatf1", Registry(third_party=False))
