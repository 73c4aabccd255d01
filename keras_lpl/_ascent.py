"""The loop of Algorithm 2: how far each class's logits are pushed.

Li, Su, Wu, Zhang: "Logit Perturbation", AAAI 2022. `keras_lpl.functional.perturb_logits` says what
is computed; here is how it is computed with little work. For class indices each sample has the
`delta` of its class beside it, so arrays have as many rows as the batch, however many classes there
are; the samples of the classes with the most steps come first, and the loop goes on with ever fewer
rows, as most classes are done long before the last one. PyTorch, which runs each operation as it is
met, has a loop of its own in `_ascent_torch`.
"""

import functools
import math

import keras
from keras import ops

from keras_lpl._numerics import SCALE, TINY, divide_or_zero, take_rows, unit_rows

# The loop goes on with these shares of the rows, one after the other. More of them would do less
# work, and take longer to compile.
_SHARES = (1, 2, 8)
_FEWEST_ROWS = 8

# Stands in for a batch size that is not known while code is traced.
_USUAL_BATCH = 256

# A step multiplies probabilities by up to `exp(step)`, which must not overflow. Where `step_size`
# is known to be small that is not looked at; a gradient has up to length sqrt(2).
_LARGEST_STEP = 80.0
_SHORT_STEP = 50.0


def shift_of_classes(labels, logits, direction, num_steps, step_size, normalize_gradient, weight):
    """Algorithm 2 for class indices.

    Args:
        labels: int32 `(batch,)`; negative for a label that is not a class.
        logits: Finite, `(batch, num_classes)`.
        direction: `(num_classes,)` of +1 and -1.
        num_steps: int32 `(num_classes,)`.
        step_size: A number, or a scalar tensor.
        normalize_gradient: Whether steps have unit length.
        weight: `(batch,)`, 0 for samples that take no part.

    Returns:
        `delta_{y_i}`, `(batch, num_classes)`, NaN where the label is not a class.
    """
    if keras.config.backend() == "torch":
        from keras_lpl import _ascent_torch

        return _ascent_torch.shift_of_classes(
            labels, logits, direction, num_steps, step_size, normalize_gradient, weight
        )
    classes = logits.shape[-1]
    known = ops.maximum(labels, 0)
    total = ops.segment_sum(weight, known, num_segments=classes)
    steps = ops.where(take_rows(total, known) > 0, take_rows(num_steps, known), 0)
    share = divide_or_zero(weight, take_rows(total, known))  # of a sample in its class

    order = ops.argsort(-steps)
    known = take_rows(known, order)
    rows = ops.arange(ops.shape(logits)[0], dtype="int32")
    # The first row of each class stands for it: it is there as long as any row of the class is.
    first = -ops.segment_max(-rows, known, num_segments=classes)
    samples = {
        "logits": take_rows(logits, order),
        "row": take_rows(first, known),
        "share": take_rows(share, order)[:, None],
        "is_true": ops.equal(known[:, None], ops.arange(classes, dtype="int32")),
        "rate": take_rows(direction * step_size, known)[:, None],
        "steps": take_rows(steps, order)[:, None],
    }
    is_short = isinstance(step_size, (int, float)) and step_size <= _SHORT_STEP
    delta = _loop(samples, _step(bool(normalize_gradient), is_short))
    shift = ops.segment_sum(delta, order, num_segments=ops.shape(logits)[0])  # back in place
    return ops.where(labels[:, None] < 0, math.nan, shift)


def _loop(samples, step):
    """`delta` of each sample, by loops over ever smaller, fixed numbers of rows."""
    logits, steps, is_true = samples["logits"], samples["steps"], samples["is_true"]
    batch = ops.shape(logits)[0]
    columns = [samples[key] for key in ("rate", "steps", "row", "share")]
    probability = ops.softmax(logits, axis=-1)
    own_probability = _sum(ops.where(is_true, probability, 0.0))
    state = [ops.where(is_true, 0.0, probability), own_probability]
    state += [ops.zeros_like(logits), ops.zeros_like(own_probability)]
    done, start = [], 0
    sizes = _numbers_of_rows(batch if logits.shape[0] is None else logits.shape[0])
    for size, next_size in zip(sizes, [*sizes[1:], 0], strict=True):
        # Every row from `next_size` on has finished when this one has.
        end = steps[ops.minimum(next_size, batch - 1), 0]
        state = (*state, *(column[:size] for column in columns))
        state = ops.fori_loop(start, end, step, state)[:4]
        delta, own_delta = (part[next_size:] for part in state[2:])
        done.append(ops.where(is_true[next_size:size], own_delta, delta))
        state, start = [part[:next_size] for part in state], end
    return ops.concatenate(done[::-1], axis=0)


def _numbers_of_rows(batch):
    """How many rows the loop goes on with: all of them, half, an eighth."""
    if isinstance(batch, int):
        return [batch // share for share in _SHARES if share == 1 or batch // share >= _FEWEST_ROWS]
    # TensorFlow may not know while it traces.
    return [ops.maximum(batch // share, 1) for share in _SHARES]


# The loop bodies are made once and get all they need as state: JAX, run eagerly, compiles a loop
# for every new function it is given.
@functools.cache
def _step(normalize_gradient, is_short):
    """One step of every row's class: Eqs. 16 and 17.

    The state has the probabilities `softmax(u + delta)`, but for a factor: a step multiplies them
    by `exp(step)`. That spares the loop from taking more than one exponential of each number. What
    belongs to a row's own class is kept apart, `(rows, 1)`, with 0 in its place.
    """

    def grow(odds, move):
        return odds * ops.exp(move if is_short else ops.clip(move, -_LARGEST_STEP, _LARGEST_STEP))

    def step(k, state):
        odds, own_odds, delta, own_delta, rate, steps, row, share = state
        others = _sum(odds)
        scale = 1 / (others + own_odds)
        weight = scale * share * (SCALE if normalize_gradient else 1.0)
        gradient = _class_sums(odds * weight, row)
        # p - 1 would lose all digits of a small 1 - p: it is minus the sum of all others.
        own_gradient = -_class_sums(others * weight, row)
        rate = ops.where(k < steps, rate, 0.0)
        if normalize_gradient:
            square = _sum(gradient * gradient) + own_gradient * own_gradient
            rate = rate * (square + TINY) ** -0.5
        move, own_move = rate * gradient, rate * own_gradient
        return (
            grow(odds * scale, move),
            grow(own_odds * scale, own_move),
            delta + move,
            own_delta + own_move,
            *state[4:],
        )

    return step


def _sum(x):
    return ops.sum(x, axis=-1, keepdims=True)


def _class_sums(x, row):
    """Each row's sum over the rows of its class.

    Args:
        x: `(rows, n)`.
        row: The row that stands for each row's class, `(rows,)`.
    """
    return take_rows(ops.segment_sum(x, row, num_segments=ops.shape(x)[0]), row)


def shift_of_soft_labels(
    labels, logits, direction, num_steps, step_size, normalize_gradient, weight
):
    """Algorithm 2 for soft labels. Returns `sum_c y_ic delta_c`, `(batch, num_classes)`.

    In matrices, with `Y` the labels, `W` the weights, `N` the weight of each class and `R` the
    rows `p_i - y_i`: all gradients at once are `G = N^-1 Y' W R`, of `num_classes` rows.
    """
    member = labels * weight[:, None]
    member = divide_or_zero(member, ops.sum(member, axis=0))  # columns sum to 1, or are all 0
    num_steps = ops.where(ops.max(member, axis=0) > 0, num_steps, 0)
    constants = (labels, logits, member, direction * step_size, num_steps)
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
