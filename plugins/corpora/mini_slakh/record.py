"""Record of a rendered corpus: request, music, fonts, songs and skipped files (SOURCES.json)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from accomp.core.errors import DataError
from accomp.core.files import write_atomic
from accomp.plugins.corpora.earlier import earlier
from accomp.plugins.corpora.mini_slakh import plan, sources, synth
from accomp.plugins.corpora.mini_slakh.render import Source, variant_entry
from accomp.plugins.corpora.mini_slakh.variants import Variant

RECORD = "SOURCES.json"


def same_request(out: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of an earlier run with the same request. Raises DataError for any other content of `out`."""
    record = earlier(out, RECORD, ("request",))
    if record is None:
        return None
    before = record["request"]
    if different := [
        f"{key} was {before.get(key)}, is {request.get(key)}"
        for key in {**request, **before}
        if before.get(key) != request.get(key)
    ]:
        raise DataError(
            f"{out} was made from other music or options ({'; '.join(different)}); "
            "name another folder, or delete this one"
        )
    return record


def source_of(song: dict[str, Any], known: dict[str, Source]) -> Source:
    """Return the source of a song in the record."""
    source = known[song["source"]]
    if "variant" not in song:
        return source
    how = song["variant"]
    return evolve(source, variant=Variant(how["transpose"], how["tempo"], how["fonts_only"]))


def write_record(
    out: Path,
    request: dict[str, Any],
    music: sources.Music,
    fonts: Sequence[Path],
    planned: list[plan.Planned],
    problems: list[tuple[str, str]],
) -> None:
    """Write the record of planned songs and skipped files atomically."""
    record = {
        "request": request,
        "music": music.used,
        "sound_font": fonts[0].name,
        **({"further_sound_fonts": [font.name for font in fonts[1:]]} if fonts[1:] else {}),
        "sample_rate": synth.RATE,
        "songs": [
            {
                "folder": song.folder,
                "source": song.candidate.source.name,
                "licence": song.candidate.source.licence,
                "fingerprint": song.candidate.fingerprint,
                "seconds": song.candidate.seconds,
                **_of_variant(song),
            }
            for song in planned
        ],
        "left_out": [{"name": name, "why": why} for name, why in problems],
    }
    write_atomic(out / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _of_variant(song: plan.Planned) -> dict[str, Any]:
    variant = song.candidate.source.variant
    return {} if variant is None else {"variant": variant_entry(variant, song.folder)}
