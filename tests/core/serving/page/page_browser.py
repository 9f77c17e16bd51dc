"""A Chromium without a head or devices, its microphone a file, in front of the stub server."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from browsers import installed_chromium
from page_stub import TOKEN

RATE = 44100  # of Chromium's fake devices
FRAME = 221  # samples that the page sends at a time: 5 ms
TAPPED = """
const { addModule } = AudioWorklet.prototype, { connect } = AudioNode.prototype, Plain = AudioWorkletNode
AudioWorklet.prototype.addModule = async function (url) {
  await addModule.call(this, '/page/tap.js')
  return addModule.call(this, url)
}
window.taps = { heard: [], played: [] }
const tap = (context, list) => {
  const node = new Plain(context, 'tap', { channelCount: 1, channelCountMode: 'explicit' })
  node.port.onmessage = ({ data }) => list.push(data)
  connect.call(node, context.destination)
  return node
}
let duplex, ear
window.AudioWorkletNode = class extends Plain {
  constructor(context, name, options) {
    super(context, name, options)
    duplex = this
    ear = tap(context, taps.heard)
    connect.call(this, tap(context, taps.played))
  }
}
AudioNode.prototype.connect = function (to, ...more) {
  if (to === duplex) connect.call(this, ear)
  return connect.call(this, to, ...more)
}
"""
TAKEN = """name => {
  const pieces = taps[name].flatMap(([place, block]) => [Float64Array.of(place), block])
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.byteLength, 0))
  let at = 0
  for (const piece of pieces) { bytes.set(new Uint8Array(piece.buffer), at); at += piece.byteLength }
  let text = ''
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192))
  return btoa(text)
}"""


def music(seconds: float, seed: int = 0) -> np.ndarray:
    """Mono sound that repeats nowhere, at RATE."""
    t = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).uniform(-0.1, 0.1, len(t))
    return (0.3 * np.sin(2 * np.pi * (200 + 90 * t) * t) + noise).astype(np.float32)


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Any]:
    """A browser whose microphone hears `music(8)`; http://jam.test leads to this machine, too."""
    soundfile.write(folder / "mic.wav", music(8), RATE, subtype="PCM_16")
    flags = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={folder / 'mic.wav'}",
        "--host-resolver-rules=MAP jam.test 127.0.0.1",
    ]
    with installed_chromium(*flags) as browser:
        yield browser


class Visit:
    """One page in a context of its own. `wrong`: what went to its console as an error."""

    def __init__(self, browser: Any, address: str, *, token: str = TOKEN, script: str = "", **options: Any):
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda line: line.type == "error" and self.wrong.append(line.text))
        if script:
            self.page.add_init_script(script)
        self.page.goto(f"{address}/#token={token}")

    def until(self, phase: str, seconds: float = 20) -> None:
        """Wait until the title bar says so."""
        from playwright.sync_api import expect

        try:
            expect(self.page.locator("#phase")).to_have_text(phase, timeout=1000 * seconds)
        except AssertionError as error:
            raise AssertionError(f"{self.page.locator('#notice').inner_text()!r} {self.wrong}; {error}") from None

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name)

    def choose(self, name: str) -> None:
        """Choose a source."""
        self.until("Choose a source")
        self.button(name).click()
        self.until("Ready")

    def start(self, *, count_in: bool = False) -> None:
        """Start, and wait until it plays."""
        if not count_in:
            self.page.evaluate("() => (document.getElementById('count-in').checked = false)")
        self.button("Start").click()
        self.until("Playing")

    def stop(self) -> None:
        self.button("Stop").click()
        self.until("Ended")

    def open_folds(self) -> None:
        self.page.evaluate("() => document.querySelectorAll('details').forEach(fold => (fold.open = true))")

    def tapped(self, name: str) -> tuple[int, np.ndarray]:
        """(place, samples) that the page "heard" or "played", NaN where there was no block; needs the script TAPPED."""
        raw = base64.b64decode(self.page.evaluate(TAKEN, name))
        blocks = np.frombuffer(raw, np.dtype([("place", "<f8"), ("sound", "<f4", 128)]))
        first = int(blocks["place"][0])
        out = np.full(int(blocks["place"][-1]) - first + 128, np.nan, dtype=np.float32)
        for place, sound in blocks:
            out[int(place) - first : int(place) - first + 128] = sound
        return first, out


@contextlib.contextmanager
def visiting(browser: Any, address: str, **options: Any) -> Iterator[Visit]:
    visit = Visit(browser, address, **options)
    try:
        yield visit
    finally:
        visit.context.close()
    assert not visit.wrong, visit.wrong
