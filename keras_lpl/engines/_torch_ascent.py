"""Algorithm 2 of LPL on PyTorch: a single step, and the loop with exactly the rows that still move.

Where each operation is run as it is met, its size costs little and its call costs much. So a step
is as few of PyTorch's operations as it can be, and the loop's indices are worked out in NumPy.
"""

from typing import Any

import numpy as np
import torch

from keras_lpl.core.numerics import SCALE, TINY
from keras_lpl.core.typing import Tensor
from keras_lpl.engines._torch_constants import are_ones

# Class means of so many rows are taken by a matrix product, of more by sums over segments.
_MOST_ROWS_OF_MATRIX = 512

# Rows that have finished are multiplied by zero until no more than this share is left.
_SHRINK = 0.75


@torch.no_grad()
def step_of_groups(
    logits: Tensor,
    labels: Tensor,
    group: Tensor,
    num_groups: int,
    rate: Tensor,
    normalize_gradient: bool,
    weight: Tensor,
) -> Tensor:
    """One step of Algorithm 2 for class indices; see `_compiled_ascent`."""
    own = labels.long()[:, None]
    # p - 1 would lose all digits of a small 1 - p: it is minus the sum of all others.
    gradient = torch.softmax(logits, dim=-1).scatter_(1, own, 0.0)
    gradient.scatter_(1, own, gradient.sum(dim=-1, keepdim=True).neg_())
    of_group = weight.new_zeros(num_groups).index_add_(0, group, weight)
    # Scaled, as squares would underflow; of the mean, as those of a sum would overflow.
    scale = SCALE if normalize_gradient else 1.0
    mean = gradient.new_zeros((num_groups, gradient.shape[-1]))
    if are_ones(weight):
        mean.index_add_(0, group, gradient)  # Eq. 16
        mean.div_(of_group.clamp_(min=1.0).div_(scale)[:, None])
    else:
        share = weight / (of_group + TINY).index_select(0, group)
        mean.index_add_(0, group, gradient.mul_((share * scale)[:, None]))
    if normalize_gradient:
        rate = rate / torch.linalg.vector_norm(mean, dim=-1).clamp_(min=TINY**0.5)
    mean.mul_(rate[:, None])
    # In memory that is at hand: new memory of this size takes longer to get than to fill.
    return torch.index_select(mean, 0, group, out=gradient)  # Eq. 17


@torch.compiler.disable  # its operations follow the labels, so there is nothing to trace
@torch.no_grad()
def shift_of_classes(
    logits: Tensor,
    labels: Any,
    group: Tensor,
    direction: Tensor,
    num_steps: Tensor,
    step_size: Tensor,
    normalize_gradient: bool,
    weight: Tensor,
) -> Tensor:
    """Algorithm 2 for class indices; see `_compiled_ascent`."""

    def tensor(array, dtype=logits.dtype):
        return torch.as_tensor(array, dtype=dtype, device=logits.device)

    group, steps, share = _rows_of_groups(group, num_steps, weight)
    order = np.argsort(-steps, kind="stable")
    moving = order[: np.count_nonzero(steps)]
    rows = tensor(moving, torch.int64)
    of_groups = tensor(group[moving], torch.int64)
    is_number = isinstance(step_size, (int, float))
    delta = _loop(
        logits[rows],
        labels[rows].long(),
        group[moving],
        steps[moving],
        share[moving],
        direction[of_groups][:, None],
        float(step_size) if is_number else step_size[of_groups][:, None],
        normalize_gradient,
        tensor,
    )
    shift = torch.zeros_like(logits)
    shift[rows] = delta
    return shift


def _rows_of_groups(group, num_steps, weight):
    """Of each row: its group, its number of steps, and its share in the group's weight."""
    group = group.cpu().numpy()
    weight = weight.cpu().numpy()
    total = np.bincount(group, weight)[group]
    steps = np.where(total > 0, num_steps.cpu().numpy()[group], 0)
    return group, steps, np.divide(weight, total, out=np.zeros_like(total), where=total > 0)


@torch.inference_mode()  # a tenth faster than no_grad
def _loop(logits, labels, group, steps, share, direction, step_size, normalize_gradient, tensor):
    """`delta` of each row; `steps` falls from row to row.

    Args:
        logits: `(rows, num_classes)`.
        labels: int64 `(rows,)`.
        group: NumPy, `(rows,)`, the group of each row.
        steps: NumPy, `(rows,)`.
        share: NumPy, `(rows,)`, of a row in its group.
        direction: `(rows, 1)`.
        step_size: A number, or `(rows, 1)`.
        normalize_gradient: Take steps of unit length.
        tensor: Makes a tensor of an array.
    """
    is_true = torch.zeros_like(logits).scatter_(1, labels[:, None], 1.0)
    # The direction, too, where each probability is multiplied anyway.
    is_other = (1 - is_true).mul_(direction * (SCALE if normalize_gradient else 1.0))
    if isinstance(step_size, torch.Tensor):
        length, step_size = step_size, 1.0
        if not normalize_gradient:
            is_other.mul_(length)
    else:
        length = None
    class_means = _class_means(group, share, tensor)
    delta, start = torch.zeros_like(logits), 0
    for num_rows, ends in _stages(steps):
        parts = (delta, logits, is_true, is_other)
        moved, fixed, true, other = (part[:num_rows] for part in parts)
        means = class_means(num_rows)
        for end, num_left in ends:
            for _ in range(start, end):
                # Eq. 16. p - 1 would lose all digits of a small 1 - p: it is minus all others.
                gradient = torch.softmax(fixed + moved, dim=-1).mul_(other)
                total = gradient.sum(dim=-1, keepdim=True)
                gradient = means(gradient.addcmul_(total, true, value=-1))
                if normalize_gradient:
                    norm = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
                    norm.clamp_(min=TINY**0.5)
                    if length is not None:
                        norm.div_(length[:num_rows])
                    moved.addcdiv_(gradient, norm, value=step_size)  # Eq. 17
                else:
                    moved.add_(gradient, alpha=step_size)
            other[num_left:] = 0.0  # these rows stay where they are
            start = end
    return delta


def _stages(steps):
    """Numbers of rows to go on with, and the steps after which some have finished.

    Yields:
        `(num_rows, [(end, num_left), ...])`: the first `num_rows` rows go on until the last `end`,
        and after each `end` the first `num_left` of them are left.
    """
    ends, counts = np.unique(steps, return_counts=True)
    num_left = len(steps) - np.cumsum(counts)
    num_rows = len(steps)
    stage: list[tuple[int, int]] = []
    for end, count, left in zip(ends.tolist(), counts.tolist(), num_left.tolist(), strict=True):
        if stage and left + count < _SHRINK * num_rows:
            yield num_rows, stage
            num_rows, stage = left + count, []
        stage.append((end, left))
    if stage:
        yield num_rows, stage


def _class_means(group, share, tensor):
    """Means over the rows of a group.

    Returns:
        `means(num_rows)`, which returns a function of `(num_rows, num_classes)`, the first rows,
        that gives each row the mean over the rows of its group.
    """
    has_others = np.bincount(group)[group] > 1 if len(group) else np.zeros(0, bool)
    alone = np.argmax(has_others) if has_others.any() else len(group)
    most = _MOST_ROWS_OF_MATRIX
    matrix = tensor(np.where(group[:most, None] == group[:most], share[:most], 0.0))
    if len(group) > most:
        present, row = np.unique(group, return_inverse=True)
        row, shares = tensor(row, torch.int64), tensor(share)[:, None]

    def means(num_rows):
        if num_rows <= alone:
            return lambda x: x
        if num_rows <= most:
            of_rows = matrix[:num_rows, :num_rows]
            return lambda x: of_rows @ x
        to, part = row[:num_rows], shares[:num_rows]
        zeros = matrix.new_zeros((len(present), 1))
        return lambda x: zeros.repeat(1, x.shape[-1]).index_add_(0, to, part * x)[to]

    return means
