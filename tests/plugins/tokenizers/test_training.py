"""Codec training: the command end to end, resuming, bad files, codebooks that live, and what the losses mean."""

import json

import numpy as np
import pytest
import soundfile
import torch
import typer
from typer.testing import CliRunner

from accomp.core.errors import CheckpointError, DataError, SpecError
from accomp.core.registry import Registry
from accomp.plugins.tokenizers.codec.commands import train, train_codec
from accomp.plugins.tokenizers.codec.music.clips import Clips
from accomp.plugins.tokenizers.codec.networks.quantizer import dequantize, new_quantizer, quantize
from accomp.plugins.tokenizers.codec.quality.measures import measure
from accomp.plugins.tokenizers.codec.streams.causal import History
from accomp.plugins.tokenizers.codec.training.codebooks import CodebookTrainer
from accomp.plugins.tokenizers.codec.training.codec_spec import load_codec_spec
from accomp.plugins.tokenizers.codec.training.sound.spectral_losses import SpectralDistance, mel_filters
from accomp.plugins.tokenizers.codec.training.waveform_trainer import WaveformTrainer, WaveformTrainSpec
from accomp.plugins.tokenizers.dac import Dac

CPU = torch.device("cpu")
CODEC = {
    "magnitude": 'plugin = "magnitude"\nwidth = 16\nhidden = 16\nencoder_blocks = 1\ndecoder_blocks = 1',
    "dac": 'plugin = "dac"\nlatent = 16\nencoder_width = 2\ndecoder_width = 16',
}


def tone(seconds: float, pitch: float) -> np.ndarray:
    t = np.arange(round(seconds * 32_000)) / 32_000
    return (0.3 * np.sin(2 * np.pi * pitch * t) * np.exp(-2 * (t % 0.5))).astype(np.float32)


@pytest.fixture
def music(tmp_path):
    root = tmp_path / "music"
    for split in ("train", "validation"):
        (root / split).mkdir(parents=True)
        for pitch in (110.0, 330.0):
            soundfile.write(root / split / f"{pitch:.0f}.flac", tone(1.5, pitch), 32_000)
    return root


def written(folder, root, codec="dac", steps=4, **changes):
    settings = {
        "steps": steps, "batch": 2, "seconds": 0.3, "fit_frames": 60, "autoencoder": 0.5, "revive_every": 1,
        "report_every": 1, "validate_every": 100, "checkpoint_every": 2, "warmup": 0,
    } | changes  # fmt: skip
    if codec == "magnitude":
        del settings["autoencoder"]
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    path = folder / "codec.toml"
    path.write_text(
        f"seed = 3\n[codec]\n{CODEC[codec]}\ncodebooks = 2\ncodebook_size = 16\n"
        f"[data]\nroot = {json.dumps(str(root))}\nexcerpt_seconds = 0.5\n[train]\n{lines}\n"
    )
    return path


def spec_of(path):
    return load_codec_spec(path, Registry(third_party=False))


@pytest.mark.parametrize("codec", ["magnitude", "dac"])
def test_command_trains_and_its_weights_load(codec, tmp_path, music):
    app = typer.Typer()
    app.command()(train)
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [str(written(tmp_path, music, codec)), "--out", str(out), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "codebooks fitted" in result.output
    assert "codes_used_1" in result.output
    report = json.loads((out / "training.json").read_text())
    assert report["files"] == 2
    assert report["quality"]["codes_used_1"] > 1
    spec = spec_of(tmp_path / "codec.toml")
    config = type(spec.config)(**{**_asdict(spec.config), "weights": str(out / "codec.safetensors")})
    tokenizer = spec.tokenizer(config)
    assert tokenizer.encode(torch.zeros(1, 1280)).shape == (1, 2, 2)


def _asdict(config) -> dict:
    return {name: getattr(config, name) for name in config.__slots__ if name != "__weakref__"}


def test_interrupted_training_goes_on_as_if_nothing_had_happened(tmp_path, music):
    path = written(tmp_path, music)
    train_codec(spec_of(path), tmp_path / "whole", CPU)
    spec = spec_of(path)
    clips = Clips.find(music, spec.data.train, 0.3)
    torch.manual_seed(spec.seed)
    trainer = WaveformTrainer(Dac.network_of(spec.config), spec.train, clips, spec.seed, CPU)
    for _ in trainer.steps():
        if trainer.step == 3:  # between fitting the codebooks and the end
            break
    (tmp_path / "halves").mkdir()
    trainer.save(tmp_path / "halves" / "checkpoint.pt")
    (tmp_path / "halves" / "spec.json").write_text((tmp_path / "whole" / "spec.json").read_text())
    train_codec(spec, tmp_path / "halves", CPU)
    whole, halves = ((tmp_path / name / "codec.safetensors").read_bytes() for name in ("whole", "halves"))
    assert whole == halves


def test_a_finished_training_is_not_repeated(tmp_path, music, capsys):
    path = written(tmp_path, music)
    train_codec(spec_of(path), tmp_path / "out", CPU)
    before = (tmp_path / "out" / "codec.safetensors").read_bytes()
    train_codec(spec_of(path), tmp_path / "out", CPU)
    assert "continuing at step 4 of 4" in capsys.readouterr().out
    assert (tmp_path / "out" / "codec.safetensors").read_bytes() == before


def test_another_spec_or_a_damaged_checkpoint_is_not_continued(tmp_path, music):
    train_codec(spec_of(written(tmp_path, music)), tmp_path / "out", CPU)
    with pytest.raises(CheckpointError, match="belongs to another spec"):
        train_codec(spec_of(written(tmp_path, music, steps=5)), tmp_path / "out", CPU)
    checkpoint = tmp_path / "out" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="cannot continue the training"):
        train_codec(spec_of(written(tmp_path, music)), tmp_path / "out", CPU)


def test_adversarial_training_takes_part(tmp_path, music):
    path = written(tmp_path, music, steps=2, adversarial=1.0, adversary_periods=[], adversary_windows=[512])
    spec = spec_of(path)
    trainer = WaveformTrainer(Dac.network_of(spec.config), spec.train, Clips.find(music, spec.data.train, 0.3), 0, CPU)
    judged_by = trainer.judge.adversary.discriminator
    before = [p.detach().clone() for p in judged_by.parameters()]
    parts = [dict(parts) for parts in trainer.steps()]
    assert all({"fool", "features", "discriminator"} <= p.keys() for p in parts)
    assert any(not torch.equal(a, b) for a, b in zip(before, judged_by.parameters(), strict=True))


def test_codebooks_behind_the_trained_ones_come_last_and_change_nothing_else(tmp_path, music):
    spec = spec_of(written(tmp_path, music, codebooks=1, follow_steps=3))
    clips = Clips.find(music, spec.data.train, 0.3)
    trainer = WaveformTrainer(Dac.network_of(spec.config), spec.train, clips, 0, CPU)
    behind = {name for name in trainer.network.state_dict() if name.startswith("quantizer.quantizers.1.")}

    def state() -> dict:
        return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}

    first = state()
    for _ in trainer.steps():
        pass
    trained = state()
    assert all(torch.equal(trained[name], first[name]) for name in behind)
    (left,) = trainer.finish()
    last = state()
    assert 0 < left < 1
    assert {name for name in last if not torch.equal(last[name], trained[name])} <= behind
    assert not torch.equal(
        last["quantizer.quantizers.1.codebook.weight"], first["quantizer.quantizers.1.codebook.weight"]
    )
    with pytest.raises(SpecError, match="codebooks = 3"):
        WaveformTrainer(trainer.network, WaveformTrainSpec(steps=1, codebooks=3), clips, 0, CPU)


def test_the_report_tells_of_the_trained_codebooks_and_of_all(tmp_path, music):
    quality = train_codec(spec_of(written(tmp_path, music, codebooks=1, follow_steps=1)), tmp_path / "out", CPU)
    report = json.loads((tmp_path / "out" / "training.json").read_text())
    assert quality == report["quality"]
    assert "codes_used_2" not in quality
    assert report["quality_of_all_codebooks"]["codes_used_1"] == quality["codes_used_1"]
    assert report["quality_of_all_codebooks"]["codes_used_2"] > 1


def test_training_touches_no_global_random_state(tmp_path, music):
    torch.manual_seed(9)
    before = torch.get_rng_state()
    train_codec(spec_of(written(tmp_path, music, steps=2)), tmp_path / "out", CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_unusable_files_are_named_and_counted(tmp_path, music, capsys):
    (music / "train" / "broken.flac").write_bytes(b"fLaC but no more")
    soundfile.write(music / "train" / "short.wav", tone(0.1, 200.0), 32_000)
    soundfile.write(music / "train" / "nan.wav", np.full(64_000, np.nan, np.float32), 32_000, subtype="FLOAT")
    train_codec(spec_of(written(tmp_path, music, steps=6)), tmp_path / "out", CPU)
    told = capsys.readouterr().err
    assert "2 files left out" in told
    assert "broken.flac" in told
    assert "shorter than a clip" in told
    assert "1 files could not be read while training: nan.wav" in told
    skipped = json.loads((tmp_path / "out" / "training.json").read_text())["skipped"]
    assert len(skipped) == 3


def test_no_music_is_an_error(tmp_path, music):
    with pytest.raises(DataError, match="no such folder"):
        Clips.find(tmp_path / "elsewhere", ["*"], 1.0)
    with pytest.raises(DataError, match="no usable audio"):
        Clips.find(music, ["**/*.mp3"], 1.0)
    soundfile.write(tmp_path / "nan.wav", np.full(64_000, np.nan, np.float32), 32_000, subtype="FLOAT")
    clips = Clips.find(tmp_path, ["nan.wav"], 1.0)
    with pytest.raises(DataError, match="not one of 1 audio files can be read"):
        clips.draw(1, 1.0, 32_000, torch.Generator(), lambda path, why: None)


def test_mistakes_in_a_codec_spec_come_together(tmp_path, music):
    path = written(tmp_path, music, stepz=3, lr=-1.0)
    path.write_text(path.read_text().replace("width = 16", 'width = "wide"\nweights = "default"'))
    with pytest.raises(SpecError) as caught:
        spec_of(path)
    text = str(caught.value)
    assert "unknown key 'stepz'" in text
    assert "codec" in text
    assert "training starts from random weights" in text
    assert "train.lr" in text


def test_codec_section_must_name_a_trainable_tokenizer(tmp_path):
    path = tmp_path / "codec.toml"
    path.write_text('[data]\nroot = "x"\n[train]\nsteps = 1\n')
    with pytest.raises(SpecError, match=r"section \[codec\] with plugin = one of dac, encodec, magnitude"):
        spec_of(path)


def latents(n: int = 3000) -> torch.Tensor:
    """Clusters of uneven scale, [n, 12]."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(40, 12, generator=rng) * torch.linspace(2, 0.1, 12)
    return centres[torch.randint(40, (n,), generator=rng)] + 0.02 * torch.randn(n, 12, generator=rng) + 3.0


def test_fitted_codebooks_explain_and_use_all_their_codes():
    z = latents()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        quantizer = new_quantizer(12, 3, 32, 6)
    left = CodebookTrainer(quantizer.quantizers, torch.Generator().manual_seed(1)).fit(z)
    codes = quantize(quantizer, z[None])
    rest = (dequantize(quantizer, codes)[0].detach() - z).square().sum() / (z - z.mean(0)).square().sum()
    assert left == sorted(left, reverse=True)
    assert float(rest) == pytest.approx(left[-1], rel=1e-3)
    assert left[-1] < 0.05
    assert min(len(codes[0, q].unique()) for q in range(3)) > 24


def test_codebooks_follow_the_latents_and_dead_codes_revive():
    z = latents()
    quantizer = new_quantizer(12, 2, 32, 6)
    trainer = CodebookTrainer(quantizer.quantizers, torch.Generator().manual_seed(1))
    trainer.fit(z)
    with torch.no_grad():
        quantizer.quantizers[0].codebook.weight[:20] = 100.0  # nothing is near them
        trainer.totals[0, :20] = 100.0
        trainer.counts[0, :20] = 0.5
    for _ in range(300):
        trainer.quantize(z[None, :300])
    assert (trainer.counts[0, :20] < 0.05).sum() >= 19
    assert trainer.revive(z[None]) >= 19
    used = quantize(quantizer, z[None])[0, 0].unique()
    assert (used < 20).sum() > 10


def test_the_decoders_gradient_passes_the_quantizer():
    z = latents(200)[None].requires_grad_()
    quantizer = new_quantizer(12, 2, 32, 6)
    trainer = CodebookTrainer(quantizer.quantizers, torch.Generator().manual_seed(1))
    trainer.fit(z[0].detach())
    out, loss, codes = trainer.quantize(z)
    weights = torch.arange(12.0)
    (gradient,) = torch.autograd.grad((out * weights).sum(), z, retain_graph=True)
    torch.testing.assert_close(gradient, weights.expand_as(gradient))
    assert torch.equal(codes, quantize(quantizer, z.detach()))
    loss.backward()
    assert all(level.in_proj.weight_v.grad.abs().sum() > 0 for level in quantizer.quantizers)


def test_distance_is_zero_for_equal_sound_and_tells_loudness_and_phase():
    distance = SpectralDistance(32_000)
    x = torch.from_numpy(tone(1.0, 220.0) + tone(1.0, 1000.0))[None]
    assert all(float(value) < 1e-3 for value in distance(x, x).values())
    half = distance(0.5 * x, x)
    assert float(half["linear"]) == pytest.approx(0.5, abs=0.01)
    assert float(half["low"]) < 1e-3
    assert float(half["energy"]) < np.log(2)
    flipped = distance(-x, x)
    assert float(flipped["low"]) == pytest.approx(2.0, abs=1e-2)
    assert float(flipped["log"]) < 1e-3


def test_mel_filters_cover_every_frequency_once():
    filters = mel_filters(80, 1025, 32_000)
    assert (filters.sum(1) > 0).all()
    inside = filters.sum(0)[30:960]
    torch.testing.assert_close(inside, torch.ones_like(inside), atol=0.05, rtol=0)


def test_measure_tells_a_perfect_codec_from_a_mute_one():
    class Perfect:
        space = Dac.space_of(Dac.Config(codebooks=1, codebook_size=4))

        def __init__(self, gain: float):
            self.gain = gain

        def encode(self, audio):
            self.audio = audio
            return torch.arange(audio.shape[1] // 640)[None, None] % 4

        def decode(self, codes):
            return self.gain * self.audio

    sound = torch.from_numpy(tone(1.0, 300.0))
    good = measure(Perfect(1.0), [sound])
    assert good["log_mel_db"] < 0.01
    assert good["rms_ratio"] == pytest.approx(1.0)
    assert good["low_coherence"] == pytest.approx(1.0, abs=1e-3)
    assert good["codes_used_1"] == 4
    assert good["perplexity_1"] == pytest.approx(4.0, rel=1e-2)
    assert good["silence_db"] == -200
    assert measure(Perfect(0.5), [sound])["rms_ratio"] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="need at least one excerpt"):
        measure(Perfect(1.0), [])


def test_a_loss_that_is_not_a_number_stops_the_training(tmp_path, music):
    network = Dac.network_of(spec_of(written(tmp_path, music)).config)
    trainer = WaveformTrainer(
        network,
        WaveformTrainSpec(steps=1, batch=1, seconds=0.3, autoencoder=1.0),
        Clips.find(music, ["**/*.flac"], 0.3),
        0,
        CPU,
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"at step 0; lower \[train\] lr"):
        next(trainer.steps())


def test_decoding_is_the_same_with_and_without_history_objects():
    network = Dac.network_of(Dac.Config(latent=16, encoder_width=2, decoder_width=16))
    z = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(0))
    whole = network.decode(z, History(), final=True)
    history = History()
    parts = [network.decode(z[:, i : i + 1], history, final=i == 5) for i in range(6)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-6, rtol=1e-5)
