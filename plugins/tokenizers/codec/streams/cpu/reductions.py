"""Sums over the lanes of vectors and the place of the greatest number, in an order that is fixed.

Importing this needs numba.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from accomp.plugins.tokenizers.codec.phase.lanes import (
    COUNT,
    WORD,
    Lanes,
    alignment,
    instructions,
    pointer,
    splat,
    vector_of,
)


@instructions
def totals(typing: Any, array: Any) -> Any:
    """Lane i is the sum of the i-th eight numbers of a flat array of 64 float64; halves are added until one is left."""
    lanes = Lanes(array.dtype)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = vector_of(lanes)
        places = [ir.Constant(WORD, i * COUNT) for i in range(COUNT)]
        rows = [pointer(context, builder, array, arguments[0], place, vector) for place in places]
        sums = [builder.load(row, align=alignment(array)) for row in rows]
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
def peak(typing: Any, array: Any, count: Any) -> Any:
    """Where the greatest of the first `count` numbers of a flat array is, the first of equals; they fill vectors."""
    lanes = Lanes(array.dtype)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, words = vector_of(lanes), ir.VectorType(WORD, lanes.count)
        best, where = cgutils.alloca_once(builder, vector), cgutils.alloca_once(builder, words)
        builder.store(
            builder.load(
                pointer(context, builder, array, arguments[0], ir.Constant(WORD, 0), vector), align=alignment(array)
            ),
            best,
        )
        builder.store(ir.Constant(words, [0] * lanes.count), where)
        with cgutils.for_range(builder, builder.udiv(arguments[1], ir.Constant(WORD, lanes.count))) as loop:
            index = builder.mul(loop.index, ir.Constant(WORD, lanes.count))
            here = builder.load(pointer(context, builder, array, arguments[0], index, vector), align=alignment(array))
            more = builder.fcmp_ordered(">", here, builder.load(best))
            builder.store(builder.select(more, here, builder.load(best)), best)
            builder.store(builder.select(more, splat(builder, index, words), builder.load(where)), where)
        return _first_peak(builder, builder.load(best), builder.load(where))

    return types.intp(array, types.intp), code


def _first_peak(builder: Any, best: Any, where: Any) -> Any:
    """The index of the greatest of the lanes, of equals the lowest; where: of each lane, less its number."""
    found: Any = None
    for lane in range(best.type.count):
        at = ir.Constant(ir.IntType(32), lane)
        value = builder.extract_element(best, at)
        index = builder.add(builder.extract_element(where, at), ir.Constant(WORD, lane))
        if found is None:
            found = value, index
            continue
        equal = builder.and_(builder.fcmp_ordered("==", value, found[0]), builder.icmp_signed("<", index, found[1]))
        better = builder.or_(builder.fcmp_ordered(">", value, found[0]), equal)
        found = builder.select(better, value, found[0]), builder.select(better, index, found[1])
    return found[1]
