"""Both codecs, untrained and small: a stream in pieces gives what one call gives, and the past is all it uses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accomp.core.interfaces import Tokenizer
from accomp.plugins.tokenizers.codec.streams.causal import History
from accomp.plugins.tokenizers.codec.streams.codec import FrozenCodec
from accomp.plugins.tokenizers.dac import Dac
from accomp.plugins.tokenizers.magnitude import Magnitude

BATCH = 2


def small(name: str) -> FrozenCodec:
    if name == "magnitude":
        sizes = {"width": 24, "hidden": 32, "encoder_blocks": 2, "decoder_blocks": 2, "codebook_size": 64}
        return Magnitude(Magnitude.Config(weights="random", stay=0.0, **sizes))
    sizes = {"latent": 16, "encoder_width": 2, "decoder_width": 32, "codebook_size": 64}
    return Dac(Dac.Config(weights="random", **sizes))


@pytest.fixture(scope="module", params=["magnitude", "dac"])
def codec(request) -> FrozenCodec:
    return small(request.param)


@pytest.fixture(scope="module")
def audio() -> torch.Tensor:
    """Noise that swells and fades [2, N], N not a multiple of the hop; the rows differ."""
    rng = torch.Generator().manual_seed(3)
    n = 10 * 640 + 123
    swell = torch.linspace(0, 6, n).sin().square()
    return torch.randn(BATCH, n, generator=rng) * 0.2 * swell


def pieces(x: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
    """x cut at the running sums of `sizes`, the rest as the last piece."""
    cuts = [0]
    for size in sizes:
        cuts.append(min(cuts[-1] + size, x.shape[-1]))
    return [x[..., a:b] for a, b in zip(cuts, [*cuts[1:], x.shape[-1]], strict=True)]


def through(stream, parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([*(stream.push(part) for part in parts), stream.flush()], dim=-1)


def test_shapes_and_types(codec, audio):
    assert isinstance(codec, Tokenizer)
    codes = codec.encode(audio)
    space = codec.space
    assert codes.shape == (BATCH, space.codebooks, 11)
    assert codes.dtype == torch.int64
    assert codes.min() >= 0
    assert codes.max() < space.codebook_size
    assert codec.embed(codes).shape == (BATCH, 11, space.latent_dim)
    assert codec.decode(codes).shape == (BATCH, 11 * space.hop)


@pytest.mark.parametrize("frames", [0, 1])
def test_nothing_and_a_single_frame(codec, frames):
    codes = codec.encode(torch.zeros(1, frames * codec.space.hop))
    assert codes.shape == (1, codec.space.codebooks, frames)
    assert codec.decode(codes).shape == (1, frames * codec.space.hop)


@given(sizes=st.lists(st.integers(0, 1500), max_size=8))
@settings(max_examples=12, deadline=None)
def test_streamed_codes_equal_offline_codes(codec, audio, sizes):
    assert torch.equal(through(codec.encoder(BATCH), pieces(audio, sizes)), codec.encode(audio))


@given(sizes=st.lists(st.integers(0, 4), max_size=8))
@settings(max_examples=12, deadline=None)
def test_streamed_audio_is_offline_audio(codec, audio, sizes):
    codes = codec.encode(audio)
    torch.testing.assert_close(
        through(codec.decoder(BATCH), pieces(codes, sizes)), codec.decode(codes), atol=1e-4, rtol=0
    )


def test_codes_do_not_depend_on_who_shares_the_batch(codec, audio):
    crowd = torch.cat([audio, audio.flip(1), torch.zeros_like(audio)])
    assert torch.equal(codec.encode(crowd)[:BATCH], codec.encode(audio))
    assert torch.equal(codec.encode(audio[1:]), codec.encode(audio)[1:])


def test_codes_are_those_of_dacs_own_quantizer(audio):
    codec = small("dac")
    whole = audio[:, : 10 * codec.space.hop].double()
    z = codec.network.encode(whole, History())
    _, codes, *_ = codec.network.quantizer(z.transpose(1, 2))
    assert torch.equal(codec.encode(whole), codes)
    latents, *_ = codec.network.quantizer.from_codes(codes)
    torch.testing.assert_close(codec.embed(codes), latents.transpose(1, 2).float(), atol=1e-5, rtol=1e-5)


def test_codes_use_the_past_only_and_the_present(codec, audio):
    """Samples after a frame (lookahead 0) change nothing up to it; samples before do change something."""
    hop = codec.space.hop
    before = codec.encode(audio)
    changed = audio.clone()
    changed[:, 5 * hop :] = -0.5 * changed[:, 5 * hop :].flip(1)
    after = codec.encode(changed)
    assert torch.equal(before[..., :5], after[..., :5])
    assert not torch.equal(before, after)


def test_delay_is_what_a_sample_needs(codec, audio):
    """Sample n needs frames up to (n + delay) // hop: later ones change nothing, that one changes it."""
    hop, delay = codec.space.hop, codec.space.delay
    codes = codec.encode(audio)
    changed = codes.clone()
    frame = 6
    changed[..., frame] = (changed[..., frame] + 17) % codec.space.codebook_size
    first = frame * hop - delay
    difference = (codec.decode(codes) - codec.decode(changed)).abs().amax(0)
    assert difference[:first].max() == 0
    assert difference[first : first + hop].max() > 0
    emitted = codec.decoder(BATCH).push(codes[..., :frame])
    assert emitted.shape[1] == frame * hop - delay


def test_reset_rows_begin_anew_and_leave_the_others(codec, audio):
    hop, space = codec.space.hop, codec.space
    first, second = audio[:, : 4 * hop], audio[:, 4 * hop : 9 * hop]
    stream = codec.encoder(BATCH)
    stream.push(first)
    stream.reset(torch.tensor([False, True]))
    codes = stream.push(second)
    assert torch.equal(codes[1], codec.encode(second)[1])
    assert torch.equal(codes[0], codec.encode(audio[:, : 9 * hop])[0, :, 4:])

    before, after = codec.encode(first), codec.encode(second)
    decoder = codec.decoder(BATCH)
    decoder.push(before)
    decoder.reset(torch.tensor([False, True]))
    out = torch.cat([decoder.push(after), decoder.flush()], dim=1)
    anew = codec.decode(after)[1]
    torch.testing.assert_close(out[1, space.delay :], anew, atol=1e-4, rtol=0)
    through_all = codec.decode(torch.cat([before, after], dim=-1))[0]
    torch.testing.assert_close(out[0], through_all[4 * hop - space.delay :], atol=1e-4, rtol=0)


def test_reset_within_a_frame_forgets_its_samples(codec, audio):
    hop = codec.space.hop
    stream = codec.encoder(BATCH)
    stream.push(audio[:, : hop + 100])
    stream.reset(torch.tensor([True, False]))
    codes = stream.push(audio[:, hop + 100 : 4 * hop])
    blank = torch.cat([torch.zeros(BATCH, 100), audio[:, hop + 100 : 4 * hop]], dim=1)
    assert torch.equal(codes[0], codec.encode(blank)[0])
    assert torch.equal(codes[1], codec.encode(audio[:, : 4 * hop])[1, :, 1:])


def test_two_streams_do_not_disturb_each_other(codec, audio):
    hop = codec.space.hop
    a, b = codec.encoder(BATCH), codec.encoder(BATCH)
    x, y = audio[:, : 8 * hop], audio.flip(1)[:, : 8 * hop]
    mine, others = [], []
    for i in range(0, 8 * hop, 900):
        mine.append(a.push(x[:, i : i + 900]))
        others.append(b.push(y[:, i : i + 900]))
    assert torch.equal(torch.cat([*mine, a.flush()], dim=-1), codec.encode(x))
    assert torch.equal(torch.cat([*others, b.flush()], dim=-1), codec.encode(y))


def test_a_stream_can_be_used_again_after_its_end(codec, audio):
    encoder, decoder = codec.encoder(BATCH), codec.decoder(BATCH)
    first = through(encoder, [audio])
    assert torch.equal(through(encoder, [audio]), first)
    sound = through(decoder, [first])
    assert torch.equal(through(decoder, [first]), sound)
    assert decoder.flush().shape == (BATCH, 0)


def test_history_does_not_grow(codec, audio):
    """Memory is constant however long a stream lasts."""
    hop = codec.space.hop
    stream = codec.encoder(BATCH)

    def size() -> int:
        return sum(past.untyped_storage().nbytes() for past in stream._history._past.values())

    for first, last in ((0, 4), (4, 9), (9, 10)):
        stream.push(audio[:, first * hop : last * hop])
        kept = sum(past.nbytes for past in stream._history._past.values())
        assert size() <= 2 * kept, "a view of the last inputs does not keep many earlier ones"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(640), "expected float"),
        (torch.zeros(2, 640, dtype=torch.int64), "expected float"),
        (torch.full((1, 640), float("nan")), "NaN or Inf"),
    ],
)
def test_audio_that_is_not_audio_is_refused(codec, bad, message):
    with pytest.raises(ValueError, match=message):
        codec.encode(bad)


def test_codes_that_are_not_codes_are_refused(codec):
    with pytest.raises(ValueError, match=r"expected int64 \[B, 4, T\]"):
        codec.decode(torch.zeros(1, 3, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"lie in 0\.\.64; expected 0\.\.63"):
        codec.embed(torch.tensor([[[0], [0], [64], [0]]]))
    with pytest.raises(ValueError, match="expected int64"):
        codec.embed(torch.zeros(1, 4, 2))


def test_streams_refuse_another_batch(codec):
    with pytest.raises(ValueError, match="opened for 2"):
        codec.encoder(2).push(torch.zeros(3, 10))
    with pytest.raises(ValueError, match="opened for 2"):
        codec.decoder(2).push(torch.zeros(1, 4, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"expected bool \[2\]"):
        codec.encoder(2).reset(torch.tensor([1, 0]))


@pytest.mark.parametrize("cls", [Magnitude, Dac])
def test_the_space_is_known_without_weights(cls, monkeypatch):
    monkeypatch.setattr(cls, "network_of", None)
    space = cls.space_of(cls.Config(codebooks=3, codebook_size=99))
    assert (space.codebooks, space.codebook_size, space.sample_rate, space.hop) == (3, 99, 32_000, 640)
    assert (space.lookahead, space.delay) == (0, {Magnitude: 1120, Dac: 639}[cls])


def test_dac_has_the_reference_size():
    config = Dac.Config()
    with torch.device("meta"):
        network = Dac.network_of(config)
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    assert 75 < millions < 90
    assert Dac.space_of(config).latent_dim == 1024
