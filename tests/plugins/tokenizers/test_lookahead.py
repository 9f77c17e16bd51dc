"""Codecs that hear the future: how far is exact, and sessions that begin anew within a frame or one after another."""

import pytest
import torch
from dac import DAC

from accomp.plugins.tokenizers.codec.streams.sliding import StreamMemory
from accomp.plugins.tokenizers.dac import Dac
from accomp.plugins.tokenizers.encodec import Encodec


def published(folder) -> Dac:
    torch.manual_seed(0)
    sizes = {"encoder_dim": 4, "latent_dim": 16, "decoder_dim": 32, "n_codebooks": 4, "codebook_size": 64}
    model = DAC(**sizes, encoder_rates=[2, 3, 5], decoder_rates=[5, 3, 2], sample_rate=16_000)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    model.save(folder / "weights.pth", package=False)
    return Dac(Dac.Config(weights=str(folder / "weights.pth")))


@pytest.fixture(scope="module", params=["dac", "encodec"])
def codec(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with torch.random.fork_rng():
        return published(folder) if request.param == "dac" else Encodec(Encodec.example_config(folder))


def sound(codec, frames, rows=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return 0.5 * torch.randn(rows, frames * codec.space.hop, generator=rng)


def latents(codec, audio):
    """Before they are quantized, which hides small changes."""
    return codec.network.encode(audio.double(), StreamMemory(), final=True)


def test_the_lookahead_is_no_longer_than_it_must_be(codec):
    """The last sample that is stated to matter does, and the next one does not."""
    space, frame = codec.space, 20
    last = (frame + 1) * space.hop + space.lookahead - 1
    audio = sound(codec, frame + 1 + space.lookahead // space.hop + 12, rows=1)
    for sample, matters in ((last, True), (last + 1, False)):
        changed = audio.clone()
        changed[:, sample] += 1e3
        moved = (latents(codec, changed) - latents(codec, audio))[:, frame].abs().max()
        assert (moved > 1e-12) == matters, (sample, moved)


def test_the_delay_is_no_longer_than_it_must_be(codec):
    """Of the frame that a sample is stated to need last, some sample is the first that needs it."""
    space, frame = codec.space, 20 + codec.space.delay // codec.space.hop
    codes = codec.encode(sound(codec, frame + 20, rows=1))
    changed = codes.clone()
    changed[..., frame] = (changed[..., frame] + 17) % space.codebook_size
    moved = (codec.decode(changed) - codec.decode(codes)).abs()[0]
    first = frame * space.hop - space.delay
    assert not moved[:first].any()
    assert moved[first : first + space.hop].any()


@pytest.mark.parametrize("within", [0, 7])
def test_rows_begin_anew_at_different_times(codec, within):
    """Each as if it were alone; the frame that it begins in hears silence up to there. What went before ends there."""
    space, hop = codec.space, codec.space.hop
    audio, starts = sound(codec, 60), [0, 14 * hop + within, 31 * hop + within]
    stream, out, at = codec.encoder(3), [], 0
    for row, start in ((1, starts[1]), (2, starts[2])):
        out.append(stream.push(audio[:, at:start]))
        stream.reset(torch.arange(3) == row)
        at = start
    codes = torch.cat([*out, stream.push(audio[:, at:]), stream.flush()], dim=-1)
    assert codes.shape == (3, space.codebooks, 60)
    for row, start in enumerate(starts):
        frame = start // hop
        heard = audio[row : row + 1, frame * hop :].clone()
        heard[:, : start - frame * hop] = 0
        assert torch.equal(codes[row : row + 1, :, frame:], codec.encode(heard))
        assert torch.equal(codes[row : row + 1, :, :frame], codec.encode(audio[row : row + 1, :start])[..., :frame])


def test_decoded_rows_begin_anew_at_different_times(codec):
    space = codec.space
    codes, starts = codec.encode(sound(codec, 60)), [0, 14, 31]
    stream, out, at = codec.decoder(3), [], 0
    for row, start in ((1, 14), (2, 31)):
        out.append(stream.push(codes[..., at:start]))
        stream.reset(torch.arange(3) == row)
        at = start
    audio = torch.cat([*out, stream.push(codes[..., at:]), stream.flush()], dim=-1)
    assert audio.shape == (3, 60 * space.hop)
    for row, start in enumerate(starts):
        alone = codec.decode(codes[row : row + 1, :, start:])
        torch.testing.assert_close(audio[row : row + 1, start * space.hop :], alone, atol=1e-4, rtol=0)


def test_a_reset_before_and_after_nothing_changes_nothing(codec):
    audio = sound(codec, 40)
    stream = codec.encoder(3)
    stream.reset(torch.tensor([True, False, True]))
    first = torch.cat([stream.push(audio), stream.flush()], dim=-1)
    assert torch.equal(first, codec.encode(audio))
    assert stream.flush().shape[-1] == 0
    stream.reset(torch.tensor([False, True, False]))
    assert torch.equal(torch.cat([stream.push(audio), stream.flush()], dim=-1), first)


def test_memory_does_not_grow_with_time(codec):
    stream, audio = codec.encoder(1), sound(codec, 60, rows=1)

    def kept() -> int:
        return sum(tensor.numel() for tensor in stream._together._groups[0].past._kept.values())

    sizes = []
    for block in audio.split(20 * codec.space.hop, dim=1):
        stream.push(block)
        sizes.append(kept())
    assert sizes[1] == sizes[2]


def test_streams_refuse_another_batch(codec):
    with pytest.raises(ValueError, match="opened for 2"):
        codec.encoder(2).push(torch.zeros(3, 10))
    with pytest.raises(ValueError, match="opened for 2"):
        codec.decoder(2).push(torch.zeros(1, 4, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"expected bool \[2\]"):
        codec.decoder(2).reset(torch.tensor([1, 0]))
    with pytest.raises(ValueError, match="NaN or Inf"):
        codec.encode(torch.full((1, 100), float("nan")))
