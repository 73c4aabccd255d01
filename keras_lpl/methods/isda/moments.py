"""Running mean and covariance of the features of each class.

The update is the one part of ISDA that costs time, so it is written for speed: `RunningMoments`
says what it computes.
"""

from typing import Any

from keras import ops

from keras_lpl import engines
from keras_lpl.core.numerics import divide_or_zero
from keras_lpl.core.samples import Samples
from keras_lpl.core.statistics import RunningStatistic
from keras_lpl.core.typing import Tensor

# Samples of a class whose products are taken at a time.
_WINDOW = 4
_WINDOW_OF_SOFT_LABELS = 32

# All classes are worked on at once while their arrays have no more numbers than this, which fits
# into a processor's cache; else one at a time.
MANY_NUMBERS = 2**20


class RunningMoments(RunningStatistic):
    """Mean and covariance of the features of each class over all samples seen.

    Kept as the mean and the scatter matrix, the sum of `(x - mean)(x - mean)'`, so that a sample
    adds to its class's matrix and nothing has to be scaled. A batch of `n_b` samples joins the `N`
    seen before (Chan, Golub, LeVeque, 1979; the same as Eqs. 1-2 of ISDA, Wang et al., NeurIPS
    2019, for `covariance = scatter / N`):

        w = n_b / (n_b + N)
        scatter <- scatter + scatter_b + w N (mean_b - mean)(mean_b - mean)'
        mean    <- (1-w) mean + w mean_b

    which gives the mean and the covariance of all of them, however they came in batches (divided by
    their number, as `numpy.cov(..., bias=True)`).

    Args:
        num_classes: Number of classes.
        num_features: Number of features.
        diagonal: Keep the diagonals only, `(num_classes, num_features)`.

    Example:

    >>> moments = keras_lpl.layers.RunningMoments(num_classes=2, num_features=1, diagonal=True)
    >>> for x in (1.0, 2.0, 3.0):
    ...     moments.update(
    ...         keras_lpl.read_output(np.array([0]), np.zeros((1, 2)), features=np.array([[x]]))
    ...     )
    >>> print(keras.ops.convert_to_numpy(moments.mean).round(3))
    [[2.]
     [0.]]
    >>> print(keras.ops.convert_to_numpy(moments.covariance).round(3))
    [[0.667]
     [0.   ]]
    """

    def __init__(
        self, num_classes: int, num_features: int, diagonal: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.diagonal = bool(diagonal)
        matrix = (num_features,) if diagonal else (num_features, num_features)
        self.count = self.add_statistic("count", (num_classes, 1))
        self.mean = self.add_statistic("mean", (num_classes, num_features))
        self.scatter = self.add_statistic("scatter", (num_classes, *matrix))

    @property
    def covariance(self) -> Tensor:
        """Covariances, `(classes, features, features)`, or their diagonals, `(classes, features)`.

        Zeros for a class not seen yet.
        """
        scatter = ops.convert_to_tensor(self.scatter)
        count = ops.reshape(self.count, (-1, *(1 for _ in scatter.shape[1:])))
        return divide_or_zero(scatter, count)

    def update(self, samples: Samples) -> None:
        # On torch the matrices are changed in place, and must not become part of a gradient.
        features = ops.stop_gradient(ops.cast(samples.features, "float32"))
        samples = samples.replace(weight=ops.cast(samples.weight, "float32"), features=features)
        count = samples.weight_by_class()[:, None]
        total = samples.sum_by_class(features)
        mean = divide_or_zero(total, count)
        share = divide_or_zero(count, count + self.count)
        gap = mean - self.mean
        of_gap = share * self.count
        if self.diagonal:
            squares = self._squares(samples, count, mean)
            self.scatter.assign(self.scatter + squares + of_gap * ops.square(gap))
        else:
            self._add_products(samples, count, mean, gap, of_gap)
        self.mean.assign(self.mean + share * gap)
        self.count.assign(self.count + count)

    def _squares(self, samples, count, mean):
        features = samples.features
        if not samples.has_soft_labels:
            return samples.sum_by_class(ops.square(features - samples.of_own_class(mean)))
        # A sample of several classes lies around each of their means.
        squares = samples.sum_by_class(ops.square(features))
        return ops.maximum(squares - count * ops.square(mean), 0.0)

    def _add_products(self, samples, count, mean, gap, of_gap):
        """All classes at once if they are small, else those of the batch one after the other.

        Each class looks at its own samples only, which lie together, a few at a time.
        """
        num_classes, num_features = self.mean.shape
        features = samples.features
        membership = ops.cast(samples.membership, "float32") * samples.weight[:, None]
        batch = ops.shape(features)[0]
        if not samples.has_soft_labels:
            order, first, end = _by_class(samples.labels, num_classes)
            features = engines.take_rows(features, order)
            membership = engines.take_rows(membership, order)
            window = _WINDOW
        else:  # any sample may have a part in any class
            first = ops.zeros((num_classes,), dtype="int32")
            end = first + ops.cast(batch, "int32")
            window = _WINDOW_OF_SOFT_LABELS
        num_windows = (end - first + window - 1) // window
        weight = ops.reshape(membership, (-1,))

        def of_window(i, classes):
            """Samples around their mean, `(..., window, num_features)`, and what each counts.

            Args:
                i: Which window.
                classes: Indices of classes, `(...)`.
            """
            row = engines.take_rows(first, classes)[..., None] + i * window + ops.arange(window)
            inside = ops.cast(row < engines.take_rows(end, classes)[..., None], "float32")
            row = ops.minimum(row, batch - 1)
            around = (
                engines.take_rows(features, row) - engines.take_rows(mean, classes)[..., None, :]
            )
            factor = engines.take_rows(weight, row * num_classes + classes[..., None])
            return around, (factor * inside)[..., None]

        def add_windows(total, classes, num_windows):
            def add_window(i, total):
                around, factor = of_window(i, classes)
                weighted = ops.swapaxes(around * factor, -1, -2)
                return engines.add_product(total, weighted, around)

            return ops.fori_loop(1, num_windows, add_window, total)

        # The first window of all classes. The gap is one more row of it, which spares a pass over
        # the matrices.
        classes = ops.arange(num_classes, dtype="int32")
        around, factor = of_window(0, classes)
        rows = ops.concatenate([around, gap[:, None]], axis=1)
        factor = ops.concatenate([factor, of_gap[:, :, None]], axis=1)
        weighted = ops.swapaxes(rows * factor, -1, -2)

        if num_classes * num_features**2 <= MANY_NUMBERS:
            total = engines.add_product(ops.convert_to_tensor(self.scatter), weighted, rows)
            self.scatter.assign(add_windows(total, classes, ops.max(num_windows)))
            return
        order, num_present = present_first(count[:, 0] > 0)

        def add(row, old):
            total = engines.add_product(
                old, engines.take_rows(weighted, row), engines.take_rows(rows, row)
            )
            return add_windows(
                total, ops.convert_to_tensor(row), engines.take_rows(num_windows, row)
            )

        engines.add_to_rows(self.scatter, order, num_present, add)


def _by_class(labels, num_classes):
    """Brings the samples of each class together.

    Returns:
        `(order, first, end)`: the samples in order of their classes, and where each class begins
        and ends there.
    """
    order = ops.argsort(labels)
    labels = engines.take_rows(labels, order)
    classes = ops.arange(num_classes, dtype="int32")
    first = ops.searchsorted(labels, classes, side="left")
    end = ops.searchsorted(labels, classes, side="right")
    return order, ops.cast(first, "int32"), ops.cast(end, "int32")


def present_first(is_present: Tensor) -> tuple[Tensor, Tensor]:
    """Classes in an order with those that are present first, and how many these are."""
    num_classes = is_present.shape[0]
    classes = ops.arange(num_classes, dtype="int32")
    order = ops.argsort(ops.where(is_present, classes, classes + num_classes))
    return ops.cast(order, "int32"), ops.sum(ops.cast(is_present, "int32"))
