"""Sound on its way between a page and a model: rates, clocks, holes, places, and how long it takes around."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from accomp.core.serving.playing.calibration import PAUSE, measure_loopback, probe, sequence
from accomp.core.serving.playing.input_stream import Inbox, InputStream
from accomp.core.serving.playing.live import LiveSession, cross_fade, fade_in
from accomp.core.serving.playing.output_stream import Outbox, OutputStream
from accomp.core.serving.playing.polyphase import Polyphase, reach
from accomp.core.serving.playing.recording import MANIFEST, Recorder, WavFile
from accomp.core.serving.playing.resampling import LIMIT, DriftControl, Resampler, delay
from accomp.core.serving.protocol.frames import DISCONTINUITY, HEARD, Frame
from accomp.core.serving.protocol.messages import Start


def tone(rate: int, seconds: float, hertz: float = 440.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def rms(sound: np.ndarray) -> float:
    return float(np.sqrt(np.mean(sound**2)))


def frames_of(sound: np.ndarray, size: int, place: int = 0) -> list[Frame]:
    return [Frame(HEARD, place + at, sound[at : at + size]) for at in range(0, len(sound), size)]


@pytest.mark.parametrize("varies", [False, True])
@pytest.mark.parametrize(("rate", "to"), [(48000, 32000), (44100, 32000), (32000, 48000), (32000, 44100)])
def test_a_resampler_holds_back_the_same_always_and_moves_nothing(rate, to, varies):
    resampler, made, held = Resampler(rate, to, varies=varies), [], []
    for number, frame in enumerate(frames_of(tone(rate, 1.0), rate // 100)):
        made.append(resampler.push(frame.samples))
        held.append((number + 1) * (rate // 100) / rate - sum(map(len, made)) / to)
    assert max(held[3:]) - min(held[3:]) < 2 / to
    assert abs(held[-1] - delay(rate, to, varies=varies)) < (1e-3 if varies else 1 / to)
    sound = np.concatenate(made)
    assert np.abs(sound - tone(to, 1.0)[: len(sound)])[2000:].max() < (0.15 if varies else 1e-3)  # 0.05 ms of 440 Hz
    shifted = np.sin(2 * np.pi * 440 * (np.arange(len(sound)) / to - 0.05e-3 * (varies and to < rate)))
    assert np.abs(sound - shifted)[2000:].max() < 0.01


RATES = [(44100, 32000), (32000, 44100), (48000, 32000), (44101, 32000), (192000, 32000), (8000, 32000), (44100, 16000)]


@pytest.mark.parametrize(("rate", "to"), RATES)
def test_a_fixed_resampler_agrees_with_a_library_and_does_not_depend_on_the_pieces(rate, to):
    rng = np.random.default_rng(0)
    noise = soxr.resample(rng.uniform(-0.5, 0.5, round(0.8 * min(rate, to))), 0.8 * min(rate, to), rate, "VHQ")
    noise = noise.astype(np.float32)  # up to 0.8 of the half of the lower rate
    resampler, at, made = Polyphase(rate, to), 0, []
    while at < len(noise):
        size = int(rng.integers(0, 2000))
        made.append(resampler.push(noise[at : at + size]))
        at += size
    sound = np.concatenate(made)
    assert np.array_equal(sound, Polyphase(rate, to).push(noise))
    assert 0 <= len(noise) - len(sound) * rate / to - reach(rate, to) + rate / to + 1 < 2 * (rate / to + 1)
    expected = soxr.resample(noise, rate, to, "VHQ")[: len(sound)]
    assert len(expected) == len(sound)
    inner = slice(to // 20, len(sound) - to // 20)
    assert rms(sound[inner] - expected[inner]) < 2e-3 * rms(expected[inner])  # -54 dB, most at 44101 Hz


def test_a_fixed_resampler_lets_nothing_alias():
    for rate in (44100, 48000, 96000):
        high = np.sin(2 * np.pi * 16_500 * np.arange(rate) / rate).astype(np.float32)
        assert 20 * np.log10(np.abs(Polyphase(rate, 32000).push(high))[1000:].max()) < -65


def test_a_second_of_silence_in_pieces_of_a_sample_is_as_long_as_one_in_one_piece():
    resampler = Polyphase(44100, 32000)
    one_by_one = sum(len(resampler.push(np.zeros(1, np.float32))) for _ in range(44100))
    assert one_by_one == len(Polyphase(44100, 32000).push(np.zeros(44100, np.float32)))


def test_equal_rates_pass_through():
    sound = tone(32000, 0.1)
    assert Resampler(32000, 32000).push(sound) is sound


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["there", "lost", "late"]), min_size=5, max_size=40), st.integers(0, 10**9))
def test_samples_keep_their_places_whatever_is_lost(fates, place):
    """At equal rates, so that every sample can be followed."""
    size = 80
    sound = np.arange(1, size * len(fates) + 1, dtype=np.float32)
    hearing, heard, expected = InputStream(32000, 32000), [], []
    for number, (frame, fate) in enumerate(zip(frames_of(sound, size, place), fates, strict=True)):
        if fate == "there" or number == 0:
            hearing.absorb([frame])
        heard.append(hearing.take(size))
        if fate == "late" and number:
            hearing.absorb([frame])
        expected.append(frame.samples if fate == "there" or number == 0 else np.zeros(size))
    assert np.array_equal(np.concatenate(heard), np.concatenate(expected))
    assert hearing.first == place
    assert hearing.lost >= size * sum(fate != "there" for fate in fates[1:])


def test_frames_that_come_twice_are_heard_once():
    hearing, sound = InputStream(32000, 32000), np.arange(240, dtype=np.float32)
    one, two, three = frames_of(sound, 80, 1000)
    hearing.absorb([one, two, one, two, three])
    assert np.array_equal(hearing.take(240), sound)


def test_a_page_that_has_begun_anew_is_told_so():
    hearing = InputStream(48000, 32000)
    hearing.absorb([Frame(HEARD, 0, np.zeros(480, np.float32))])
    with pytest.raises(ValueError, match=r"jumped by 60\.0 s"):
        hearing.absorb([Frame(HEARD, 480 + 48000 * 60, np.zeros(480, np.float32))])


@pytest.mark.parametrize("page", [48000, 44100, 32000])
def test_what_goes_through_both_ways_lies_where_it_was_heard(page):
    hearing, sounding = InputStream(page, 32000), OutputStream(32000, page)
    place, sound, out, sample = 123_457, tone(page, 2.0), [], 0
    size = page // 100
    sounding_begins = None
    for frame in frames_of(sound, size, place):
        hearing.absorb([frame])
        while hearing.available >= 640:
            if sounding_begins is None:
                sounding_begins = sounding.begin(0, hearing.first)
            out.append(sounding.frame(hearing.take(640)))
            sample += 640
    out = [frame for frame in out if frame is not None]
    assert out[0].place == sounding_begins == place
    for before, after in itertools.pairwise(out):
        assert after.place == before.place + len(before.samples)
    back = np.concatenate([frame.samples for frame in out])
    assert np.abs(back - sound[: len(back)])[3000:].max() < 1e-3 * (page != 32000) + 1e-6
    for at in (0, 1000, 64000):
        assert abs(hearing.place_at(hearing.sample_at(place + at)) - place - at) < 1e-6


def test_output_may_begin_anywhere():
    for first in (0, 1, 4801, 7, 320 * 9 + 1):
        sounding = OutputStream(32000, 44100)
        begins = sounding.begin(first, 1000)
        assert 0 <= begins - (1000 + first * 44100 / 32000) < 1
        assert begins == sounding.first_place(first, 1000)
        frame = sounding.frame(np.zeros(6400, np.float32))
        assert frame.place == begins


@pytest.mark.parametrize("ppm", [0, 100, -100, 300])
def test_the_drift_of_a_page_is_taken_up_without_a_hole(ppm):
    """A clock that is off, frames that arrive up to 4 ms late: 10 minutes."""
    rng, rate = np.random.default_rng(1), 48000 * (1 + 1e-6 * ppm)
    drift, level, correction, levels = DriftControl(), 0.05, 0.0, []
    for number in range(10 * 60 * 50):
        level += 0.02 * rate / 48000 * (1 + correction) - 0.02
        seen = level - rng.uniform(0, 0.004)
        correction = drift.update(seen, 0.02)
        levels.append(seen)
        assert not drift.lost, number
    assert min(levels) > 0.005
    assert max(levels) < 0.12
    settled = drift.share
    assert abs(settled + 1e-6 * ppm) < 1.2e-4  # the level still swings
    assert abs(settled) <= LIMIT


def test_a_clock_that_cannot_be_followed_is_noticed_and_anchored_anew():
    drift = DriftControl()
    for _ in range(20 * 50):
        drift.update(1.0, 0.02)
    assert drift.lost
    hearing = InputStream(32000, 32000)
    hearing.absorb(frames_of(np.arange(6400, dtype=np.float32), 640))
    assert hearing.resync(1280) == 5120
    assert hearing.available == 1280
    assert hearing.take(1)[0] == 5120
    assert hearing.sample_at(5120) == 0  # the session's next sample is of this place now
    late = InputStream(32000, 32000)
    late.absorb(frames_of(np.ones(640, np.float32), 640))
    late.take(3200)
    assert late.available == -2560
    assert late.resync(1280) == -2560
    late.absorb([Frame(HEARD, 640, np.full(640, 2, np.float32))])
    assert late.take(640)[0] == 2


def test_what_finds_a_queue_full_is_lost_and_counted():
    inbox = Inbox(1000, patience=0.5)
    assert [inbox.put(Frame(HEARD, at, np.zeros(100))) for at in range(0, 700, 100)] == [True] * 5 + [False] * 2
    assert inbox.lost == 200
    assert len(inbox.take()) == 5
    assert inbox.put(Frame(HEARD, 0, np.zeros(100)))


def test_a_slow_reader_loses_the_oldest_sound_and_no_words():
    rung = []
    outbox = Outbox(1000, lambda: rung.append(1), patience=0.5)
    for at in range(0, 1000, 100):
        outbox.send_frame(Frame(HEARD, at, np.zeros(100)))
    outbox.send({"type": "ended"})
    assert outbox.dropped == 500
    assert outbox.take() == {"type": "ended"}
    assert outbox.take().place == 500
    assert len(rung) == 11


def live_of(rate: int = 32000) -> LiveSession:
    hearing, sounding = InputStream(rate, 32000), OutputStream(32000, rate)
    outbox = Outbox(rate, lambda: None, patience=10.0)
    return LiveSession("one", Start(), Inbox(rate, 10.0), outbox, hearing, sounding, lambda how, why: None)


def frames_in(outbox: Outbox) -> list[Frame]:
    found = []
    while (message := outbox.take()) is not None:
        found.append(message)
    return found


def test_a_model_that_is_far_behind_leaves_out_what_it_missed_and_places_stay_true():
    live, sound = live_of(), np.arange(1, 640 * 160 + 1, dtype=np.float32)
    for frame in frames_of(sound, 640, place=5000):
        live.inbox.put(frame)
    live.absorb(0.0)
    first = live.take(640)
    live.play(0, first)
    assert live.drop_excess()
    assert not live.drop_excess()
    assert live.input.available == 0
    late = Frame(HEARD, 5000 + len(sound), np.full(640, 7, np.float32))
    live.inbox.put(late)
    live.absorb(0.0)
    live.play(640, live.take(640))
    one, two = frames_in(live.outbox)
    assert one.place == 5000
    assert two.place == late.place  # what is played to it lies on it
    assert two.flags == DISCONTINUITY
    assert np.array_equal(two.samples, fade_in(late.samples, 32000))
    assert live.input.lost == len(sound) - 640


def test_output_is_silent_until_the_count_in_ends_and_falls_silent_at_the_end():
    live = live_of()
    live.inbox.put(Frame(HEARD, 0, np.zeros(64000, np.float32)))
    live.absorb(0.0)
    live.silent_until = 1000
    ones = np.ones(640, np.float32)
    for number in range(4):
        live.play(640 * number, ones)
    live.fade(0.04)
    for number in range(4, 8):
        live.play(640 * number, ones)
    sound = np.concatenate([frame.samples for frame in frames_in(live.outbox)])
    assert not sound[:1000].any()
    assert (sound[1280 : 4 * 640] == 1).all()
    assert np.allclose(sound[4 * 640 : 6 * 640], 1 - np.arange(1280) / 1280)
    assert not sound[6 * 640 :].any()


def test_one_sound_passes_into_another():
    one, other = np.ones(3200, np.float32), np.zeros(3200, np.float32)
    both = cross_fade(one, other, 32000)
    assert both[0] == 1
    assert both[-1] == 0
    assert (np.diff(both) <= 0).all()


# --- calibration


def loopback(rate: int, delay: float, *, gain=0.5, noise=0.0, echo=0.0, jump=0.0, seed=0) -> np.ndarray:
    """What a microphone hears of the probe, from the place on at which it is put out."""
    sent = probe(rate)
    heard = np.zeros(len(sent) + rate)
    step = len(sent) // 3
    for number in range(3):
        piece = gain * sent[number * step : (number + 1) * step]
        for late, share in ((0.0, 1.0), (0.017, echo)):
            at = number * step + round((delay + late + (jump if number == 2 else 0)) * rate)
            room = max(0, min(len(piece), len(heard) - at))
            heard[at : at + room] += share * piece[:room]
    return heard + noise * np.random.default_rng(seed).standard_normal(len(heard))


def test_the_probe_is_a_maximum_length_sequence_three_times():
    one = sequence()
    assert len(one) == 32767
    assert one.sum() == 1  # one more of the ones than of the others
    around = np.fft.irfft(np.abs(np.fft.rfft(one.astype(np.float64))) ** 2, len(one))
    assert np.allclose(around[1:], -1, atol=1e-3)
    assert len(probe(48000)) == 3 * (32767 + round(PAUSE * 48000))
    assert np.isclose(20 * np.log10(np.abs(probe(44100)).max()), -12, atol=0.01)


@pytest.mark.parametrize(
    "how", [{}, {"noise": 0.02}, {"echo": 0.3}, {"gain": 0.01}, {"gain": -0.5}, {"gain": 0.1, "noise": 0.05}]
)
def test_a_loop_is_measured_to_the_sample(how):
    result = measure_loopback(loopback(44100, 0.0612, **how), 44100)
    assert result.ok, result
    assert abs(result.first - round(0.0612 * 44100) / 44100) < 0.1 / 44100
    assert result.agree < 1e-4
    assert result.snr_db > 20


def test_a_loop_is_measured_between_samples():
    sent = np.fft.rfft(np.concatenate([probe(44100), np.zeros(44100)]))
    shift = np.exp(-2j * np.pi * np.fft.rfftfreq(len(probe(44100)) + 44100) * 1000.4)
    result = measure_loopback(np.fft.irfft(sent * shift, len(probe(44100)) + 44100), 44100)
    assert abs(result.first * 44100 - 1000.4) < 0.3


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"gain": 0.0}, "nothing was heard"),
        ({"gain": 0.005, "noise": 0.2}, "was not found"),
        ({"jump": 0.02}, "unsteady: three measurements differ by 20.0 ms"),
        ({"echo": 0.9}, "heard twice"),
        ({"gain": 0.02, "noise": 0.03}, "dB above the rest; turn the volume up"),
    ],
)
def test_what_cannot_be_trusted_is_told_in_words(how, why):
    result = measure_loopback(loopback(44100, 0.06, **how), 44100)
    assert not result.ok
    assert why in result.why


def test_too_little_sound_and_long_loops_are_told():
    assert "only 1.0 s were received" in measure_loopback(np.zeros(44100), 44100).why
    long = measure_loopback(loopback(44100, 0.3), 44100)
    assert long.ok
    assert "Bluetooth" in long.why


# --- recordings


def test_a_file_can_be_read_at_any_time(tmp_path):
    file = WavFile(tmp_path / "a.wav", 1000)
    sound = np.linspace(-2, 2, 3000).astype(np.float32)
    for at in range(0, 3000, 100):
        file.write(sound[at : at + 100])
        there, rate = soundfile.read(tmp_path / "a.wav", dtype="float32")
        assert rate == 1000
        assert at + 100 - 500 <= len(there) <= at + 100
        assert np.array_equal(there, sound[: len(there)])
    file.close()
    assert np.array_equal(soundfile.read(tmp_path / "a.wav", dtype="float32")[0], sound)


def test_a_recording_has_sample_on_sample_and_silence_where_something_was_missing(tmp_path):
    recorder = Recorder(tmp_path / "jams")
    recording = recorder.begin("one", 32000, {"run": "small"})
    rng = np.random.default_rng(0)
    sound = rng.uniform(-0.3, 0.3, 64000).astype(np.float32)
    for at in range(0, 64000, 640):
        recording.add_input(at, sound[at : at + 640])
    for at in range(-320, 64000, 640):
        recording.add_output(
            at, sound[max(0, at) : at + 640] if at >= 0 else np.concatenate([np.ones(320), sound[:320]])
        )
    recording.add_missing([(1000, 500)])
    recording.note(changes=[{"place": 5, "what": "temperature"}])
    recording.note(changes=[{"place": 9, "what": "mute"}])
    ended = []
    recording.end(ended.extend)
    recorder.flush()
    assert {file["name"] for file in ended} == {
        "input.wav",
        "stem.wav",
        "heard.wav",
        "mix.wav",
        "report.html",
        MANIFEST,
    }
    read = {
        name: soundfile.read(tmp_path / "jams/one" / name, dtype="float32")[0]
        for name in ("input.wav", "stem.wav", "heard.wav")
    }
    assert np.array_equal(read["input.wav"], sound)
    assert np.array_equal(read["stem.wav"][:64000], sound)
    assert not read["heard.wav"][1000:1500].any()
    assert np.array_equal(read["heard.wav"][1500:], sound[1500:])
    assert [change["place"] for change in recording.manifest["changes"]] == [5, 9]


def test_a_recording_ends_at_its_limit_and_where_the_disk_does(tmp_path):
    recorder = Recorder(tmp_path, most_bytes=8000)
    recording = recorder.begin("one", 1000, {})
    for at in range(0, 5000, 500):
        recording.add_input(at, np.zeros(500, np.float32))
    recorder.flush()
    assert "limit" in recording.failure
    assert soundfile.info(tmp_path / "one/input.wav").frames < 2500
    other = recorder.begin("two", 1000, {})
    other._files["input.wav"] = FullDisk()
    other.add_input(0, np.zeros(5, np.float32))
    recorder.flush()
    assert "No space left" in other.failure


class FullDisk:
    samples = 0

    def write(self, sound):
        raise OSError(28, "No space left on device")
