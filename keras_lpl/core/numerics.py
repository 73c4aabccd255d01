"""Arithmetic that other modules share."""

from keras import ops

from keras_lpl.core.typing import Tensor

# Gradients scaled by this have squares that do not underflow: those of more than 1e-36 keep their
# digits, and the longest gradient of a cross-entropy, sqrt(2), does not overflow.
SCALE = 2.0**60
# Just above the smallest normal float32: compilers take smaller numbers for zero.
TINY = 2e-38


def flat(x: Tensor) -> Tensor:
    """`x` with a single axis."""
    # Reshaping what is flat already would cost as much as a sum, run eagerly.
    return x if len(x.shape) == 1 else ops.reshape(x, (-1,))


# Numbers of this size count as infinite. A logit may be multiplied by a scale, and a sum of many
# weights must not overflow.
LARGEST = 1e30


def finite_or_zero(logits: Tensor) -> tuple[Tensor, Tensor | None]:
    """Rows of finite logits, and zeros for the others.

    Args:
        logits: `(rows, classes)`.

    Returns:
        `(logits, is_finite)`, `is_finite` bool `(rows,)`: False for rows of NaN, and of numbers of
        `LARGEST` or more. None where it is seen at once that all are finite.
    """
    # By the squares, which leave nothing that could cancel.
    is_finite = squared_length(logits * LARGEST**-0.5) < LARGEST
    # NaN times 0 is still NaN, so such rows must not stay.
    return ops.where(is_finite[:, None], logits, 0.0), is_finite


def negated(mask: Tensor) -> Tensor:
    """`not mask`, of a mask that comes of a comparison with numbers that may be NaN."""
    # TensorFlow's graph optimizer makes `a >= b` of `logical_not(a < b)`, which is False for NaN.
    return ops.cast(mask, "float32") < 0.5


def squared_length(rows: Tensor) -> Tensor:
    """Sum of the squares of each row of `(rows, columns)`, `(rows,)`."""
    return ops.sum(ops.square(rows), axis=-1)


def divide_or_zero(numerator: Tensor, denominator: Tensor) -> Tensor:
    """`numerator / denominator`, and 0 where the denominator is 0."""
    is_zero = ops.equal(denominator, 0)
    return ops.where(is_zero, 0.0, numerator / ops.where(is_zero, 1.0, denominator))


def mean_of_sum(total: Tensor, weight: Tensor) -> Tensor:
    """`total / weight`, of sums of rows and their weights; 0 where there is no weight."""
    return total / (weight + TINY)  # `maximum` costs as much as all the rest, run eagerly


def unit_rows(x: Tensor) -> Tensor:
    """Rows of length 1, whatever the size of their entries; rows of zeros stay."""
    # Scaled first, as the square of a small number underflows.
    x = divide_or_zero(x, ops.max(ops.abs(x), axis=-1, keepdims=True))
    return divide_or_zero(x, ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True)))


def residual(labels: Tensor, logits: Tensor) -> Tensor:
    """`softmax(logits) - labels`, without cancellation where a probability is all but 1.

    Args:
        labels: One-hot or soft labels, `(..., classes)`.
        logits: `(..., classes)`.
    """
    largest = ops.max(logits, axis=-1, keepdims=True)
    is_largest = ops.one_hot(ops.argmax(logits, axis=-1), logits.shape[-1], dtype="bool")
    others = ops.where(is_largest, 0.0, ops.exp(logits - largest))
    total = ops.sum(others, axis=-1, keepdims=True)
    probability = ops.where(is_largest, 1.0, others) / (1 + total)
    rest = ops.where(is_largest, total / (1 + total), 1 - probability)
    # (1 - y) stands for the sum of the other labels, even where rounding changed that sum.
    return probability * (1 - labels) - labels * rest
