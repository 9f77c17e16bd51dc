"""Tiles of matrix products, whose sums stay in registers.

Importing this needs numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from accomp.plugins.tokenizers.codec.phase.lanes import (
    FLAGS,
    WORD,
    Lanes,
    alignment,
    instructions,
    pointer,
    splat,
    vector_of,
)


def product_tile(rows: int, width: int) -> Callable[..., None]:
    """A function that computes a tile of out = bias + x weight in float32: so many rows, so many columns, by sixteens.

    tile(x, row, inputs, weight, column, outputs, bias, out): x [R, inputs], weight [inputs, outputs], bias [outputs],
    out [R, outputs], all flat. Every number is ((bias + x0 w0) + x1 w1) + ... in this order, whatever the tile. A
    weight of uint16 holds the bits of float16, which are widened as they are read.
    """

    @instructions
    def tile(
        typing: Any, x: Any, row: Any, inputs: Any, weight: Any, column: Any, outputs: Any, bias: Any, out: Any
    ) -> Any:
        lanes = Lanes(x.dtype)

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            xs, first_row, depth, ws, first_column, across, bs, outs = arguments
            vector = vector_of(lanes)
            read = ir.VectorType(ir.HalfType(), lanes.count) if weight.dtype == types.uint16 else vector

            def place(kind: Any, array: Any, line: Any, stride: Any, at: Any, what: Any = vector) -> Any:
                return pointer(context, builder, kind, array, builder.add(builder.mul(line, stride), at), what)

            def number(value: int) -> Any:
                return ir.Constant(WORD, value)

            lines = [builder.add(first_row, number(r)) for r in range(rows)]
            columns = [builder.add(first_column, number(v * lanes.count)) for v in range(width // lanes.count)]
            align = alignment(x)
            begin = [builder.load(place(bias, bs, number(0), across, at), align=align) for at in columns]
            sums = [[cgutils.alloca_once(builder, vector) for _ in columns] for _ in lines]
            for line in sums:
                for slot, value in zip(line, begin, strict=True):
                    builder.store(value, slot)
            with cgutils.for_range(builder, depth) as loop:
                values = [
                    builder.load(place(weight, ws, loop.index, across, at, read), align=alignment(weight))
                    for at in columns
                ]
                if read is not vector:
                    values = [builder.fpext(value, vector) for value in values]
                for line, slots in zip(lines, sums, strict=True):
                    one = builder.load(place(x, xs, line, depth, loop.index, vector.element), align=align)
                    wide = splat(builder, one, vector)
                    for slot, value in zip(slots, values, strict=True):
                        product = builder.fmul(wide, value, flags=FLAGS)
                        builder.store(builder.fadd(builder.load(slot), product, flags=FLAGS), slot)
            for line, slots in zip(lines, sums, strict=True):
                for at, slot in zip(columns, slots, strict=True):
                    builder.store(builder.load(slot), place(out, outs, line, across, at), align=align)
            return context.get_dummy_value()

        index = types.intp
        return types.void(x, index, index, weight, index, index, bias, out), code

    return tile
