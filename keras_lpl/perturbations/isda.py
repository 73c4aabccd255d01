"""ISDA: `u_c + lambda / 2 * (w_c - w_y)' Sigma_y (w_c - w_y)`.

Wang et al.: "Implicit semantic data augmentation for deep networks", NeurIPS 2019, Eq. 7: an upper
bound of the cross-entropy of infinitely many copies of a sample, moved within its class's feature
distribution. `w_c` is the column of class `c` in the last layer's kernel, `Sigma_y` the running
covariance of the features of class `y`; `lambda = strength * t / T`.
"""

from keras import ops

from keras_lpl.core import checks
from keras_lpl._numerics import divide_or_zero, stack_rows, take_rows
from keras_lpl.layers.class_statistics import MANY_NUMBERS, RunningMoments, present_first
from keras_lpl.layers.cosine_dense import warn_of_cosine_head
from keras_lpl.perturbations.base import Perturbation, register

SCHEDULES = ("linear", None)
COVARIANCES = ("full", "diagonal")


@register
class ISDA(Perturbation):
    """Raises the logits of other classes by the spread of the sample's class towards them.

    Needs the features before the last layer, that layer's kernel, and covariances over the training
    set, so it trains in an `LPLModel` only. The covariances have each batch folded in before its
    loss is computed. They are constants for back-propagation; the kernel is not.

    Memory: `num_classes * num_features**2` numbers for full covariances, with 1,000 classes of
    2,048 features 16 GB; `num_classes * num_features` for diagonal ones. Time: proportional to the
    classes in the batch for full covariances, to the batch for diagonal ones.

    Args:
        strength: `lambda_0`. The authors use 0.5 on CIFAR, up to 10 on ImageNet.
        schedule: `"linear"`: `lambda` grows from 0 to `strength` over `fit`; None: constant.
        covariance: `"full"` or `"diagonal"`.

    Raises:
        ValueError: for an argument out of range, or, when called, outside of `LPLModel`.
    """

    def __init__(self, strength=0.5, schedule="linear", covariance="full"):
        self.strength = checks.number(strength, "strength", minimum=0)
        self.schedule = checks.one_of(schedule, "schedule", SCHEDULES)
        self.covariance = checks.one_of(covariance, "covariance", COVARIANCES)

    @property
    def needs(self):
        needs = ("features", "kernel", "statistics")
        return (*needs, "progress") if self.schedule == "linear" else needs

    @property
    def _statistic(self):
        return f"{self.covariance}_moments"

    def __call__(self, labels, logits, context):
        strength = self.strength
        if self.schedule == "linear":
            strength = strength * context.progress
        moments, kernel = context.statistics[self._statistic], context.kernel
        if self.covariance == "diagonal":
            spread = spread_of_diagonal(labels, kernel, moments.covariance)
        else:
            spread = spread_of_full(labels, kernel, moments.scatter, moments.count)
        return logits + 0.5 * strength * spread

    def check_head(self, layer):
        warn_of_cosine_head(self, layer)

    def create_statistics(self, num_classes, num_features):
        diagonal = self.covariance == "diagonal"
        return {self._statistic: RunningMoments(num_classes, num_features, diagonal=diagonal)}

    def get_config(self):
        return {
            "strength": self.strength,
            "schedule": self.schedule,
            "covariance": self.covariance,
        }


def spread_of_diagonal(labels, kernel, variance):
    """`(w_c - w_y)' diag(v_y) (w_c - w_y)`, `(batch, num_classes)`, without an array of three axes.

    Args:
        labels: Class indices `(batch,)` or soft labels `(batch, num_classes)`; these get the mean
            over their classes.
        kernel: `(num_features, num_classes)`.
        variance: `(num_classes, num_features)`. A constant.
    """
    variance = ops.stop_gradient(ops.convert_to_tensor(variance))
    columns = ops.transpose(kernel)
    own = ops.sum(variance * ops.square(columns), axis=-1, keepdims=True)
    square = ops.matmul(_of_samples(labels, variance), ops.square(kernel))
    cross = ops.matmul(_of_samples(labels, variance * columns), kernel)
    return square - 2 * cross + _of_samples(labels, own)


def spread_of_full(labels, kernel, scatter, count):
    """`(w_c - w_y)' Sigma_y (w_c - w_y)`, `(batch, num_classes)`, for the classes of the batch.

    With `Sigma = scatter / count`; what is linear in it is divided last.

    All classes at once if they are small, else those of the batch one after the other, so that no
    array is large.

    Args:
        labels: As in `spread_of_diagonal`.
        kernel: `(num_features, num_classes)`.
        scatter: `(num_classes, num_features, num_features)`, symmetric. A constant.
        count: `(num_classes, 1)`. A constant.
    """
    num_features, num_classes = kernel.shape
    count = ops.stop_gradient(ops.convert_to_tensor(count))
    if num_classes * num_features * max(num_features, num_classes) <= MANY_NUMBERS:
        spread = _spread_of_all(kernel, ops.stop_gradient(ops.convert_to_tensor(scatter)))
        return _of_samples(labels, divide_or_zero(spread, count))
    order, num_present = present_first(_is_present(labels, num_classes))
    num_slots = num_classes
    if len(labels.shape) == 1 and labels.shape[0] is not None:
        num_slots = min(num_classes, labels.shape[0])  # a batch has no more classes than samples
    spread = _spread_one_by_one(kernel, scatter, order[:num_slots], num_present)
    spread = divide_or_zero(spread, take_rows(count, order[:num_slots]))
    slot = ops.argsort(order)  # of each class; those that are absent have none, and are not read
    return _of_samples(labels, take_rows(spread, ops.minimum(slot, num_slots - 1)))


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
            row = take_rows(order, i)
            difference = columns - take_rows(columns, row)
            moved = difference @ ops.stop_gradient(take_rows(scatter, row))
            return ops.sum(difference * moved, axis=1), moved

        def spread_of_slot(i):
            return of_slot(i)[:1]

        spread, *kept = stack_rows(
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
                moved, above = of_slot(i)[1], take_rows(upstream, i)
                of_class = take_rows(order, i)[None]
                return total + _gradient_of_columns(moved[None], above[None], of_class)

            return ops.fori_loop(0, num_present, add, ops.zeros_like(columns))

        return spread, gradient

    # By rows that are not gathered, so that TensorFlow's gradient is not sparse.
    return of_slots(ops.transpose(kernel)) * 1.0


def _gradient_of_columns(moved, upstream, classes):
    """What is due to `w_c` less what is due to `w_k`.

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


def _is_present(labels, num_classes):
    """Which classes the batch has, `(num_classes,)`."""
    if len(labels.shape) == 2:
        return ops.any(labels > 0, axis=0)
    known = ops.maximum(labels, 0)
    return ops.segment_max(ops.ones_like(known), known, num_segments=num_classes) > 0


def _of_samples(labels, of_classes):
    """The row of each sample's class, `(batch, ...)`; the mean over its classes if it has many."""
    if len(labels.shape) == 2:
        return ops.matmul(ops.cast(labels, of_classes.dtype), of_classes)
    return take_rows(of_classes, ops.maximum(labels, 0))
