"""Tasks and songs on Ray, started on this machine: the promises of every engine, and the same bytes in the store."""

from __future__ import annotations

from functools import partial

import pytest
from engine_tasks import keeps_its_promises, run
from fakes import tone, write_corpus, write_track
from ingest_workers import contents, counting_encoder, ingest, mortal_encoder

from accomp.core.errors import WorkError
from accomp.core.spec.runner import RunnerSpec

pytest.importorskip("ray", reason="the extra ray is not installed")
RAY = RunnerSpec(engine="ray", workers=2, cpus=1)


@pytest.mark.alone
def test_ray_does_tasks_and_songs(tmp_path, capfd):
    """All in one, so that Ray is started once, which takes seconds: as the engine itself starts it."""
    from accomp.core.engines.ray import start_here

    try:
        start_here()
    except WorkError as error:
        if "timed out during startup" not in str(error):
            raise
        pytest.skip(f"this machine is too busy for Ray: {error}")
    keeps_its_promises(RAY, tmp_path)
    assert "1 die: its worker died" in capfd.readouterr().err

    found = run(RAY, *[("count", None)] * 3, fresh=True)
    assert [call for outcome in found.values() for call in outcome.value[1:]] == [1, 1, 1]
    assert len({outcome.value[0] for outcome in found.values()}) == 3

    corpus = write_corpus(tmp_path / "c", {"train": 2, "test": 1}, stems=3, seconds=1.1)
    write_track(corpus / "train/t9", {"a-0": tone(0.2, 0), "b-0": tone(0.2, 1)})  # too short
    write_track(corpus / "train/t5", {"s0-0": tone(2.0, 0), "s1-4": tone(2.0, 1)})
    with pytest.raises(WorkError, match=r"train/t5: its worker died"):
        ingest(corpus, tmp_path / "s", RAY, mortal_encoder)
    (tmp_path / "built").mkdir()
    finished = ingest(corpus, tmp_path / "s", RAY, partial(counting_encoder, str(tmp_path / "built")))
    assert finished.added == 1
    assert [skip.track for skip in finished.skipped] == ["t9"]
    assert 1 <= len(list((tmp_path / "built").iterdir())) <= 2
    ingest(corpus, tmp_path / "alone")
    assert contents(tmp_path / "s") == contents(tmp_path / "alone")
