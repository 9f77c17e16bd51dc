"""Training of the magnitude codec: what it begins with, what latents are pulled to, and that it resumes whole."""

import math
from collections import Counter
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from accomp.core.errors import SpecError
from accomp.plugins.tokenizers.codec.music.tones import WithTones
from accomp.plugins.tokenizers.codec.training.magnitude.discriminator import MagnitudeAdversary
from accomp.plugins.tokenizers.codec.training.magnitude.losses import MagnitudeDistance
from accomp.plugins.tokenizers.codec.training.magnitude.texture import TextureDistance
from accomp.plugins.tokenizers.codec.training.magnitude.trainer import MagnitudeTrainer, MagnitudeTrainSpec
from accomp.plugins.tokenizers.codec.training.magnitude.trainers import trainer_of
from accomp.plugins.tokenizers.magnitude import Magnitude

CPU = torch.device("cpu")
SIZES = {"width": 16, "hidden": 16, "encoder_blocks": 1, "decoder_blocks": 1, "latent": 16, "bands": 32}


def trainer(codebooks: int = 3, **keys) -> MagnitudeTrainer:
    settings = {"steps": 6, "batch": 3, "seconds": 0.2, "fit_frames": 200, "warmup": 0, "refit": ()} | keys
    torch.manual_seed(0)
    network = Magnitude.network_of(Magnitude.Config(weights="random", codebooks=codebooks, codebook_size=16, **SIZES))
    return trainer_of(network, MagnitudeTrainSpec(**settings), WithTones(None, 1.0), 7, CPU)


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


@pytest.mark.parametrize("only", ["all", "decoder"])
def test_the_decoder_hears_latents_as_they_are_as_often_as_asked(only):
    one = trainer(codebooks=5, whole=0.4, **({"only": "decoder", "start": "default"} if only == "decoder" else {}))
    heard = Counter(one._levels_heard() is None for _ in range(3000))
    assert abs(heard[True] - 1200) < 110
    one._levels_heard = lambda: None
    made, got = [], []
    latents, decode = one.network.latents, one.network.decode_in_tune
    one.network.latents = lambda *features: made.append(latents(*features)) or made[-1]
    one.network.decode_in_tune = lambda z, history: got.append(z) or decode(z, history)
    parts = one.learn(0.5)
    assert torch.equal(got[-1], made[-1])
    assert ("commitment" in parts) == (only == "all")


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


def test_a_partial_that_flutters_grows_wrongly_and_one_that_is_too_soft_does_not():
    one = trainer()
    magnitudes = torch.zeros(1, 8, 4, 641)
    magnitudes[..., 100] = 0.5
    fluttering, soft = magnitudes.clone(), magnitudes.clone()
    fluttering[:, :, ::2, 100] *= 1.2
    soft[..., 100] *= 0.5
    told = {n: one.distance((m + 1e-5).log(), magnitudes) for n, m in (("fluttering", fluttering), ("soft", soft))}
    assert float(told["fluttering"]["growth"]) == pytest.approx(0.18, abs=0.01)
    assert float(told["soft"]["growth"]) < 0.01


def noise(seed: int, shape: tuple[int, ...] = (4, 25, 4, 641)) -> torch.Tensor:
    """Magnitudes that vary by 6 dB from place to place around -40 dB."""
    return 0.01 * (0.7 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).exp()


def blurred(magnitudes: torch.Tensor) -> torch.Tensor:
    """Means of logarithms over neighbouring bins and sub-frames: the same levels, fainter contrasts."""
    logs = magnitudes.log().flatten(1, 2)
    return F.avg_pool2d(logs[:, None], (5, 21), 1, (2, 10), count_include_pad=False)[:, 0].exp().view_as(magnitudes)


def test_texture_is_about_how_much_a_spectrum_varies_and_not_about_where():
    texture = TextureDistance()
    magnitudes = noise(1)
    logs = {"same": magnitudes, "elsewhere": noise(2), "softer": magnitudes / 2, "blurred": blurred(magnitudes)}
    told = {name: float(texture((m + 1e-5).log(), magnitudes)) for name, m in logs.items()}
    assert told["same"] < 1e-3
    assert told["softer"] < 0.05
    assert told["elsewhere"] < 0.35 * told["blurred"]
    distance = MagnitudeDistance()
    bins = {name: float(distance((logs[name] + 1e-5).log(), magnitudes)["bin"]) for name in ("elsewhere", "blurred")}
    assert bins["blurred"] < bins["elsewhere"]  # which is why distances alone blur


def test_a_lone_tone_s_level_counts_whatever_is_silent_beside_it():
    """A tone that comes back half as loud, or beside its place, in one bin of 641."""
    distance, tone = MagnitudeDistance(), torch.zeros(1, 30, 4, 641)
    tone[..., 40] = 0.3
    decoded = {"softer": tone / 2, "elsewhere": tone.roll(1, dims=-1), "same": tone}
    told = {name: distance((m + 1e-5).log(), tone) for name, m in decoded.items()}
    assert float(told["same"]["loud"]) < 1e-3
    assert float(told["elsewhere"]["loud"]) < 0.1
    assert float(told["softer"]["loud"]) == pytest.approx(math.log(2), rel=0.05)
    assert told["softer"]["loud"] > 5 * max(told["softer"][name] for name in ("bin", "mel", "energy", "level"))
    music = tone + 0.003 * noise(5, tone.shape)
    assert float(distance((music / 2 + 1e-5).log(), music)["loud"]) == pytest.approx(math.log(2), rel=0.1)


@pytest.mark.parametrize("shape", [(1, 1, 4, 641), (2, 3, 4, 641), (1, 200, 4, 641)])
def test_texture_is_taken_of_clips_of_any_length(shape):
    logs = (noise(3, shape) + 1e-5).log().requires_grad_()
    told = TextureDistance()(logs, noise(4, shape))
    (gradient,) = torch.autograd.grad(told, logs)
    assert told.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
    silence = torch.zeros(shape)
    assert float(TextureDistance()((silence + 1e-5).log(), silence)) == 0


def test_fused_distances_are_the_same(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    fused, plain = (trainer(texture=1.0, compile=compiled).learn(0.5) for compiled in (True, False))
    assert fused == pytest.approx(plain, rel=1e-5)


def test_each_unit_of_texture_s_weight_adds_that_much():
    one, other = (trainer(texture=weight, clip=1e9) for weight in (1.0, 3.0))
    first, second = one.learn(0.5), other.learn(0.5)
    assert first["texture"] == pytest.approx(second["texture"])
    assert second["total"] - first["total"] == pytest.approx(2 * first["texture"], rel=1e-4)


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
