"""Calibration of a sound device through its loopback: several openings, each measured several times without reopening.

    python benchmarks/loopback.py [--device NAME] [--openings 3] [--times 3] [--json]

Output must reach the input: by a cable, or at a sound server by connecting the two with --after
(docs/guides/live.md). Each measurement is that of `accomp jam --device`. Measurements of one opening must agree within
1 ms; openings may differ, which is why a session plays on the stream that was measured. Leaves with 1 if one does not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

from accomp.core.realtime.sound_device import SoundDevice, device_rate
from accomp.core.serving.machine.audio import MachineAudio

AGREE_MS = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="")
    parser.add_argument("--openings", type=int, default=3)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--after", default="", help="a shell command for each opening, once the device runs")
    parser.add_argument("--json", action="store_true", help="a line of JSON at the end")
    asked = parser.parse_args()
    rate = device_rate(asked.device, asked.device)
    told = [opening(asked.device, rate, asked.times, asked.after) for _ in range(asked.openings)]
    for number, one in enumerate(told, 1):
        words = ", ".join(f"{ms:.3f}" for ms in one["first_ms"])
        print(f"opening {number}: {words} ms, spread {one['spread_ms']:.3f} ms, peak {one['snr_db']:.0f} dB above the "
              f"rest, {one['xruns']} xruns; PortAudio reports {one['reported_ms']:.1f} ms {one['why']}")  # fmt: skip
    if asked.json:
        print(json.dumps(told))
    good = all(len(one["first_ms"]) == asked.times and one["spread_ms"] < AGREE_MS for one in told)
    return 0 if good else 1


def opening(name: str, rate: int, times: int, after: str) -> dict:
    """Open the device and measure it `times` times; what finds no agreement is tried three times."""
    device = SoundDevice(rate, rate // 100, input=name, output=name)
    audio = MachineAudio(device, name=name, rate=rate, block=rate // 100)
    audio.start()
    if after:
        subprocess.run(after, shell=True, check=True)
    try:
        results, why = [], ""
        for _ in range(times):
            for _ in range(3):
                found = audio.measure(time.sleep)
                if found.ok:
                    results.append(found)
                    break
                why = f"({found.why})"
    finally:
        audio.close()
    first = [1000 * one.first for one in results]
    return {
        "first_ms": first, "spread_ms": max(first) - min(first) if first else float("inf"),
        "snr_db": min((one.snr_db for one in results), default=0.0), "xruns": device.xruns, "why": why,
        "reported_ms": 1000 * (device.latency_in + device.latency_out),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
