"""Running statistics of the classes: counts, centers, and moments of the features."""

from keras import ops

from keras_lpl import functional
from keras_lpl.core import checks
from keras_lpl._numerics import (
    add_product,
    add_to_rows,
    divide_or_zero,
    finite_rows,
    take_rows,
)
from keras_lpl.layers.running_statistics import RunningStatistic

# Samples of a class whose products are taken at a time.
_WINDOW = 4
_WINDOW_OF_SOFT_LABELS = 32

# All classes are worked on at once while their arrays have no more numbers than this, which fits
# into a processor's cache; else one at a time.
MANY_NUMBERS = 2**20


class RunningClassCounts(RunningStatistic):
    """How much of each class training has seen.

    Args:
        num_classes: Number of classes.

    Example:

    >>> seen = keras_lpl.layers.RunningClassCounts(num_classes=3)
    >>> seen.update(labels=np.array([0, 2, 2]), logits=np.zeros((3, 3)))
    >>> print(keras.ops.convert_to_numpy(seen.counts))
    [1. 0. 2.]
    """

    def __init__(self, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.counts = self.add_statistic("counts", (num_classes,))

    def update(self, labels, logits, features=None, sample_weight=None):
        membership = _membership(labels, logits, None, sample_weight)
        self.counts.assign(self.counts + ops.sum(membership, axis=0))


class ClassCenters(RunningStatistic):
    """A center for the features of each class, which follows them (Wen et al., ECCV 2016, Eq. 4).

    `c_j <- c_j - rate * sum_i (c_j - x_i) / (1 + n_j)`, over the `n_j` samples of class `j` in the
    batch. The loss sees the centers as the batch before has left them.

    Args:
        num_classes: Number of classes.
        num_features: Number of features.
        rate: `alpha`, how far a center moves, from 0 to 1.

    Example:

    >>> centers = keras_lpl.layers.ClassCenters(num_classes=2, num_features=1, rate=0.5)
    >>> labels, features = np.array([0, 0, 0]), np.array([[4.0], [4.0], [4.0]])
    >>> centers.update(labels, np.zeros((3, 2)), features)
    >>> print(keras.ops.convert_to_numpy(centers.centers))
    [[1.5]
     [0. ]]
    """

    updates_after_loss = True

    def __init__(self, num_classes, num_features, rate=0.5, **kwargs):
        super().__init__(**kwargs)
        self.rate = checks.number(rate, "rate", minimum=0, maximum=1)
        self.centers = self.add_statistic("centers", (num_classes, num_features))

    def update(self, labels, logits, features=None, sample_weight=None):
        membership = _membership(labels, logits, features, sample_weight)
        count, total = _sums(labels, membership, _finite_or_zero(features))
        centers = ops.convert_to_tensor(self.centers)
        self.centers.assign(centers - self.rate * (count * centers - total) / (1 + count))

    def take_settings(self, other):
        self.rate = other.rate


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
    ...     moments.update(np.array([0]), np.zeros((1, 2)), np.array([[x]]))
    >>> print(keras.ops.convert_to_numpy(moments.mean).round(3))
    [[2.]
     [0.]]
    >>> print(keras.ops.convert_to_numpy(moments.covariance).round(3))
    [[0.667]
     [0.   ]]
    """

    def __init__(self, num_classes, num_features, diagonal=False, **kwargs):
        super().__init__(**kwargs)
        self.diagonal = bool(diagonal)
        matrix = (num_features,) if diagonal else (num_features, num_features)
        self.count = self.add_statistic("count", (num_classes, 1))
        self.mean = self.add_statistic("mean", (num_classes, num_features))
        self.scatter = self.add_statistic("scatter", (num_classes, *matrix))

    @property
    def covariance(self):
        """`(num_classes, num_features, num_features)`, or `(num_classes, num_features)`.

        Zeros for a class not seen yet.
        """
        scatter = ops.convert_to_tensor(self.scatter)
        count = ops.reshape(self.count, (-1, *(1 for _ in scatter.shape[1:])))
        return divide_or_zero(scatter, count)

    def update(self, labels, logits, features=None, sample_weight=None):
        membership = _membership(labels, logits, features, sample_weight)
        # On torch the matrices are changed in place, and must not become part of a gradient.
        features = ops.stop_gradient(_finite_or_zero(features))
        count, total = _sums(labels, membership, features)
        mean = divide_or_zero(total, count)
        share = divide_or_zero(count, count + self.count)
        gap = mean - self.mean
        of_gap = share * self.count
        if self.diagonal:
            squares = self._squares(labels, membership, features, count, mean)
            self.scatter.assign(self.scatter + squares + of_gap * ops.square(gap))
        else:
            self._add_products(labels, membership, features, count, mean, gap, of_gap)
        self.mean.assign(self.mean + share * gap)
        self.count.assign(self.count + count)

    def _squares(self, labels, membership, features, count, mean):
        if len(labels.shape) == 1:
            around = features - take_rows(mean, ops.maximum(labels, 0))
            return _sums(labels, membership, ops.square(around))[1]
        # A sample of several classes lies around each of their means.
        squares = _sums(labels, membership, ops.square(features))[1]
        return ops.maximum(squares - count * ops.square(mean), 0.0)

    def _add_products(self, labels, membership, features, count, mean, gap, of_gap):
        """All classes at once if they are small, else those of the batch one after the other.

        Each class looks at its own samples only, which lie together, a few at a time.
        """
        num_classes, num_features = self.mean.shape
        batch = ops.shape(features)[0]
        if len(labels.shape) == 1:
            order, first, end = _by_class(labels, num_classes)
            features = take_rows(features, order)
            membership = take_rows(membership, order)
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
            row = take_rows(first, classes)[..., None] + i * window + ops.arange(window)
            inside = ops.cast(row < take_rows(end, classes)[..., None], "float32")
            row = ops.minimum(row, batch - 1)
            around = take_rows(features, row) - take_rows(mean, classes)[..., None, :]
            factor = take_rows(weight, row * num_classes + classes[..., None])
            return around, (factor * inside)[..., None]

        def add_windows(total, classes, num_windows):
            def add_window(i, total):
                around, factor = of_window(i, classes)
                weighted = ops.swapaxes(around * factor, -1, -2)
                return add_product(total, weighted, around)

            return ops.fori_loop(1, num_windows, add_window, total)

        # The first window of all classes. The gap is one more row of it, which spares a pass over
        # the matrices.
        classes = ops.arange(num_classes, dtype="int32")
        around, factor = of_window(0, classes)
        rows = ops.concatenate([around, gap[:, None]], axis=1)
        factor = ops.concatenate([factor, of_gap[:, :, None]], axis=1)
        weighted = ops.swapaxes(rows * factor, -1, -2)

        if num_classes * num_features**2 <= MANY_NUMBERS:
            total = add_product(ops.convert_to_tensor(self.scatter), weighted, rows)
            self.scatter.assign(add_windows(total, classes, ops.max(num_windows)))
            return
        order, num_present = present_first(count[:, 0] > 0)

        def add(row, old):
            total = add_product(old, take_rows(weighted, row), take_rows(rows, row))
            return add_windows(total, ops.convert_to_tensor(row), take_rows(num_windows, row))

        add_to_rows(self.scatter, order, num_present, add)


def _by_class(labels, num_classes):
    """Brings the samples of each class together.

    Returns:
        `(order, first, end)`: the samples in order of their classes, and where each class begins
        and ends there.
    """
    labels = ops.cast(ops.convert_to_tensor(labels), "int32")
    order = ops.argsort(labels)
    labels = take_rows(labels, order)
    classes = ops.arange(num_classes, dtype="int32")
    first = ops.searchsorted(labels, classes, side="left")
    end = ops.searchsorted(labels, classes, side="right")
    return order, ops.cast(first, "int32"), ops.cast(end, "int32")


def present_first(is_present):
    """The classes, those that are present first, and how many these are."""
    num_classes = is_present.shape[0]
    classes = ops.arange(num_classes, dtype="int32")
    order = ops.argsort(ops.where(is_present, classes, classes + num_classes))
    return ops.cast(order, "int32"), ops.sum(ops.cast(is_present, "int32"))


class StepCounter(RunningStatistic):
    """The number of training steps taken, a scalar. The first step is number 0."""

    updates_after_loss = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.steps = self.add_statistic("steps", ())

    def update(self, labels, logits, features=None, sample_weight=None):
        self.steps.assign(self.steps + 1)


def _membership(labels, logits, features, sample_weight):
    """`(batch, num_classes)`: the weight of each sample in each class; 0 if it is not finite."""
    logits = ops.cast(logits, "float32")
    usable = finite_rows(logits)
    if features is not None:
        features = ops.convert_to_tensor(features)
        usable = ops.logical_and(usable, finite_rows(features))
    weight = ops.cast(usable, "float32")
    if sample_weight is not None:
        sample_weight = ops.reshape(ops.convert_to_tensor(sample_weight), (-1,))
        weight = weight * ops.cast(sample_weight, "float32")
    return functional.class_membership(labels, logits) * weight[:, None]


def _sums(labels, membership, x):
    """`(count, total)`: weight of each class `(num_classes, 1)`, and weighted sum of `x`."""
    count = ops.sum(membership, axis=0)[:, None]
    if len(labels.shape) == 2:
        return count, ops.matmul(ops.transpose(membership), x)
    weight = ops.sum(membership, axis=-1, keepdims=True)
    known = ops.maximum(ops.convert_to_tensor(labels), 0)
    return count, ops.segment_sum(weight * x, known, num_segments=membership.shape[-1])


def _finite_or_zero(features):
    features = ops.cast(features, "float32")
    return ops.where(ops.isfinite(features), features, 0.0)
