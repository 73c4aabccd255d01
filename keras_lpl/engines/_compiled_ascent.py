"""Algorithm 2 of LPL where code is compiled: on JAX and TensorFlow.

`step_of_groups` is a single step, and `shift_of_classes` the paper's loop. In the loop each row has
the `delta` of its class beside it, so arrays have as many rows as the batch, however many classes
there are. The rows of the classes with the most steps come first, and the loop goes on with ever
fewer rows, as most classes are done long before the last one. PyTorch, which runs each operation as
it is met, has functions of its own in `_torch_ascent`.
"""

import functools
from collections.abc import Callable

from keras import ops

from keras_lpl.core.numerics import SCALE, TINY, divide_or_zero, mean_of_sum
from keras_lpl.core.typing import Tensor

# The loop goes on with these shares of the rows, one after the other. More of them would do less
# work, and take longer to compile.
_SHARES = (1, 2, 8)
_FEWEST_ROWS = 8

# A step multiplies probabilities by up to `exp(step)`, which must not overflow. Nothing is clipped
# where `step_size` is known to be small; a gradient has up to length sqrt(2).
_LARGEST_STEP = 80.0
_SHORT_STEP = 50.0


def make_shift_of_classes(take_rows: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Makes `shift_of_classes` from a backend's `take_rows`."""

    def shift_of_classes(
        logits, labels, group, direction, num_steps, step_size, normalize_gradient, weight
    ):
        """Algorithm 2 for class indices.

        Args:
            logits: `(rows, classes)`, finite.
            labels: int32 `(rows,)`, within `[0, classes)`.
            group: int32 `(rows,)`: rows of one group move together.
            direction: `(groups,)` of +1 and -1.
            num_steps: int32 `(groups,)`.
            step_size: A number, or a tensor `(groups,)`.
            normalize_gradient: Take steps of unit length.
            weight: `(rows,)`, 0 for rows that take no part.

        Returns:
            Shift of each row, `(rows, classes)`.
        """
        groups, classes = direction.shape[0], logits.shape[-1]
        total = ops.segment_sum(weight, group, num_segments=groups)
        steps = ops.where(take_rows(total, group) > 0, take_rows(num_steps, group), 0)
        share = divide_or_zero(weight, take_rows(total, group))  # of a row in its group

        order = ops.argsort(-steps)
        group = take_rows(group, order)
        rows = ops.arange(ops.shape(logits)[0], dtype="int32")
        # The first row of each group stands for it: it stays as long as any row of the group.
        first = -ops.segment_max(-rows, group, num_segments=groups)
        own = take_rows(labels, order)[:, None]
        samples = {
            "logits": take_rows(logits, order),
            "row": take_rows(first, group),
            "share": take_rows(share, order)[:, None],
            "is_own": ops.equal(own, ops.arange(classes, dtype="int32")),
            "rate": take_rows(direction * step_size, group)[:, None],
            "steps": take_rows(steps, order)[:, None],
        }
        is_short = isinstance(step_size, (int, float)) and step_size <= _SHORT_STEP
        delta = _loop(samples, _make_step(take_rows, bool(normalize_gradient), is_short))
        # Back in place.
        return ops.segment_sum(delta, order, num_segments=ops.shape(logits)[0])

    return shift_of_classes


def make_step_of_groups(
    take_rows: Callable[..., Tensor], sum_of_groups: Callable[..., Tensor]
) -> Callable[..., Tensor]:
    """Makes `step_of_groups` from two functions of a backend."""

    def step_of_groups(logits, labels, group, num_groups, rate, normalize_gradient, weight):
        """One step of Algorithm 2 for class indices.

        Args:
            logits: `(rows, classes)`, finite.
            labels: int32 `(rows,)`, within `[0, classes)`.
            group: int32 `(rows,)`: rows of one group move together.
            num_groups: Number of groups.
            rate: `(num_groups,)`, the length of the step, below 0 downhill.
            normalize_gradient: Take a step of unit length times the rate.
            weight: `(rows,)`, 0 for rows that take no part.

        Returns:
            Shift of each row, `(rows, classes)`.
        """
        classes = ops.arange(logits.shape[-1], dtype="int32")
        others = ops.where(labels[:, None] == classes, 0.0, ops.softmax(logits, axis=-1))
        # Scaled, as squares would underflow; of the mean, as those of a sum would overflow.
        scale = SCALE if normalize_gradient else 1.0
        total = sum_of_groups(others * (weight * scale)[:, None], group, num_groups)
        of_group = sum_of_groups(weight, group, num_groups)
        mean = mean_of_sum(total, of_group[:, None])
        # p - 1 would lose all digits of a small 1 - p: it is minus the sum of all others.
        is_own = ops.segment_max(labels, group, num_segments=num_groups)[:, None] == classes
        mean = ops.where(is_own, -ops.sum(mean, axis=-1, keepdims=True), mean)  # Eq. 16
        if normalize_gradient:
            rate = rate / ops.sqrt(ops.sum(mean * mean, axis=-1) + TINY)
        return take_rows(mean * rate[:, None], group)  # Eq. 17

    return step_of_groups


def _loop(samples, step):
    """`delta` of each sample, by loops over ever smaller, fixed numbers of rows."""
    logits, steps, is_own = samples["logits"], samples["steps"], samples["is_own"]
    batch = ops.shape(logits)[0]
    columns = [samples[key] for key in ("rate", "steps", "row", "share")]
    probability = ops.softmax(logits, axis=-1)
    own_probability = _sum(ops.where(is_own, probability, 0.0))
    state = [ops.where(is_own, 0.0, probability), own_probability]
    state += [ops.zeros_like(logits), ops.zeros_like(own_probability)]
    done, start = [], 0
    sizes = _numbers_of_rows(batch if logits.shape[0] is None else logits.shape[0])
    for size, next_size in zip(sizes, [*sizes[1:], 0], strict=True):
        # Every row from `next_size` on has finished when this one has.
        end = steps[ops.minimum(next_size, batch - 1), 0]
        rows = (*state, *(column[:size] for column in columns))
        state = list(ops.fori_loop(start, end, step, rows)[:4])
        delta, own_delta = (part[next_size:] for part in state[2:])
        done.append(ops.where(is_own[next_size:size], own_delta, delta))
        state, start = [part[:next_size] for part in state], end
    return ops.concatenate(done[::-1], axis=0)


def _numbers_of_rows(batch):
    """Numbers of rows that the loop goes on with: all of them, half, an eighth."""
    if isinstance(batch, int):
        return [batch // share for share in _SHARES if share == 1 or batch // share >= _FEWEST_ROWS]
    # TensorFlow may not know while it traces.
    return [ops.maximum(batch // share, 1) for share in _SHARES]


# The loop bodies are made once and get all they need as state: JAX, run eagerly, compiles a loop
# for every new function it is given.
@functools.cache
def _make_step(take_rows, normalize_gradient, is_short):
    """One step of every row's class: Eqs. 16 and 17.

    The state has the probabilities `softmax(u + delta)`, but for a factor: a step multiplies them
    by `exp(step)`. That spares the loop from taking more than one exponential of each number. What
    belongs to a row's own class is kept apart, `(rows, 1)`, with 0 in its place.
    """

    def sums(x, row):
        """Each row's sum over the rows of its group, which `row` stands for."""
        return take_rows(ops.segment_sum(x, row, num_segments=ops.shape(x)[0]), row)

    def grow(odds, move):
        return odds * ops.exp(move if is_short else ops.clip(move, -_LARGEST_STEP, _LARGEST_STEP))

    def step(k, state):
        odds, own_odds, delta, own_delta, rate, steps, row, share = state
        others = _sum(odds)
        scale = 1 / (others + own_odds)
        weight = scale * share * (SCALE if normalize_gradient else 1.0)
        gradient = sums(odds * weight, row)
        # p - 1 would lose all digits of a small 1 - p: it is minus the sum of all others.
        own_gradient = -sums(others * weight, row)
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
