"""Training of the magnitude codec: what it begins with, what latents are pulled to, and that it resumes whole."""

from collections import Counter

import pytest
import torch

from accomp.core.errors import SpecError
from accomp.plugins.tokenizers.codec.music.tones import WithTones
from accomp.plugins.tokenizers.codec.training.magnitude.discriminator import MagnitudeAdversary
from accomp.plugins.tokenizers.codec.training.magnitude.trainer import MagnitudeTrainer, MagnitudeTrainSpec
from accomp.plugins.tokenizers.magnitude import Magnitude

CPU = torch.device("cpu")
SIZES = {"width": 16, "hidden": 16, "encoder_blocks": 1, "decoder_blocks": 1, "latent": 16, "bands": 32}


def trainer(codebooks: int = 3, **keys) -> MagnitudeTrainer:
    settings = {"steps": 6, "batch": 3, "seconds": 0.2, "fit_frames": 200, "warmup": 0, "refit": ()} | keys
    torch.manual_seed(0)
    network = Magnitude.network_of(Magnitude.Config(weights="random", codebooks=codebooks, codebook_size=16, **SIZES))
    return MagnitudeTrainer(network, MagnitudeTrainSpec(**settings), WithTones(None, 1.0), 7, CPU)


@pytest.mark.parametrize(("heard", "pulled_to"), [({}, 2), ({"more": 1.0, "fewer": 0.0}, 3), ({"fewer": 1.0}, 2)])
def test_latents_are_pulled_to_the_levels_that_the_decoder_mostly_hears(heard, pulled_to):
    """Never to finer ones: latents would then shrink until those say all that is left."""
    one = trainer(**({"fewer": 0.0, "more": 0.0} | heard))
    one.levels = 2
    seen = {}
    quantize = one.codebooks.quantize

    def watched(z, *, revive=False):
        seen["z"], seen["sums"] = z, quantize(z, revive=revive)
        return seen["sums"]

    one.codebooks.quantize = watched
    parts = one.learn(0.1)
    variance = one.network.spread.square()
    want = (seen["z"] - seen["sums"][pulled_to - 1]).square().mean() / variance
    assert parts["commitment"] == pytest.approx(float(want), rel=1e-4)


def test_the_decoder_hears_fewer_and_more_levels_as_often_as_asked():
    one = trainer(codebooks=5, fewer=0.3, more=0.2)
    one.levels = 3
    heard = Counter(one._levels_heard() for _ in range(3000))
    assert set(heard) == {1, 2, 3, 5}
    assert abs(heard[1] + heard[2] - 900) < 100
    assert abs(heard[5] - 600) < 90


def test_it_begins_with_principal_components_that_miss_little():
    one = trainer(fit_frames=600)
    missed = one._start()
    assert 0 <= missed < 0.2
    bands, network = one.latents(one._bands), one.network.requires_grad_(False)
    rebuilt = (bands - network.mean) @ network.analysis.T @ network.synthesis.T + network.mean
    left = (rebuilt - bands).square().sum() / (bands - bands.mean(0)).square().sum()
    assert left == pytest.approx(missed, abs=0.1)


@pytest.mark.parametrize("adversarial", [0.0, 0.5])
def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(tmp_path, adversarial):
    keys = {"adversarial": adversarial, "adversary_from": 0.3, "refit": (0.5,), "revive_every": 2, "average": 0.9}
    whole = [parts["total"] for parts in trainer(**keys).steps()]
    first, second = trainer(**keys), trainer(**keys)
    steps = first.steps()
    half = [next(steps)["total"] for _ in range(4)]
    first.save(tmp_path / "checkpoint.pt")
    second.load(tmp_path / "checkpoint.pt")
    assert half + [parts["total"] for parts in second.steps()] == whole


def test_the_discriminator_learns_to_tell_and_its_verdict_reaches_what_was_decoded():
    torch.manual_seed(0)
    adversary = MagnitudeAdversary(0, CPU, half=False)
    magnitudes = torch.rand(2, 4, 4, 641) ** 4
    blurred = torch.full((2, 4, 4, 641), float((magnitudes + 1e-5).log().mean()), requires_grad=True)
    told = [adversary.judge(blurred, magnitudes, 1e-3) for _ in range(12)]
    assert told[-1]["discriminator"] < told[0]["discriminator"]
    assert told[-1]["fool"] > told[0]["fool"]
    (gradient,) = torch.autograd.grad(told[-1]["fool"] + told[-1]["features"], blurred)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def test_each_loss_is_zero_for_equal_magnitudes_and_tells_what_is_wrong():
    one = trainer()
    magnitudes = 0.2 + 0.4 * torch.rand(1, 6, 4, 641)
    same = (magnitudes + 1e-5).log()
    assert all(float(value) < 1e-4 for value in one.distance(same, magnitudes).values())
    louder = one.distance((magnitudes * 2 + 1e-5).log(), magnitudes)
    for name in ("bin", "mel", "energy", "level"):
        assert float(louder[name]) == pytest.approx(0.693, abs=0.05), name
    assert float(louder["linear"]) == pytest.approx(1.0, abs=0.01)
    assert float(louder["slope"]) < 0.02


def test_what_hides_behind_a_louder_neighbour_hardly_counts_and_a_tilted_partial_does():
    one = trainer()
    magnitudes = torch.full((1, 8, 4, 641), 1e-3)
    magnitudes[..., 100] = 0.5
    wrong = {name: magnitudes.clone() for name in ("beside", "far", "tilted")}
    wrong["beside"][..., 110:115] *= 2
    wrong["far"][..., 400:405] *= 2
    wrong["tilted"][..., 99] *= 4
    told = {name: one.distance((m + 1e-5).log(), magnitudes) for name, m in wrong.items()}
    beside, far = (float(told[name]["bin"] / one.distance.weight[at]) for name, at in (("beside", 112), ("far", 402)))
    assert beside < 0.5 * far
    assert float(told["tilted"]["slope"]) > 10 * float(told["far"]["slope"])


def test_a_decoder_that_learns_alone_leaves_all_codes_as_they_are():
    one = trainer(only="decoder", start="default", steps=3, adversarial=0.1, adversary_from=0.0, stay=0.15)
    before = {name: tensor.clone() for name, tensor in one.network.state_dict().items()}
    clips = one.draw()
    codes = one.network.quantizer.codes(one._encode(clips))
    assert all("commitment" not in parts and parts["fool"] for parts in one.steps())
    assert one.finish() == []
    moved = {name for name, tensor in one.network.state_dict().items() if not torch.equal(tensor, before[name])}
    learning = one.network.decoder_tensors().keys()
    assert {name.partition(".")[0] for name in moved} == {
        "synthesis", "from_latent", "decoder_blocks", "decoder_norm", "leave",
    }  # fmt: skip
    assert moved <= learning
    assert torch.equal(one.network.quantizer.codes(one._encode(clips)), codes)


def test_what_is_kept_is_the_average_of_the_decoder_s_way():
    one = trainer(only="decoder", start="default", steps=5, average=0.6)
    names = one.network.decoder_tensors()
    learning = {name: p for name, p in one.network.named_parameters() if name in names}
    mean = {name: p.detach().clone() for name, p in learning.items()}
    for step, _ in enumerate(one.steps()):
        past = min(0.6, (step + 1) / (step + 51))
        mean = {name: past * mean[name] + (1 - past) * p.detach() for name, p in learning.items()}
    last = {name: p.detach().clone() for name, p in learning.items()}
    one.finish()
    assert all(torch.allclose(p, mean[name], atol=1e-6) for name, p in learning.items())
    assert not all(torch.equal(p, last[name]) for name, p in learning.items())


def test_a_decoder_alone_needs_weights_to_start_from():
    with pytest.raises(SpecError, match="needs weights to start from"):
        trainer(only="decoder")
