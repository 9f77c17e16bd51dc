"""What a GPU is given to do, by benchmarks/gpu_kernels.py: torch's compiler for a GPU that is not there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from marks import COMPILES

pytest.importorskip("triton", reason="Triton is not installed")
SCRIPT = Path(__file__).parents[4] / "benchmarks" / "gpu_kernels.py"
LAYERS = 3
AROUND = 14
"""Of a layer: five. Of the rest of a step: two matrices and a dozen small kernels, one of them the whole sampler."""


def graphs(folder: Path, *arguments: str) -> dict[str, dict[str, int]]:
    """Graph -> kernel -> launches."""
    command = [sys.executable, "-P", str(SCRIPT), *arguments, "--set", f"backbone.depth={LAYERS}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, int]] = {}
    for line in done.stdout.splitlines():
        if graph := re.match(r"(\w+): \d+ launches", line):
            kernels = found[graph[1]] = {}
        else:
            count, name = line.split()[:2]
            kernels[name] = int(count)
    return found


@COMPILES
@pytest.mark.parametrize(
    ("spec", "graph", "more"),
    [
        ("streaming_k1_small", "prefill", []),
        ("streaming_k1_small", "prefill", ["--runtime", "weights=int8", "--runtime", "cache=int8"]),
        ("streaming_chunked_small", "decode", []),
    ],
)
def test_a_row_is_five_kernels_a_layer_and_nothing_is_sorted(spec, graph, more, tmp_path):
    kernels = graphs(tmp_path, spec, *more)[graph]
    ours = {name: count for name, count in kernels.items() if name.startswith("accomp.")}
    assert ours == {"accomp.attend": LAYERS, "accomp.project": 4 * LAYERS}
    assert sum(kernels.values()) <= 5 * LAYERS + AROUND
    assert [name for name in kernels if "aten" in name] == [], "a library call that is several kernels"


@COMPILES
def test_attention_of_many_sessions_is_one_kernel_a_layer(tmp_path):
    kernels = graphs(tmp_path, "streaming_k1_small", "--batch", "64")["prefill"]
    assert {name: count for name, count in kernels.items() if "accomp" in name} == {"accomp.attend": LAYERS}
    assert [name for name in kernels if "aten" in name] == []


@COMPILES
def test_training_computes_rotations_once_and_copies_neither_queries_nor_logits(tmp_path):
    found = graphs(tmp_path, "streaming_k1_small", "--train")
    assert set(found) == {"forward", "backward"}
    assert sum(count for kernels in found.values() for name, count in kernels.items() if "_sin_" in name) == 1
    rotating = {name: count for name, count in found["forward"].items() if "_roll_" in name}
    assert list(rotating.values()) == [LAYERS], "norm and rotation are one kernel a layer"
    assert [name for kernels in found.values() for name in kernels if "nll_loss" in name] == []


@COMPILES
def test_a_step_of_a_masked_model_chooses_its_codes_in_few_kernels(tmp_path):
    """Uncompiled they are more than a hundred, most of them of the random numbers."""
    kernels = graphs(tmp_path, "stemgen_small")["step"]
    after = [name for name in kernels if re.search("softmax_to_copy_add_cumsum|cumsum|sort|scatter|searchsorted", name)]
    assert 1 <= len(after) <= 6
    assert len(kernels) <= 40
