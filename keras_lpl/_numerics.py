"""Arithmetic that the rooms above share."""

import keras
from keras import ops

# Gradients scaled by this have squares that do not underflow: those of more than 1e-36 keep their
# digits, and the longest gradient of a cross-entropy, sqrt(2), does not overflow.
SCALE = 2.0**60
# The smallest float32 but a few: compilers take what is smaller for zero.
TINY = 2e-38


def finite_rows(x):
    """Which rows of `(rows, columns)` are finite throughout, `(rows,)`."""
    # A sum is finite only if all of it is. Scaled, so that it does not overflow by itself.
    return ops.isfinite(ops.sum(x * 1e-6, axis=-1))


def divide_or_zero(numerator, denominator):
    """`numerator / denominator`, and 0 where the denominator is 0."""
    is_zero = ops.equal(denominator, 0)
    return ops.where(is_zero, 0.0, numerator / ops.where(is_zero, 1.0, denominator))


def take_rows(x, rows):
    """`x[rows]`, for rows that exist."""
    if keras.config.backend() == "tensorflow":  # knows no such index
        return ops.take(x, rows, axis=0)
    return x[rows]  # `ops.take` would look for rows that do not exist


def unit_rows(x):
    """Rows of length 1; rows of zeros stay. Entries must be of a size that can be squared."""
    return divide_or_zero(x, ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True)))


def scale_and_add_product(x, scale, left, right):
    """`scale * x + left @ right`, of a matrix or of many. May use the memory of `x` for it."""
    if keras.config.backend() == "torch":
        x = x.mul_(scale)
        return x.addmm_(left, right) if len(x.shape) == 2 else x.baddbmm_(left, right)
    return scale * x + left @ right


def replace_rows(array, rows, num_rows, new_row):
    """`array` with other rows at some places. May use its memory for the result.

    Args:
        array: `(n, ...)`, not differentiated.
        rows: int32 `(n,)`, the places in any order.
        num_rows: Scalar int: the first so many of them are meant.
        new_row: `new_row(row, old)` returns what is to stand at the place `row`, a scalar, where
            `old` stood. May use the memory of `old` for it.

    Returns:
        Like `array`.
    """
    if keras.config.backend() == "torch":
        for row in ops.convert_to_numpy(rows)[: int(num_rows)]:
            old = array[row]
            new = new_row(int(row), old)
            if new is not old:
                array[row] = new
        return array
    if keras.config.backend() == "jax":

        def write(i, array):
            row = take_rows(rows, i)
            start = (row, *(0 for _ in array.shape[1:]))
            # Read from what the loop carries: a second reader of `array` would make it a copy.
            old = ops.slice(array, start, (1, *array.shape[1:]))[0]
            return ops.slice_update(array, start, new_row(row, old)[None])

        return ops.fori_loop(0, num_rows, write, array)

    # On TensorFlow each update in place would copy the whole array, and so it is stacked anew.
    is_meant = ops.argsort(rows) < num_rows

    def of_row(row):
        old = ops.take(array, row, axis=0)
        return ops.cond(ops.take(is_meant, row), lambda: new_row(row, old), lambda: old)

    return ops.map(of_row, ops.arange(array.shape[0], dtype="int32"))


def stack_rows(of_row, num_rows, num_present, shapes, dtype):
    """Arrays whose rows are computed one after the other.

    Args:
        of_row: `of_row(i)` returns a tuple of tensors, for a scalar `i`.
        num_rows: How many rows the arrays have.
        num_present: Scalar int, how many of them are computed; the others are 0.
        shapes: The shape of each tensor of the tuple.
        dtype: Their dtype.

    Returns:
        A tuple of arrays `(num_rows, *shape)`.
    """
    if keras.config.backend() == "torch":
        arrays = tuple(ops.zeros((num_rows, *shape), dtype=dtype) for shape in shapes)
        for i in range(int(num_present)):
            for array, row in zip(arrays, of_row(i), strict=True):
                array[i] = row
        return arrays

    if keras.config.backend() == "jax":

        def write(i, arrays):
            return tuple(
                ops.slice_update(array, (i, *(0 for _ in shape)), row[None])
                for array, shape, row in zip(arrays, shapes, of_row(i), strict=True)
            )

        start = tuple(ops.zeros((num_rows, *shape), dtype=dtype) for shape in shapes)
        return ops.fori_loop(0, num_present, write, start)

    # TensorFlow would copy the whole arrays with each row.
    def of_any_row(i):
        absent = tuple(ops.zeros(shape, dtype=dtype) for shape in shapes)
        return ops.cond(i < num_present, lambda: tuple(of_row(i)), lambda: absent)

    return ops.map(of_any_row, ops.arange(num_rows, dtype="int32"))
