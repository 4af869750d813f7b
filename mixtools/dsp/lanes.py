"""Eight or two doubles at once, for recursions that the compiler cannot vectorise by itself.

A `lanes` value lives in one vector register (or two, or four: LLVM splits it where registers are narrower). Used by
the equaliser, where every lane is a section of the cascade, two samples behind the lane above it. A `pair` holds the
two channels of a loudness meter.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 8

_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_INT32 = ir.IntType(32)


class _Lanes(types.Type):
    def __init__(self, width: int) -> None:
        self.vector = ir.VectorType(ir.DoubleType(), width)
        super().__init__(name=f"float64x{width}")


lanes = _Lanes(LANES)
pair = _Lanes(2)


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, numba_type.vector)


def _row_pointer(context, builder, array_type, array, row):
    data = context.make_array(array_type)(context, builder, array).data
    first = builder.gep(data, [builder.mul(row, ir.Constant(row.type, LANES))])
    return builder.bitcast(first, _VECTOR.as_pointer())


def _splat(builder, scalar):
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(_INT32, 0))
    everywhere = ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), everywhere)


@intrinsic
def load(_typing, array, row):
    """Row `row` of a C-contiguous float64 array of shape (rows, 8)."""

    def generate(context, builder, signature, args):
        value = builder.load(_row_pointer(context, builder, signature.args[0], *args))
        value.align = 8
        return value

    return lanes(array, types.intp), generate


@intrinsic
def store(_typing, array, row, value):
    """Write row `row` of a C-contiguous float64 array of shape (rows, 8)."""

    def generate(context, builder, signature, args):
        builder.store(args[2], _row_pointer(context, builder, signature.args[0], args[0], args[1])).align = 8
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@intrinsic
def multiply(_typing, a, b):
    """a * b."""
    return a(a, a), lambda context, builder, signature, args: builder.fmul(*args)


@intrinsic
def multiply_add(_typing, a, b, c):
    """a * b + c, rounded once where the machine can."""

    def generate(context, builder, signature, args):
        function_type = ir.FunctionType(a.vector, [a.vector] * 3)
        name = f"llvm.fmuladd.v{a.vector.count}f64"
        return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), args)

    return a(a, a, a), generate


@intrinsic
def shift_in(_typing, value, scalar):
    """The scalar in the top lane, and in every other lane what was in the lane above it."""

    def generate(context, builder, signature, args):
        order = ir.Constant(ir.VectorType(_INT32, LANES), [*range(1, LANES), LANES - 1])
        shifted = builder.shuffle_vector(args[0], ir.Constant(_VECTOR, ir.Undefined), order)
        return builder.insert_element(shifted, args[1], ir.Constant(_INT32, LANES - 1))

    return lanes(lanes, types.float64), generate


@intrinsic
def bottom(_typing, value):
    """The scalar in the bottom lane, which is free to take out: in at the top, out at the bottom is the fast way."""

    def generate(context, builder, signature, args):
        return builder.extract_element(args[0], ir.Constant(_INT32, 0))

    return types.float64(lanes), generate


@intrinsic
def shift_out(_typing, value, scalar):
    """The scalar in the bottom lane, and in every other lane what was in the lane below it: `shift_in` backwards."""

    def generate(context, builder, signature, args):
        order = ir.Constant(ir.VectorType(_INT32, LANES), [0, *range(LANES - 1)])
        shifted = builder.shuffle_vector(args[0], ir.Constant(_VECTOR, ir.Undefined), order)
        return builder.insert_element(shifted, args[1], ir.Constant(_INT32, 0))

    return lanes(lanes, types.float64), generate


@intrinsic
def top(_typing, value):
    """The scalar in the top lane."""

    def generate(context, builder, signature, args):
        return builder.extract_element(args[0], ir.Constant(_INT32, LANES - 1))

    return types.float64(lanes), generate


@intrinsic
def where_between(_typing, key, above, upto, inside, outside):
    """Lane by lane: `inside` where above < key <= upto, else `outside`."""

    def generate(context, builder, signature, args):
        low = builder.fcmp_ordered(">", args[0], _splat(builder, args[1]))
        high = builder.fcmp_ordered("<=", args[0], _splat(builder, args[2]))
        return builder.select(builder.and_(low, high), args[3], args[4])

    return lanes(lanes, types.float64, types.float64, lanes, lanes), generate


@intrinsic
def paired(_typing, first, second):
    """Two numbers side by side."""

    def generate(context, builder, signature, args):
        one = builder.insert_element(ir.Constant(pair.vector, ir.Undefined), args[0], ir.Constant(_INT32, 0))
        return builder.insert_element(one, args[1], ir.Constant(_INT32, 1))

    return pair(types.float64, types.float64), generate


@intrinsic
def parted(_typing, value):
    """The two numbers of a pair."""

    def generate(context, builder, signature, args):
        parts = [builder.extract_element(args[0], ir.Constant(_INT32, i)) for i in range(2)]
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(types.float64, 2)(pair), generate


@intrinsic
def fetch(_typing, row, index):
    """Ask for the cache line of an element that need not exist: going backwards, the machine does not foresee it."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        function_type = ir.FunctionType(ir.VoidType(), [place.type, _INT32, _INT32, _INT32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [place.type], function_type)
        to_read, keep, data_cache = (ir.Constant(_INT32, value) for value in (0, 3, 1))
        builder.call(function, [place, to_read, keep, data_cache])
        return context.get_dummy_value()

    return types.void(row, types.intp), generate
