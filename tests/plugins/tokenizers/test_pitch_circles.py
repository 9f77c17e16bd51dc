"""Pitch within a semitone among the latents of `magnitude`: against the frequencies that sounds were made with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from codecs_that_follow import HOP, SMALL, KeptPhases, joined, lively, music

from accomp.plugins.tokenizers.codec.networks.magnitude_network import LOW_BINS, SAMPLE_RATE, Spectra, magnitudes_of
from accomp.plugins.tokenizers.codec.networks.pitch_circles import CIRCLES, SIZE, moved, scaled, unscaled
from accomp.plugins.tokenizers.codec.streams.causal import History
from accomp.plugins.tokenizers.magnitude import Magnitude

SECONDS = 0.5
TIME = torch.arange(int(SECONDS * SAMPLE_RATE)).double() / SAMPLE_RATE
LATER = 12
"""Frames until a long window has nothing but the sound in it."""


def circles(sound: torch.Tensor) -> torch.Tensor:
    """[N] -> complex [T, circles] of the frames from LATER on."""
    found = Spectra(96, circles=True)(sound[None], History())[1][0, LATER:, LOW_BINS:]
    return torch.view_as_complex(found.unflatten(1, (-1, 2)).contiguous())


def tone(hertz: float, partials: int = 1) -> torch.Tensor:
    return sum(torch.sin(2 * math.pi * h * hertz * TIME + h) / h for h in range(1, partials + 1)) * 0.2


def cents_off(number: torch.Tensor, hertz: float, semitones: int) -> float:
    """How far the angle of a circle's number is from that of a frequency."""
    turns = (torch.angle(number) / (2 * math.pi) - 12 * math.log2(hertz / 440) / semitones).numpy()
    return float(np.abs((turns - np.round(turns)) * 100 * semitones).max())


@pytest.mark.parametrize("partials", [1, 6])
@pytest.mark.parametrize("hertz", [33.1, 61.7, 104.0, 155.6, 203.0, 317.3, 523.7, 790.0])
def test_a_tone_has_the_angle_of_its_frequency(hertz, partials):
    found, reached = circles(tone(hertz, partials)), 0
    for i, circle in enumerate(CIRCLES):
        if circle.low * 1.05 < hertz < circle.high / 1.05:
            assert found[:, i].abs().min() > 0.4, circle
            assert cents_off(found[:, i], hertz, circle.semitones) < 1.5, circle
            reached += 1
    assert reached == (2 if hertz < 170 else 1), "a wide circle and a narrow one"


def test_a_chord_at_concert_pitch_has_the_angle_0_whatever_its_notes():
    chord = sum(tone(440 * 2 ** (note / 12)) for note in (-15, -8, -3, 1, 9))
    for i, circle in enumerate(CIRCLES):
        if circle.semitones == 1 and 170 <= circle.low < 850:
            number = circles(chord)[:, i]
            assert number.abs().min() > 0.5
            assert cents_off(number, 440.0, 1) < 3


def test_level_does_not_matter_and_silence_has_none():
    loud, soft = circles(tone(220.0)), circles(tone(220.0) * 0.03)
    torch.testing.assert_close(loud, soft, atol=2e-4, rtol=0)
    assert not circles(torch.zeros_like(TIME)).any()


def test_noise_and_glides_have_no_pitch():
    noise = torch.randn(len(TIME), generator=torch.Generator().manual_seed(0)).double() * 0.1
    glide = 0.3 * torch.sin(2 * math.pi * 110 * (4 * TIME).exp2() / (4 * math.log(2)))  # four octaves a second
    for sound in (noise, glide):
        assert circles(sound).abs().mean(0).max() < 0.1


def test_a_frequency_moves_to_the_nearest_that_a_clear_circle_names():
    true = 233.3
    numbers = torch.zeros(1, SIZE)
    for i, circle in enumerate(CIRCLES):
        angle = 2 * math.pi * 12 * math.log2(true / 440) / circle.semitones
        if circle.low <= true < circle.high:
            numbers[0, 2 * i : 2 * i + 2] = torch.tensor([math.cos(angle), math.sin(angle)])
    said = true * 2 ** (torch.tensor([[-40.0, -5.0, 0.0, 12.0, 45.0]]) / 1200)
    torch.testing.assert_close(moved(said, numbers), torch.full_like(said, true), atol=1e-3, rtol=0)
    other = true * 2 ** (torch.tensor([[60.0]]) / 1200)
    torch.testing.assert_close(moved(other, numbers), torch.full_like(other, true * 2 ** (1 / 12)), atol=1e-3, rtol=0)
    torch.testing.assert_close(moved(said, 0.1 * numbers), said)  # too hazy
    assert (moved(said, 0.35 * numbers) - true).abs()[0, 0] > 1  # half way
    elsewhere = torch.tensor([[300.0, 700.0, 2000.0]])
    torch.testing.assert_close(moved(elsewhere, numbers), elsewhere)


def test_a_bass_a_semitone_and_a_half_off_is_found_by_the_wide_circle():
    true = 41.2
    numbers = torch.zeros(1, SIZE)
    for i, circle in enumerate(CIRCLES):
        if circle.low <= true < circle.high:
            angle = 2 * math.pi * 12 * math.log2(true / 440) / circle.semitones
            numbers[0, 2 * i : 2 * i + 2] = torch.tensor([math.cos(angle), math.sin(angle)])
    said = true * 2 ** (torch.tensor([[-170.0, 150.0]]) / 1200)
    torch.testing.assert_close(moved(said, numbers), torch.full_like(said, true), atol=1e-3, rtol=0)


def test_scales_are_undone():
    numbers = torch.randn(3, SIZE)
    torch.testing.assert_close(unscaled(scaled(numbers)), numbers)
    scales = [circle.scale for circle in CIRCLES for _ in range(2)]
    assert scaled(torch.ones(SIZE)).tolist() == pytest.approx(scales)


def test_machine_code_moves_tuning_as_torch_does():
    numba = pytest.importorskip("numba")
    del numba
    from accomp.plugins.tokenizers.codec.streams.cpu.pitch_circles import TABLE, placed

    rng = torch.Generator().manual_seed(3)
    latents = scaled(torch.randn(5, SIZE, generator=rng) * 0.5)
    tuning = torch.randn(20, 96, generator=rng) * 0.3
    slopes = torch.randn(20, 96, generator=rng) * 0.3
    own = slopes + torch.arange(96)
    want = moved((own + tuning) * 25.0, unscaled(latents).repeat_interleave(4, dim=0)) / 25.0 - own
    assert (want - tuning).abs().max() > 0.1
    placed(tuning.numpy(), latents.numpy(), slopes.numpy(), 25.0, TABLE)
    torch.testing.assert_close(tuning, want, atol=2e-4, rtol=0)


# --- in the codec


@pytest.fixture(scope="module")
def codec():
    pytest.importorskip("numba")
    return lively(circles=3, tuner_blocks=1)


def test_streams_are_the_offline_call_bit_for_bit(codec):
    audio = music(2, 20)
    codes = codec.encode(audio)
    assert codec.space.latent_dim == 64 + SIZE
    assert torch.equal(joined(codec.encoder(2), audio, [HOP, 3 * HOP + 7, 5, 640]), codes)
    assert torch.equal(joined(codec.decoder(2), codes, [1, 5, 2]), codec.decode(codes))


def test_machine_code_encodes_and_places_as_torch_does(codec):
    from accomp.plugins.tokenizers.codec.streams.cpu.network import CpuDecoder

    audio = music(2, 20)[:, : 19 * HOP]
    codes = codec.encode(audio)
    assert torch.equal(codec.encode_on(audio.double(), History()), codes)
    z = codec.embed(codes)
    logs, tuning = codec.network.decode_in_tune(z, History())
    magnitudes = magnitudes_of(logs).flatten(1, 2)
    want = codec.network.placed(z, magnitudes, tuning)
    assert want.shape == (2, 19 * 4, 96)
    assert (want - tuning).abs().max() > 0.1
    got = CpuDecoder._placed(z[..., -SIZE:].flatten(0, 1).numpy(), magnitudes, tuning.clone())
    close = (got - want).abs() < 1e-3
    assert close.float().mean() > 0.999, "but for frequencies half-way between two places"
    heard = []
    decoder = CpuDecoder(codec.network, KeptPhases(heard))
    decoder.sound(z.flatten(0, 1).numpy(), 2, decoder.begin(2))
    torch.testing.assert_close(heard[-1][1], tuning, atol=1e-4, rtol=1e-4)
    blind = z.clone()
    blind[..., -SIZE:] = 0
    assert (codec.network.decode_in_tune(blind, History())[1] - tuning).abs().max() > 0.01, "the tuner sees circles"


def test_circles_move_what_the_tuner_says_but_not_from_some_of_the_components(codec):
    z = codec.embed(codec.encode(music(1, 20)))
    z[..., -SIZE:] = scaled(torch.ones(SIZE))
    _, moved_too = codec.magnitudes(z, History())
    plain = codec.network.decode_in_tune(z, History())[1]
    assert (moved_too - plain).abs().max() > 0.1
    for n, same in ((16, True), (64 + SIZE, False)):
        some = lively(circles=3, tuner_blocks=1, continuous=n)
        _, tuning = some.magnitudes(z, History())
        assert torch.equal(tuning, some.network.decode_in_tune(z, History())[1]) == same
    with pytest.raises(ValueError, match="at most 80"):
        lively(circles=3, continuous=84)


def test_levels_before_the_circles_have_the_codes_of_a_codec_without(codec):
    audio = music(2, 20)
    plain = lively(circles=0, tuner_blocks=1).network
    found = codec.network.state_dict()
    plain.load_state_dict({name: found[name][tuple(map(slice, own.shape))] for name, own in plain.state_dict().items()})
    levels = Magnitude.trained(Magnitude.Config(**SMALL, circles=0, tuner_blocks=1), plain).encode(audio)
    codes = codec.encode(audio)
    assert torch.equal(codes[:, :2], levels[:, :2])
    assert not torch.equal(codes[:, 2], levels[:, 2])
    z, fewer = codec.embed(codes), codec.network.quantizer.embed(codes[:, :2])
    assert z[..., -SIZE:].any()
    assert not fewer[..., -SIZE:].any()
