"""The page in every state: what it says, what stands in its way, and that it can be used by everyone."""

from __future__ import annotations

import re

import pytest
import soundfile
from page_browser import RATE, Visit, music, visiting
from page_files import PAGE

REFUSED = """navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError') }"""
NONE_THERE = REFUSED.replace("NotAllowedError", "NotFoundError")
KEPT_ON = (
    """MediaStreamTrack.prototype.getSettings = () => ({ deviceId: 'x', echoCancellation: true, sampleRate: 16000 })"""
)
CONTROLS = 'button, select, summary, a, input:not([tabindex="-1"])'
SMALL = f"""() => [...document.querySelectorAll('{CONTROLS}')].filter(one => one.checkVisibility())
  .map(one => [one.id || one.textContent, (one.closest('label') ?? one).getBoundingClientRect()])
  .filter(([, box]) => box.height < 43.9 || box.width < 43.9).map(([name]) => name)"""
NAMELESS = f"""() => [...document.querySelectorAll('{CONTROLS}, meter, progress, audio')]
  .filter(one => one.checkVisibility() && !one.labels?.length)
  .filter(one => !one.getAttribute('aria-label') && !one.textContent.trim()).map(one => one.id)"""
SIDEWAYS = "() => document.documentElement.scrollWidth - innerWidth"


def notice(visit) -> str:
    return visit.page.locator("#notice-text").inner_text()


def test_a_walk_with_the_keyboard_alone(browser, stub, address):
    """From the top of the page with Tab to the built-in song, Space to start, dials, shortcuts, Space to stop."""
    with visiting(browser, address) as visit:
        visit.until("Choose a source")
        press = visit.page.keyboard.press

        def focus() -> str:
            return str(visit.page.evaluate("() => document.activeElement.id"))

        press("Space")  # nothing is chosen yet
        assert notice(visit) == "First choose what it should listen to."
        assert focus() == "choose-file"
        press("Tab")
        assert focus() == "choose-built-in"
        assert visit.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
        press("Enter")
        visit.until("Ready")
        assert focus() == "start"
        press("Space")
        visit.until("Count-in")
        visit.until("Playing")
        reached = set()
        for _ in range(12):
            press("Tab")
            reached.add(focus())
        assert {"mute", "freeze", "panic", "instrument", "volume"} <= reached
        visit.page.locator("#instrument").focus()
        press("p")  # a letter in a select chooses, and is no shortcut
        assert visit.page.locator("#instrument").input_value() == "Percussive"
        assert visit.page.locator("#instrument option:checked").inner_text() == "Percussive (drums)"
        press("f")
        visit.page.locator("#music > summary").focus()
        press("Enter")
        visit.page.locator("#chart").focus()
        visit.page.keyboard.type(" m f")
        press("Tab")  # the chart is taken when it is left
        visit.page.evaluate("() => document.activeElement.blur()")
        press("m")
        press("Space")
        visit.until("Ended")
    told = [message for message in stub.messages if message["type"] in ("mute", "freeze", "instrument", "chart")]
    assert [message["type"] for message in told] == ["instrument", "chart", "mute"]
    assert told[0]["name"] == "Percussive"
    assert told[1]["value"] == "C | Am | F | G m f"


def test_dials_tell_the_server_and_say_when_they_hold(browser, stub, address):
    with visiting(browser, address) as visit:
        visit.choose("Use the built-in song")
        visit.open_folds()
        visit.page.locator("#seed").fill("7")
        visit.start(count_in=True)
        visit.page.locator("#temperature").fill("1.1")
        visit.page.get_by_text("Temperature: heard").wait_for()
        visit.page.locator("#bpm").fill("120")
        visit.page.locator("#bpm").press("Enter")
        visit.page.get_by_text("Tempo: heard").wait_for()
        stub.problem = "bar 2: no chord is called 'H'"
        visit.page.locator("#chart").fill("C | H")
        visit.page.locator("#chart").press("Enter")
        visit.page.get_by_text("Bar 2: no chord is called 'H'").wait_for()
        visit.page.get_by_label("It follows the chords that it hears").check()
        stub.state = {"said": "it is quiet", "chord": "F#m7b5", "bpm": 121.4}
        visit.page.locator("#now-said").get_by_text("it is quiet").wait_for()
        assert visit.page.locator("#big").inner_text() == "F#m7b5"
        visit.stop()
    (start,) = stub.of_type("start")
    assert start["seed"] == 7
    assert start["model"] == "pretrained"
    assert start["count_in"] == {"bpm": 100, "beats_per_bar": 4, "beats": 4}
    assert stub.of_type("dial") == [{"type": "dial", "temperature": 1.1}]
    (tempo,) = stub.of_type("metronome")
    assert (tempo["value"]["bpm"], tempo["value"]["beats_per_bar"]) == (120, 4)
    assert isinstance(tempo["value"]["place"], int)
    assert [message["value"] for message in stub.of_type("chart")] == ["C | H", "follow"]


def test_what_a_server_does_before_it_is_ready_is_shown(browser, stub, address):
    stub.preparing = "loading small"
    with visiting(browser, address) as visit:
        visit.until("Getting ready")
        for text in ("loading small", "compiling it, once"):
            stub.preparing = text
            said = visit.page.get_by_text(f"The server is getting ready. {text.capitalize()}.")
            said.and_(visit.page.locator("#notice-text")).wait_for()
        stub.preparing = ""
        visit.until("Choose a source")
        assert visit.page.locator("#notice").is_hidden()


def test_a_model_that_hears_the_beat_by_itself_needs_no_tempo(browser, stub, address):
    for hears in ([], ["metronome", "chart"]):
        stub.reset()
        stub.cards[0]["hears"] = hears
        with visiting(browser, address) as visit:
            visit.choose("Use the built-in song")
            visit.open_folds()
            for name, own in (("metronome", "It hears the beat by itself"), ("chart", "It hears the chords by itself")):
                off = visit.page.locator(f'label:has(input[name="{name}"][value="off"])')
                assert (off.inner_text().strip() == own) == bool(hears)
                off.locator("input").check()
            assert visit.page.locator("#beat-hint").is_visible() != bool(hears)
            visit.start()
            visit.stop()
        (start,) = stub.of_type("start")
        assert (start["metronome"], start["chart"]) == ("off", "off")


def test_refused_full_and_ended_by_the_server_are_told_with_the_cure(browser, stub, address):
    with visiting(browser, address) as visit:
        visit.choose("Use the built-in song")
        stub.refusal = {"why": "this model needs 250 ms, and its t_f leaves 200", "nearest": {"t_f_ms": -260}}
        visit.button("Start").click()
        visit.until("Refused")
        told = "This model needs 250 ms, and its t_f leaves 200. The nearest that would fit: t_f_ms = -260."
        assert notice(visit) == f"Not started: {told}"
        assert visit.button("Start").is_enabled()
    stub.close = ({"type": "refused", "why": "all 8 places are taken", "retry_after": 40}, 1013)
    with visiting(browser, address) as visit:
        visit.until("Choose a source")
        visit.button("Use the built-in song").click()
        visit.until("Full")
        assert notice(visit) == "All 8 places are taken. Try again in 40 s."
        stub.close = stub.refusal = None
        visit.button("Try again").click()
        visit.until("Count-in")


def test_who_is_refused_for_the_time_of_sound_alone_may_play_behind(browser, stub, address):
    with visiting(browser, address) as visit:
        visit.choose("Play it myself")
        first = stub.of_type("calibrate")[-1]["assumed_ms"]
        late = {"why": "too late", "spare_ms": -25.3, "nearest": {"t_f_ms": -240, "k_ms": 20}}
        stub.refusal = late
        visit.button("Start").click()
        visit.until("Refused")
        told = f"pretrained would come 25 ms late, since sound takes {first} ms around here, by a guess"
        assert told in notice(visit)
        visit.button("Play 36 ms behind").click()
        visit.button("Play 72 ms behind").wait_for()  # by what is missing still
        assert stub.of_type("start")[-1]["first_ms"] == first - 36
        smaller = {"t_f_ms": -240, "k_ms": 10}
        for other in ({"nearest": None}, {"nearest": smaller}, {"spare_ms": -1e4}, {"spare_ms": 5}):
            stub.refusal = {**late, "why": "too slow", **other}
            visit.button("Start").click()
            visit.page.get_by_text("Not started: Too slow").wait_for()
            stub.refusal = late
            visit.button("Start").click()
            visit.button("Play 72 ms behind").wait_for()
        stub.refusal = None
        visit.button("Play 72 ms behind").click()
        visit.until("Playing")
        assert stub.of_type("start")[-1]["first_ms"] == first - 72
        assert "It plays 72 ms behind you." in visit.page.locator("#measure-said").inner_text()
        visit.stop()
        visit.page.locator("#first").fill("100")
        visit.page.locator("#measure-said").get_by_text("It plays").wait_for(state="hidden")
        visit.start()
        assert stub.of_type("start")[-1]["first_ms"] == 100
        visit.stop()


def test_without_the_right_token_the_page_asks_for_it(browser, stub, address):
    visit = Visit(browser, address, token="wrong")
    visit.until("Cannot play here")
    visit.page.get_by_label("Token").fill("a-token")
    visit.button("Use it").click()
    visit.until("Choose a source")
    visit.context.close()


def test_over_plain_http_from_elsewhere_the_page_says_what_to_do(browser, stub, address):
    visit = Visit(browser, address.replace("127.0.0.1", "jam.test"))
    visit.until("Cannot play here")
    assert "ssh -L" in notice(visit)
    assert "certificate" in notice(visit)
    visit.context.close()


@pytest.mark.parametrize(("script", "cure"), [(REFUSED, "Allow it"), (NONE_THERE, "Plug one in")])
def test_a_microphone_that_cannot_be_had(browser, stub, address, script, cure):
    with visiting(browser, address, script=script) as visit:
        visit.until("Choose a source")
        visit.button("Play it myself").click()
        visit.page.get_by_text(cure).wait_for()
        visit.choose("Use the built-in song")
        assert not visit.page.locator("#notice").is_visible()


def test_processing_that_a_browser_keeps_on_and_bluetooth_are_named(browser, stub, address):
    with visiting(browser, address, script=KEPT_ON) as visit:
        visit.choose("Play it myself")
        visit.open_folds()
        assert "kept on: echo cancellation" in visit.page.locator("#boxes-kept").inner_text()
        assert "Bluetooth" in notice(visit)


def test_a_file_that_is_no_sound_is_refused_by_name(browser, stub, address, tmp_path):
    (tmp_path / "song.txt").write_text("la la la")
    soundfile.write(tmp_path / "song.wav", music(1), RATE)
    with visiting(browser, address) as visit:
        visit.until("Choose a source")
        visit.page.locator("#file").set_input_files(tmp_path / "song.txt")
        visit.page.get_by_text("“song.txt” cannot be played").wait_for()
        visit.page.locator("#file").set_input_files(tmp_path / "song.wav")
        visit.until("Ready")


@pytest.mark.parametrize("width", [360, 1280])
def test_everything_has_a_name_is_big_enough_and_fits_the_screen(browser, stub, address, width):
    with visiting(browser, address, viewport={"width": width, "height": 800}) as visit:
        visit.choose("Play it myself")
        visit.open_folds()
        assert visit.page.evaluate(SMALL) == []
        assert visit.page.evaluate(NAMELESS) == []
        assert visit.page.evaluate(SIDEWAYS) <= 0
        visit.start()
        visit.page.locator("#health").wait_for()
        assert visit.page.evaluate(SIDEWAYS) <= 0
        visit.stop()
        visit.page.locator("audio").first.wait_for()
        assert visit.page.evaluate(SMALL) == []
        assert visit.page.evaluate(SIDEWAYS) <= 0
        assert visit.page.locator("[role=status], [role=alert], output:not([aria-live=off])").count() == 1
        assert "wrong" not in visit.page.locator("#numbers").inner_text()
        assert "a-token" not in visit.page.locator("#numbers").inner_text()


def luminance(color: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted([luminance(one), luminance(other)], reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast(scheme):
    """4.5:1 for text, 3:1 for what bounds a control."""
    blocks = re.findall(r":root \{(.*?)\}", (PAGE / "style.css").read_text(), re.DOTALL)
    color = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[scheme]))
    on = {
        "ink": ["page", "card", "field", "raised", "tint", "good-tint", "near-tint", "bad-tint"],
        "soft": ["page", "card", "raised", "tint", "good-tint", "near-tint", "bad-tint"],
        "accent": ["card", "raised", "tint"],
        "on-accent": ["accent"],
        "good": ["card", "good-tint"],
        "near": ["card", "near-tint"],
        "bad": ["card", "field", "bad-tint"],
    }
    found = {(ink, paper): contrast(color[ink], color[paper]) for ink, papers in on.items() for paper in papers}
    assert {pair: ratio for pair, ratio in found.items() if ratio < 4.5} == {}
    assert contrast(color["edge"], color["field"]) >= 3


def test_every_word_is_there_and_none_is_there_twice():
    html, words = (PAGE / "index.html").read_text(), (PAGE / "words.js").read_text()
    body = words[words.index("export const WORDS") :]
    keys = re.findall(r"(?:^  |, )(\w+)(?:: (?=['(`\w{])|,$)", body, re.MULTILINE)
    asked = set(re.findall(r'data-(?:say|label|hint)="(\w+)"', html))
    asked |= set(re.findall(r"WORDS\.(\w+)", "".join(path.read_text() for path in PAGE.glob("*.js"))))
    assert asked <= set(keys)
    tops = re.findall(r"^(?: {2})(\w+): ", body, re.MULTILINE)
    assert len(tops) == len(set(tops))


def test_nothing_comes_from_elsewhere_and_nothing_is_inline():
    html = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|\bstyle=|\bon\w+=|<script(?![^>]*\bsrc=)", html)
    for path in PAGE.iterdir():
        assert not re.search(r"https?://(?!localhost|www\.w3\.org/2000/svg)", path.read_text()), path.name
    assert "innerHTML" not in "".join(path.read_text() for path in PAGE.glob("*.js"))
