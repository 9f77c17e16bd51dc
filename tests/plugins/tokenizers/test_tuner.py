"""What says frequencies: what it learns against, its bounds, files with one and without, and that it learns."""

import math
from pathlib import Path

import pytest
import torch
from codecs_that_follow import SMALL, lively
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from accomp.core.errors import CheckpointError, SpecError
from accomp.core.registry import Registry
from accomp.plugins.tokenizers.codec.files.weight_files import save_weights
from accomp.plugins.tokenizers.codec.networks.magnitude_network import STEP, WINDOW
from accomp.plugins.tokenizers.codec.networks.tuner import (
    REACH,
    TUNED,
    Tuner,
    bounded,
    by_slopes,
    mistuning,
    true_tuning,
)
from accomp.plugins.tokenizers.codec.streams.causal import History
from accomp.plugins.tokenizers.codec.training.codec_spec import load_codec_spec
from accomp.plugins.tokenizers.codec.training.magnitude.trainer import MagnitudeTrainSpec
from accomp.plugins.tokenizers.codec.training.magnitude.trainers import trainer_of
from accomp.plugins.tokenizers.magnitude import Magnitude

pytest.importorskip("numba")

RATE = 32_000
CODEC = {**SMALL, "codebooks": 2, "circles": 0}
WITH_CIRCLES = CODEC | {"circles": 2}


def sines(*hertz: float, seconds: float = 0.5) -> torch.Tensor:
    """[1, N]"""
    time = torch.arange(int(seconds * RATE) // 640 * 640, dtype=torch.float64) / RATE
    return sum(0.1 * torch.sin(2 * math.pi * f * time) for f in hertz)[None]


@pytest.mark.parametrize("hertz", [110.0, 443.0, 1234.5])
def test_the_truth_is_the_frequency_of_a_sine_in_every_bin_of_its_lobe(hertz):
    off, _ = true_tuning(sines(hertz), WINDOW, STEP)
    place = hertz * WINDOW / RATE
    assert off.shape == (1, 100, TUNED)
    for m in range(math.ceil(place - 1.4), math.floor(place + 1.4) + 1):
        assert (off[0, 10:, m] - (place - m)).abs().max() < 0.02, m


def test_what_matters_are_peaks_that_last_and_low_ones_more():
    sound = sines(200.0, 1500.0)
    _, matter = true_tuning(sound, WINDOW, STEP)
    steady = matter[0, 20:].mean(0)
    peaks = [m for m in range(1, TUNED - 1) if steady[m] > max(steady[m - 1], steady[m + 1]) and steady[m] > 0.1]
    assert peaks == [8, 60]
    assert steady[8] > 2 * steady[60] > 100 * steady[30]
    _, silent = true_tuning(torch.zeros_like(sound), WINDOW, STEP)
    assert not silent.any()


def test_an_error_counts_where_it_matters_and_truth_out_of_reach_is_not_chased():
    true, matter = torch.zeros(1, 1, 3), torch.tensor([[[1.0, 0.0, 0.0]]])
    assert mistuning(torch.tensor([[[0.0, 9.0, 9.0]]]), true, matter) == 0
    assert mistuning(torch.tensor([[[0.5, 0.0, 0.0]]]), true, matter) > 0.1
    assert mistuning(torch.full((1, 1, 3), REACH), true + 4, matter) == 0


@pytest.mark.parametrize("hertz", [262.5, 443.0])
def test_slopes_of_true_magnitudes_say_the_truth(hertz):
    sound = sines(hertz)
    taper = torch.hann_window(WINDOW, dtype=torch.float64)
    said = by_slopes(torch.fft.rfft(sound[0, 6400:].unfold(0, WINDOW, STEP) * taper).abs() / 320)
    place = hertz * WINDOW / RATE
    assert said.shape[1] == TUNED
    assert (said[:, round(place)] - (place - round(place))).abs().max() < 0.02


def test_it_says_nothing_at_first_and_never_more_than_its_reach():
    tuner = Tuner(24, 24, 32, 2, 7, 4)
    features = torch.randn(2, 5, 24)
    assert tuner(features, History()).shape == (2, 20, TUNED)
    assert not tuner(features, History()).any()
    said = bounded(torch.tensor([-1e6, -1.0, 0.0, 1.0, 1e6]))
    assert said.abs().max() <= REACH
    assert torch.allclose(said[1:4], torch.tensor([-REACH / 2, 0.0, REACH / 2]))


class Tones:
    """Sines of one of two frequencies, half a bin from the middle of theirs."""

    def draw(self, n, seconds, rate, rng, skip):
        hertz = torch.tensor([262.5, 787.5])[torch.randint(2, (n, 1), generator=rng)]
        return 0.3 * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


def beginning(tmp_path, **changes):
    """The network of a file without a tuner, with one to be trained, and its trainer."""
    without = Magnitude.Config(**CODEC, tuner_blocks=0)
    torch.manual_seed(0)
    network = Magnitude.network_of(without)
    network.mean.fill_(-6.0)
    path = tmp_path / "old.safetensors"
    save_weights(path, network, "magnitude", Magnitude.architecture(without), half=False)
    config = Magnitude.Config(**CODEC | {"weights": str(path)}, tuner_blocks=1)
    spec = MagnitudeTrainSpec(**{"steps": 120, "batch": 4, "seconds": 0.2, "lr": 1e-2, "warmup": 1, **changes})
    begun = Magnitude.beginning(config, str(path), 0)
    return path, begun, trainer_of(begun, spec, Tones(), 0, torch.device("cpu"))


def test_alone_it_learns_and_the_rest_stays(tmp_path):
    _, network, trainer = beginning(tmp_path, only="tuner", start="x", average=0.9)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    heard = [parts["tuning"] for parts in trainer.steps()]
    trainer.finish()
    assert sum(heard[-10:]) < 0.5 * sum(heard[:10])
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("tuner.") for name in changed)


def test_a_resumed_training_ends_as_one_that_was_not_stopped(tmp_path):
    settings = {"only": "tuner", "start": "x", "average": 0.5, "keep": 3, "again": 2, "steps": 8}
    _, whole, trainer = beginning(tmp_path, **settings)
    for number, _ in enumerate(trainer.steps()):
        if number == 4:
            trainer.save(tmp_path / "half.pt")
    _, rest, resumed = beginning(tmp_path, **settings)
    resumed.load(tmp_path / "half.pt")
    assert len(list(resumed.steps())) == 3
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in rest.state_dict().items())


def test_a_file_comes_with_its_tuner_or_without_and_codes_are_the_same(tmp_path):
    path, network, _ = beginning(tmp_path)
    old = Magnitude(Magnitude.Config(**CODEC | {"weights": str(path)}))
    assert old.network.tuner is None
    new_path = tmp_path / "new.safetensors"
    made = Magnitude.Config(**CODEC, tuner_blocks=1)
    save_weights(new_path, network, "magnitude", Magnitude.architecture(made), half=False)
    new = Magnitude(Magnitude.Config(**CODEC | {"weights": str(new_path)}))
    assert new.network.tuner is not None
    assert new.fingerprint == old.fingerprint
    assert new.decoder_fingerprint != old.decoder_fingerprint
    sound = sines(262.5).float()
    assert torch.equal(new.encode(sound), old.encode(sound))
    again = Magnitude.beginning(made, str(new_path), 5)
    assert torch.equal(again.tuner.enter.weight, network.tuner.enter.weight)


@pytest.mark.parametrize("name", ["codec_magnitude_decoder", "codec_magnitude_tuner", "codec_magnitude_rare_codes"])
def test_shipped_recipes_begin_with_the_shipped_weights(name):
    spec = load_codec_spec(Path(name), Registry())
    begun = Magnitude.beginning(spec.config, spec.train.start, spec.seed)
    shipped = Magnitude(Magnitude.Config(codebooks=8)).network
    assert all(torch.equal(tensor, begun.state_dict()[key]) for key, tensor in shipped.state_dict().items())


def test_a_decoder_s_training_gives_circles_to_weights_without(tmp_path):
    """The levels from there on are fitted anew; the earlier ones keep their codes, and at first the same sound."""
    plain = lively(codebooks=2, circles=0, tuner_blocks=1)
    old, path = plain.network.float(), tmp_path / "old.safetensors"
    sizes = Magnitude.architecture(Magnitude.Config(**CODEC, tuner_blocks=1))
    save_weights(path, old, "magnitude", sizes, half=False)
    config = Magnitude.Config(**WITH_CIRCLES, tuner_blocks=1)
    begun = Magnitude.beginning(config, str(path), 0)
    assert [level.codebook.isnan().any().item() for level in begun.quantizer.levels] == [False, True]
    spec = MagnitudeTrainSpec(steps=1, batch=4, seconds=0.2, lr=1e-9, final_lr=0.0, only="decoder", start="x")
    trainer = trainer_of(begun, spec, Tones(), 0, torch.device("cpu"))
    (told,) = trainer.steps()
    trainer.finish()
    assert told["unexplained_2"] < told["unexplained_1"]
    sound = sines(262.5).float()
    made = Magnitude.trained(config, begun)
    assert torch.equal(made.encode(sound)[:, 0], plain.encode(sound)[:, 0])
    z = made.embed(made.encode(sound))
    assert z[..., old.quantizer.latent :].abs().max() > 1, "a steady tone has a pitch"
    want = old.decode_in_tune(z[..., : old.quantizer.latent], History())
    assert want[1].abs().max() > 0.01
    torch.testing.assert_close(begun.decode_in_tune(z, History()), want, atol=1e-5, rtol=1e-5)
    same = old.whitening.state_dict()
    for name, tensor in begun.whitening.state_dict().items():
        assert torch.equal(tensor[tuple(map(slice, same[name].shape))], same[name])
    assert not torch.equal(begun.whitening.deviation[-16:], torch.ones(16))


def test_circles_of_a_file_are_stated_in_the_spec_as_they_decide_the_size_of_a_latent(tmp_path):
    config = Magnitude.Config(**WITH_CIRCLES)
    path = tmp_path / "circles.safetensors"
    save_weights(path, Magnitude.network_of(config), "magnitude", Magnitude.architecture(config), half=False)
    with pytest.raises(CheckpointError, match=r"the weights have circles = 2, .* set \[tokenizer\] circles = 2 or"):
        Magnitude(Magnitude.Config(**CODEC | {"weights": str(path)}))
    without, _, _ = beginning(tmp_path)
    with pytest.raises(CheckpointError, match=r"the weights have circles = 0, .* set \[tokenizer\] circles = 0 or"):
        Magnitude(Magnitude.Config(**WITH_CIRCLES | {"weights": str(without)}))
    stated = Magnitude.Config(**WITH_CIRCLES | {"weights": str(path)})
    assert Magnitude(stated).space == Magnitude.space_of(stated)


def test_a_file_that_states_a_tuner_and_has_none_is_refused(tmp_path):
    path, _, _ = beginning(tmp_path)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    header = {key: value.replace('"width"', '"tuner_blocks": 1, "width"') for key, value in header.items()}
    save_file(load_file(path), path.with_name("odd.safetensors"), header)
    with pytest.raises(CheckpointError, match=r"do not fit the sizes .*tuner"):
        Magnitude(Magnitude.Config(**CODEC | {"weights": str(path.with_name("odd.safetensors"))}))


def test_it_cannot_be_trained_where_there_is_none_or_nothing_to_start_from():
    config = Magnitude.Config(**CODEC, tuner_blocks=0)

    def trainer(spec: dict[str, str]) -> object:
        trained = MagnitudeTrainSpec(steps=1, only="tuner", **spec)
        return trainer_of(Magnitude.network_of(config), trained, Tones(), 0, torch.device("cpu"))

    for spec, said in (({"start": "x"}, "tuner_blocks over 0 @ codec.tuner_blocks"), ({}, "needs weights to start")):
        with pytest.raises(SpecError, match=said):
            trainer(spec)
