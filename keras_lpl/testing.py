"""The contract of losses and perturbations, to check those of your own.

    keras_lpl.testing.check_loss(MyLoss)
    keras_lpl.testing.check_perturbation(MyPerturbation)

Each law is a function `check_*(make)`; `make(class_counts, **keywords)` returns a new loss, where
the keywords are those of `keras_lpl.losses.ClassificationLoss`. A broken law raises
`AssertionError`. Needs NumPy and Keras alone, and runs on whichever backend Keras does.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lpl import engines
from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.perturbation import Perturbation
from keras_lpl.core.perturbed_crossentropy import PerturbedCrossentropy

MakeLoss = Callable[..., keras.losses.Loss]

COUNTS = (40, 500, 7, 90, 12)
"""Training counts of five classes, not sorted."""

CLASSES = len(COUNTS)
RTOL = 2e-5
"""Tolerance of float32, after up to a few dozen steps."""


def check_loss(make: MakeLoss, skip: Iterable[str] = ()) -> None:
    """Checks that a loss keeps every law of the contract.

    Args:
        make: The loss class, or a function: `make(class_counts, **keywords)` returns a new loss. A
            class that takes no counts may be given as it is.
        skip: Names of laws that do not apply, such as `"extreme_logits"` for a loss that gives up
            samples it is sure to have wrong.

    Raises:
        AssertionError: if a law is broken; it names the law.
        ValueError: for an unknown name in `skip`.

    Example:

    >>> keras_lpl.testing.check_loss(keras_lpl.LogitAdjustmentLoss, skip=["fit"])
    """
    make = _with_counts(make)
    unknown = set(skip) - set(LAWS)
    if unknown:
        raise ValueError(f"Laws are {sorted(LAWS)}. Received: skip={sorted(unknown)}")
    for name, check in LAWS.items():
        if name in skip:
            continue
        try:
            check(make)
        except AssertionError as error:
            raise AssertionError(f"The law `{name}` is broken. {check.__doc__}\n{error}") from error
        except Exception as error:
            error.add_note(f"This came up when the law `{name}` was checked. {check.__doc__}")
            raise


def check_perturbation(make: Callable[..., Perturbation], skip: Iterable[str] = ()) -> None:
    """Checks that a perturbation keeps every law of the contract.

    Args:
        make: The perturbation class, or a function: `make(class_counts)` returns a new
            perturbation. One that takes no counts may be given as it is.
        skip: Names of laws that do not apply, as in `check_loss`.

    Raises:
        AssertionError: if a law is broken; it names the law.

    Example:

    >>> keras_lpl.testing.check_perturbation(keras_lpl.perturbations.VS, skip=["fit"])
    """
    make_perturbation = _with_counts(make)

    def make_loss(counts: Any, **keywords: Any) -> keras.losses.Loss:
        return PerturbedCrossentropy([make_perturbation(counts)], **keywords)

    check_loss(make_loss, skip)


def _with_counts(make):
    """`make` that may be called with counts, even if its first parameter has another meaning."""
    if not isinstance(make, type):
        return make
    names = list(inspect.signature(make).parameters)
    if "class_counts" in names:
        return make
    return lambda counts, **keywords: make(**keywords)


# --- Batches --------------------------------------------------------------------------------------


def batch(
    seed: int = 0, size: int = 24, classes: int = CLASSES, scale: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels, in which all classes occur, and logits."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, size)])[:size]
    rng.shuffle(labels)
    return labels.astype("int32"), (scale * rng.normal(size=(size, classes))).astype("float32")


def per_sample(
    loss: keras.losses.Loss, labels: Any, logits: Any, sample_weight: Any = None
) -> np.ndarray:
    """Losses of the samples, unweighted, with the weights known to the loss."""
    losses = ops.convert_to_numpy(loss(labels, logits, sample_weight=sample_weight))
    if sample_weight is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            losses = losses / np.asarray(sample_weight)
    return losses


def assert_close(actual: Any, expected: Any, rtol: float = RTOL) -> None:
    """Equality relative to the largest expected value, as losses go down to zero."""
    expected = np.asarray(expected, "float64")
    scale = np.max(np.abs(expected), initial=0.0)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * max(scale, 1e-30))


def _one_hot(labels, classes=CLASSES):
    return np.eye(classes, dtype="float32")[labels]


def _supports_multi_label(make):
    loss = make(COUNTS)
    return isinstance(loss, ClassificationLoss) and _takes(make, multi_label=True)


def _takes(make, **keywords):
    try:
        make(COUNTS[:2], **keywords)
    except (ValueError, TypeError):
        return False
    return True


# --- Laws: batches and classes --------------------------------------------------------------------


def check_batch_permutation(make: MakeLoss) -> None:
    """The order of the samples in the batch does not matter."""
    loss = make(COUNTS, reduction=None)
    labels, logits = batch(5)
    order = np.random.default_rng(5).permutation(len(labels))
    assert_close(
        per_sample(loss, labels[order], logits[order]), per_sample(loss, labels, logits)[order]
    )


def check_class_relabelling(make: MakeLoss) -> None:
    """The numbering of the classes does not matter."""
    labels, logits = batch(6)
    order = np.array([3, 0, 4, 1, 2])
    renumbered = make(np.array(COUNTS)[order], reduction=None)
    losses = per_sample(renumbered, np.argsort(order)[labels], logits[:, order])
    assert_close(losses, per_sample(make(COUNTS, reduction=None), labels, logits))


def check_one_hot_labels(make: MakeLoss) -> None:
    """One-hot labels are class indices, and soft labels give finite losses."""
    loss = make(COUNTS, reduction=None)
    labels, logits = batch(3)
    one_hot = _one_hot(labels)
    assert_close(per_sample(loss, one_hot, logits), per_sample(loss, labels, logits))
    soft = 0.7 * one_hot + 0.3 * one_hot[::-1]
    assert np.all(np.isfinite(per_sample(loss, soft, logits)))


def check_label_dtypes(make: MakeLoss) -> None:
    """Labels of every dtype are the same labels, with 256 classes and more."""
    labels, logits = batch(2)
    loss = make(COUNTS, reduction=None)
    expected = per_sample(loss, labels, logits)
    for dtype in ("int8", "int16", "int32", "int64", "uint8", "uint16", "float32", "float64"):
        assert_close(per_sample(loss, labels.astype(dtype), logits), expected)
    counts = np.random.default_rng(2).integers(1, 400, 256)
    many = make(counts, reduction=None)
    labels, logits = np.array([0, 127, 128, 254, 255]), batch(2, 5, 256)[1]
    expected = per_sample(many, labels, logits)
    assert_close(per_sample(many, labels.astype("uint8"), logits), expected)


def check_low_precision(make: MakeLoss) -> None:
    """Logits in half precision give float32 losses, and no label is rounded to its neighbour."""
    counts = np.random.default_rng(9).integers(1, 400, 300)
    loss = make(counts, reduction=None)
    labels = np.array([255, 256, 257, 258, 299, 0])
    logits = np.random.default_rng(9).normal(size=(len(labels), 300)).astype("float32")
    for dtype in ("bfloat16", "float16"):
        low = ops.cast(logits, dtype)
        losses = loss(labels, low)
        assert keras.backend.standardize_dtype(losses.dtype) == "float32", losses.dtype
        exact = per_sample(loss, labels, ops.convert_to_numpy(ops.cast(low, "float32")))
        assert_close(ops.convert_to_numpy(losses), exact)


# --- Laws: every output --------------------------------------------------------------------------


def check_dense_output(make: MakeLoss) -> None:
    """Pixels and tokens are samples: the losses are those of the flat batch, in their shape."""
    loss = make(COUNTS, reduction=None)
    labels, logits = batch(17)
    expected = per_sample(loss, labels, logits)
    for shape in [(4, 6), (2, 3, 4)]:
        dense = per_sample(loss, labels.reshape(shape), logits.reshape(*shape, CLASSES))
        assert dense.shape == shape, dense.shape
        assert_close(dense.reshape(-1), expected)
        column = labels.reshape(*shape, 1)
        assert_close(per_sample(loss, column, logits.reshape(*shape, CLASSES)), dense)
        one_hot = _one_hot(labels).reshape(*shape, CLASSES)
        assert_close(per_sample(loss, one_hot, logits.reshape(*shape, CLASSES)), dense)
    # As many steps as classes: indices all the same.
    labels, logits = batch(18, size=4 * CLASSES)
    square = per_sample(loss, labels.reshape(4, CLASSES), logits.reshape(4, CLASSES, CLASSES))
    assert_close(square.reshape(-1), per_sample(loss, labels, logits))
    weight = np.array([0.5, 2.0, 0.0, 1.0], "float32")
    whole = make(COUNTS)
    weighted = whole(
        labels.reshape(4, CLASSES), logits.reshape(4, CLASSES, CLASSES), sample_weight=weight
    )
    flat = whole(labels, logits, sample_weight=np.repeat(weight, CLASSES))
    assert_close(ops.convert_to_numpy(weighted), ops.convert_to_numpy(flat))


def check_one_logit(make: MakeLoss) -> None:
    """One logit `u` is the two logits `[0, u]`."""
    counts = np.array(COUNTS[:2])
    loss = make(counts, reduction=None)
    labels, logits = batch(19, classes=2)
    u = logits[:, 1:]
    two = np.concatenate([np.zeros_like(u), u], axis=-1)
    expected = per_sample(loss, labels, two)
    for given in (labels, labels[:, None], labels.astype("float32"), labels.astype(bool)):
        assert_close(per_sample(loss, given, u), expected)
    soft = np.where(labels == 1, 0.9, 0.2).astype("float32")
    expected = per_sample(loss, np.stack([1 - soft, soft], axis=-1), two)
    assert_close(per_sample(loss, soft, u), expected)
    assert per_sample(loss, labels.reshape(4, 6), u.reshape(4, 6, 1)).shape == (4, 6)


def check_several_labels(make: MakeLoss) -> None:
    """Several labels are several losses of one logit each, and the mean of them."""
    if not _supports_multi_label(make):
        return
    counts = np.array([[90, 10], [30, 70], [50, 50]])
    rng = np.random.default_rng(20)
    labels = rng.integers(0, 2, (12, 3))
    labels[:2] = [[0, 0, 0], [1, 1, 1]]
    logits = (2 * rng.normal(size=(12, 3))).astype("float32")
    together = make(counts, multi_label=True, reduction=None)
    one_by_one = np.stack(
        [
            per_sample(make(counts[i], reduction=None), labels[:, i], logits[:, i : i + 1])
            for i in range(3)
        ],
        axis=-1,
    )
    for given in (labels, labels.astype("float32"), labels.astype(bool)):
        assert_close(per_sample(together, given, logits), one_by_one.mean(axis=-1))
    dense = per_sample(together, labels.reshape(3, 4, 3), logits.reshape(3, 4, 3))
    assert_close(dense, one_by_one.mean(axis=-1).reshape(3, 4))
    soft = (0.9 * labels + 0.05).astype("float32")
    assert np.all(np.isfinite(per_sample(together, soft, logits)))


def check_ignored_rows(make: MakeLoss) -> None:
    """Rows of the ignored class, masked rows and rows of weight 0 might as well not be there."""
    labels, logits = batch(21)
    kept = np.arange(len(labels)) % 4 != 0
    expected = float(make(COUNTS)(labels[kept], logits[kept]))
    for ignored in (-1, 255):
        given = np.where(kept, labels, ignored)
        spoilt = np.where(kept[:, None], logits, np.float32(1e3) * logits[::-1])
        loss = make(COUNTS, ignore_class=ignored)
        assert_close(float(loss(given, spoilt)), expected)
        losses = per_sample(make(COUNTS, ignore_class=ignored, reduction=None), given, spoilt)
        assert not losses[~kept].any(), losses
        weighted = make(COUNTS, reduction="sum")(given, spoilt, kept.astype("float32"))
        assert_close(float(weighted), expected * kept.sum())
    fast = engines.compiled(lambda y, x, w: make(COUNTS, reduction="sum")(y, x, w))
    weighted = fast(
        ops.convert_to_tensor(given), ops.convert_to_tensor(spoilt), kept.astype("float32")
    )
    assert_close(float(weighted), expected * kept.sum())


def check_zero_weight(make: MakeLoss) -> None:
    """Samples of weight 0 change nothing, whatever they hold."""
    loss = make(COUNTS, reduction="sum")
    labels, logits = batch(12, size=18)
    other_labels, other_logits = batch(13, size=6)
    all_labels = np.concatenate([labels, other_labels])
    weight = np.concatenate([np.ones(18), np.zeros(6)]).astype("float32")

    def with_others(x):
        return loss(all_labels, ops.concatenate([x, 5 * other_logits]), sample_weight=weight)

    value, gradient = engines.value_and_gradient(with_others, logits)
    plain_value, plain_gradient = engines.value_and_gradient(lambda x: loss(labels, x), logits)
    assert_close(value, plain_value)
    assert_close(gradient, plain_gradient)


# --- Laws: bad and extreme input -----------------------------------------------------------------


def check_extreme_logits(make: MakeLoss) -> None:
    """Sure of the wrong class at +-100, the loss is finite and its gradient alive."""
    loss = make(COUNTS, reduction="sum")
    labels, logits = batch(0)
    samples = np.arange(len(labels))
    logits[:] = -100.0
    logits[samples, (labels + 1) % CLASSES] = 100.0
    losses, gradient = engines.value_and_gradient(lambda x: loss(labels, x), logits)
    assert np.isfinite(losses), losses
    assert np.all(np.isfinite(gradient)), gradient
    assert np.all(np.abs(gradient[samples, labels]) > 1e-3), gradient[samples, labels]


def check_nan_stays_in_its_row(make: MakeLoss) -> None:
    """NaN and infinite logits and weights make their own loss NaN, and touch no other row."""
    labels, logits = batch(14)
    weight = np.ones(len(labels), "float32")
    spoilt, spoilt_weight = logits.copy(), weight.copy()
    spoilt[0, 1], spoilt[1, 3], spoilt[2, labels[2]] = np.nan, np.inf, -np.inf
    spoilt_weight[3:5] = np.nan, np.inf
    weight[:5] = 0
    for_gradient = make(COUNTS, reduction="sum")
    _, clean = engines.value_and_gradient(
        lambda x: for_gradient(labels, x, sample_weight=weight), logits
    )
    for compiled in {False, engines.compiles()}:
        gradient = _gradient_of_rows(make, labels, spoilt, spoilt_weight, compiled)
        assert_close(gradient[5:], clean[5:])
    loss = make(COUNTS, reduction=None)
    losses = ops.convert_to_numpy(loss(labels, spoilt, sample_weight=spoilt_weight))
    assert np.all(np.isnan(losses[:5])), losses
    assert_close(losses[5:], per_sample(loss, labels, logits, weight)[5:])


def check_bad_labels(make: MakeLoss) -> None:
    """A bad label raises where it is seen; in compiled code its own loss is NaN."""
    labels, logits = batch(15)
    loss = make(COUNTS, reduction=None)
    is_bad = np.arange(len(labels)) < 4
    of_integers, of_floats = labels.copy(), labels.astype("float32")
    of_integers[is_bad] = [-1, CLASSES, -(2**31), 2**31 - 1]
    of_floats[is_bad] = [-1, CLASSES, np.nan, 0.5]
    soft = _one_hot(labels)
    soft[0], soft[1, 0], soft[2, 0], soft[3, labels[3]] = 1.0, np.nan, np.inf, -np.inf
    for given in (of_integers, of_floats, soft):
        refused = ""
        try:
            loss(given, logits)
        except ValueError as error:
            refused = str(error)
        assert "Received" in refused, "a label that is no class was accepted"
    if not engines.compiles():
        return
    weight = np.where(is_bad, 0, 1).astype("float32")
    clean = {rank: per_sample(loss, y, logits, weight) for rank, y in _as_ranks(labels)}
    all_given = (of_integers, of_floats, soft)
    fast = engines.compiled(lambda x, *labels: [loss(y, x) for y in labels])
    results = fast(*(ops.convert_to_tensor(part) for part in (logits, *all_given)))
    for given, losses in zip(all_given, results, strict=True):
        losses = ops.convert_to_numpy(losses)
        assert np.all(np.isnan(losses[is_bad])), losses
        assert_close(losses[~is_bad], clean[given.ndim][~is_bad])
    for given in (of_floats, soft):
        _gradient_of_rows(make, given, logits, None, compiled=True)


def _as_ranks(labels):
    return [(1, labels), (2, _one_hot(labels))]


def _gradient_of_rows(make, labels, logits, weight, compiled):
    """Gradient of a batch with NaN losses: finite, so that any model's parameters are."""
    loss = make(COUNTS, reduction="sum")
    parts = [part for part in (logits, labels, weight) if part is not None]
    ends = np.cumsum([0, *(part.size for part in parts)])

    def total(flat):
        # All are arguments of compiled code, not constants whose values it could see.
        x, *others = (
            ops.reshape(flat[start:end], part.shape)
            for start, end, part in zip(ends[:-1], ends[1:], parts, strict=True)
        )
        y, *w = (ops.stop_gradient(other) for other in others)
        return loss(ops.cast(y, labels.dtype), x, *w)

    flat = np.concatenate([part.reshape(-1) for part in parts]).astype("float32")
    if compiled:
        value, gradient = engines.compiled_value_and_gradient(total)(flat)
    else:
        value, gradient = engines.value_and_gradient(total, flat)
    gradient = gradient[: logits.size].reshape(logits.shape)
    assert np.isnan(value), value
    assert np.all(np.isfinite(gradient)), gradient
    assert np.any(gradient != 0), "other samples have no gradient"
    return gradient


# --- Laws: saving, compiling, training -----------------------------------------------------------


def check_serialization(make: MakeLoss) -> None:
    """A loss restored from its config behaves the same."""
    labels, logits = batch(10)
    loss = make(COUNTS, reduction="sum", name="of_my_own", dtype="float32", ignore_class=-1)
    labels = np.where(np.arange(len(labels)) < 3, -1, labels)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(restored) is type(loss)
    assert (restored.name, restored.reduction, restored.dtype) == ("of_my_own", "sum", "float32")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(restored(labels, logits)), ops.convert_to_numpy(loss(labels, logits))
    )


def check_compiled(make: MakeLoss) -> None:
    """Compiled and eager agree, on labels that come as tensors."""
    loss = make(COUNTS, reduction=None)
    labels, logits = batch(11)
    eager = per_sample(loss, labels, logits)
    labels = ops.convert_to_tensor(labels, dtype="int32")
    for fast in engines.compiled_ways(lambda y, x: loss(y, x)):
        assert_close(ops.convert_to_numpy(fast(labels, ops.convert_to_tensor(logits))), eager)


def check_fit(make: MakeLoss) -> None:
    """Trains in a plain model; weight 0 changes nothing; one-hot labels do what indices do."""
    rng = np.random.default_rng(16)
    x = rng.normal(size=(32, 6)).astype("float32")
    y = np.arange(32) % CLASSES
    weight = np.where(np.arange(32) < 24, 1.5, 0).astype("float32")
    trained = []
    for scramble, labels in ((False, y), (True, _one_hot(y))):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(CLASSES)])
        model.compile(keras.optimizers.SGD(0.1), loss=make(COUNTS))
        garbage = x.copy()
        if scramble:
            garbage[24:] = 3 * garbage[24:][::-1]
        history = model.fit(
            garbage, labels, sample_weight=weight, batch_size=32, epochs=3, verbose=0, shuffle=False
        )
        losses = history.history["loss"]
        assert np.all(np.isfinite(losses)), losses
        trained.append(model.get_weights())
    for one, other in zip(*trained, strict=True):
        assert_close(one, other)
    assert not np.array_equal(trained[0][1], np.zeros(CLASSES)), "nothing was learnt"


LAWS = {
    name.removeprefix("check_"): check
    for name, check in list(globals().items())
    if name.startswith("check_") and name not in ("check_loss", "check_perturbation")
}
"""All laws by name."""
