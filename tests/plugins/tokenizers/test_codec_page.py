"""`accomp codec measure` and `report`: which music is heard, what is left out, and a page that holds all of it."""

import base64
import functools
import io
import json
import re

import numpy as np
import pytest
import soundfile
import torch
import typer
import yaml
from typer.testing import CliRunner

from accomp.core.errors import DataError, PluginError, SpecError
from accomp.core.registry import Registry
from accomp.core.spec.build import corpus_at
from accomp.plugins.tokenizers.codec import measure_command
from accomp.plugins.tokenizers.codec.files.resolve import named_codecs
from accomp.plugins.tokenizers.codec.files.weight_files import save_weights
from accomp.plugins.tokenizers.codec.measure_command import measure_codec, report_codecs
from accomp.plugins.tokenizers.codec.quality.excerpts import (
    MIXES,
    Sound,
    corpus_music,
    folder_music,
    sounding,
)
from accomp.plugins.tokenizers.magnitude import Magnitude

RATE = 32_000
TINY = {
    "bands": 8, "latent": 8, "width": 8, "hidden": 8, "encoder_blocks": 0, "decoder_blocks": 0, "kernel": 1,
    "codebook_size": 16,
}  # fmt: skip
STEMS = {"S00": (0, 440.0), "S01": (33, 55.0), "S02": (None, 0.0), "S03": (0, 330.0)}
"""Program (None: drums) and pitch (0: noise) of each stem."""


def tone(pitch: float, seconds: float = 1.5) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    if not pitch:
        return np.random.default_rng(0).normal(0, 0.05, len(t)).astype(np.float32)
    return (0.2 * np.sin(2 * np.pi * pitch * t)).astype(np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three songs to test on: piano, bass, drums, another piano; a silent bass, and drums that cannot be read."""
    root = tmp_path_factory.mktemp("slakh")
    for split, number in (("train", 1), ("test", 2), ("test", 3), ("test", 4)):
        song = root / split / f"Track{number:05}"
        (song / "stems").mkdir(parents=True)
        entries = {}
        for name, (program, pitch) in STEMS.items():
            entries[name] = {"is_drum": program is None, "program_num": 0 if program is None else program}
            sound = tone(pitch) * (0.0 if (number, name) == (3, "S01") else 1.0)
            soundfile.write(song / "stems" / f"{name}.flac", sound, RATE)
        (song / "metadata.yaml").write_text(yaml.safe_dump({"stems": entries, "licence": "CC0"}))
    (root / "test" / "Track00004" / "stems" / "S02.flac").write_bytes(b"fLaC and no more")
    return root


def music(corpus, each=8, seconds=1.0):
    reader = corpus_at(corpus, "slakh2100", (), Registry(third_party=False))
    return corpus_music(reader, ["test"], each, seconds, "here")


def test_every_class_and_the_mixes_are_heard_and_the_rest_is_named(corpus):
    found = music(corpus)
    names = {group: [one.name for one in found.excerpts if one.group == group] for group in found.groups}
    assert list(names) == [MIXES, "Piano", "Bass", "Percussive"]
    assert len(names["Piano"]) == 6
    assert names["Bass"] == ["Track00002, S01", "Track00004, S01"]
    assert names["Percussive"] == ["Track00002, S02", "Track00003, S02"]
    assert names[MIXES] == ["Track00002, mix", "Track00003, mix"]
    assert found.silent == ("Bass: Track00003, S01",)
    assert len(found.failed) == 2  # the drums, and the mix that lacks them
    assert all("S02.flac" in line for line in found.failed)
    assert {song.licence for song in found.songs} == {"CC0"}


def test_others_stand_in_for_what_is_silent(corpus):
    found = music(corpus, each=1)
    assert [(one.group, one.name) for one in found.excerpts if one.group == "Bass"] == [("Bass", "Track00002, S01")]
    assert len(found.excerpts) == 4


def test_a_mix_is_the_mean_of_its_stems(corpus):
    mix = next(one for one in music(corpus).excerpts if one.group == MIXES)
    heard = mix.read(RATE)
    begin = round(mix.start * RATE)
    expected = np.mean([tone(pitch)[begin : begin + RATE] for _, pitch in STEMS.values()], axis=0)
    np.testing.assert_allclose(heard.numpy(), expected, atol=1e-4)


def written(path, sound):
    soundfile.write(path, sound, RATE)
    return Sound(path.name, ((path,),))


def test_a_stretch_is_taken_where_it_sounds_nearest_the_middle(tmp_path):
    silence = np.zeros(4 * RATE, np.float32)
    late = silence.copy()
    late[3 * RATE :] = tone(440.0, 1.0)
    assert sounding(written(tmp_path / "late.wav", late), 1.0) == pytest.approx(2.5)
    assert sounding(written(tmp_path / "all.wav", tone(440.0, 4.0)), 1.0) == pytest.approx(1.5)
    assert sounding(written(tmp_path / "silent.wav", silence), 1.0) is None
    rare = silence.copy()
    rare[: RATE // 3] = tone(440.0, 0.5)[: RATE // 3]  # a third of the first stretch: seldom, but the best there is
    assert sounding(written(tmp_path / "rare.wav", rare), 1.0) == 0.0
    with pytest.raises(DataError, match=r"0\.50 s, shorter than 1 s"):
        sounding(written(tmp_path / "short.wav", tone(440.0, 0.5)), 1.0)


def test_a_folder_without_music_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        folder_music(tmp_path / "gone", ["*.wav"], 1, 1.0)
    with pytest.raises(DataError, match=r"no file matches \*\.wav"):
        folder_music(tmp_path, ["*.wav"], 1, 1.0)
    soundfile.write(tmp_path / "a.wav", np.zeros(2 * RATE, np.float32), RATE)
    with pytest.raises(DataError, match=r"no sound to measure on: silent: Files: a\.wav"):
        folder_music(tmp_path, ["*.wav"], 1, 1.0)


@pytest.fixture(scope="module")
def codec_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("codec") / "small.safetensors"
    config = Magnitude.Config(weights="random", codebooks=2, **TINY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_weights(path, Magnitude.network_of(config), "magnitude", Magnitude.architecture(config))
    return path


def test_codecs_are_named_by_plugin_file_and_configuration(codec_file):
    registry = Registry(third_party=False)
    random = json.dumps({"weights": "random", "codebooks": 3, **TINY})
    found = named_codecs([str(codec_file), f"two=magnitude={random}", f"three={codec_file}"], registry)
    assert [one.label for one in found] == [f"{codec_file.parent.name}/small", "two", "three"]
    assert [one.codec.space.codebooks for one in found] == [2, 3, 2]
    assert found[0].config["weights"] == str(codec_file)
    assert found[0].codec.fingerprint == found[2].codec.fingerprint != found[1].codec.fingerprint
    assert named_codecs([f"magnitude={random}"], registry)[0].label == f"magnitude={random}"
    seeded = named_codecs([f'{codec_file}={{"weights": "random", "seed": 5}}'], registry)[0]
    assert (seeded.codec.space.codebooks, seeded.config["seed"]) == (2, 5)  # keys that are given win over the file's


def test_what_names_no_codec_is_told(codec_file, tmp_path):
    registry = Registry(third_party=False)
    (tmp_path / "other.pth").write_bytes(b"something")
    for text, words in (
        ("gone/codec.safetensors", "no such codec file @ gone/codec.safetensors; expected a plugin or a codec file"),
        (str(tmp_path / "other.pth"), "the file names no tokenizer"),
        ("magnitude={", "not JSON"),
        ('magnitude={"widht": 3}', "unknown key 'widht'"),
    ):
        with pytest.raises(SpecError, match=re.escape(words)):
            named_codecs([text], registry)
    with pytest.raises(SpecError, match="more than one codec is called 'a'"):
        named_codecs([f"a={codec_file}", f"a={codec_file}"], registry)


def accomp(*arguments, stream="output"):
    app = typer.Typer()
    app.command("measure")(measure_codec)
    app.command("report")(report_codecs)
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return getattr(result, stream)


@pytest.fixture(scope="module")
def report(corpus, codec_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "codecs.html"
    three = json.dumps({"weights": "random", "codebooks": 3, **TINY})
    told = accomp(
        "report", corpus, f"<two>={codec_file}", f"three=magnitude={three}", "--corpus", "slakh2100", "--split", "test",
        "--excerpts", "3", "--seconds", "1", "--listen", "0.5", "--out", out,
    )  # fmt: skip
    return told, out.read_text(), json.loads(out.with_suffix(".json").read_text())


def test_the_record_holds_every_figure_with_its_count_and_interval(report):
    _, _, record = report
    assert [codec["label"] for codec in record["codecs"]] == ["<two>", "three"]
    assert record["music"]["silent"] == ["Bass: Track00003, S01"]
    for codec in record["codecs"]:
        assert list(codec["groups"]) == ["Mixes", "All stems", "Piano", "Bass", "Percussive"]
        assert codec["groups"]["All stems"]["excerpts"] == 7
        assert codec["groups"]["All stems"]["frames"] == 7 * 50
        levels = range(1, codec["space"]["codebooks"] + 1)
        expected = {f"{name}_{q}" for name in ("codes_used", "perplexity") for q in levels}
        expected |= {f"{name}_{q}" for name in ("entropy", "repeated") for q in levels}
        expected |= {"level_db", "mel", "stft", "si_sdr_db", "rms_ratio", "bitrate_entropy", "encode_rtf", "decode_rtf"}
        for group in codec["groups"].values():
            assert expected <= group["figures"].keys()
            assert all(one["low"] <= one["value"] <= one["high"] for one in group["figures"].values())
            assert all(one["n"] == group["excerpts"] for name, one in group["figures"].items() if name != "onset_f1")
        assert len(codec["each"]) == 9
        mean = np.mean([one["mel"] for one in codec["each"] if one["group"] == "Bass"])
        assert codec["groups"]["Bass"]["figures"]["mel"]["value"] == pytest.approx(mean)
        assert set(codec["streamed_rtf"]) == {"1", "25"}
    assert record["codecs"][1]["bitrate"] == 50 * 3 * 4
    two, three = (codec["groups"]["Mixes"]["figures"]["mel"]["value"] for codec in record["codecs"])
    assert record["mel_ratios"]["Mixes"][0][1]["value"] == pytest.approx(two / three)
    assert len(record["calibration"]) == 5
    for known in record["calibration"]:
        assert not any("codes" in name or "rtf" in name for name in known["groups"]["Mixes"]["figures"])
        level = known["groups"]["Bass"]["figures"]
        assert level["level_db"]["value"] == pytest.approx(20 * np.log10(level["rms_ratio"]["value"]))


def test_the_page_needs_nothing_else_and_is_escaped(report):
    _, page, record = report
    assert "<two>" not in page
    assert "&lt;two&gt;" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert not re.search(r"https?://", page)
    for codec in record["codecs"]:
        assert codec["fingerprint"] in page
    for text in ("Percussive", "Bass: Track00003, S01", "S02.flac", "1 silent", "CC0", "2306.06546"):
        assert text in page


def players(page: str) -> dict[str, tuple[np.ndarray, int]]:
    """What each player is called -> what it plays."""
    found = re.findall(r'<audio [^>]*src="data:audio/flac;base64,([^"]+)" aria-label="([^"]+)"', page)
    return {name: soundfile.read(io.BytesIO(base64.b64decode(data))) for data, name in found}


def test_originals_and_what_is_decoded_are_played_by_one_gain(report, corpus, codec_file):
    _, page, _ = report
    heard = players(page)
    assert len(heard) == 4 * 3 + 5  # mixes and three classes; the original and two codecs; known damage of mixes
    original, decoded = (heard[f"{who}, Piano, Track00002, S00"] for who in ("Original", "&lt;two&gt;"))
    assert original[1] == decoded[1] == RATE
    assert len(original[0]) == len(decoded[0]) == RATE // 2
    excerpt = next(one for one in music(corpus, 3).excerpts if one.group == "Piano")
    sound = excerpt.read(RATE)
    codec = named_codecs([str(codec_file)], Registry(third_party=False))[0].codec
    expected = codec.decode(codec.encode(sound[None]))[0].numpy()[RATE // 4 : 3 * RATE // 4]
    wanted = sound[RATE // 4 : 3 * RATE // 4].numpy()
    gain = original[0].std() / wanted.std()
    np.testing.assert_allclose(original[0], gain * wanted, atol=1e-4)
    np.testing.assert_allclose(decoded[0], gain * expected, atol=1e-4)


def test_the_command_says_the_main_figures_and_warns(report):
    told, _, _ = report
    assert "1 silent: Bass: Track00003, S01" in told
    assert re.search(r"Mixes \(2 excerpts, 100 frames, 0 vectors\): mel [\d.]+ \([\d.]+ to [\d.]+\), stft", told)
    assert "Piano (" not in told
    assert "codecs.json" in told
    assert re.search(r"sounds without Frechet distance: 1\.00 s of sound; musicnn needs patches", told)
    assert "exact magnitudes, random phases\n  Mixes (2 excerpts, 0 vectors): mel" in told


def test_decoded_sounds_have_a_picture_of_their_difference(report):
    _, page, _ = report
    assert page.count('alt="Difference from the original: ') == 4 * 2 + 5
    assert 'alt="Difference from the original: Original' not in page


def test_measure_tells_class_by_class_or_everything_as_json(corpus, tmp_path):
    tiny = json.dumps({"weights": "random", "codebooks": 1, **TINY})
    options = ("--tokenizer", "magnitude", "--config", tiny, "--excerpts", 1, "--seconds", 0.5)
    told = accomp("measure", corpus, *options, "--corpus", "slakh2100", "--split", "train")
    for group in ("Mixes", "All stems", "Piano", "Percussive"):
        assert re.search(rf"  {group} \(\d excerpts, \d+ frames, 0 vectors\): mel [\d.]+", told)
    soundfile.write(tmp_path / "a.wav", tone(220.0), RATE)
    record = json.loads(accomp("measure", tmp_path, *options, "--glob", "*.wav", "--json", stream="stdout"))
    assert record["music"]["excerpts"] == {"Files": 1}
    assert record["codecs"][0]["groups"]["Files"]["figures"]["mel"]["low"] is None


def test_codes_are_learnt_from_the_train_split_and_predicted_on_another(corpus, monkeypatch):
    monkeypatch.setattr(measure_command, "learn", functools.partial(measure_command.learn, steps=1))
    tiny = ("--tokenizer", "magnitude", "--config", json.dumps({"weights": "random", "codebooks": 2, **TINY}))
    options = (*tiny, "--corpus", "slakh2100", "--split", "test", "--excerpts", 1, "--seconds", 0.5, "--predict")
    codec = json.loads(accomp("measure", corpus, *options, "--json", stream="stdout"))["codecs"][0]
    assert codec["prediction"]["seconds"] == pytest.approx(1.5)  # the one song of the split
    assert codec["prediction"]["uniform"] == pytest.approx(np.log(16))
    figures = codec["groups"]["Mixes"]["figures"]
    assert all(figures[f"predicted_{q}"]["value"] > 0 < figures[f"frequency_{q}"]["value"] for q in (1, 2))


def test_options_that_do_not_fit_together_are_told(corpus):
    tiny = ("--tokenizer", "magnitude", "--config", json.dumps({"weights": "random", **TINY}))
    with pytest.raises(DataError, match="need a corpus"):
        accomp("measure", corpus, *tiny, "--split", "test")
    with pytest.raises(DataError, match="selects its own files"):
        accomp("measure", corpus, *tiny, "--corpus", "slakh2100", "--glob", "*.wav")
    with pytest.raises(DataError, match="--predict trains on a corpus's train split; name the plugin that reads it"):
        accomp("measure", corpus, *tiny, "--predict")
    with pytest.raises(DataError, match="trains on the split 'train'; measure on others"):
        accomp("measure", corpus, *tiny, "--predict", "--corpus", "slakh2100", "--split", "train")
    with pytest.raises(PluginError, match="metric 'token' cannot compare decoded and original: it needs losses"):
        accomp("measure", corpus, *tiny, "--metric", "token")
    with pytest.raises(DataError, match=r"a page's name ends with \.html"):
        accomp("report", corpus, "magnitude", "--out", "page.txt")
