"""Algorithm 2 of LPL: the push `delta_c` of each class's logits.

Li, Su, Wu, Zhang: "Logit Perturbation", AAAI 2022. `algorithm_2` is the paper's loop as it reads.
The functions below it compute the same with less work, and are tested to agree with it:

    one_step         a single step of length eps_c: no loop
    equal_steps      K steps of length eps_c / K for every class
    steps_of_size    floor(eps_c / alpha) steps of length alpha, the paper's
"""

import functools
from typing import Any

import numpy as np
from keras import ops

from keras_lpl import engines
from keras_lpl.core.numerics import divide_or_zero, flat, residual, unit_rows
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor

# Stands in for a batch size that is not known while code is traced.
_USUAL_BATCH = 256


def algorithm_2(
    samples: Samples,
    direction: Tensor,
    num_steps: Any,
    step_size: Tensor | float,
    normalize_gradient: bool = True,
) -> Tensor:
    """Algorithm 2 as the paper writes it, for all classes side by side.

    Args:
        samples: The batch.
        direction: `s_c`, +1 or -1, in `samples.shape_by_class`.
        num_steps: `K_c`, NumPy integers of the same shape.
        step_size: `alpha`, or one for each class.
        normalize_gradient: Take steps of unit length.

    Returns:
        Shift of each row, `delta_{y_i}`, `(rows, classes)`; with soft labels `sum_c y_ic delta_c`.
    """
    delta = ops.zeros((*samples.shape_by_class, samples.num_classes), samples.logits.dtype)
    rate = ops.cast(direction, delta.dtype) * ops.cast(step_size, delta.dtype)
    for k in range(int(num_steps.max())):
        logits = samples.logits + samples.of_own_class(delta)
        gradient = samples.mean_by_class(residual(samples.membership, logits))  # Eq. 16
        if normalize_gradient:
            gradient = unit_rows(gradient)
        is_moving = ops.cast(k < num_steps, delta.dtype)
        delta = delta + (is_moving * rate)[..., None] * gradient  # Eq. 17
    return samples.of_own_class(delta)


# --- One step ---------------------------------------------------------------------------------


def one_step(
    samples: Samples, direction: Tensor, bound: Tensor, normalize_gradient: bool = True
) -> Tensor:
    """Shift by one step of length `eps_c`: `delta_c = s_c eps_c g_c / |g_c|`.

    Args:
        samples: The batch, detached.
        direction: `s_c`, +1 or -1, in `samples.shape_by_class`.
        bound: `eps_c`, in the same shape.
        normalize_gradient: Take steps of unit length.

    Returns:
        `(rows, classes)`.
    """
    rate = _like(direction, samples.logits) * _like(bound, samples.logits)
    if samples.has_soft_labels:
        return _soft_steps(samples, rate, 1, normalize_gradient)
    group, num_groups, rate = _groups(samples, rate)
    return engines.step_of_groups(
        samples.logits,
        samples.labels,
        group,
        num_groups,
        rate,
        normalize_gradient,
        samples.weight,
    )


def _like(x, logits):
    """Numbers of the classes in the precision of the logits."""
    if isinstance(x, np.ndarray):
        return engines.constant(x, logits)
    return x if getattr(x, "dtype", None) == logits.dtype else ops.cast(x, logits.dtype)


def _groups(samples, rate):
    """Groups of rows of the same class, of which there are never more than rows.

    Returns:
        `(group, num_groups, rate)`: the group of each row, how many there are, and `rate` by group.
    """
    num_groups = samples.num_classes * (samples.num_problems or 1)
    rows = samples.logits.shape[0]
    group, rate = samples.group, flat(rate)
    if num_groups <= (_USUAL_BATCH if rows is None else rows):
        return group, num_groups, rate
    # More classes than rows: one row of a class stands for it.
    rows = ops.shape(samples.logits)[0]
    row = engines.row_of_group(group, num_groups, rows)
    return engines.take_rows(row, group), rows, engines.take_rows(rate, group)


# --- Several steps ------------------------------------------------------------------------------


def equal_steps(
    samples: Samples,
    direction: Tensor,
    bound: Tensor,
    num_steps: int,
    normalize_gradient: bool = True,
) -> Tensor:
    """Shift by `num_steps` steps of length `eps_c / num_steps` for every class.

    As `one_step`, which it is for `num_steps=1`.
    """
    if num_steps == 1:
        return one_step(samples, direction, bound, normalize_gradient)
    steps = ops.full(samples.shape_by_class, num_steps, dtype="int32")
    length = ops.cast(bound, samples.logits.dtype) / num_steps
    return steps_of_size(samples, direction, steps, length, normalize_gradient)


def steps_of_size(
    samples: Samples,
    direction: Tensor,
    num_steps: Tensor,
    step_size: Tensor | float,
    normalize_gradient: bool = True,
) -> Tensor:
    """Shift by `K_c` steps of length `alpha`.

    Args:
        samples: The batch, detached.
        direction: `s_c`, +1 or -1, in `samples.shape_by_class`.
        num_steps: `K_c`, int32, in the same shape.
        step_size: `alpha`, a number, or one for each class.
        normalize_gradient: Take steps of unit length.

    Returns:
        `(rows, classes)`.
    """
    direction = ops.cast(direction, samples.logits.dtype)
    if samples.has_soft_labels:
        rate = direction * ops.cast(step_size, direction.dtype)
        return _soft_steps(samples, rate, num_steps, normalize_gradient)
    if not isinstance(step_size, (int, float)):
        step_size = flat(ops.broadcast_to(step_size, samples.shape_by_class))
    return engines.shift_of_classes(
        samples.logits,
        samples.labels,
        samples.group,
        flat(direction),
        flat(ops.convert_to_tensor(num_steps)),
        step_size,
        normalize_gradient,
        samples.weight,
    )


# --- Soft labels --------------------------------------------------------------------------------


def _soft_steps(samples, rate, num_steps, normalize_gradient):
    """Steps of soft labels.

    In matrices, with `Y` the labels, `W` the weights, `N` the weight of each class and `R` the
    rows `p_i - y_i`: all gradients at once are `G = N^-1 Y' W R`, of `classes` rows. With several
    problems, each has such matrices of its own.
    """
    labels, logits, weight = samples.labels, samples.logits, samples.weight
    rows, classes = logits.shape[0], samples.num_classes
    if samples.num_problems is not None:  # rows lie sample by sample: (problems, samples, classes)
        labels, logits, weight = (
            ops.swapaxes(ops.reshape(x, (-1, samples.num_problems, x.shape[-1])), 0, 1)
            for x in (labels, logits, weight[:, None])
        )
        weight = weight[..., 0]
    member = labels * weight[..., None]
    # Columns sum to 1, or are all 0.
    member = divide_or_zero(member, ops.sum(member, axis=-2, keepdims=True))
    # The smaller of (classes, classes) and (rows, rows); TensorFlow may not know the latter.
    by_class = samples.num_problems is not None or classes <= (rows or _USUAL_BATCH)
    make_step = _step_of_soft_classes if by_class else _step_of_soft_rows
    step = make_step(bool(normalize_gradient))
    moved = ops.zeros_like(logits)
    if by_class:
        moved = ops.zeros((*samples.shape_by_class, classes), dtype=logits.dtype)
    is_one = isinstance(num_steps, int) and num_steps == 1
    steps = ops.ones_like(rate, dtype="int32") if is_one else num_steps
    state = (moved, labels, logits, member, rate, steps)
    if is_one:
        state = step(0, state)
    else:
        present = ops.where(ops.max(member, axis=-2) > 0, num_steps, 0)
        state = ops.fori_loop(0, ops.max(present), step, state)
    shift = ops.matmul(labels, state[0]) if by_class else state[0]
    if samples.num_problems is not None:
        shift = ops.reshape(ops.swapaxes(shift, 0, 1), (-1, classes))
    return shift


# The loop bodies are made once and get all they need as state: JAX, run eagerly, compiles a loop
# for every new function it is given.
@functools.cache
def _step_of_soft_classes(normalize_gradient):
    """Moves `delta`, `(..., classes, classes)`."""

    def step(k, state):
        delta, labels, logits, member, rate, num_steps = state
        rest = residual(labels, logits + ops.matmul(labels, delta))
        gradient = ops.matmul(ops.swapaxes(member, -1, -2), rest)
        if normalize_gradient:
            gradient = unit_rows(gradient)
        delta = delta + ops.where(k < num_steps, rate, 0.0)[..., None] * gradient
        return delta, *state[1:]

    return step


@functools.cache
def _step_of_soft_rows(normalize_gradient):
    """Moves `Y delta`, `(rows, classes)`, by way of a `(rows, rows)` array."""

    def step(k, state):
        shift, labels, logits, member, rate, num_steps = state
        rest = residual(labels, logits + shift)
        factor = ops.where(k < num_steps, rate, 0.0)
        if normalize_gradient:
            # |g_c|^2 = m_c' (R R') m_c, so G itself is not needed. Rows and columns are scaled
            # by their largest entries, so that nothing underflows. The square loses digits where
            # the rows of a class all but cancel; labels of mixup or smoothing are far from that.
            size = ops.max(ops.abs(rest), axis=-1, keepdims=True)
            unit = divide_or_zero(rest, size)
            weight = member * size
            largest = ops.max(weight, axis=0)
            weight = divide_or_zero(weight, largest)
            gram = ops.matmul(unit, ops.transpose(unit))
            square = ops.sum(weight * ops.matmul(gram, weight), axis=0)
            factor = divide_or_zero(factor, largest * ops.sqrt(ops.maximum(square, 0.0)))
        shift = shift + ops.matmul(ops.matmul(labels * factor, ops.transpose(member)), rest)
        return shift, *state[1:]

    return step
