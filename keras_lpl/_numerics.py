"""Arithmetic that the rooms above share."""

from keras import ops


def divide_or_zero(numerator, denominator):
    """`numerator / denominator`, and 0 where the denominator is 0."""
    is_zero = ops.equal(denominator, 0)
    return ops.where(is_zero, 0.0, numerator / ops.where(is_zero, 1.0, denominator))


def unit_rows(x):
    """Rows of length 1; rows of zeros stay. Entries must be of a size that can be squared."""
    return divide_or_zero(x, ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True)))
