"""Vectors of numbers that machine code computes with side by side: explicit SIMD for functions that numba compiles.

A loop that a compiler vectorises by itself leaves its last turns to other instructions, which may round otherwise, and
keeps the sums of a matrix product in memory. Here `load` takes 8 float64 or 16 float32 that lie side by side out of a
flat array, + - * / work on all of them, `store` puts them back. Every lane sees the same instructions, so that the bits
of a number do not depend on the lane that it has. A processor with narrower registers takes several for one. A product
that is added to something is fused with the sum where the processor can do that.

Importing this needs numba.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, config, types
from numba.core.datamodel import models
from numba.extending import intrinsic, overload, register_model

BYTES = 64
"""Of a vector: the widest registers there are."""
COUNT = BYTES // 8
"""Of float64."""
FLAGS = ("contract", "nsz")
WORD = ir.IntType(64)
_HALF_ROOT = 0x3FE6A09E667F3BCD
"""The bits of sqrt(1/2)."""


def aligned(array: Any) -> Any:
    """A copy that begins where a line of the cache does, so that no vector of a row of whole vectors lies in two."""
    space = np.empty(array.nbytes + BYTES, np.uint8)
    first = -space.ctypes.data % BYTES
    copy = space[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def instructions(function: Callable[..., Any]) -> Any:
    """numba's intrinsic: a function of machine code whose instructions are said one by one."""
    return intrinsic(function)


class Lanes(types.Type):
    """A vector of float32 or float64."""

    def __init__(self, dtype: Any):
        self.dtype, self.count = dtype, BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes):
        super().__init__(manager, lanes, vector_of(lanes))


def vector_of(lanes: Any) -> Any:
    return ir.VectorType(ir.FloatType() if lanes.dtype.bitwidth == 32 else ir.DoubleType(), lanes.count)


def pointer(context: Any, builder: Any, kind: types.Array, array: Any, index: Any, vector: Any) -> Any:
    """A pointer to the vector that begins at an index of a flat array."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def alignment(kind: Any) -> int:
    """Bytes that a vector's place is a multiple of: an element's."""
    return int(kind.dtype.bitwidth // 8)


def splat(builder: Any, value: Any, vector: Any) -> Any:
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


def _call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """One of LLVM's own functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments, fastmath=FLAGS)


@instructions
def load(typing: Any, array: Any, index: Any) -> Any:
    """What stands at index, index + 1, ... of a flat array."""
    lanes = Lanes(array.dtype)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = pointer(context, builder, array, arguments[0], arguments[1], vector_of(lanes))
        return builder.load(place, align=alignment(array))

    return lanes(array, types.intp), code


@instructions
def store(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """Lanes -> index, index + 1, ... of a flat array."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = pointer(context, builder, array, arguments[0], arguments[1], vector_of(lanes))
        builder.store(arguments[2], place, align=alignment(array))
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), code


@instructions
def transposed(typing: Any, array: Any, index: Any, stride: Any) -> Any:
    """Eights at index, index + stride, ... of a flat array -> the first ones of all, the second ones, ..."""
    lanes = Lanes(array.dtype)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, size = vector_of(lanes), lanes.count // 2
        places = [arguments[1]]
        while len(places) < lanes.count:
            places.append(builder.add(places[-1], arguments[2]))
        rows = [
            builder.load(pointer(context, builder, array, arguments[0], place, vector), align=alignment(array))
            for place in places
        ]
        while size:  # what is size rows and columns apart changes places
            for a in range(lanes.count):
                if not a & size:
                    rows[a], rows[a + size] = _exchanged(builder, rows[a], rows[a + size], size)
            size //= 2
        return context.make_tuple(builder, signature.return_type, rows)

    return types.UniTuple(lanes, lanes.count)(array, types.intp, types.intp), code


def _exchanged(builder: Any, a: Any, b: Any, size: int) -> tuple[Any, Any]:
    """Groups of `size` lanes: the odd ones of a change places with the even ones of b."""
    count = a.type.count
    first = [i if not i & size else count + i - size for i in range(count)]
    second = [i + size if not i & size else count + i for i in range(count)]
    chosen = [ir.Constant(ir.VectorType(ir.IntType(32), count), order) for order in (first, second)]
    return tuple(builder.shuffle_vector(a, b, order) for order in chosen)


def _arithmetic(name: str) -> Callable[..., Any]:
    """An operation on two vectors, or on one and a number that stands for a vector of it."""

    @instructions
    def operation(typing: Any, a: Any, b: Any) -> Any:
        lanes = a if isinstance(a, Lanes) else b

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            wide = [
                value if isinstance(kind, Lanes) else splat(builder, value, vector_of(lanes))
                for value, kind in zip(arguments, signature.args, strict=True)
            ]
            return getattr(builder, name)(*wide, flags=FLAGS)

        return lanes(*(kind if isinstance(kind, Lanes) else lanes.dtype for kind in (a, b))), code

    return operation


def _operator(which: Callable[..., Any], name: str) -> None:
    operation = _arithmetic(name)

    def operate(a: Any, b: Any) -> Any:
        return operation(a, b)

    @overload(which)
    def chosen(a: Any, b: Any) -> Any:
        return operate if isinstance(a, Lanes) or isinstance(b, Lanes) else None


for _which, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _operator(_which, _name)


def _function(name: str) -> Callable[..., Any]:
    """A function of LLVM's that works on every lane."""

    @instructions
    def function(typing: Any, lanes: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = f"v{lanes.count}f{lanes.dtype.bitwidth}"
            return _call(builder, f"llvm.{name}.{kind}", vector_of(lanes), *arguments)

        return lanes(lanes), code

    return function


root, nearest = _function("sqrt"), _function("rint")


@instructions
def parts(typing: Any, lanes: Any) -> Any:
    """Positive normal float64 x = m 2^k with sqrt(1/2) <= m < sqrt(2) -> (m, k)."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = vector_of(lanes)
        words = ir.VectorType(WORD, lanes.count)
        bits = builder.bitcast(arguments[0], words)
        power = builder.ashr(builder.sub(bits, _constant(words, _HALF_ROOT)), _constant(words, 52))
        mantissa = builder.bitcast(builder.sub(bits, builder.shl(power, _constant(words, 52))), vector)
        return context.make_tuple(builder, signature.return_type, [mantissa, builder.sitofp(power, vector)])

    return types.UniTuple(lanes, 2)(lanes), code


def _constant(vector: Any, value: int) -> Any:
    return ir.Constant(vector, [value] * vector.count)


def wide_registers() -> bool:
    """Whether a vector fits a register of the processor that machine code is made for."""
    return _has("avx512f")


def reads_halves() -> bool:
    """Whether that processor has instructions that widen float16 to float32."""
    return _has("f16c")


def _has(feature: str) -> bool:
    named = config.CPU_FEATURES  # type: ignore[attr-defined]
    return f"+{feature}" in named if named is not None else bool(binding.get_host_cpu_features().get(feature))
