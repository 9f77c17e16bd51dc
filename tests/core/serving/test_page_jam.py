"""The page in front of the real server, with a small model: a jam from the song to the recording."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest
import soundfile
from page_browser import RATE, TAPPED, chromium, music, visiting
from page_files import tapped_page
from scipy.signal import resample_poly
from serving_small import TOKEN, serving

from accomp.core.runner.serving import app

MODEL_RATE = 32000


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module")
def jam(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, serving(record=tmp_path_factory.mktemp("recordings")) as running:
        patch.setattr(app, "PAGE", tapped_page(tmp_path_factory.mktemp("tapped")))
        yield running


def at_model_rate(sound: np.ndarray) -> np.ndarray:
    step = math.gcd(RATE, MODEL_RATE)
    return resample_poly(np.nan_to_num(sound), MODEL_RATE // step, RATE // step)


def lag(one: np.ndarray, other: np.ndarray) -> int:
    """By how many samples `one` lies behind `other`."""
    size = 1 << (len(one) + len(other)).bit_length()
    spectrum = np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size))
    at = int(np.argmax(np.fft.irfft(spectrum, size)))
    return at if at < size // 2 else at - size


def test_a_song_is_accompanied_recorded_and_everything_lies_where_it_was_heard(browser, jam, tmp_path):
    soundfile.write(tmp_path / "song.wav", music(4, seed=1), RATE, subtype="FLOAT")
    with visiting(browser, f"http://127.0.0.1:{jam.port}", token=TOKEN, script=TAPPED) as visit:
        visit.until("Choose what it listens to")
        visit.page.locator("#file").set_input_files(tmp_path / "song.wav")
        visit.until("Ready")
        visit.open_folds()
        visit.page.get_by_label("It is told no beat").check()
        visit.page.get_by_label("It is told no chords").check()
        visit.start()
        visit.until("Ended")
        visit.page.get_by_label("Mix", exact=True).wait_for()
        files = {}
        for name in ("input.wav", "stem.wav", "heard.wav", "mix.wav", "manifest.json"):
            with visit.page.expect_download() as download:
                visit.page.get_by_role("link", name=name).click()
            files[name] = download.value.path().read_bytes()
        heard, played = visit.tapped("heard"), visit.tapped("played")
    manifest = json.loads(files["manifest.json"])
    assert manifest["first_ms"] == 0
    kept = {name: soundfile.read(io.BytesIO(files[name]))[0] for name in files if name.endswith(".wav")}
    begin = min(heard[0], played[0])
    ear, mouth = (at_model_rate(np.pad(sound, (place - begin, 0))) for place, sound in (heard, played))
    assert np.abs(kept["input.wav"]).max() > 0.2
    assert np.abs(kept["heard.wav"]).max() > 1e-3
    offset = lag(ear, kept["input.wav"])
    assert abs(lag(mouth, kept["heard.wav"]) - offset) <= 2
