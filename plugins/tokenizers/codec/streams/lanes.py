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
_FLAGS = ("contract", "nsz")
_WORD = ir.IntType(64)
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
        super().__init__(manager, lanes, _vector(lanes))


def _vector(lanes: Any) -> Any:
    return ir.VectorType(ir.FloatType() if lanes.dtype.bitwidth == 32 else ir.DoubleType(), lanes.count)


def _place(context: Any, builder: Any, kind: types.Array, array: Any, index: Any, vector: Any) -> Any:
    """A pointer to the vector that begins at an index of a flat array."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _aligned(kind: Any) -> int:
    """Bytes that a vector's place is a multiple of: an element's."""
    return int(kind.dtype.bitwidth // 8)


def _splat(builder: Any, value: Any, vector: Any) -> Any:
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


def _call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """One of LLVM's own functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments, fastmath=_FLAGS)


@instructions
def load(typing: Any, array: Any, index: Any) -> Any:
    """What stands at index, index + 1, ... of a flat array."""
    lanes = Lanes(array.dtype)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, array, arguments[0], arguments[1], _vector(lanes))
        return builder.load(place, align=_aligned(array))

    return lanes(array, types.intp), code


@instructions
def store(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """Lanes -> index, index + 1, ... of a flat array."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, array, arguments[0], arguments[1], _vector(lanes))
        builder.store(arguments[2], place, align=_aligned(array))
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), code


def _arithmetic(name: str) -> Callable[..., Any]:
    """An operation on two vectors, or on one and a number that stands for a vector of it."""

    @instructions
    def operation(typing: Any, a: Any, b: Any) -> Any:
        lanes = a if isinstance(a, Lanes) else b

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            wide = [
                value if isinstance(kind, Lanes) else _splat(builder, value, _vector(lanes))
                for value, kind in zip(arguments, signature.args, strict=True)
            ]
            return getattr(builder, name)(*wide, flags=_FLAGS)

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
            return _call(builder, f"llvm.{name}.{kind}", _vector(lanes), *arguments)

        return lanes(lanes), code

    return function


root, nearest = _function("sqrt"), _function("rint")


@instructions
def totals(typing: Any, array: Any) -> Any:
    """Lane i is the sum of the i-th eight numbers of a flat array of 64 float64; halves are added until one is left."""
    lanes = Lanes(array.dtype)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = _vector(lanes)
        places = [ir.Constant(_WORD, i * COUNT) for i in range(COUNT)]
        rows = [_place(context, builder, array, arguments[0], place, vector) for place in places]
        sums = [builder.load(row, align=_aligned(array)) for row in rows]
        size = COUNT // 2
        while size:
            sums = [_halved(builder, a, b, size) for a, b in zip(sums[::2], sums[1::2], strict=True)]
            size //= 2
        return sums[0]

    return lanes(array), code


def _halved(builder: Any, a: Any, b: Any, size: int) -> Any:
    """Groups of 2 size lanes become groups of `size`, halves added; those of b come after those of a."""
    first = [i for i in range(2 * COUNT) if i // size % 2 == 0]
    low, high = (builder.shuffle_vector(a, b, _indices([i + more for i in first])) for more in (0, size))
    return builder.fadd(low, high)


def _indices(values: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(values)), values)


@instructions
def parts(typing: Any, lanes: Any) -> Any:
    """Positive normal float64 x = m 2^k with sqrt(1/2) <= m < sqrt(2) -> (m, k)."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = _vector(lanes)
        words = ir.VectorType(_WORD, lanes.count)
        bits = builder.bitcast(arguments[0], words)
        power = builder.ashr(builder.sub(bits, _all(words, _HALF_ROOT)), _all(words, 52))
        mantissa = builder.bitcast(builder.sub(bits, builder.shl(power, _all(words, 52))), vector)
        return context.make_tuple(builder, signature.return_type, [mantissa, builder.sitofp(power, vector)])

    return types.UniTuple(lanes, 2)(lanes), code


def _all(vector: Any, value: int) -> Any:
    return ir.Constant(vector, [value] * vector.count)


def wide_registers() -> bool:
    """Whether a vector fits a register of the processor that machine code is made for."""
    named = config.CPU_FEATURES  # type: ignore[attr-defined]
    return "+avx512f" in named if named is not None else bool(binding.get_host_cpu_features().get("avx512f"))


def product_tile(rows: int, width: int) -> Callable[..., None]:
    """A function that computes a tile of out = bias + x weight in float32: so many rows, so many columns, by sixteens.

    tile(x, row, inputs, weight, column, outputs, bias, out): x [R, inputs], weight [inputs, outputs], bias [outputs],
    out [R, outputs], all flat. Every number is ((bias + x0 w0) + x1 w1) + ... in this order, whatever the tile.
    """

    @instructions
    def tile(
        typing: Any, x: Any, row: Any, inputs: Any, weight: Any, column: Any, outputs: Any, bias: Any, out: Any
    ) -> Any:
        lanes = Lanes(x.dtype)

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            xs, first_row, depth, ws, first_column, across, bs, outs = arguments
            vector = _vector(lanes)

            def place(kind: Any, array: Any, line: Any, stride: Any, at: Any, what: Any = vector) -> Any:
                return _place(context, builder, kind, array, builder.add(builder.mul(line, stride), at), what)

            def number(value: int) -> Any:
                return ir.Constant(_WORD, value)

            lines = [builder.add(first_row, number(r)) for r in range(rows)]
            columns = [builder.add(first_column, number(v * lanes.count)) for v in range(width // lanes.count)]
            align = _aligned(x)
            begin = [builder.load(place(bias, bs, number(0), across, at), align=align) for at in columns]
            sums = [[cgutils.alloca_once(builder, vector) for _ in columns] for _ in lines]
            for line in sums:
                for slot, value in zip(line, begin, strict=True):
                    builder.store(value, slot)
            with cgutils.for_range(builder, depth) as loop:
                values = [builder.load(place(weight, ws, loop.index, across, at), align=align) for at in columns]
                for line, slots in zip(lines, sums, strict=True):
                    one = builder.load(place(x, xs, line, depth, loop.index, vector.element), align=align)
                    wide = _splat(builder, one, vector)
                    for slot, value in zip(slots, values, strict=True):
                        product = builder.fmul(wide, value, flags=_FLAGS)
                        builder.store(builder.fadd(builder.load(slot), product, flags=_FLAGS), slot)
            for line, slots in zip(lines, sums, strict=True):
                for at, slot in zip(columns, slots, strict=True):
                    builder.store(builder.load(slot), place(out, outs, line, across, at), align=align)
            return context.get_dummy_value()

        index = types.intp
        return types.void(x, index, index, weight, index, index, bias, out), code

    return tile


@instructions
def peak(typing: Any, array: Any, count: Any) -> Any:
    """Where the greatest of the first `count` numbers of a flat array is, the first of equals; they fill vectors."""
    lanes = Lanes(array.dtype)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, words = _vector(lanes), ir.VectorType(_WORD, lanes.count)
        best, where = cgutils.alloca_once(builder, vector), cgutils.alloca_once(builder, words)
        builder.store(
            builder.load(
                _place(context, builder, array, arguments[0], ir.Constant(_WORD, 0), vector), align=_aligned(array)
            ),
            best,
        )
        builder.store(ir.Constant(words, [0] * lanes.count), where)
        with cgutils.for_range(builder, builder.udiv(arguments[1], ir.Constant(_WORD, lanes.count))) as loop:
            index = builder.mul(loop.index, ir.Constant(_WORD, lanes.count))
            here = builder.load(_place(context, builder, array, arguments[0], index, vector), align=_aligned(array))
            more = builder.fcmp_ordered(">", here, builder.load(best))
            builder.store(builder.select(more, here, builder.load(best)), best)
            builder.store(builder.select(more, _splat(builder, index, words), builder.load(where)), where)
        return _first_peak(builder, builder.load(best), builder.load(where))

    return types.intp(array, types.intp), code


def _first_peak(builder: Any, best: Any, where: Any) -> Any:
    """The index of the greatest of the lanes, of equals the lowest; where: of each lane, less its number."""
    found: Any = None
    for lane in range(best.type.count):
        at = ir.Constant(ir.IntType(32), lane)
        value = builder.extract_element(best, at)
        index = builder.add(builder.extract_element(where, at), ir.Constant(_WORD, lane))
        if found is None:
            found = value, index
            continue
        equal = builder.and_(builder.fcmp_ordered("==", value, found[0]), builder.icmp_signed("<", index, found[1]))
        better = builder.or_(builder.fcmp_ordered(">", value, found[0]), equal)
        found = builder.select(better, value, found[0]), builder.select(better, index, found[1])
    return found[1]
