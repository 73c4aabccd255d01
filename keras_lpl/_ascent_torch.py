"""The loop of Algorithm 2 on PyTorch, with exactly the rows that still move.

Where each operation is run as it is met, its size costs little and its call costs much. So what
concerns indices is done in NumPy, and a step is as few of PyTorch's operations as it can be.
"""

import math

import numpy as np
import torch

from keras_lpl._numerics import SCALE, TINY

# Class means of so many rows are taken by a matrix product, of more by sums over segments.
_MOST_ROWS_OF_MATRIX = 512

# Rows that have finished are multiplied by zero until no more than this share is left.
_SHRINK = 0.75


@torch.compiler.disable  # its operations follow the labels, so there is nothing to trace
@torch.no_grad()
def shift_of_classes(labels, logits, direction, num_steps, step_size, normalize_gradient, weight):
    """As `_ascent.shift_of_classes`."""
    known, steps, share = _samples(labels, num_steps, weight)
    order = np.argsort(-steps, kind="stable")
    moving = order[: np.count_nonzero(steps)]

    def tensor(array, dtype=logits.dtype):
        return torch.as_tensor(array, dtype=dtype, device=logits.device)

    rows = tensor(moving, torch.int64)
    delta = _loop(
        logits[rows],
        known[moving],
        steps[moving],
        share[moving],
        step_size * direction[tensor(known[moving], torch.int64)][:, None],
        normalize_gradient,
        tensor,
    )
    shift = torch.zeros_like(logits)
    shift[rows] = delta
    return shift.masked_fill_(labels[:, None] < 0, math.nan)


def _samples(labels, num_steps, weight):
    """Of each sample: its class (0 where it has none), number of steps, share in its class."""
    known = np.maximum(labels.cpu().numpy(), 0)
    weight = weight.cpu().numpy()
    total = np.bincount(known, weight)[known]
    steps = np.where(total > 0, num_steps.cpu().numpy()[known], 0)
    return known, steps, np.divide(weight, total, out=np.zeros_like(total), where=total > 0)


@torch.inference_mode()  # a tenth faster than no_grad
def _loop(logits, known, steps, share, rate, normalize_gradient, tensor):
    """`delta` of each row; `steps` falls from row to row.

    Args:
        logits: `(rows, num_classes)`.
        known: NumPy, `(rows,)`, the class of each row.
        steps: NumPy, `(rows,)`.
        share: NumPy, `(rows,)`, of a row in its class.
        rate: `(rows, 1)`.
        normalize_gradient: Whether steps have unit length.
        tensor: Makes a tensor of an array.
    """
    scale = SCALE if normalize_gradient else 1.0
    is_true = torch.zeros_like(logits).scatter_(1, tensor(known, torch.int64)[:, None], 1.0)
    is_other = scale * (1 - is_true)
    class_means = _class_means(known, share, tensor)
    delta, start = torch.zeros_like(logits), 0
    for num_rows, ends in _stages(steps):
        parts = (delta, logits, is_true, is_other, rate)
        moved, fixed, true, other, length = (part[:num_rows] for part in parts)
        means = class_means(num_rows)
        for end in ends:
            for _ in range(start, end):
                # Eq. 16. p - 1 would lose all digits of a small 1 - p: it is minus all others.
                gradient = torch.softmax(fixed + moved, dim=-1).mul_(other)
                total = gradient.sum(dim=-1, keepdim=True)
                gradient = means(gradient.addcmul_(total, true, value=-1))
                if normalize_gradient:
                    norm = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
                    moved.addcmul_(gradient, length / norm.clamp_(min=TINY**0.5))  # Eq. 17
                else:
                    moved.addcmul_(gradient, length)
            length[np.count_nonzero(steps > end) :] = 0.0
            start = end
    return delta


def _stages(steps):
    """With how many rows to go on, and then at which steps some of them have finished."""
    num_rows, ends = None, []
    for end in np.unique(steps):
        moving = np.count_nonzero(steps >= end)
        if ends and moving < _SHRINK * num_rows:
            yield num_rows, ends
            ends = []
        if not ends:
            num_rows = moving
        ends.append(end)
    if ends:
        yield num_rows, ends


def _class_means(known, share, tensor):
    """Means over the rows of a class.

    Returns:
        `means(num_rows)`, which returns a function of `(num_rows, num_classes)`, the first rows,
        that gives each row the mean over the rows of its class.
    """
    _, first, row, count = np.unique(
        known, return_index=True, return_inverse=True, return_counts=True
    )
    alone = np.argmax(count[row] > 1) if count.max(initial=0) > 1 else len(known)
    most = _MOST_ROWS_OF_MATRIX
    matrix = tensor(np.where(known[:most, None] == known[:most], share[:most], 0.0))
    row, share = tensor(row, torch.int64), tensor(share)[:, None]

    def means(num_rows):
        if num_rows <= alone:
            return lambda x: x
        if num_rows <= most:
            of_rows = matrix[:num_rows, :num_rows]
            return lambda x: of_rows @ x
        rows, shares = row[:num_rows], share[:num_rows]
        zeros = matrix.new_zeros((len(first), 1))
        return lambda x: zeros.repeat(1, x.shape[-1]).index_add_(0, rows, shares * x)[rows]

    return means
