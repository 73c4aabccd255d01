"""ISDA: `u_c + lambda / 2 * (w_c - w_y)' Sigma_y (w_c - w_y)`.

Wang et al.: "Implicit semantic data augmentation for deep networks", NeurIPS 2019, Eq. 7: an upper
bound of the cross-entropy of infinitely many copies of a sample, moved within its class's feature
distribution. `w_c` is the column of class `c` in the last layer's kernel, `Sigma_y` the running
covariance of the features of class `y`; `lambda = strength * t / T`.
"""

from keras import ops

from keras_lpl import _checks
from keras_lpl.layers.class_statistics import RunningMoments, classes_at_a_time
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
        self.strength = _checks.number(strength, "strength", minimum=0)
        self.schedule = _checks.one_of(schedule, "schedule", SCHEDULES)
        self.covariance = _checks.one_of(covariance, "covariance", COVARIANCES)

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
        covariance = ops.convert_to_tensor(context.statistics[self._statistic].covariance)
        spread = spread_of_diagonal if self.covariance == "diagonal" else spread_of_full
        return logits + 0.5 * strength * spread(labels, context.kernel, covariance)

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
    variance = ops.stop_gradient(variance)
    columns = ops.transpose(kernel)
    own = ops.sum(variance * ops.square(columns), axis=-1, keepdims=True)
    square = ops.matmul(_of_samples(labels, variance), ops.square(kernel))
    cross = ops.matmul(_of_samples(labels, variance * columns), kernel)
    return square - 2 * cross + _of_samples(labels, own)


def spread_of_full(labels, kernel, covariance):
    """`(w_c - w_y)' Sigma_y (w_c - w_y)`, `(batch, num_classes)`, for the classes of the batch.

    A few classes at a time, so that no array is large, and only those that are present.

    Args:
        labels: As in `spread_of_diagonal`.
        kernel: `(num_features, num_classes)`.
        covariance: `(num_classes, num_features, num_features)`. A constant.
    """
    covariance = ops.stop_gradient(covariance)
    num_features, num_classes = kernel.shape
    chunk = min(num_classes, classes_at_a_time(num_features, num_features, num_classes))
    order, slot, num_present = _present_first(labels, num_classes, chunk)
    num_chunks = (num_present + chunk - 1) // chunk

    # Differentiated by hand: automatic differentiation would keep the intermediate arrays of every
    # class until the backward pass, and does not take loops of unknown length.
    @ops.custom_gradient
    def of_slots(kernel):
        def differences(i):
            """`d_kc = w_c - w_k` and `Sigma_k d_kc`, both `(chunk, num_features, num_classes)`."""
            classes = ops.slice(order, (i * chunk,), (chunk,))
            sigma = ops.take(covariance, classes, axis=0)
            # As one product of two matrices, which is faster than many small ones.
            rows = ops.reshape(sigma, (chunk * num_features, num_features))
            moved = ops.reshape(ops.matmul(rows, kernel), (chunk, num_features, num_classes))
            own = ops.transpose(ops.take(kernel, classes, axis=1))[:, :, None]
            moved_own = ops.take_along_axis(moved, classes[:, None, None], axis=2)
            return classes, kernel[None] - own, moved - moved_own

        def add_spread(i, spread):
            _, difference, moved = differences(i)
            return ops.slice_update(spread, (i * chunk, 0), ops.sum(difference * moved, axis=1))

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream

            def add_gradient(i, total):
                classes, _, moved = differences(i)
                weight = ops.slice(upstream, (i * chunk, 0), (chunk, num_classes))
                moved = 2 * moved * weight[:, None, :]
                own = ops.one_hot(classes, num_classes, dtype=kernel.dtype)
                back = ops.matmul(ops.transpose(ops.sum(moved, axis=2)), own)
                return total + ops.sum(moved, axis=0) - back

            return ops.fori_loop(0, num_chunks, add_gradient, ops.zeros_like(kernel))

        start = ops.zeros((order.shape[0], num_classes), dtype=kernel.dtype)
        return ops.fori_loop(0, num_chunks, add_spread, start), gradient

    of_classes = ops.take(of_slots(kernel), slot, axis=0)
    return _of_samples(labels, of_classes)


def _present_first(labels, num_classes, chunk):
    """Orders the classes, those of the batch first, in whole chunks.

    Returns:
        `(order, slot, num_present)`: class of each slot, `(slots,)`, filled up with the last class;
        slot of each class, `(num_classes,)`; and how many classes the batch has.
    """
    classes = ops.arange(num_classes, dtype="int32")
    if len(labels.shape) == 2:
        present = ops.any(labels > 0, axis=0)
    else:
        known = ops.maximum(labels, 0)
        present = ops.segment_max(ops.ones_like(known), known, num_segments=num_classes) > 0
    order = ops.argsort(ops.where(present, classes, classes + num_classes))
    order = ops.cast(order, "int32")
    slot = ops.cast(ops.argsort(order), "int32")
    fill = ops.full((-num_classes % chunk,), num_classes - 1, dtype="int32")
    num_present = ops.sum(ops.cast(present, "int32"))
    return ops.concatenate([order, fill]), slot, num_present


def _of_samples(labels, of_classes):
    """The row of each sample's class, `(batch, ...)`; the mean over its classes if it has many."""
    if len(labels.shape) == 2:
        return ops.matmul(ops.cast(labels, of_classes.dtype), of_classes)
    return ops.take(of_classes, ops.maximum(labels, 0), axis=0)
