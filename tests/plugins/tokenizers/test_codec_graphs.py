"""`dac` compiled: a graph each way, shared by streams, with the offline codes and sound, and never compiled again."""

import pytest
import torch
from torch._dynamo.utils import counters

from accomp.core.errors import PluginError
from accomp.plugins.tokenizers.codec.streams.graphs import Graph
from accomp.plugins.tokenizers.dac import Dac

ROWS, FRAMES = 2, 8


def small() -> Dac:
    sizes = {"latent": 8, "encoder_width": 2, "decoder_width": 4, "strides": (5,), "codebook_size": 64}
    codec, rng = Dac(Dac.Config(weights="random", codebooks=2, **sizes)), torch.Generator().manual_seed(0)
    for parameter in codec.network.encoder.parameters():  # so that what is heard tells in the codes
        parameter += 0.3 * torch.randn(parameter.shape, generator=rng, dtype=parameter.dtype)
    return codec


@pytest.fixture(scope="module")
def codec() -> Dac:
    codec = small()
    codec.prepare(ROWS)
    return codec


def sound(rows: int, frames: int) -> torch.Tensor:
    return 0.5 * torch.randn(rows, 5 * frames, generator=torch.Generator().manual_seed(rows))


def test_streams_give_the_offline_codes_and_sound_and_compile_nothing(codec):
    """Pushes of single frames, of none, and of several, which torch takes; two streams; rows that begin anew."""
    audio, other = sound(ROWS, FRAMES), -sound(ROWS, FRAMES)
    codes = codec.encode(audio)
    before = counters["stats"]["unique_graphs"]
    encoder, second, decoder = codec.encoder(ROWS), codec.encoder(ROWS), codec.decoder(ROWS)
    out, heard = [], []
    with torch._dynamo.config.patch(error_on_recompile=True):
        for i, size in enumerate([5, 5, 3, 2, 10, 5, 5, 5]):
            at = sum(part.shape[2] for part in out) * 5 + (3 if i == 3 else 0)
            with torch.inference_mode(i % 2 == 0):
                out.append(encoder.push(audio[:, at : at + size]).clone())
                second.push(other[:, at : at + size])
                heard.append(decoder.push(out[-1]).clone())
    assert torch.equal(torch.cat(out, dim=-1), codes)
    assert len(codes[:, 0].unique()) > 3
    torch.testing.assert_close(torch.cat([*heard, decoder.flush()], dim=1), codec.decode(codes), atol=1e-4, rtol=0)
    for mask in (torch.tensor([True, False]), torch.tensor([True, True])):
        encoder.reset(mask)
    again = torch.cat([encoder.push(part) for part in audio.split(5, dim=1)], dim=-1)
    assert torch.equal(again, codes)
    assert counters["stats"]["unique_graphs"] == before > 0


def test_a_push_of_the_prepared_size_is_the_graphs(codec, monkeypatch):
    monkeypatch.setattr(codec, "encode_on", None)
    monkeypatch.setattr(codec, "decode_on", None)
    codes = codec.encoder(ROWS).push(sound(ROWS, 1))
    codec.decoder(ROWS).push(codes)
    with pytest.raises(TypeError):
        codec.encoder(ROWS).push(sound(ROWS, 2))
    with pytest.raises(TypeError):
        codec.encoder(1).push(sound(1, 1))


def test_one_row_of_a_graph_begins_anew(codec):
    audio = sound(ROWS, FRAMES)
    stream = codec.encoder(ROWS)
    for part in audio[:, :20].split(5, dim=1):
        stream.push(part)
    stream.reset(torch.tensor([False, True]))
    codes = torch.cat([stream.push(part) for part in audio[:, 20:].split(5, dim=1)], dim=-1)
    assert torch.equal(codes[1], codec.encode(audio[:, 20:])[1])
    assert torch.equal(codes[0], codec.encode(audio)[0, :, 4:])


def test_without_a_compiler_it_says_so():
    def run(x, history):
        return history.extend(codec_layer, x, 3).cumsum(-1) * 1.25 + 7

    codec_layer = torch.nn.Identity()
    nowhere = {"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}
    with torch._inductor.config.patch(nowhere), pytest.raises(PluginError, match=r"g\+\+.*compile = \"off\""):
        Graph(run, torch.zeros(1, 3), 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_a_gpu_streams_replay_a_recording():
    codec, audio = small().to("cuda"), sound(ROWS, FRAMES)
    codec.prepare(ROWS)
    codes = codec.encode(audio)
    encoder, decoder = codec.encoder(ROWS), codec.decoder(ROWS)
    assert encoder._history._graph is not None
    parts = audio.split(5, dim=1)
    assert torch.equal(torch.cat([encoder.push(part) for part in parts], dim=-1), codes)
    heard = torch.cat([*(decoder.push(frame) for frame in codes.split(1, dim=-1)), decoder.flush()], dim=1)
    torch.testing.assert_close(heard, codec.decode(codes), atol=1e-4, rtol=0)
