"""The loop of Algorithm 2: how far each class's logits are pushed.

Li, Su, Wu, Zhang: "Logit Perturbation", AAAI 2022. `keras_lpl.functional.perturb_logits` says what
is computed; here is how it is computed with little work. For class indices each sample has the
`delta` of its class beside it, so arrays have as many rows as the batch, however many classes there
are; the samples of the classes with the most steps come first, and the loop goes on with ever fewer
rows, as most classes are done long before the last one.
"""

import functools
import math

import keras
import numpy as np
from keras import ops

from keras_lpl._numerics import divide_or_zero, unit_rows

# Compiled, the loop goes on with a quarter of the rows at a time, down to about eight.
_SHRINK = 4
_FEWEST_ROWS = 8

# Class means of so many rows are taken by a matrix product, of more by sums over segments. An
# eager framework pays for each operation, and a product is one where a sum over segments is three.
_MOST_ROWS_OF_MATRIX = 64
_MOST_ROWS_OF_MATRIX_EAGERLY = 512

# Stands in for a batch size that is not known while code is traced.
_USUAL_BATCH = 256

# The smallest float32 but a few: compilers take what is smaller for zero.
_TINY = 2e-38


def shift_of_classes(labels, logits, rate, num_steps, normalize_gradient, weight):
    """Algorithm 2 for class indices.

    Args:
        labels: int32 `(batch,)`; negative for a label that is not a class.
        logits: Finite, `(batch, num_classes)`.
        rate: Direction times step size, `(num_classes,)`.
        num_steps: int32 `(num_classes,)`.
        normalize_gradient: Whether steps have unit length.
        weight: `(batch,)`, 0 for samples that take no part.

    Returns:
        `delta_{y_i}`, `(batch, num_classes)`, NaN where the label is not a class.
    """
    classes = logits.shape[-1]
    known = ops.maximum(labels, 0)
    total = ops.segment_sum(weight, known, num_segments=classes)
    steps = ops.where(ops.take(total, known) > 0, ops.take(num_steps, known), 0)
    share = divide_or_zero(weight, ops.take(total, known))  # of a sample in its class

    order = ops.argsort(-steps)
    known = ops.take(known, order)
    rows = ops.arange(ops.shape(logits)[0], dtype="int32")
    # The first row of each class stands for it: it is there as long as any row of the class is.
    first = -ops.segment_max(-rows, known, num_segments=classes)
    samples = {
        "logits": ops.take(logits, order, axis=0),
        "row": ops.take(first, known),
        "share": ops.take(share, order)[:, None],
        "is_true": ops.one_hot(known, classes, dtype=logits.dtype),
        "rate": ops.take(rate, known)[:, None],
        "steps": ops.take(steps, order)[:, None],
    }
    is_eager = keras.config.backend() == "torch"
    loop = _eager_loop if is_eager else _compiled_loop
    delta = loop(samples, bool(normalize_gradient))
    shift = ops.take(delta, ops.argsort(order), axis=0)
    return ops.where(labels[:, None] < 0, math.nan, shift)


def _compiled_loop(samples, normalize_gradient):
    """`delta` of each sample, by loops over fixed numbers of rows."""
    logits = samples["logits"]
    batch = ops.shape(logits)[0]
    is_true = samples["is_true"]
    columns = (logits, is_true, 1 - is_true, *(samples[key] for key in ("rate", "steps")))

    delta, done, start = ops.zeros_like(logits), [], 0
    sizes = _numbers_of_rows(batch if logits.shape[0] is None else logits.shape[0])
    for size, next_size in zip(sizes, [*sizes[1:], 0], strict=True):
        # Every row from `next_size` on has finished when this one has.
        end = ops.take(samples["steps"], ops.minimum(next_size, batch - 1))
        by_matrix = _is_small(size, is_last=len(done) + 1 == len(sizes))
        row, share = samples["row"][:size], samples["share"][:size]
        means = (_means_by_matrix(row, share),) if by_matrix else (row, share)
        state = (delta, *means, *(column[:size] for column in columns))
        step = _compiled_step(by_matrix, normalize_gradient)
        delta = ops.fori_loop(start, end, step, state)[0]
        done.append(delta[next_size:])
        delta, start = delta[:next_size], end
    return ops.concatenate(done[::-1], axis=0)


def _numbers_of_rows(batch):
    """How many rows the loop goes on with: all of them, a quarter, a sixteenth ..."""
    if not isinstance(batch, int):  # TensorFlow may not know while it traces
        return [batch, *(ops.maximum(batch // _SHRINK**power, 1) for power in (1, 2))]
    sizes = [batch]
    while sizes[-1] // _SHRINK >= _FEWEST_ROWS:
        sizes.append(sizes[-1] // _SHRINK)
    return sizes


def _is_small(size, is_last):
    """Whether class means are taken by a matrix of the shares, `(size, size)`."""
    return size <= _MOST_ROWS_OF_MATRIX if isinstance(size, int) else is_last


# The loop bodies are made once and get all they need as state: JAX, run eagerly, compiles a loop
# for every new function it is given.
@functools.cache
def _compiled_step(by_matrix, normalize_gradient):
    def step(k, state):
        means, rest = (state[1:2], state[2:]) if by_matrix else (state[1:3], state[3:])
        logits, is_true, is_other, rate, steps = rest
        rate = ops.where(k < steps, rate, 0.0)
        delta = _step(state[0], logits, is_true, is_other, means, rate, _sum, normalize_gradient)
        return delta, *state[1:]

    return step


def _eager_loop(samples, normalize_gradient):
    """`delta` of each sample, with exactly the rows that still move.

    Where each operation is run as it is met, its size costs little and its call costs much: hence
    operators in place of functions, and no masks.
    """
    steps = ops.convert_to_numpy(samples["steps"])[:, 0]  # falling
    logits, is_true = samples["logits"], samples["is_true"]
    ones = ops.ones((logits.shape[-1], 1), dtype=logits.dtype)
    is_other = 1 - is_true
    num_rows = np.count_nonzero(steps)
    delta, done, matrix, start = ops.zeros_like(logits), [], None, 0
    done.append(delta[num_rows:])
    delta = delta[:num_rows]
    for end in np.unique(steps[:num_rows]):
        of_rows = slice(0, num_rows)
        row, share = samples["row"][of_rows], samples["share"][of_rows]
        if num_rows > _MOST_ROWS_OF_MATRIX_EAGERLY:
            means = (row, share)
        else:
            matrix = _means_by_matrix(row, share) if matrix is None else matrix
            means = (matrix[of_rows, of_rows],)
        rest = [x[of_rows] for x in (logits, is_true, is_other)]
        rate = samples["rate"][of_rows]
        for _ in range(start, end):
            delta = _step(delta, *rest, means, rate, lambda x: x @ ones, normalize_gradient)
        start, num_rows = end, np.count_nonzero(steps > end)
        done.append(delta[num_rows:])
        delta = delta[:num_rows]
    return ops.concatenate(done[::-1], axis=0)


def _step(delta, logits, is_true, is_other, means, rate, row_sum, normalize_gradient):
    """One step of every row's class: Eqs. 16 and 17."""
    others = ops.softmax(logits + delta, axis=-1) * is_other
    mean = _class_means(others, *means)
    # g_c is `mean` with minus its sum at c: p - 1 would lose all digits of a small 1 - p.
    total = row_sum(mean)
    if normalize_gradient:
        # Scaled by its largest entry, total, so that the squares do not underflow. Without a
        # gradient there is no step.
        safe = total + _TINY
        mean, total = mean / safe, total / safe
        rate = rate * (1 + row_sum(mean * mean)) ** -0.5
    return delta + rate * (mean - total * is_true)


def _sum(x):
    return ops.sum(x, axis=-1, keepdims=True)


def _class_means(x, rows, share=None):
    """Each row's mean over the rows of its class.

    Args:
        x: `(rows, num_classes)`.
        rows: The matrix of `_means_by_matrix`; or with `share` the row that stands for each row's
            class.
        share: Share of each row in its class, `(rows, 1)`.
    """
    if share is None:
        return rows @ x
    total = ops.segment_sum(share * x, rows, num_segments=ops.shape(x)[0])
    return ops.take(total, rows, axis=0)


def _means_by_matrix(rows, share):
    """`(rows, rows)`: row `i` has the shares of the rows of its class."""
    return ops.where(ops.equal(rows[:, None], rows[None, :]), ops.transpose(share), 0.0)


def shift_of_soft_labels(labels, logits, rate, num_steps, normalize_gradient, weight):
    """Algorithm 2 for soft labels. Returns `sum_c y_ic delta_c`, `(batch, num_classes)`.

    In matrices, with `Y` the labels, `W` the weights, `N` the weight of each class and `R` the
    rows `p_i - y_i`: all gradients at once are `G = N^-1 Y' W R`, of `num_classes` rows.
    """
    member = labels * weight[:, None]
    member = divide_or_zero(member, ops.sum(member, axis=0))  # columns sum to 1, or are all 0
    num_steps = ops.where(ops.max(member, axis=0) > 0, num_steps, 0)
    constants = (labels, logits, member, rate, num_steps)
    classes, batch = logits.shape[-1], logits.shape[0]
    # The smaller of (classes, classes) and (batch, batch); TensorFlow may not know the batch size.
    if classes <= (_USUAL_BATCH if batch is None else batch):
        step = _step_of_soft_classes(bool(normalize_gradient))
        delta = ops.zeros((classes, classes), dtype=logits.dtype)
        delta = ops.fori_loop(0, ops.max(num_steps), step, (delta, *constants))[0]
        return ops.matmul(labels, delta)
    step = _step_of_soft_samples(bool(normalize_gradient))
    return ops.fori_loop(0, ops.max(num_steps), step, (ops.zeros_like(logits), *constants))[0]


@functools.cache
def _step_of_soft_classes(normalize_gradient):
    """Moves `delta`, `(num_classes, num_classes)`."""

    def step(k, state):
        delta, labels, logits, member, rate, num_steps = state
        residual = _residual(labels, logits + ops.matmul(labels, delta))
        gradient = ops.matmul(ops.transpose(member), residual)
        if normalize_gradient:
            largest = ops.max(ops.abs(gradient), axis=-1, keepdims=True)
            gradient = unit_rows(divide_or_zero(gradient, largest))
        delta = delta + ops.where(k < num_steps, rate, 0.0)[:, None] * gradient
        return delta, *state[1:]

    return step


@functools.cache
def _step_of_soft_samples(normalize_gradient):
    """Moves `Y delta`, `(batch, num_classes)`, by way of a `(batch, batch)` array."""

    def step(k, state):
        shift, labels, logits, member, rate, num_steps = state
        residual = _residual(labels, logits + shift)
        factor = ops.where(k < num_steps, rate, 0.0)
        if normalize_gradient:
            # |g_c|^2 = m_c' (R R') m_c, so G itself is not needed. Rows and columns are scaled
            # by their largest entries, so that nothing underflows. The square loses digits where
            # the rows of a class all but cancel; labels of mixup or smoothing are far from that.
            size = ops.max(ops.abs(residual), axis=-1, keepdims=True)
            unit = divide_or_zero(residual, size)
            weight = member * size
            largest = ops.max(weight, axis=0)
            weight = divide_or_zero(weight, largest)
            gram = ops.matmul(unit, ops.transpose(unit))
            square = ops.sum(weight * ops.matmul(gram, weight), axis=0)
            factor = divide_or_zero(factor, largest * ops.sqrt(ops.maximum(square, 0.0)))
        shift = shift + ops.matmul(ops.matmul(labels * factor, ops.transpose(member)), residual)
        return shift, *state[1:]

    return step


def _residual(labels, logits):
    """`softmax(u) - y`, without the cancellation where a probability is all but 1."""
    largest = ops.max(logits, axis=-1, keepdims=True)
    is_largest = ops.one_hot(ops.argmax(logits, axis=-1), logits.shape[-1], dtype="bool")
    others = ops.where(is_largest, 0.0, ops.exp(logits - largest))
    total = ops.sum(others, axis=-1, keepdims=True)
    probability = ops.where(is_largest, 1.0, others) / (1 + total)
    rest = ops.where(is_largest, total / (1 + total), 1 - probability)
    # (1 - y) stands for the sum of the other labels, whether or not rounding left it so.
    return probability * (1 - labels) - labels * rest
