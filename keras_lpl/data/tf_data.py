"""The input pipeline of the long-tail recipe, in tf.data.

The only module of this package that uses TensorFlow; it is imported when a
pipeline is made, whatever the Keras backend.
"""

import contextlib
import itertools
import warnings
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_lpl.core import checks
from keras_lpl.data._arrays import check_arrays
from keras_lpl.data._labels import to_numpy
from keras_lpl.data._optional import import_optional
from keras_lpl.data.sampling import PAIRED, EpochDraws

if TYPE_CHECKING:
    import tensorflow as tf

PADDING_MODES = ("constant", "reflect")
_CHUNK = 64  # images per step of the statistics: a float64 copy that fits into the cache
_AT_A_TIME = 4  # batches that are made at once, and kept ready


def pipeline(
    x: Any,
    y: Any,
    batch_size: int,
    training: bool,
    seed: int = 0,
    *,
    mean: Any = None,
    std: Any = None,
    padding: int = 4,
    padding_mode: str = "constant",
    flip: bool = True,
    initial_epoch: int = 0,
    sampling: str | None = None,
    disturb_rate: float = 0.0,
) -> "tf.data.Dataset":
    """A `tf.data.Dataset` of batches `(x, y)` for `fit` or `evaluate`, on any backend.

    For training: a new order each epoch, then for images the augmentation of
    LDAM-DRW (Cao et al., NeurIPS 2019) and of most CIFAR recipes: pad, crop back
    to the old size at a random place, flip left to right with probability 1/2.
    Always: per-channel normalisation of images, `(x - mean) / std`. Images are
    padded before they are normalised, so constant padding is black.

    Each batch is augmented by a few operations on the whole batch. Which samples
    are shown, in what order, their crops, flips and labels depend on `(seed,
    epoch)` alone, where each iteration over the data set begins an epoch: nothing
    that goes on beside it changes them. On JAX and PyTorch a first `fit` takes a
    batch to build the model before it trains, which uses up an epoch; so does
    `class_counts`.

    Where Keras runs on JAX or PyTorch, TensorFlow is told to leave the GPUs
    alone if it has not taken them yet; otherwise it would reserve their memory.

    Args:
        x: Inputs of shape `(N, ...)`. Rank 4 is images, `(N, H, W, channels)`, of
            any numeric type and scale. Any other rank, such as features of
            shape `(N, D)`, is shuffled and batched but not augmented, and
            normalised only if `mean` and `std` are given.
        y: Labels of shape `(N,)`, `(N, 1)` or `(N, C)`, passed on as they are.
        batch_size: Samples per batch. The last batch of an epoch has what is left.
        training: If True, shuffles and augments.
        seed: Integer from 0 to 2**32 - 1.
        mean: Per channel, shape `(channels,)`, or one number, in the units of `x` (0
            to 255 for uint8). Defaults to that of `x`. A test pipeline must be
            given the mean and standard deviation of the training images, as
            `channel_statistics` returns them, or the model sees inputs it was
            not trained on: there, leaving them out is warned of. `mean=0, std=1`
            turns normalisation off.
        std: Standard deviation, like `mean`; give both or neither.
        padding: Pixels added on each side before the crop; 0 for no crop.
        padding_mode: `"constant"` (black) or `"reflect"` (mirrored without
            repeating the border, as in the recipes of the wide ResNets).
        flip: If True, flips at random. Turn it off for what changes its meaning in a
            mirror, such as digits.
        initial_epoch: Number of the first epoch, to go on with a training run
            as if it had not been interrupted.
        sampling: For training: how often each class is drawn, with replacement:
            `"class_balanced"`, `"reversed"` or `"instance"`, see
            `class_probabilities`. An epoch still has N samples. `None` shows
            every sample once, and so does `"paired"`, which adds to each batch
            as many that the reversed sampler draws, for
            `keras_lpl.models.BBNModel`.
        disturb_rate: For training: probability that a label is redrawn uniformly
            over all classes, anew in each epoch, see `disturb_labels`. The classes
            are the columns of one-hot labels, and 0 to the largest of integer ones.

    Returns:
        A `tf.data.Dataset` of known length. Images are float32.

    Raises:
        ValueError: If an argument is out of range, `x` and `y` do not match, `y`
            are no class labels where `sampling` or `disturb_rate` needs them, or
            one of these is given with `training=False`.
        ImportError: If TensorFlow is not installed.

    Example:

    ```python
    (x_train, y_train), (x_test, y_test) = keras_lpl.data.load("cifar10", imbalance_factor=100)
    mean, std = keras_lpl.data.channel_statistics(x_train)
    train = keras_lpl.data.pipeline(x_train, y_train, 128, training=True, mean=mean, std=std)
    test = keras_lpl.data.pipeline(x_test, y_test, 128, training=False, mean=mean, std=std)
    model.fit(train, validation_data=test, epochs=200, shuffle=False)  # it shuffles itself
    ```
    """
    x, y = check_arrays(x, y)
    is_image = x.ndim == 4
    batch_size = checks.integer(batch_size, "batch_size", minimum=1)
    draws = EpochDraws(y, sampling, disturb_rate, seed, batch_size=batch_size)
    if not training and (sampling is not None or disturb_rate):
        raise ValueError(
            "`sampling` and `disturb_rate` are for training: to evaluate, every sample is shown "
            "once and with its own label. Leave them out. "
            f"Received: training={training}, sampling={sampling!r}, disturb_rate={disturb_rate}"
        )
    initial_epoch = checks.integer(initial_epoch, "initial_epoch", minimum=0)
    padding = _check_padding(padding, padding_mode, x) if is_image else 0
    normalize = _normalizer(x, mean, std, training)
    tf = _import_tensorflow()

    # Held once, outside the graph, and read by batch: no copy per epoch.
    with tf.device("CPU:0"):
        all_x, all_y = tf.convert_to_tensor(x), tf.convert_to_tensor(draws.labels)

    if training:
        plans = _training_plans(tf, draws, padding, initial_epoch)
    else:
        plans = _in_order(tf, len(x), batch_size)

    def make_batch(plan):
        batch = tf.gather(all_x, plan[:, 0])
        if training and is_image:
            batch = _augment(tf, batch, plan, padding, padding_mode, flip)
        return normalize(tf, batch), tf.gather(all_y, plan[:, 4])

    batches = plans.map(make_batch, num_parallel_calls=_AT_A_TIME, deterministic=True)
    batches = batches.prefetch(_AT_A_TIME).with_options(_without_autotuning(tf))
    batches.is_paired = sampling == PAIRED
    return batches


def channel_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, over all images and pixels.

    Args:
        x: Training images, shape `(N, H, W, channels)`; or anything whose last
            axis is the channel, such as features of shape `(N, D)`.

    Returns:
        `(mean, std)`: float32 arrays of shape `(channels,)`, in the units of `x`.

    Raises:
        ValueError: If `x` is empty or has fewer than 2 axes.

    Example:

    >>> import numpy as np
    >>> from keras_lpl.data import channel_statistics
    >>> mean, std = channel_statistics(np.array([[[[0, 7]], [[2, 7]]]]))
    >>> mean.tolist(), std.tolist()
    ([1.0, 7.0], [1.0, 0.0])
    """
    x = to_numpy(x)
    if x.dtype.kind not in "biuf" or x.ndim < 2 or x.size == 0:
        raise ValueError(
            "`x` must be training inputs, numbers of shape (N, ..., channels), with N at least 1. "
            f"Received: dtype {x.dtype}, shape {x.shape}"
        )
    channels = x.shape[-1]
    values_per_channel = x.size // channels

    def chunks():
        for start in range(0, len(x), _CHUNK):
            yield x[start : start + _CHUNK].reshape(-1, channels).astype("float64")

    mean = sum(chunk.sum(axis=0) for chunk in chunks()) / values_per_channel
    # Around the mean: the plain sum of squares would lose the digits of a small spread.
    around = (chunk - mean for chunk in chunks())
    variance = sum(np.einsum("nc,nc->c", part, part) for part in around) / values_per_channel
    return mean.astype("float32"), np.sqrt(variance).astype("float32")


def _training_plans(tf, draws, padding, initial_epoch):
    """A data set of plans: for each sample of a batch, a row `(sample, top, left, flip, label)`.

    NumPy draws the plan of a whole epoch at once: one call into Python an epoch, a few
    milliseconds, and numbers that do not depend on TensorFlow's version, threads or global seed.
    """
    epochs = itertools.count(initial_epoch)
    size, batch_size = draws.size, draws.batch_size

    def draw_plan():
        samples, places, random = draws(next(epochs))
        corner = random.randint(0, 2 * padding + 1, (size, 2), dtype="int32")
        flip = random.randint(0, 2, (size, 1), dtype="int32")
        return np.column_stack([samples, corner, flip, places]).astype("int32")

    def plan_of_batch(plan, number):
        # The plan travels from batch to batch as the state of `scan`, so each iteration over the
        # data set has its own, even where two are under way.
        plan = tf.cond(
            number == 0,
            lambda: tf.ensure_shape(tf.numpy_function(draw_plan, [], tf.int32), (size, 5)),
            lambda: plan,
        )
        return plan, plan[number * batch_size : (number + 1) * batch_size]

    no_plan = tf.zeros((size, 5), tf.int32)
    return tf.data.Dataset.range(_num_batches(size, batch_size)).scan(no_plan, plan_of_batch)


def _without_autotuning(tf):
    """Options under which an epoch ends when its last batch is read.

    TensorFlow's tuner sleeps twice as long after each look, up to a minute. When an iterator is
    deleted, as Keras does after each epoch, the tuner is called to stop; now and then it sleeps on
    and the training waits for it, with all processors idle.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def _in_order(tf, size, batch_size):
    """The plans of an evaluation: every sample as it is."""
    plan = tf.range(size)[:, None] * tf.constant([[1, 0, 0, 0, 1]])
    return tf.data.Dataset.range(_num_batches(size, batch_size)).map(
        lambda number: plan[number * batch_size : (number + 1) * batch_size]
    )


def _num_batches(size, batch_size):
    return -(-size // batch_size)


def _augment(tf, images, plan, padding, padding_mode, flip):
    """Crops of the padded images, some of them flipped, for a batch at once.

    A crop is a choice of rows and of columns, and a flip is the columns in
    reverse, so two gathers do both. That takes a third of the time of an image at a
    time.
    """
    if not padding and not flip:
        return images
    height, width = images.shape[1], images.shape[2]
    top, left, flipped = plan[:, 1:2], plan[:, 2:3], plan[:, 3:4]
    columns = tf.range(width)[None, :]
    if flip:
        columns = tf.where(flipped == 1, width - 1 - columns, columns)
    if padding:
        columns = left + columns
        rows = top + tf.range(height)[None, :]
        if padding_mode == "reflect":
            # A mirror is a matter of indices; TensorFlow's own mirror padding is slow.
            rows = _mirrored(tf, rows - padding, height)
            columns = _mirrored(tf, columns - padding, width)
        else:
            sides = [padding, padding]
            images = tf.pad(images, [[0, 0], sides, sides, [0, 0]])
        images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)


def _mirrored(tf, positions, length):
    """Maps ..., -2, -1 to ..., 2, 1, and length, length + 1, ... to length - 2, length - 3, ..."""
    last = length - 1
    return last - tf.abs(last - tf.abs(positions))


def _normalizer(x, mean, std, training):
    """Returns `(tf, batch) -> batch`, normalised."""
    if (mean is None) != (std is None):
        raise ValueError(
            "`mean` and `std` go together: give both, or neither. "
            f"Received: mean={mean!r}, std={std!r}"
        )
    if mean is None and x.ndim != 4:
        return lambda tf, batch: batch
    if mean is None:
        if not training:
            warnings.warn(
                "A pipeline with training=False normalises images by their own mean and standard "
                "deviation. Pass `mean` and `std` of the training images "
                "(`keras_lpl.data.channel_statistics(x_train)`).",
                stacklevel=3,
            )
        mean, std = channel_statistics(x)
        std = np.where(std > 0, std, 1.0)  # a channel without contrast becomes 0
    mean = _check_statistic("mean", mean, x)
    std = _check_statistic("std", std, x)
    if (std <= 0).any():
        raise ValueError(f"`std` must be greater than 0. Received: std={std.tolist()}")
    scale, shift = 1 / std, -mean / std
    return lambda tf, batch: tf.cast(batch, tf.float32) * scale + shift


def _check_statistic(name, value, x):
    channels = x.shape[-1]
    value = to_numpy(value)
    if value.dtype.kind in "biuf" and value.shape in ((), (1,), (channels,)):
        value = value.astype("float32")
        if np.isfinite(value).all():
            return value
    raise ValueError(
        f"`{name}` must be a finite number, or one for each of the {channels} channels of `x`. "
        f"Received: {name}={value!r}"
    )


def _check_padding(padding, padding_mode, x):
    padding = checks.integer(padding, "padding", minimum=0)
    if padding_mode not in PADDING_MODES:
        raise ValueError(
            f"`padding_mode` must be one of {PADDING_MODES}. "
            f"Received: padding_mode={padding_mode!r}"
        )
    if padding_mode == "reflect" and padding >= min(x.shape[1:3]):
        raise ValueError(
            "`padding` must be smaller than the images to reflect them. "
            f"Received: padding={padding}, images of {x.shape[1]} x {x.shape[2]}"
        )
    return padding


def _import_tensorflow():
    tf = import_optional("tensorflow", "tensorflow", "keras_lpl.data.pipeline")
    if keras.backend.backend() != "tensorflow":
        # A RuntimeError: TensorFlow runs already, with the GPUs that its user gave it.
        with contextlib.suppress(RuntimeError):
            tf.config.set_visible_devices([], "GPU")
    return tf
