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
    """`x[rows]`, for rows that exist, of a tensor or a variable."""
    if isinstance(x, keras.Variable):
        x = x.value
    if keras.config.backend() == "tensorflow":
        if _has_rows_in_place(x):
            return x.sparse_read(rows)
        x = ops.convert_to_tensor(x)
        if len(getattr(rows, "shape", ())) > 0:  # knows only a single such index
            return ops.take(x, rows, axis=0)
    return x[rows]  # `ops.take` would look for rows that do not exist


def _has_rows_in_place(x):
    """Whether TensorFlow can read and change single rows of what is the value of a variable.

    Not those of a distributed variable, which has `values`, one for each replica, to be averaged;
    and not those of the tensor that a stateless scope has in the variable's place.
    """
    return hasattr(x, "scatter_nd_add") and not hasattr(x, "values")


def unit_rows(x):
    """Rows of length 1; rows of zeros stay. Entries must be of a size that can be squared."""
    return divide_or_zero(x, ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True)))


def add_product(x, left, right):
    """`x + left @ right`, of a matrix or of many; `x` may be None. May use the memory of `x`."""
    if x is None:
        return left @ right
    if keras.config.backend() == "torch":
        return x.addmm_(left, right) if len(x.shape) == 2 else x.baddbmm_(left, right)
    return x + left @ right


def add_to_rows(variable, rows, num_rows, add):
    """Adds to some rows of a variable, in its own memory where that can be.

    Args:
        variable: `(n, ...)`, not differentiated.
        rows: int32 `(n,)`, the places in any order.
        num_rows: Scalar int: the first so many of them are meant.
        add: `add(row, old)` returns the row that stands at the place `row`, a scalar, with what is
            to be added to it; if `old` is None, the latter alone. May use the memory of `old`.
    """
    backend, array = keras.config.backend(), variable.value
    if backend == "torch":
        for row in ops.convert_to_numpy(rows)[: int(num_rows)]:
            old = array[row]
            new = add(int(row), old)
            if new is not old:
                array[row] = new
    elif backend == "jax":

        def write(i, array):
            row = take_rows(rows, i)
            start = (row, *(0 for _ in array.shape[1:]))
            # Read from what the loop carries: a second reader of `array` would make it a copy.
            old = ops.slice(array, start, (1, *array.shape[1:]))[0]
            return ops.slice_update(array, start, add(row, old)[None])

        variable.assign(ops.fori_loop(0, num_rows, write, array))
    elif _has_rows_in_place(array):

        def write(i, done):
            row = take_rows(rows, i)
            array.scatter_nd_add(ops.reshape(row, (1, 1)), add(row, None)[None])
            return done + 1

        ops.fori_loop(0, num_rows, write, 0)
    else:  # Stacked anew, as each update of a tensor on TensorFlow would copy all of it.
        is_meant = ops.argsort(rows) < num_rows

        def of_row(row):
            old = take_rows(array, row)
            return ops.cond(take_rows(is_meant, row), lambda: add(row, old), lambda: old)

        variable.assign(ops.map(of_row, ops.arange(array.shape[0], dtype="int32")))


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
