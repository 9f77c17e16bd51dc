"""`accomp jam --device` through PortAudio, at a real sound server: JACK without a card, in which the output of this
program is connected to its input. It is started here, as this user; skipped where JACK or PortAudio is not installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
MEASURE = Path(__file__).parents[3] / "benchmarks" / "loopback.py"


CONNECT = """
for attempt in 1 2 3 4 5 6; do
  out=$(jack_lsp PortAudio:out_ | tail -1); in=$(jack_lsp PortAudio:in_ | tail -1)
  [ -n "$in" ] && [ -n "$out" ] && jack_connect "$out" "$in" && exit 0
  sleep 0.3
done
exit 1
"""


@pytest.fixture
def sound_server(tmp_path):
    """The environment in which PortAudio's device `system` is JACK's."""
    if not all(map(shutil.which, ("jackd", "jack_lsp", "jack_connect"))):
        pytest.skip("needs JACK (Debian: apt-get install jackd2)")
    name = f"accomp-{os.getpid()}"
    environment = {
        **os.environ, "JACK_DEFAULT_SERVER": name, "JACK_NO_AUDIO_RESERVATION": "1",
        "PYTHONPATH": f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }  # fmt: skip
    words = ["jackd", "-r", "-n", name, "-d", "dummy", "-r", "48000", "-p", "480"]
    server = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(50):
            if not subprocess.run(["jack_lsp"], env=environment, capture_output=True).returncode:
                break
            time.sleep(0.1)
        else:
            pytest.skip("JACK does not start here")
        yield environment
    finally:
        server.terminate()
        server.wait(10)


def test_three_openings_are_measured_each_the_same_to_a_millisecond(sound_server):
    pytest.importorskip("sounddevice", reason="the extra live is not installed", exc_type=(ImportError, OSError))
    words = [sys.executable, str(MEASURE), "--device", "system", "--openings", "3", "--times", "2", "--json"]
    done = subprocess.run([*words, "--after", CONNECT], env=sound_server, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert [len(one["first_ms"]) for one in told] == [2, 2, 2]
    assert max(one["spread_ms"] for one in told) < 1.0, told
    assert all(0 < one["first_ms"][0] < 1000 for one in told)
