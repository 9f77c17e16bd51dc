"""The kernels become machine code for GPUs, without one: the interpreter accepts what the compiler does not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from marks import COMPILES

pytest.importorskip("triton", reason="Triton is not installed")

PROGRAM = '''
"""Compile kernels of the paper's sizes for compute capability 8.0 and 9.0; print each one's registers on the stack."""
import re
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from accomp.core.streaming.kernels import projection, ring_attention


def build(kernel, types, sizes, absent=()):
    names = kernel.arg_names
    constants = {**sizes, **dict.fromkeys(absent)}
    signature = {name: "constexpr" if name in constants else types[name] for name in names}
    assert {of[0] for of in signature.values()} <= {"*", "c"}, "torch may pass a number as float64; make it a constant"
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name][0] == "*"}
    source = ASTSource(kernel, signature, constants, aligned)
    for capability in (80, 90):
        ptx = triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"]
        print(kernel.__name__, capability, len(re.findall(r"ld\\.local|st\\.local", ptx)))


bf16, f32, i8, i32, i64 = "*bf16", "*fp32", "*i8", "*i32", "*i64"
types = {name: bf16 for name in ("x", "norm", "scale", "bias", "residual", "out")}
sizes = {"EPS": 1e-6, "ROWS": 1, "BLOCK_ROWS": 1, "BLOCK_IN": 1024, "BLOCK_OUT": 4}
up = {**sizes, "IN": 1024, "OUT": 2816, "ACTIVATION": "swiglu"}
down = {**sizes, "IN": 2816, "OUT": 1024, "ACTIVATION": ""}
build(projection.project_kernel, {**types, "weight": bf16}, up, absent=("scale", "bias", "residual"))
build(projection.project_kernel, {**types, "weight": i8}, down, absent=("bias", "norm"))

types = {
    "qkv": bf16, "qk_scale": bf16, "cos": f32, "sin": f32, "position": i64, "keys": bf16, "values": bf16,
    "key_scale": f32, "value_scale": f32, "out": bf16, "outputs": f32, "largest": f32, "total": f32, "arrived": i32,
}
sizes = {
    "EPS": 1e-6, "FACTOR": 0.125, "WINDOW": 500, "CAPACITY": 500, "PINNED_START": 0, "PINNED": 1, "KV_HEADS": 8,
    "GROUP": 2, "DIM": 64, "SPLITS": 8, "SPAN": 64, "WIDE": False, "BLOCK_GROUP": 16, "BLOCK_DIM": 64, "BLOCK": 64,
    "BLOCK_SPLITS": 8, "COLUMNS": 128,
}
minute = {**sizes, "WINDOW": 3000, "CAPACITY": 3000, "SPLITS": 33, "SPAN": 128, "BLOCK_SPLITS": 64, "COLUMNS": 64}
alone, scales = {**sizes, "SPLITS": 1, "SPAN": 512}, ("key_scale", "value_scale")
build(ring_attention.attend_kernel, types, sizes, absent=scales)
build(ring_attention.attend_kernel, types, minute, absent=scales)
build(ring_attention.attend_kernel, {**types, "keys": i8, "values": i8}, sizes)
build(ring_attention.attend_kernel, types, alone, absent=(*scales, "outputs", "largest", "total", "arrived"))
'''


@COMPILES
def test_every_kernel_compiles_for_gpus_and_keeps_its_numbers_in_registers(tmp_path):
    """In a process of its own, since Triton either interprets or compiles."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    assert {name for name, *_ in lines} == {"project_kernel", "attend_kernel"}
    assert {capability for _, capability, _ in lines} == {"80", "90"}
    assert [line for line in lines if line[2] != "0"] == [], "numbers that did not fit into registers"
