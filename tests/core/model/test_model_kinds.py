"""Every kind of model through the stages: trained, played, judged, reported; what a kind cannot do is said."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from fakes import EnergyTokenizer
from small import Constant, small_model

from accomp.core.audio import io as audio
from accomp.core.cli.main import main
from accomp.core.compute.devices import number_of
from accomp.core.errors import CombinationError, DataError
from accomp.core.evaluation.evaluate import evaluate
from accomp.core.evaluation.teacher_forcing import Teacher
from accomp.core.generation import play_twice
from accomp.core.generation.generate import generate
from accomp.core.generation.stream import StreamRequest, stream
from accomp.core.model.guidance import Guidance
from accomp.core.offline.compose import compose
from accomp.core.report import write_report
from accomp.core.runs.folder import open_run
from accomp.core.runs.history import read_losses
from accomp.core.runs.player import Player, load_player
from accomp.core.runs.run import perform, play
from accomp.core.training.trainer import train
from accomp.core.types import Take
from accomp.plugins.samplers.top_k import TopK

RATE, HOP = 32000, 640
CPU = torch.device("cpu")
MASKED = {
    "objective": {"plugin": "mlm"},
    "fuser": {"plugin": "concat"},
    "sampler": {"plugin": "vampnet", "steps": [4, 2]},
    "guidance": {"context": 2.0},
}
KINDS: dict[str, dict[str, Any]] = {
    "prefix": {"objective": {"plugin": "prefix"}, "clock": {"t_f": -4, "k": 3}},
    "prefix_offline": {"objective": {"plugin": "prefix_offline"}, "fuser": {"plugin": "add"}},
    "mlm": MASKED,
}


class Run(tiny.Trained):
    """A run of another kind of model on the tiny experiment's songs."""

    sections: dict[str, Any]

    def plain(self, **sections: Any) -> dict[str, Any]:
        data = tiny.Trained.plain(self, **{**self.sections, **sections})
        if "clock" not in self.sections:
            del data["clock"]
        return data


def begun(kind: str, trained: tiny.Trained, folder: Path) -> Run:
    """With shorter training, and takes that are longer than the model's window of 50 frames."""
    run = Run(folder, trained.corpus, trained.store)
    keys = {**trained.plain()["train"], "steps": 10, "validate_every": 5}  # type: ignore[dict-item]
    object.__setattr__(run, "sections", {**KINDS[kind], "train": keys, "generate": {"takes": 2, "seconds": 1.3}})
    return run


@pytest.fixture(scope="module", params=KINDS)
def done(request: pytest.FixtureRequest, trained: tiny.Trained, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in which every stage is done."""
    run = begun(request.param, trained, tmp_path_factory.mktemp("kinds") / request.param)
    spec = run.spec()
    open_run(spec)
    for stage in (train, generate, evaluate, write_report):
        stage(spec, run.registry, run.run)
    return run


offline = pytest.mark.parametrize("done", ["prefix_offline", "mlm"], indirect=True)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def text_of(page: Path) -> str:
    return re.sub(r"<(style|script)[\s\S]*?</\1>|<[^>]+>", " ", page.read_text())


def test_it_learns_and_is_compared_with_frequencies_that_weigh_alike(done: Run) -> None:
    found = read_losses(done.run)
    unigram, *_ = [record for record in found if record["kind"] == "unigram"]
    validation = [record for record in found if record["kind"] == "validation"]
    assert validation[-1]["loss"] < validation[0]["loss"]
    assert all(record["tokens"] == validation[0]["tokens"] for record in validation)
    for record in (unigram, *validation):
        levels = [record["parts"][f"level_{q}"] for q in range(2)]
        assert record["loss"] == pytest.approx(np.average(levels, weights=validation[0]["tokens"]), rel=1e-5)


def test_takes_say_what_applies_to_the_kind(done: Run) -> None:
    made = read(done.run / "takes.json")
    assert len(made["takes"]) == 2
    assert ("budget" in made) == ("clock" in done.sections)
    for id in made["takes"]:
        record = read(done.run / "takes" / id / "take.json")
        assert len(audio.read(done.run / "takes" / id / "stem.wav", RATE)) == round(1.3 * RATE)
        assert record["timings"]["real_time_factor"] == pytest.approx(record["timings"]["total_ms"] / 1300, rel=1e-3)
        if "clock" in done.sections:
            assert record["streamed_equals_offline"] is True
            assert len(record["timings"]["step_ms"]) == 65 // 3, "a step plays k = 3 of the 65 frames"
        else:
            assert record["streamed_equals_offline"] is None
            assert not {"step_ms", "p99_ms", "parts"} & set(record["timings"])
    assert set(read(done.run / "metrics.json")["cells"]) == {"model", "true_stem", "random_pairing", "codec"}


def test_a_prompt_and_another_song_s_context(done: Run, tmp_path: Path) -> None:
    """Every kind goes on from what is given, to what it hears, and only what it made is judged."""
    shutil.copytree(done.run, tmp_path / "run")
    run, frames = Run(tmp_path / "run", done.corpus, done.store), 20
    asked = {"takes": 2, "seconds": 1.3, "input": "random", "prompt": frames}
    object.__setattr__(run, "sections", {**done.sections, "generate": asked})
    spec = run.spec()
    with pytest.raises(DataError, match=r"made with .*'input': 'paired', 'prompt': 0.*the spec says"):
        evaluate(spec, run.registry, run.run)
    generate(spec, run.registry, run.run)
    made = {path: path.stat().st_mtime_ns for path in run.run.glob("takes/*/take.json")}
    generate(spec, run.registry, run.run)
    assert made == {path: path.stat().st_mtime_ns for path in run.run.glob("takes/*/take.json")}, "made again"
    ids = read(run.run / "takes.json")["takes"]
    records = [read(run.run / "takes" / id / "take.json") for id in ids]
    tokenizer = EnergyTokenizer()
    for record, other in zip(records, records[::-1], strict=True):
        sounds = {path.stem: audio.read(path, RATE) for path in (run.run / "takes" / record["id"]).glob("*.wav")}
        assert record["heard"]["track"] == other["track"] != record["track"]
        theirs = audio.read(run.run / "takes" / other["id"] / "context.wav", RATE)
        np.testing.assert_array_equal(sounds["heard"], theirs)
        before = audio.read(done.run / "takes" / record["id"] / "stem.wav", RATE)
        assert not np.array_equal(before, sounds["stem"])
        codes = tokenizer.encode(torch.from_numpy(sounds["true"])[None])[:, :, :frames]
        given = tokenizer.decode(codes)[0].numpy()
        np.testing.assert_allclose(sounds["stem"][: frames * 640], given * record["gain"], atol=1e-3)
        if "clock" in done.sections:
            assert record["streamed_equals_offline"] is True
    evaluate(spec, run.registry, run.run)
    cells = read(run.run / "metrics.json")["cells"]
    assert cells["model"]["title"] == "model, another song's context, after a prompt of 20 frames"
    for cell, stem in (("model", "stem"), ("true_stem", "true")):
        sounds = {n: audio.read(run.run / "takes" / ids[0] / f"{n}.wav", RATE) for n in ("context", stem)}
        metric = tiny.Envelopes(tiny.Envelopes.Config(), tokenizer.space)
        heard = [audio.resample(sound[frames * 640 :], RATE, 16000) for sound in sounds.values()]
        metric.update(Take(ids[0], *heard, 16000, 0))
        judged = cells[cell]["metrics"]["envelopes"]["takes"][ids[0]]["envelopes"]
        assert judged == pytest.approx(metric.result()["envelopes"], abs=1e-3)


def test_the_model_is_asked_about_what_was_played(done: Run, tmp_path: Path) -> None:
    """The token metric's numbers are the objective's own, on the takes' clips, with either context."""
    shutil.copytree(done.run, tmp_path / "run")
    run = Run(tmp_path / "run", done.corpus, done.store)
    object.__setattr__(run, "sections", {**done.sections, "metric": [{"plugin": "token"}]})
    spec = run.spec()
    evaluate(spec, run.registry, run.run)
    cells = read(run.run / "metrics.json")["cells"]
    assert not cells["true_stem"]["metrics"]["token"]["applies"]
    token = cells["model"]["metrics"]["token"]
    assert token["scored"] == 2
    ids = read(run.run / "takes.json")["takes"]
    teacher = Teacher(spec, run.registry, run.run, ids)
    for id, other in zip(ids, ids[::-1], strict=True):
        losses = teacher.losses(id)
        found = token["takes"][id]
        assert found["loss"] == pytest.approx(float(losses["own"].total), rel=1e-5)
        assert found["context_gain"] == pytest.approx(float(losses["swapped"].total - losses["own"].total), abs=1e-5)
        assert losses["own"].counts is not None
        assert losses["swapped"].counts is not None
        assert losses["own"].counts.tolist() == losses["swapped"].counts.tolist(), "nothing else is drawn"
        context = run.run / "takes" / id / "context.wav"
        shutil.copy(done.run / "takes" / other / "context.wav", context)
        again = Teacher(spec, run.registry, run.run, ids).losses(id)
        assert float(again["own"].total) == pytest.approx(float(losses["swapped"].total), rel=1e-5)
        shutil.copy(done.run / "takes" / id / "context.wav", context)


def test_the_report_says_what_kind_it_is(done: Run) -> None:
    text = text_of(done.run / "report.html")
    assert f"objective {done.sections['objective']['plugin']}" in text
    assert "It predicts held-out songs better than code frequencies alone" in text
    streaming = (
        "streaming model, t_f = -4, k = 3 frames",
        "Streamed equals offline",
        "its 3 frames, 60 ms",
        "Latency budget",
    )
    whole = ("offline model, needs the whole clip before it plays", "Not a streaming model", "time taken")
    there, absent = (streaming, whole) if "clock" in done.sections else (whole, streaming)
    assert all(words in text for words in there)
    assert not any(words in text for words in absent)
    assert ("guidance context 2" in text) == ("guidance" in done.sections)


@pytest.mark.parametrize("samples", [0, 1, HOP + 1, 70 * HOP + 7])
def test_a_performance_is_as_long_as_its_input_and_repeats(done: Run, samples: int) -> None:
    player = load_player(done.run, done.registry, CPU)
    sound = 0.5 * tiny.tone(2, 1)[:samples]
    first, same, other = (
        perform(player, sound, labels={"instrument": 4}, seed=1, session=session) for session in (2, 2, 3)
    )
    assert len(first.audio) == samples
    assert first.codes.shape[1] >= -(-samples // HOP)
    np.testing.assert_array_equal(first.audio, same.audio)
    assert samples < 70 * HOP or not np.array_equal(first.codes, other.codes)
    silent = perform(player, np.zeros_like(sound), labels={}, seed=1, session=2)
    assert len(silent.audio) == samples
    if player.clocked and samples:
        pieces = play(player, sound, [HOP] * 200, labels={"instrument": 4}, seed=1, session=2)
        np.testing.assert_array_equal(pieces.codes, first.codes)


@offline
def test_an_offline_stem_is_what_compose_gives(done: Run) -> None:
    made = read(done.run / "takes.json")
    player = load_player(done.run, done.registry, CPU)
    assert player.guidance == Guidance(done.sections.get("guidance", {}))
    for id in made["takes"]:
        record = read(done.run / "takes" / id / "take.json")
        context, stem = (audio.read(done.run / "takes" / id / f"{name}.wav", RATE) for name in ("context", "stem"))
        tokenizer = EnergyTokenizer()
        codes = compose(
            player.model, player.sampler, tokenizer.embed(tokenizer.encode(torch.from_numpy(context)[None])),
            sessions=torch.tensor([number_of(id)]), labels={"instrument": torch.tensor([record["instrument"]])},
            window=50, seed=3, guidance=player.guidance,
        )  # fmt: skip
        expected = tokenizer.decode(codes)[0, : len(stem)].numpy() * record["gain"]
        assert np.mean(np.abs(stem - expected) > 1e-3) < 0.05  # the context was rounded to 24 bits


def test_what_the_decoder_answers_late_is_there_at_the_end() -> None:
    """A codec that is `delay` samples late needs the frames after the input's last sample."""
    from accomp.core.model.model import Model

    codec = Constant(Constant.Config(delay=5))
    timed = small_model(space=codec.space)
    model = Model(timed.fuser, timed.backbone, codec.space, None, timed.conditions, 16).eval()
    player = Player(codec, model, TopK(TopK.Config(k=4), codec.space), 10, 0, "", "prefix_offline")
    played = perform(player, np.full(40, 0.5, dtype=np.float32), labels={}, seed=0, session=0)
    assert played.codes.shape == (3, 6)  # 45 samples in frames of 8
    wave = np.repeat(played.codes.mean(axis=0) / 10, 8)
    np.testing.assert_allclose(played.audio, wave[5:45], atol=1e-6)


@offline
def test_an_offline_model_cannot_stream(done: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = done.sections["objective"]["plugin"]
    player = load_player(done.run, done.registry, CPU)
    with pytest.raises(CombinationError, match=rf"objective '{name}': it needs the whole clip.*accomp layer"):
        play(player, tiny.tone(0.1, 1), [HOP], labels={}, seed=0, session=0)
    audio.write(tmp_path / "in.wav", tiny.tone(0.1, 1), RATE)
    with pytest.raises(CombinationError, match="cannot stream; `accomp generate`"):
        stream(StreamRequest(done.run, tmp_path / "in.wav", tmp_path / "out.wav", "Bass"), done.registry)
    assert not (tmp_path / "out.wav").exists()


def test_guidance_makes_other_takes_and_is_refused_where_it_cannot_work(
    trained: tiny.Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, played = trained.copy(tmp_path / "run"), []
    original = play_twice.play
    monkeypatch.setattr(play_twice, "play", lambda player, *a, **k: played.append(player) or original(player, *a, **k))
    few = {"takes": 1, "seconds": 0.5}
    stems = {}
    for context in (1.0, 3.0, 3.0):
        spec = run.spec(generate=few, guidance={"context": context})
        generate(spec, run.registry, open_run(spec))
        stems[context] = audio.read(next(run.run.glob("takes/*/stem.wav")), RATE)
    assert [player.guidance.scales["context"] for player in played] == [1.0, 1.0, 3.0, 3.0]
    assert read(run.run / "takes.json")["settings"]["guidance"] == {"context": 3.0}
    assert not np.allclose(stems[1.0], stems[3.0], atol=1e-2)
    with pytest.raises(CombinationError, match=r"guidance\.contxt: there is no such condition; did you mean 'context'"):
        load_player(run.run, run.registry, CPU, guidance={"contxt": 2.0})


def test_a_stream_is_guided_from_the_command_line(
    trained: tiny.Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accomp.core.cli.main.Registry", tiny.registry)
    audio.write(tmp_path / "in.wav", tiny.tone(0.5, 1), RATE)
    words = ["stream", str(trained.run), "--input", str(tmp_path / "in.wav"), "--instrument", "Bass", "--output"]
    stems = []
    for scales in ([], ["--guidance", "context=4", "--guidance", "instrument=0.5"]):
        assert main([*words, str(tmp_path / "out.wav"), *scales]) == 0
        stems.append(audio.read(tmp_path / "out.wav", RATE))
    assert not np.allclose(*stems, atol=1e-2)
    assert "guidance: context 4, instrument 0.5" in capfd.readouterr().out
    for wrong, told in {
        "context": "expected CONDITION=SCALE",
        "context=loud": "expected CONDITION=SCALE",
        "context=nan": "expected CONDITION=SCALE",
        "genre=2": "guidance.genre: there is no such condition",
    }.items():
        assert main([*words, str(tmp_path / "out.wav"), "--guidance", wrong]) == 2
        assert told in capfd.readouterr().err
    assert main([*words, str(tmp_path / "out.wav"), "--condition", "genre=jazz"]) == 2
    assert "genre" in capfd.readouterr().err


def test_a_run_that_is_older_than_guidance_is_still_read(
    generated: tiny.Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its takes are kept and judged, its page is written."""
    old = generated.copy(tmp_path / "run")
    places: dict[str, tuple[str, ...]] = {"spec.json": (), "takes.json": ("settings",)}
    places |= {str(path.relative_to(old.run)): ("spec",) for path in old.run.glob("checkpoints/*/checkpoint.json")}
    places |= {str(path.relative_to(old.run)): ("made_from",) for path in old.run.glob("takes/*/take.json")}
    for name, keys in places.items():
        whole = section = read(old.run / name)
        for key in keys:
            section = section[key]
        del section["guidance"]
        for hashes in ("files", "sha256"):  # which there were none of either
            whole.pop(hashes, None) if "take" in name else None
        (old.run / name).write_text(json.dumps(whole))

    write_report(old.spec(), old.registry, old.run)
    monkeypatch.setattr(play_twice, "play", None)  # whoever plays again fails
    spec = old.spec()
    assert open_run(spec) == old.run
    evaluate(spec, old.registry, old.run)
    generate(spec, old.registry, old.run)
    assert load_player(old.run, old.registry, CPU).guidance == Guidance()
