"""One batch from the parts that several replicas hold.

LPL pushes a class by its rows in the whole batch, and a running statistic is of the whole batch
too. Where replicas train in step (a `tf.distribute` strategy, an initialised `torch.distributed`
group), the rows of all are gathered once, before the loss, and each replica computes the loss of
the batch:

    value       the same on each replica: Keras's own reduction sees all rows, whoever holds them
    statistics  each replica folds in the same rows, so all keep the same numbers
    gradient    of the replica's own rows, times the number of replicas: the mean over replicas,
                which Keras and PyTorch's DDP take, then is the gradient of the loss of the batch

What is no row, such as the last layer's kernel, has the gradient of the batch on each replica, and
the mean leaves it as it is. On JAX arrays are global, and nothing is gathered. With one replica
nothing is done.
"""

import math
from collections.abc import Callable

from keras import ops

from keras_lpl import engines
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor

_OF_ROWS = ("logits", "labels", "weight", "is_bad", "is_counted", "features")


def gather(
    samples: Samples, weight: Tensor | None, gradient_scale: float | None
) -> tuple[Samples, Tensor | None, Callable[[Tensor], Tensor]]:
    """The batch of all replicas.

    Args:
        samples: This replica's part, which may be empty.
        weight: Weights of its losses, in `samples.shape`; or None, on every replica.
        gradient_scale: Factor on the gradient that flows back to this replica's part; None for the
            sum of all replicas' gradients, where each goes on with the losses of its own part.

    Returns:
        `(samples, weight, own)`: the batch, whose losses are `(positions,)`; their weights, in the
        same shape; and a function that picks this replica's losses from those of the batch, in the
        shape of its output.
    """
    problems = samples.num_problems or 1
    dtype = samples.logits.dtype
    given = {name: getattr(samples, name) for name in _OF_ROWS}
    if samples.is_bad is None:  # another replica may have a bad row
        given["is_bad"] = ops.zeros_like(samples.weight)
    given["weight_of_losses"] = None if weight is None else ops.reshape(weight, (-1,))
    given = {name: x for name, x in given.items() if x is not None}
    # One matrix with a row for each loss. It holds labels exactly: float32 does up to 2^24, and no
    # memory has logits of that many classes.
    columns = []
    for name, x in given.items():
        width = math.prod(x.shape[1:]) * (1 if name == "weight_of_losses" else problems)
        columns.append(ops.reshape(ops.cast(x, dtype), (-1, width)))
    packed, first = engines.gather_rows(ops.concatenate(columns, axis=-1), gradient_scale)

    found, start = {}, 0
    for (name, x), column in zip(given.items(), columns, strict=True):
        end = start + column.shape[-1]
        found[name] = ops.reshape(packed[:, start:end], (-1, *x.shape[1:]))
        start = end
    weight = found.pop("weight_of_losses", None)
    for name in ("is_bad", "is_counted"):
        if name in found:
            found[name] = found[name] > 0.5
    if not samples.has_soft_labels:
        found["labels"] = ops.cast(found["labels"], engines.INDEX_DTYPE)
    if samples.problem is not None:
        rows = ops.shape(found["logits"])[0]
        found["problem"] = ops.mod(ops.arange(rows, dtype=engines.INDEX_DTYPE), problems)
    positions = ops.shape(packed)[0]

    def own(losses):
        size = ops.shape(columns[0])[0]
        return ops.reshape(losses[first : first + size], samples.shape)

    return samples.replace(shape=(positions,), **found), weight, own
