"""Fault injection, kind by kind: `make torture`, or `python tests/torture --times 5 --only store`.

Each try is a process of its own, with random numbers of its own, and has passed if it ends with the required result in
time. The table goes into docs/guides/reliability.md, between its marks.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOMS = ("core", "core/audio", "core/cli", "core/data", "core/generation", "core/spec", "zarr_store", "plugins")
sys.path[:0] = [str(TESTS / name) for name in ROOMS]

from kinds import KINDS, Kind, prepare  # noqa: E402

PAGE = TESTS.parent / "docs" / "guides" / "reliability.md"
BEGIN, END = "<!-- torture -->\n", "<!-- /torture -->\n"
LIMIT = 300
"""Seconds after which a try has failed."""


def in_process(work, log: Path) -> bool:
    """Run `work` in a child process: True if it succeeds. Its output goes to `log`."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    signal.alarm(LIMIT)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def tried(kind: Kind, world: Path, folder: Path, times: int, seed: int) -> int:
    """Number of tries of a kind that passed; the logs of the others are kept."""
    survived = 0
    for number in range(times):
        place = folder / f"{kind.name}-{number}"
        place.mkdir(parents=True)
        log = folder / f"{kind.name}-{number}.log"
        rng = random.Random(f"{seed} {kind.name} {number}")
        well = in_process(lambda place=place, rng=rng: kind.attempt(world, place, rng), log)
        survived += well
        shutil.rmtree(place)
        if well:
            log.unlink()
        else:
            print(f"{kind.name} {number} has not survived: {log}", flush=True)
    return survived


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--times", type=float, default=1.0, help="how often, in multiples of what each kind has")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", nargs="*", default=[], help="names of kinds")
    options.add_argument("--write", action="store_true", help="put the table into docs/guides/reliability.md")
    given = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="accomp-torture-"))
    world = folder / "world"
    if not in_process(lambda: prepare(world), folder / "prepare.log"):
        print(f"nothing to torture: {folder / 'prepare.log'}")
        return 1
    rows, lost = [], 0
    for kind in KINDS:
        if given.only and kind.name not in given.only:
            continue
        times, began = max(1, round(kind.times * given.times)), time.monotonic()
        survived = tried(kind, world, folder, times, given.seed)
        lost += times - survived
        rows.append(f"| {kind.what} | {kind.right} | {times} | {survived} |")
        print(f"{kind.name}: {survived} of {times} survived, {time.monotonic() - began:.0f} s", flush=True)
    if given.write:
        head = "| class | right is | tried | survived |\n|---|---|---|---|\n"
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        table = head + "".join(f"{row}\n" for row in rows)
        PAGE.write_text(before + BEGIN + table + END + rest.partition(END)[2], encoding="utf-8")
    if not lost:
        shutil.rmtree(folder)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
