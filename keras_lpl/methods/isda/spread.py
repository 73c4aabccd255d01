"""The spread of ISDA: `(w_c - w_y)' Sigma_y (w_c - w_y)` of each row and class."""

from keras import ops

from keras_lpl import engines
from keras_lpl.core.numerics import divide_or_zero
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor
from keras_lpl.methods.isda.moments import MANY_NUMBERS, present_first


def spread_of_diagonal(samples: Samples, kernel: Tensor, variance: Tensor) -> Tensor:
    """`(w_c - w_y)' diag(v_y) (w_c - w_y)`, `(rows, classes)`, without an array of three axes.

    Args:
        samples: The batch. Soft labels get the mean over their classes.
        kernel: `(features, classes)`.
        variance: `(classes, features)`.
    """
    columns = ops.transpose(kernel)
    own = ops.sum(variance * ops.square(columns), axis=-1, keepdims=True)
    square = ops.matmul(_of_own_class(samples, variance), ops.square(kernel))
    cross = ops.matmul(_of_own_class(samples, variance * columns), kernel)
    return square - 2 * cross + _of_own_class(samples, own)


def spread_of_learnt(samples: Samples, kernel: Tensor, covariance: Tensor) -> Tensor:
    """The same as `spread_of_full`, where gradients of gradients flow to the covariance as well.

    Args:
        samples: As in `spread_of_diagonal`.
        kernel: `(features, classes)`.
        covariance: `(classes, features, features)`.
    """
    difference = kernel[None] - ops.transpose(kernel)[:, :, None]
    spread = ops.sum(difference * ops.matmul(covariance, difference), axis=1)
    return _of_own_class(samples, spread)


def spread_of_full(samples: Samples, kernel: Tensor, scatter: Tensor, count: Tensor) -> Tensor:
    """`(w_c - w_y)' Sigma_y (w_c - w_y)`, `(rows, classes)`, for the classes of the batch.

    With `Sigma = scatter / count`; what is linear in it is divided last.

    All classes at once if they are small, else those of the batch one after the other, so that no
    array is large.

    Args:
        samples: As in `spread_of_diagonal`.
        kernel: `(features, classes)`.
        scatter: `(classes, features, features)`, symmetric. A constant.
        count: `(classes, 1)`. A constant.
    """
    num_features, num_classes = kernel.shape
    count = ops.stop_gradient(ops.convert_to_tensor(count))
    if num_classes * num_features * max(num_features, num_classes) <= MANY_NUMBERS:
        spread = _spread_of_all(kernel, ops.stop_gradient(ops.convert_to_tensor(scatter)))
        return _of_own_class(samples, divide_or_zero(spread, count))
    order, num_present = present_first(_is_present(samples))
    num_slots = num_classes
    if not samples.has_soft_labels and samples.labels.shape[0] is not None:
        num_slots = min(num_classes, samples.labels.shape[0])  # no more classes than rows
    spread = _spread_one_by_one(kernel, scatter, order[:num_slots], num_present)
    spread = divide_or_zero(spread, engines.take_rows(count, order[:num_slots]))
    # The slot of each class; those that are absent have none, and are not read.
    slot = ops.minimum(ops.argsort(order), num_slots - 1)
    if samples.has_soft_labels:
        return _of_own_class(samples, engines.take_rows(spread, slot))
    # The slots of the rows first: all classes beside all classes would be the largest array here.
    return engines.take_rows(spread, engines.take_rows(slot, samples.labels))


# Both forms are differentiated by hand: automatic differentiation would keep several arrays of
# every class until the backward pass, and does not know that a scatter matrix is symmetric: the
# gradient of `d' S d` is `2 S d`, and `S d` is at hand.


def _spread_of_all(kernel, scatter):
    """`(num_classes, num_classes)`: row `k` with the matrix of class `k`."""
    num_features, num_classes = kernel.shape
    classes = ops.arange(num_classes, dtype="int32")

    @ops.custom_gradient
    def of_classes(kernel):
        # As one product of two matrices, which is faster than many small ones.
        rows = ops.reshape(scatter, (num_classes * num_features, num_features))
        moved = ops.reshape(ops.matmul(rows, kernel), (num_classes, num_features, num_classes))
        moved = moved - ops.take_along_axis(moved, classes[:, None, None], axis=2)
        difference = kernel[None] - ops.transpose(kernel)[:, :, None]

        def gradient(*args, upstream=None):
            upstream = ops.convert_to_tensor(args[0] if upstream is None else upstream)
            weighted = moved * upstream[:, None, :]
            # What is due to `w_c` less what is due to `w_k`.
            own = ops.transpose(ops.sum(weighted, axis=2))
            return 2 * (ops.sum(weighted, axis=0) - own)

        return ops.sum(difference * moved, axis=1), gradient

    # By rows that are not gathered, so that TensorFlow's gradient is not sparse.
    return of_classes(kernel) * 1.0


def _spread_one_by_one(kernel, scatter, order, num_present):
    """The rows of `_spread_of_all` for the first `num_present` classes of `order`; 0 beyond."""
    num_features, num_classes = kernel.shape
    num_slots = order.shape[0]
    shapes = ((num_classes,), (num_classes, num_features))
    # `S_k d` is kept for the backward pass unless that takes more than the matrices do.
    keep = num_slots <= max(num_features, MANY_NUMBERS // (num_features * num_classes))

    @ops.custom_gradient
    def of_slots(columns):
        def of_slot(i):
            row = engines.take_rows(order, i)
            difference = columns - engines.take_rows(columns, row)
            moved = difference @ ops.stop_gradient(engines.take_rows(scatter, row))
            return ops.sum(difference * moved, axis=1), moved

        def spread_of_slot(i):
            return of_slot(i)[:1]

        spread, *kept = engines.stack_rows(
            of_slot if keep else spread_of_slot,
            num_slots,
            num_present,
            shapes if keep else shapes[:1],
            columns.dtype,
        )

        def gradient(*args, upstream=None):
            upstream = ops.convert_to_tensor(args[0] if upstream is None else upstream)
            if keep:
                return _gradient_of_columns(kept[0], upstream, order)

            def add(i, total):
                moved, above = of_slot(i)[1], engines.take_rows(upstream, i)
                of_class = engines.take_rows(order, i)[None]
                return total + _gradient_of_columns(moved[None], above[None], of_class)

            return ops.fori_loop(0, num_present, add, ops.zeros_like(columns))

        return spread, gradient

    # By rows that are not gathered, so that TensorFlow's gradient is not sparse.
    return of_slots(ops.transpose(kernel)) * 1.0


def _gradient_of_columns(moved, upstream, classes):
    """The part due to `w_c` less the part due to `w_k`.

    Args:
        moved: `S_k (w_c - w_k)`, `(k, num_classes, num_features)`.
        upstream: Gradient of the spread, `(k, num_classes)`.
        classes: Which classes these `k` are, int32 `(k,)`.

    Returns:
        `(num_classes, num_features)`.
    """
    total = ops.sum(moved * upstream[:, :, None], axis=0)
    of_class = ops.matmul(upstream[:, None, :], moved)[:, 0]
    own = ops.one_hot(classes, moved.shape[1], dtype=moved.dtype)
    return 2 * (total - ops.matmul(ops.transpose(own), of_class))


def _is_present(samples):
    """Mask of the classes that the batch has, `(classes,)`."""
    if samples.has_soft_labels:
        return ops.any(samples.labels > 0, axis=0)
    ones = ops.ones_like(samples.labels)
    return ops.segment_max(ones, samples.labels, num_segments=samples.num_classes) > 0


def _of_own_class(samples, of_classes):
    """`samples.of_own_class`, in the precision of `of_classes`."""
    if samples.has_soft_labels:
        return ops.matmul(ops.cast(samples.labels, of_classes.dtype), of_classes)
    return engines.take_rows(of_classes, samples.labels)
