"""Running statistics of the classes: counts, centers, and moments of the features."""

from keras import ops

from keras_lpl import _checks, functional
from keras_lpl._numerics import divide_or_zero
from keras_lpl.layers.running_statistics import RunningStatistic

# Samples whose products are taken at a time, and numbers in the largest array of a few classes.
_WINDOW = 32
_LARGEST_ARRAY = 2**22


def classes_at_a_time(*sizes, divides=None):
    """How many classes to work on at a time, for arrays `(classes, sizes[0], max(sizes[1:]))`.

    Args:
        *sizes: The other axes: the first one, and those that may come second.
        divides: A number of classes that must be a multiple of it.
    """
    chunk = max(1, _LARGEST_ARRAY // (sizes[0] * max(sizes[1:])))
    if divides is None:
        return chunk
    return max(c for c in range(1, min(chunk, divides) + 1) if divides % c == 0)


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
        self.rate = _checks.number(rate, "rate", minimum=0, maximum=1)
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

    A batch of `n_b` samples joins the `N` seen before (ISDA, Wang et al., NeurIPS 2019, Eqs. 1-2):

        w = n_b / (n_b + N)
        covariance <- (1-w) covariance + w covariance_b + w (1-w) (mean - mean_b)(mean - mean_b)'
        mean       <- (1-w) mean + w mean_b

    which gives the mean and the covariance of all of them, however they came in batches (divided by
    their number, as `numpy.cov(..., bias=True)`).

    Args:
        num_classes: Number of classes.
        num_features: Number of features.
        diagonal: Keep the variances only, `(num_classes, num_features)`.

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
        self.covariance = self.add_statistic("covariance", (num_classes, *matrix))

    def update(self, labels, logits, features=None, sample_weight=None):
        membership = _membership(labels, logits, features, sample_weight)
        features = _finite_or_zero(features)
        count, total = _sums(labels, membership, features)
        mean = divide_or_zero(total, count)
        share = divide_or_zero(count, count + self.count)
        gap = mean - self.mean
        if self.diagonal:
            self.covariance.assign(self._variances(labels, membership, features, mean, share, gap))
        else:
            self.covariance.assign(
                self._covariances(labels, membership, features, count, mean, share, gap)
            )
        self.mean.assign(self.mean + share * gap)
        self.count.assign(self.count + count)

    def _variances(self, labels, membership, features, mean, share, gap):
        if len(labels.shape) == 1:
            around = features - ops.take(mean, ops.maximum(labels, 0), axis=0)
            count, squares = _sums(labels, membership, ops.square(around))
        else:  # a sample of several classes lies around each of their means
            count, squares = _sums(labels, membership, ops.square(features))
            squares = ops.maximum(squares - count * ops.square(mean), 0.0)
        of_batch = divide_or_zero(squares, count)
        return (1 - share) * self.covariance + share * (of_batch + (1 - share) * ops.square(gap))

    def _covariances(self, labels, membership, features, count, mean, share, gap):
        """A few classes at a time, so that no array is larger than the covariances themselves.

        Samples of a class are brought together, and only the part of them that holds the classes at
        hand is looked at, in windows of a fixed size.
        """
        num_classes, num_features = self.mean.shape
        chunk = classes_at_a_time(num_features, num_features, _WINDOW, divides=num_classes)
        batch = ops.shape(features)[0]
        order = ops.arange(batch, dtype="int32")
        if len(labels.shape) == 1:
            order = ops.cast(ops.argsort(ops.convert_to_tensor(labels)), "int32")
        features, membership = (
            ops.take(features, order, axis=0),
            ops.take(membership, order, axis=0),
        )

        def of_chunk(inputs):
            covariance, membership, count, mean, share, gap = inputs
            is_member = ops.max(membership, axis=0) > 0
            rows = ops.arange(batch, dtype="int32")
            first = ops.min(ops.where(is_member, rows, batch)) // _WINDOW
            end = ops.max(ops.where(is_member, rows + _WINDOW, 0)) // _WINDOW

            def add_window(i, total):
                row = i * _WINDOW + ops.arange(_WINDOW, dtype="int32")
                inside = ops.cast(row < batch, "float32")
                row = ops.minimum(row, batch - 1)
                weight = ops.take(membership, row, axis=1) * inside
                around = ops.take(features, row, axis=0)[None] - mean[:, None]
                weighted = ops.transpose(around * weight[:, :, None], (0, 2, 1))
                return total + ops.matmul(weighted, around)

            def with_batch():
                total = ops.fori_loop(first, end, add_window, ops.zeros_like(covariance))
                of_batch = divide_or_zero(total, count[:, :, None])
                of_gap = gap[:, :, None] * gap[:, None, :]
                w = share[:, :, None]
                return (1 - w) * covariance + w * (of_batch + (1 - w) * of_gap)

            return ops.cond(end > first, with_batch, lambda: covariance)

        def in_chunks(x):
            x = ops.convert_to_tensor(x)
            return ops.reshape(x, (num_classes // chunk, chunk, *x.shape[1:]))

        by_class = ops.transpose(membership)
        by_class = ops.reshape(by_class, (num_classes // chunk, chunk, batch))
        rest = (in_chunks(x) for x in (count, mean, share, gap))
        chunks = ops.map(of_chunk, (in_chunks(self.covariance), by_class, *rest))
        return ops.reshape(chunks, self.covariance.shape)


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
    usable = ops.all(ops.isfinite(logits), axis=-1)
    if features is not None:
        features = ops.convert_to_tensor(features)
        usable = ops.logical_and(usable, ops.all(ops.isfinite(features), axis=-1))
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
