"""Codec training from music held in memory, with stems mixed, levels and equaliser varied; and by the clock."""

import json

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from accomp.core.errors import CheckpointError, DataError, SpecError
from accomp.core.registry import Registry
from accomp.plugins.tokenizers.codec.commands import train_codec
from accomp.plugins.tokenizers.codec.files.weight_files import save_weights
from accomp.plugins.tokenizers.codec.music.augment import at_speed, vary
from accomp.plugins.tokenizers.codec.music.clips import Clips
from accomp.plugins.tokenizers.codec.music.files import matching
from accomp.plugins.tokenizers.codec.music.resident import MOST, ResidentClips
from accomp.plugins.tokenizers.codec.training.codec_spec import load_codec_spec
from accomp.plugins.tokenizers.codec.training.sound.discriminator import Adversary
from accomp.plugins.tokenizers.codec.training.waveform_trainer import WaveformTrainer, WaveformTrainSpec
from accomp.plugins.tokenizers.dac import Dac

RATE = 32_000
CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def constant(path, value: float, seconds: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(round(seconds * RATE), value, np.float32), RATE)


def resident(root, skipped=None, seconds: float = 0.1, notes=None) -> ResidentClips:
    clips = Clips.find(root, ["**/*.wav"], seconds)
    skip = {}.__setitem__ if skipped is None else skipped.__setitem__
    notes = [] if notes is None else notes
    return ResidentClips(clips, RATE, CPU, skip, lambda units=1, *, note="": notes.append(note))


def draw(music, n: int, seconds: float = 0.1, seed: int = 0) -> torch.Tensor:
    return music.draw(n, seconds, RATE, generator(seed), lambda path, why: None)


def test_only_stems_of_one_song_are_mixed(tmp_path):
    for name, value in (("a", 0.01), ("b", 0.03)):
        constant(tmp_path / "one" / f"{name}.wav", value)
    constant(tmp_path / "two" / "alone.wav", -0.09)
    clips = draw(resident(tmp_path), 400)
    assert clips.shape == (400, 3200)
    assert (clips == clips[:, :1]).all()
    heard = clips[:, 0]
    assert ((heard < 0) == (heard < -0.02)).all()  # -0.09 at any gain, never plus 0.01 or 0.03
    whole = torch.isclose(heard, torch.tensor(0.04), atol=1e-4) | torch.isclose(heard, torch.tensor(-0.09), atol=1e-4)
    assert 0.4 < whole.float().mean() < 0.6  # every other clip is the song as it is
    assert 0.25 < (heard < 0).float().mean() < 0.42  # by stem length: 1 of 3
    assert len(heard.unique()) > 150


def test_a_clip_is_a_stretch_of_the_song(tmp_path):
    ramp = np.arange(-RATE // 2, RATE // 2, dtype=np.int16)
    (tmp_path / "song").mkdir()
    soundfile.write(tmp_path / "song" / "a.wav", ramp, RATE)
    clips = draw(resident(tmp_path), 200)
    slope = (clips[:, 1:] - clips[:, :-1]).double()
    gain = slope.mean(1) * 32768
    start = clips[:, 0].double() * 32768 / gain + RATE // 2
    assert (slope * 32768 - gain[:, None]).abs().max() < 0.05
    assert float(start.min()) >= -0.1
    assert float(start.max()) <= RATE - 3200 + 0.1
    assert float(start.max() - start.min()) > 0.9 * (RATE - 3200)


def test_silent_clips_are_dropped_first_and_the_seed_decides(tmp_path):
    constant(tmp_path / "loud" / "a.wav", 0.05, 6.0)
    constant(tmp_path / "silent" / "a.wav", 0.0, 1.0)
    music = resident(tmp_path)
    clips = draw(music, 40)
    assert (clips.abs().amax(1) > 0).all()
    assert torch.equal(clips, draw(music, 40))
    assert not torch.equal(clips, draw(music, 40, seed=1))


def test_songs_with_many_stems_take_turns(tmp_path):
    n = MOST + 4
    for i in range(n):
        constant(tmp_path / "song" / f"{i:02d}.wav", 2.0 ** -(i % 8 + 4))
    clips = draw(resident(tmp_path), 300)
    assert torch.isfinite(clips).all()
    assert len(clips[:, 0].unique()) > 200  # even unvaried clips differ in which stems were left out


def test_unreadable_music_is_told_of_and_none_at_all_is_an_error(tmp_path):
    soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    with pytest.raises(DataError, match="not one of 1 audio files"):
        resident(tmp_path)
    constant(tmp_path / "good.wav", 0.1)
    skipped, notes = {}, []
    resident(tmp_path, skipped, notes=notes)
    assert [path.name for path in skipped] == ["nan.wav"]
    assert sorted(notes) == sorted(path.stem for path in tmp_path.rglob("*.wav"))


def test_music_of_another_rate_is_resampled_once(tmp_path):
    soundfile.write(tmp_path / "slow.wav", np.full(16_000, 0.05, np.float32), 16_000)
    music = resident(tmp_path)
    assert int(music.lengths) == RATE
    with pytest.raises(ValueError, match="the music is at 32000 Hz"):
        music.draw(1, 0.1, 16_000, generator(), lambda path, why: None)


def test_levels_stay_in_their_range_and_peaks_below_one():
    clips = torch.full((500, 64), 0.1)
    gains = 20 * (vary(clips, (-20.0, 10.0), 0.0, generator())[:, 0] / 0.1).log10()
    assert float(gains.min()) > -20.01
    assert float(gains.max()) < 10.01
    assert float(gains.max() - gains.min()) > 28
    assert float(vary(10 * clips, (0.0, 12.0), 0.0, generator()).abs().max()) <= 1.0


def test_the_equaliser_turns_frequencies_up_and_down_without_delay():
    clip = torch.zeros(300, 8192)
    clip[:, 4096] = 0.1
    shaped = vary(clip, (0.0, 0.0), 3.0, generator())
    assert (shaped.abs().argmax(1) == 4096).all()
    response = 20 * (torch.fft.rfft(shaped).abs() / 0.1).log10()
    at = [round(4096 / 2**octave) for octave in range(7)]
    torch.testing.assert_close(response[:, at].std(0), torch.full((7,), 3.0), atol=0.6, rtol=0)
    assert float(np.corrcoef(response[:, at].T)[~np.eye(7, dtype=bool)].max()) < 0.3
    assert torch.equal(vary(clip, (0.0, 0.0), 0.0, generator()), clip)


def spec_file(folder, root, **train):
    settings = {"steps": 4, "batch": 2, "seconds": 0.3, "fit_frames": 60, "warmup": 0, "report_every": 1} | train
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    path = folder / "codec.toml"
    path.write_text(
        '[codec]\nplugin = "dac"\nlatent = 16\nencoder_width = 2\ndecoder_width = 16\n'
        "codebooks = 2\ncodebook_size = 16\n"
        f'[data]\nroot = {json.dumps(str(root))}\ntrain = ["**/*.wav"]\nheld_out = []\nresident = true\n'
        f"[train]\n{lines}\n"
    )
    return path


def tone(path, pitch: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.2 * np.sin(2 * np.pi * pitch * np.arange(RATE) / RATE), RATE)


def test_training_from_memory_runs_to_the_end_and_for_the_time_given(tmp_path):
    tone(tmp_path / "song" / "a.wav", 220.0)
    tone(tmp_path / "song" / "b.wav", 330.0)
    spec = load_codec_spec(spec_file(tmp_path, tmp_path / "song"), Registry(third_party=False))
    train_codec(spec, tmp_path / "steps", CPU)
    assert json.loads((tmp_path / "steps" / "training.json").read_text())["steps"] == 4
    train_codec(spec, tmp_path / "time", CPU, minutes=0.02)
    assert (tmp_path / "time" / "codec.safetensors").is_file()
    told = json.loads((tmp_path / "time" / "training.json").read_text())
    assert told["training_seconds"] >= 1


class Clock:
    """Goes on by a second whenever it is asked to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def timed(root, clock, **train) -> WaveformTrainer:
    spec = load_codec_spec(spec_file(root, root / "song", **train), Registry(third_party=False))
    network = Dac.network_of(spec.config)
    return WaveformTrainer(network, spec.train, resident(root / "song", seconds=0.3), 0, CPU, seconds=10.0, clock=clock)


def test_with_a_time_limit_every_phase_has_its_share_of_the_time(tmp_path):
    tone(tmp_path / "song" / "a.wav", 220.0)
    clock = Clock()
    trainer = timed(tmp_path, clock, autoencoder=0.5, refit_every=2, refit_until=0.75, lr=1e-2, final_lr=0.0)
    fits, rates = [], []
    for parts in trainer.steps():
        if "unexplained_1" in parts:
            fits.append(clock.now)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        assert ("quantizer" in parts) == (clock.now >= 5.0)
        clock.now += 1.0
    assert fits == [5.0, 7.0]
    assert len(rates) == 10
    assert rates == sorted(rates, reverse=True)
    assert rates[5] == pytest.approx(0.5e-2)


def test_time_of_earlier_sittings_counts(tmp_path):
    tone(tmp_path / "song" / "a.wav", 220.0)
    first, later = Clock(), Clock()
    trainer = timed(tmp_path, first)
    for _ in trainer.steps():
        first.now += 1.0
        if first.now == 6.0:
            trainer.save(tmp_path / "checkpoint.pt")
            break
    later.now = 1000.0
    again = timed(tmp_path, later)
    again.load(tmp_path / "checkpoint.pt")
    assert again.progress == pytest.approx(0.6)
    assert (again.step, again.fitted) == (trainer.step, trainer.fitted)
    for _ in again.steps():
        later.now += 1.0
    assert later.now == 1004.0


def adversary(**changes) -> Adversary:
    spec = WaveformTrainSpec(steps=1, adversary_periods=(), adversary_windows=(512,), **changes)
    return Adversary(spec, RATE, 0, CPU)


def test_discriminators_hear_levels_and_learn_at_the_rate_given():
    partner = adversary()
    sound = 0.1 * torch.sin(torch.arange(8000) * 0.05)[None]
    same, soft = (partner.judge(gain * sound, sound, 0.0)["features"] for gain in (1.0, 0.5))
    assert float(same) == 0.0
    assert float(soft) > 0.0
    before = [p.detach().clone() for p in partner.discriminator.parameters()]
    partner.judge(0.5 * sound, sound, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, partner.discriminator.parameters(), strict=True))
    partner.judge(0.5 * sound, sound, 1e-3)
    assert any(not torch.equal(a, b) for a, b in zip(before, partner.discriminator.parameters(), strict=True))
    assert all(p.requires_grad for p in partner.discriminator.parameters())


def test_near_silence_is_not_blown_up_for_the_discriminators():
    partner = adversary()
    silence = torch.zeros(1, 8000)
    decoded = torch.full((1, 8000), 1e-6).requires_grad_()
    parts = partner.judge(decoded, silence, 0.0)
    (gradient,) = torch.autograd.grad(parts["features"] + parts["fool"], decoded)
    assert torch.isfinite(gradient).all()
    assert float(gradient.abs().max()) < 1


def test_half_precision_judges_like_full():
    sound = 0.3 * torch.randn(1, 4000, generator=generator())
    decoded = 0.9 * sound
    full, half = (adversary(precision=name).judge(decoded, sound, 0.0) for name in ("float32", "bfloat16"))
    for name in ("fool", "features", "discriminator"):
        assert float(half[name]) == pytest.approx(float(full[name]), rel=0.05)


def test_windows_must_hold_those_of_the_parts(tmp_path):
    with pytest.raises(SpecError, match="1024 and 2048 must be among them"):
        load_codec_spec(spec_file(tmp_path, tmp_path, windows=[512]), Registry(third_party=False))


@pytest.mark.parametrize("samples", [2000, 4000, 5000])
def test_another_speed_is_another_length_and_pitch_and_the_same_sound(samples):
    t = torch.arange(4000, dtype=torch.float64)
    tones = torch.stack([torch.sin(2 * torch.pi * 40 * t / 4000), 0.3 * torch.cos(2 * torch.pi * 100 * t / 4000)])
    u = torch.arange(samples, dtype=torch.float64)
    wanted = torch.stack(
        [torch.sin(2 * torch.pi * 40 * u / samples), 0.3 * torch.cos(2 * torch.pi * 100 * u / samples)]
    )
    torch.testing.assert_close(at_speed(tones, samples), wanted, atol=1e-9, rtol=0)


def test_clips_at_another_speed_still_have_their_length_and_the_seed_decides(tmp_path):
    ramp = np.linspace(-0.5, 0.5, RATE).astype(np.float32)
    (tmp_path / "song").mkdir()
    soundfile.write(tmp_path / "song" / "a.wav", ramp, RATE)
    clips = Clips.find(tmp_path, ["**/*.wav"], 0.1)
    network = Dac.network_of(Dac.Config(latent=16, encoder_width=2, decoder_width=16))

    def drawn(speed: float) -> torch.Tensor:
        spec = WaveformTrainSpec(steps=1, batch=3, seconds=0.1, speed=speed, levels=(0.0, 0.0))
        trainer = WaveformTrainer(network, spec, clips, 7, CPU)
        return torch.stack([trainer.draw() for _ in range(4)])

    assert drawn(0.5).shape == (4, 3, 3200)
    assert torch.equal(drawn(0.5), drawn(0.5))
    assert not torch.allclose(drawn(0.5), drawn(0.0))


def test_training_starts_from_weights_and_refuses_those_of_other_sizes(tmp_path):
    constant(tmp_path / "music" / "a.wav", 0.1)
    sizes = {"latent": 16, "encoder_width": 2, "decoder_width": 16, "codebooks": 2, "codebook_size": 8}
    first = Dac.network_of(Dac.Config(**sizes))
    weights = tmp_path / "first.safetensors"
    save_weights(weights, first, "dac", Dac.architecture(Dac.Config(**sizes)), half=False)

    def trained(latent: int) -> dict:
        keys = "\n".join(f"{key} = {value}" for key, value in (sizes | {"latent": latent}).items())
        (tmp_path / "codec.toml").write_text(
            f'[codec]\nplugin = "dac"\n{keys}\n[data]\nroot = {json.dumps(str(tmp_path / "music"))}\n'
            f'train = ["*.wav"]\nheld_out = []\n[train]\nstart = {json.dumps(str(weights))}\nsteps = 1\nbatch = 1\n'
            "seconds = 0.3\nautoencoder = 1.0\nlr = 1e-12\nfinal_lr = 0.0\n"
        )
        train_codec(load_codec_spec(tmp_path / "codec.toml", Registry(third_party=False)), tmp_path / str(latent), CPU)
        return load_file(tmp_path / str(latent) / "codec.safetensors")

    last = trained(16)
    assert all(
        torch.allclose(last[name].float(), tensor, atol=1e-3, rtol=1e-3) for name, tensor in first.state_dict().items()
    )
    with pytest.raises(CheckpointError, match="latent = 16, the spec asks for 20"):
        trained(20)


def test_hidden_files_and_folders_are_left_out(tmp_path):
    """What another program has not finished yet; the first pattern of a file counts."""
    for name in ("a/b.wav", "a/.b.wav", ".c.part/b.wav", "a/.hidden/b.wav", "d.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = matching(tmp_path, ["a/**/*.wav", "**/*.wav"])
    assert {path.relative_to(tmp_path).as_posix(): number for path, number in found.items()} == {
        "a/b.wav": 0,
        "d.wav": 1,
    }
