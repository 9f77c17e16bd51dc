"""Nothing calls home: no command asks for a name that its user has not given, not even through a library in C."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from accomp.core.audio import io as audio
from accomp.core.cli.telemetry import SWITCHES, switch_off

SHIM = """
#define _GNU_SOURCE
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    const char *path = getenv("LOOKED_UP");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) { fprintf(file, "%s\\n", node ? node : "(none)"); fclose(file); }
    return EAI_FAIL;
}
struct hostent *gethostbyname(const char *name) {
    const char *path = getenv("LOOKED_UP");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) { fprintf(file, "%s\\n", name); fclose(file); }
    return NULL;
}
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory):
    """Run Python words in a process of its own; the exit code, what it said, and the names that it looked up."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler on Linux: look-ups inside libraries cannot be watched")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.c"], check=True)
    names = folder / "names"

    def run(*words: str, **more: str) -> tuple[int, str, list[str]]:
        names.unlink(missing_ok=True)
        own = {name: value for name, value in os.environ.items() if name not in SWITCHES}
        own |= {"LD_PRELOAD": str(folder / "shim.so"), "LOOKED_UP": str(names), "OMP_NUM_THREADS": "1", **more}
        done = subprocess.run([sys.executable, *words], env=own, capture_output=True, text=True, check=False)
        found = names.read_text().splitlines() if names.exists() else []
        return done.returncode, done.stdout + done.stderr, [name for name in found if name != "(none)"]

    return run


def test_the_watch_sees_a_look_up(watched) -> None:
    _, _, names = watched("-c", "import socket\ntry: socket.getaddrinfo('example.org', 80)\nexcept OSError: pass")
    assert names == ["example.org"]


@pytest.mark.parametrize("words", [["--help"], ["plugins"], ["models"], ["check", "quickstart"], ["doctor"]])
def test_no_command_asks_for_a_name(watched, words: list[str]) -> None:
    _, _, names = watched("-m", "accomp.core.cli.main", *words)
    assert names == []


def test_playing_asks_for_no_name_and_imports_no_trainer(watched, tmp_path: Path) -> None:
    audio.write(tmp_path / "in.wav", np.zeros(8000, np.float32), 32000)
    program = (
        "import sys\nfrom accomp.core.cli.main import main\n"
        f"code = main(['stream', 'pretrained', '--input', {str(tmp_path / 'in.wav')!r}, '--output', "
        f"{str(tmp_path / 'out.wav')!r}, '--instrument', 'Bass'])\n"
        "print('imported:', [m for m in ('lightning', 'torchmetrics', 'onnxruntime') if m in sys.modules])\n"
        "sys.exit(code)\n"
    )
    code, said, names = watched("-c", program)
    assert code == 0, said
    assert (tmp_path / "out.wav").exists()
    assert "imported: []" in said
    assert names == []


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    switch_off()
    assert os.environ["DO_NOT_TRACK"] == "0"
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
