"""ISDA: `u_c + lambda / 2 * (w_c - w_y)' Sigma_y (w_c - w_y)`.

Wang et al.: "Implicit semantic data augmentation for deep networks", NeurIPS 2019, Eq. 7: an upper
bound of the cross-entropy of infinitely many copies of a sample, moved within its class's feature
distribution. `w_c` is the column of class `c` in the last layer's kernel, `Sigma_y` the running
covariance of the features of class `y`; `lambda = strength * t / T`.
"""

from keras import ops

from keras_lpl import _checks
from keras_lpl.layers.class_statistics import RunningMoments
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
    """`(w_c - w_y)' Sigma_y (w_c - w_y)`, `(batch, num_classes)`, one class of the batch at a time.

    Args:
        labels: As in `spread_of_diagonal`.
        kernel: `(num_features, num_classes)`.
        covariance: `(num_classes, num_features, num_features)`. A constant.
    """
    covariance = ops.stop_gradient(covariance)
    num_classes = kernel.shape[-1]
    classes = ops.arange(num_classes, dtype="int32")
    if len(labels.shape) == 2:
        present = ops.any(labels > 0, axis=0)
    else:
        present = ops.any(ops.equal(labels[:, None], classes), axis=0)

    # Differentiated by hand: automatic differentiation would keep the intermediate arrays of every
    # class until the backward pass.
    @ops.custom_gradient
    def of_classes(kernel):
        def difference(c):
            return kernel - ops.take(kernel, c, axis=1)[:, None]

        def of_class(inputs):
            c, is_present, sigma = inputs

            def spread():
                d = difference(c)
                return ops.sum(d * ops.matmul(sigma, d), axis=0)

            return ops.cond(is_present, spread, lambda: ops.zeros_like(kernel[0]))

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream

            def add_class(c, total):
                def with_class():
                    sigma = ops.take(covariance, c, axis=0)
                    moved = 2 * ops.matmul(sigma, difference(c)) * ops.take(upstream, c, axis=0)
                    back = ops.one_hot(c, num_classes, dtype=kernel.dtype)
                    return total + moved - ops.sum(moved, axis=1, keepdims=True) * back

                return ops.cond(ops.take(present, c), with_class, lambda: total)

            return ops.fori_loop(0, num_classes, add_class, ops.zeros_like(kernel))

        return ops.map(of_class, (classes, present, covariance)), gradient

    return _of_samples(labels, of_classes(kernel))


def _of_samples(labels, of_classes):
    """The row of each sample's class, `(batch, ...)`; the mean over its classes if it has many."""
    if len(labels.shape) == 2:
        return ops.matmul(ops.cast(labels, of_classes.dtype), of_classes)
    return ops.take(of_classes, ops.maximum(labels, 0), axis=0)
