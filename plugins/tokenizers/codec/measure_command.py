"""`accomp codec measure` and `accomp codec report`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from accomp.plugin import Corpus, DataError, Registry, progress, say, warn, write_atomic
from accomp.plugin.metrics import build_embedder
from accomp.plugin.specs import corpus_at
from accomp.plugins.tokenizers.codec.files.resolve import FORMS, NamedCodec, built, named_codecs
from accomp.plugins.tokenizers.codec.quality.calibration import Calibration, calibrations
from accomp.plugins.tokenizers.codec.quality.comparison import STEMS, compare
from accomp.plugins.tokenizers.codec.quality.embedded import ExcerptEmbedder
from accomp.plugins.tokenizers.codec.quality.excerpts import FILES, MIXES, Music, corpus_music, folder_music
from accomp.plugins.tokenizers.codec.quality.measures import table
from accomp.plugins.tokenizers.codec.quality.metric_plugins import metric_named, score_by
from accomp.plugins.tokenizers.codec.quality.page.document import page
from accomp.plugins.tokenizers.codec.quality.predictability import STEPS, Prediction, learn, training_codes
from accomp.plugins.tokenizers.codec.streams.device import device_named

TRAIN = "train"
_PRINTED = (
    "fad", "fad_inf", "mel", "stft", "si_sdr_db", "log_mel_db", "rms_ratio", "level_db", "low_coherence", "onset_f1",
)  # fmt: skip
_OF_LEVELS = {
    "codes_used": "{:.0f}", "perplexity": "{:.0f}", "entropy": "{:.2f}", "repeated": "{:.3f}",
    "predicted": "{:.2f}", "frequency": "{:.2f}",
}  # fmt: skip

Root = Annotated[Path, typer.Argument(help="The folder of a corpus, or of audio files.")]
CorpusName = Annotated[
    str | None, typer.Option("--corpus", help="Corpus plugin with the classes of stems; otherwise use --glob.")
]
Splits = Annotated[
    list[str] | None, typer.Option("--split", help="A split of the corpus; repeatable. Default: all but train.")
]
CorpusKeys = Annotated[
    list[str] | None, typer.Option("--corpus-config", metavar="KEY=VALUE", help="A key of the corpus plugin, in TOML.")
]
Globs = Annotated[list[str], typer.Option("--glob", help="Without --corpus: file pattern in the folder; repeatable.")]
Excerpts = Annotated[int, typer.Option(min=1, help="Number of sounds: mixes, stems of each class, or files.")]
Seconds = Annotated[float, typer.Option(min=0.5, help="Audible seconds of each.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto takes a GPU if there is one.")]
Embedding = Annotated[str, typer.Option(help="Embedder plugin of the Frechet distance (fad).")]
Calibrate = Annotated[
    bool, typer.Option(help="Also measure known damage: noise, random phases, a mel spectrogram, another song.")
]
Predict = Annotated[
    bool, typer.Option(help="Train a small model on the codes of the train split; report its held-out loss.")
]
PredictMinutes = Annotated[float, typer.Option(min=0.1, help="Largest amount of music.")]
MIXES_ONLY = ("**/mix.flac",)


def measure_codec(
    root: Root,
    tokenizer: Annotated[str, typer.Option(help="Name of a tokenizer plugin.")] = "magnitude",
    config: Annotated[str, typer.Option(help="Its configuration as JSON.")] = "{}",
    corpus: CorpusName = None,
    split: Splits = None,
    corpus_config: CorpusKeys = None,
    glob: Globs = list(MIXES_ONLY),  # noqa: B006
    excerpts: Excerpts = 16,
    seconds: Seconds = 10.0,
    calibrate: Calibrate = False,
    predict: Predict = False,
    predict_minutes: PredictMinutes = 60.0,
    embedding: Embedding = "musicnn",
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="""Metric plugin that compares decoded with original: NAME, or 'NAME={"key": value}'; repeatable."""
        ),
    ] = None,
    device: Device = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Measure the reconstruction quality of a tokenizer on mixes and on stems of each class."""
    registry = Registry()
    codec = NamedCodec(tokenizer, tokenizer, *built(registry, tokenizer, config))
    codec.codec.to(device_named(device))
    judges = {name: metric_named(name, registry, codec.codec.space) for name in metric or ()}
    hearing = _hearing(embedding, registry)
    reader = _to_learn_from(registry, root, corpus, split, corpus_config) if predict else None
    music = _music(registry, root, corpus, split, corpus_config, glob, excerpts, seconds)
    known = _known([codec], music, calibrate)
    learnt = _learnt([codec], reader, predict_minutes)
    with progress("measure", len(music.excerpts) * (1 + len(known))) as advance:
        record, _ = compare([codec], music, advance, hearing, calibration=known, predictions=learnt)
    for name, judge in judges.items():
        with progress(name, len(music.excerpts)) as advance:
            record.setdefault("metrics", {})[name] = score_by(judge, name, codec.codec, music, advance)
    _warn(music, hearing)
    if as_json:
        say(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False))
    else:
        say("\n".join(_lines(record, list(record["music"]["excerpts"]))))
        for name, found in record.get("metrics", {}).items():
            say(f"{name}, decoded against original, {found['judged']} excerpts:\n{table(found['numbers'])}")
            _warn_of("not judged", found["left_out"])


def report_codecs(
    root: Root,
    codecs: Annotated[list[str], typer.Argument(metavar="CODEC...", help=f"Codecs to compare: {FORMS}.")],
    out: Annotated[Path, typer.Option(help="Output page; the metrics are written to a .json file beside it.")] = Path(
        "codecs.html"
    ),
    corpus: CorpusName = None,
    split: Splits = None,
    corpus_config: CorpusKeys = None,
    glob: Globs = list(MIXES_ONLY),  # noqa: B006
    excerpts: Excerpts = 8,
    seconds: Seconds = 10.0,
    players: Annotated[int, typer.Option(min=0, help="Sounds with players: mixes, stems of each class, or files.")] = 1,
    listen: Annotated[float, typer.Option(min=0.5, help="Playable seconds of each.")] = 4.0,
    calibrate: Calibrate = True,
    predict: Predict = False,
    predict_minutes: PredictMinutes = 60.0,
    embedding: Embedding = "musicnn",
    device: Device = "cpu",
) -> None:
    """Write a page that compares codecs: metrics by instrument class, code usage, original and decoded audio."""
    if out.suffix != ".html":
        raise DataError(f"a page's name ends with .html @ --out {out}")
    registry = Registry()
    named = named_codecs(codecs, registry)
    for one in named:
        one.codec.to(device_named(device))
    reader = _to_learn_from(registry, root, corpus, split, corpus_config) if predict else None
    music = _music(registry, root, corpus, split, corpus_config, glob, excerpts, seconds)
    hearing = _hearing(embedding, registry)
    known = _known(named, music, calibrate)
    learnt = _learnt(named, reader, predict_minutes)
    with progress("measure", len(music.excerpts) * (len(named) + len(known))) as advance:
        record, heard = compare(
            named, music, advance, hearing, calibration=known, predictions=learnt, players=players, listen=listen
        )
    write_atomic(out.with_suffix(".json"), json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_atomic(out, page(record, heard))
    _warn(music, hearing)
    say("\n".join(_lines(record, [group for group in record["music"]["excerpts"] if group in (MIXES, FILES, STEMS)])))
    say(f"page: {out} ({out.stat().st_size / 2**20:.1f} MiB); figures: {out.with_suffix('.json')}")


def _music(
    registry: Registry,
    root: Path,
    corpus: str | None,
    splits: Sequence[str] | None,
    keys: Sequence[str] | None,
    glob: Sequence[str],
    each: int,
    seconds: float,
) -> Music:
    if corpus is None:
        if splits or keys:
            raise DataError("--split and --corpus-config need a corpus; name its plugin: --corpus NAME")
        return folder_music(root, glob, each, seconds)
    if tuple(glob) != MIXES_ONLY:
        raise DataError(f"--glob is for a folder without --corpus; {corpus!r} selects its own files")
    reader = corpus_at(root, corpus, keys or (), registry)
    chosen = _chosen(reader, splits)
    return corpus_music(reader, chosen, each, seconds, f"{corpus}, {' and '.join(chosen)} @ {root}")


def _known(codecs: Sequence[NamedCodec], music: Music, calibrate: bool) -> list[Calibration]:
    """Return the reference degradations at the highest sample rate of the codecs."""
    return calibrations(max(one.codec.space.sample_rate for one in codecs), music) if calibrate else []


def _chosen(reader: Corpus, splits: Sequence[str] | None) -> list[str]:
    return list(splits or [one for one in reader.splits if one != TRAIN] or reader.splits)


def _to_learn_from(
    registry: Registry, root: Path, corpus: str | None, splits: Sequence[str] | None, keys: Sequence[str] | None
) -> Corpus:
    """Return the corpus for training the predictor; its train split is excluded from measurement."""
    if corpus is None:
        raise DataError("--predict trains on a corpus's train split; name the plugin that reads it: --corpus NAME")
    reader = corpus_at(root, corpus, keys or (), registry)
    if TRAIN not in reader.splits:
        raise DataError(f"--predict needs a split {TRAIN!r}; {corpus!r} has {', '.join(reader.splits)} @ {root}")
    if TRAIN in _chosen(reader, splits):
        raise DataError(f"--predict trains on the split {TRAIN!r}; measure on others: --split NAME @ {root}")
    return reader


def _learnt(codecs: Sequence[NamedCodec], reader: Corpus | None, minutes: float) -> dict[str, Prediction]:
    """Train a predictor of the codes of each codec, by label; skip continuous latents."""
    if reader is None:
        return {}
    found = {}
    for one in codecs:
        if not one.codec.space.codebooks:
            warn(f"{one.label} has continuous latents, no codes to predict")
            continue
        with progress(f"code {TRAIN}, {one.label}", len(list(reader.tracks(TRAIN)))) as advance:
            pieces, failed = training_codes(reader, TRAIN, one.codec, minutes, advance)
        with progress(f"learn the codes of {one.label}", STEPS) as advance:
            found[one.label] = learn(pieces, one.codec.space, advance)
        _warn_of(f"songs of {TRAIN} could not be used", failed)
    return found


def _hearing(embedding: str, registry: Registry) -> ExcerptEmbedder:
    return ExcerptEmbedder(build_embedder(embedding, registry, where="--embedding"))


def _warn(music: Music, hearing: ExcerptEmbedder) -> None:
    _warn_of("could not be used", music.failed)
    _warn_of("silent", music.silent)
    for why, n in hearing.failed.items():
        warn(f"{n} sounds without Frechet distance: {why}")


def _warn_of(what: str, names: Sequence[str]) -> None:
    if names:
        more = f"; and {len(names) - 5} more" if len(names) > 5 else ""
        warn(f"{len(names)} {what}: {'; '.join(names[:5])}{more}")


def _lines(record: dict[str, Any], groups: Sequence[str]) -> list[str]:
    """Format the record: figures of each codec, then of each group of sounds."""
    lines = [f"music: {record['music']['about']}"]
    for codec in record["codecs"]:
        lines.append(
            f"{codec['label']} ({codec['plugin']} {codec['fingerprint']}): {codec['bitrate'] / 1000:.2f} kbit/s; "
            f"silence gives {codec['silence_db']:.1f} dB, after sound {codec['silence_after_sound_db']:.1f} dB"
        )
        for frames, factor in codec["streamed_rtf"].items():
            lines.append(
                f"  streamed, frames a push {frames}: {factor['encode']:.3f} of real time to encode, "
                f"{factor['decode']:.3f} to decode"
            )
        lines += _group_lines(codec, groups, codec["space"]["codebooks"])
    for known in record["calibration"]:
        whole = [group for group in groups if group in (MIXES, FILES, STEMS)]
        lines += [known["label"], *_group_lines(known, whole, 0)]
    return lines


def _group_lines(candidate: dict[str, Any], groups: Sequence[str], levels: int) -> list[str]:
    lines = []
    for group in groups:
        found = candidate["groups"][group]
        numbers = [f"{name} {_describe(found['figures'][name])}" for name in _PRINTED if name in found["figures"]]
        frames = f"{found['frames']} frames, " if found["frames"] else ""
        lines.append(
            f"  {group} ({found['excerpts']} excerpts, {frames}{found['vectors']} vectors): {', '.join(numbers)}"
        )
        lines += _code_lines(levels, found["figures"])
    return lines


def _code_lines(levels: int, figures: dict[str, Any]) -> list[str]:
    """Format the code usage of a codec; empty for continuous latents."""
    if not levels:
        return []
    bits = figures["bitrate_entropy"]["value"] / 1000
    parts = [
        f"{name} {', '.join(form.format(figures[f'{name}_{q}']['value']) for q in range(1, levels + 1))}"
        for name, form in _OF_LEVELS.items()
        if f"{name}_1" in figures
    ]
    return [f"    {'; '.join(parts)}; bitrate_entropy {bits:.2f} kbit/s"]


def _describe(figure: dict[str, Any]) -> str:
    span = "" if figure["low"] is None else f" ({figure['low']:.3g} to {figure['high']:.3g})"
    return f"{figure['value']:.3g}{span}"
