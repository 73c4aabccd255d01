"""The contract every loss keeps, on every backend: one function per law.

`LossCase` says how a loss is made and what it must compute; each `check_*` takes a case and raises
`AssertionError` where the loss breaks the law. `tests/losses/test_contract.py` runs all of them
over all losses, and breaks each of them on purpose to show that it can fail.
"""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from tests import reference
from tests.gradients import compiled, value_and_gradient

COUNTS = (40, 500, 7, 90, 12)  # five classes, not sorted
CLASSES = len(COUNTS)
RTOL = 2e-5  # float32, after up to a few dozen steps


@dataclasses.dataclass(frozen=True)
class LossCase:
    """A loss under contract.

    Attributes:
        name: Shown in the test's name.
        make: `make(class_counts, **keywords)` returns the loss.
        oracle: `oracle(labels, logits, class_counts, sample_weight, constant_at)` returns the
            per-sample losses in float64. What the loss holds constant for back-propagation is
            computed at the logits `constant_at` (None: at `logits`).
        reduces: `reduces(class_counts)` returns the loss with the parameters at which it is plain
            cross-entropy, or what `reduces_to` says.
        reduces_to: `reduces_to(labels, logits)`, float64 losses per sample.
        learns_from_errors: Whether a sample that is wrong with certainty has a gradient. Losses
            made for noisy labels give such samples up on purpose.
    """

    name: str
    make: Callable
    oracle: Callable
    reduces: Callable
    reduces_to: Callable = reference.softmax_crossentropy
    learns_from_errors: bool = True

    def __str__(self):
        return self.name


def batch(seed=0, size=24, classes=CLASSES, scale=3.0):
    """Labels (all classes occur) and logits."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, size)])[:size]
    rng.shuffle(labels)
    return labels, (scale * rng.normal(size=(size, classes))).astype("float32")


def per_sample(loss, labels, logits, sample_weight=None):
    """The losses of the samples, unweighted, with the weights known to the loss."""
    losses = loss(labels, logits, sample_weight=sample_weight)
    losses = ops.convert_to_numpy(losses)
    if sample_weight is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            losses = losses / np.asarray(sample_weight)
    return losses


def assert_close(actual, expected, rtol=RTOL):
    """Relative to the largest expected value, as losses of single samples go down to zero."""
    expected = np.asarray(expected, "float64")
    scale = np.max(np.abs(expected))
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * max(scale, 1e-30))


# --- The laws -----------------------------------------------------------------------------------


def check_oracle(case):
    """Agrees with a naive float64 loop: index, column and one-hot labels, weighted or not."""
    loss = case.make(COUNTS, reduction=None)
    for seed in range(3):
        labels, logits = batch(seed)
        weight = np.random.default_rng(seed).uniform(0.2, 2, len(labels)).astype("float32")
        plain = case.oracle(labels, logits, COUNTS)
        assert_close(per_sample(loss, labels, logits), plain)
        assert_close(per_sample(loss, labels[:, None], logits), plain)
        one_hot = np.eye(CLASSES, dtype="float32")[labels]
        assert_close(per_sample(loss, one_hot, logits), plain)
        weighted = case.oracle(labels, logits, COUNTS, sample_weight=weight)
        assert_close(per_sample(loss, labels, logits, weight), weighted)


def check_soft_labels(case):
    """Agrees with the oracle on mixed and smoothed labels."""
    loss = case.make(COUNTS, reduction=None)
    labels, logits = batch(3)
    one_hot = np.eye(CLASSES)[labels]
    mixed = (0.7 * one_hot + 0.3 * one_hot[::-1]).astype("float32")
    smoothed = (0.9 * one_hot + 0.1 / CLASSES).astype("float32")
    for soft in (mixed, smoothed):
        assert_close(per_sample(loss, soft, logits), case.oracle(soft, logits, COUNTS))


def check_reduction_law(case):
    """At the neutral parameters it is plain cross-entropy, or the loss it generalises."""
    loss = case.reduces(COUNTS, reduction=None)
    labels, logits = batch(4)
    assert_close(per_sample(loss, labels, logits), case.reduces_to(labels, logits))


def check_batch_permutation(case):
    """The order of the samples in the batch does not matter."""
    loss = case.make(COUNTS, reduction=None)
    labels, logits = batch(5)
    order = np.random.default_rng(5).permutation(len(labels))
    assert_close(
        per_sample(loss, labels[order], logits[order]), per_sample(loss, labels, logits)[order]
    )


def check_class_relabelling(case):
    """The numbering of the classes does not matter."""
    labels, logits = batch(6)
    order = np.array([3, 0, 4, 1, 2])
    renumbered = case.make(np.array(COUNTS)[order], reduction=None)
    losses = per_sample(renumbered, np.argsort(order)[labels], logits[:, order])
    assert_close(losses, per_sample(case.make(COUNTS, reduction=None), labels, logits))


def check_gradient(case):
    """Its gradient is that of the oracle by finite differences, constants held."""
    loss = case.make(COUNTS)
    labels, logits = batch(7, size=8)
    _, gradient = value_and_gradient(lambda x: loss(labels, x), logits)

    def oracle(x):
        return case.oracle(labels, x, COUNTS, constant_at=logits).mean()

    assert_close(gradient, reference.finite_difference_gradient(oracle, logits), rtol=1e-4)


def check_extreme_logits(case):
    """Sure of the wrong class at +-100: the loss is finite and the gradient alive."""
    loss = case.make(COUNTS, reduction="sum")
    labels, logits = batch(0)
    samples = np.arange(len(labels))
    logits[:] = -100.0
    logits[samples, (labels + 1) % CLASSES] = 100.0
    losses, gradient = value_and_gradient(lambda x: loss(labels, x), logits)
    assert np.isfinite(losses), losses
    assert np.all(np.isfinite(gradient)), gradient
    if case.learns_from_errors:
        assert np.all(np.abs(gradient[samples, labels]) > 1e-3), gradient[samples, labels]


def check_absent_classes(case):
    """A batch of a few classes only."""
    loss = case.make(COUNTS, reduction=None)
    _, logits = batch(8)
    for labels in ([2, 2, 2, 2, 2, 2], [0, 4, 4, 0, 4, 4]):
        labels = np.resize(labels, len(logits))
        assert_close(per_sample(loss, labels, logits), case.oracle(labels, logits, COUNTS))


def check_low_precision(case):
    """bfloat16 and float16 logits, and labels that bfloat16 cannot tell apart."""
    classes = 300
    counts = np.random.default_rng(9).integers(1, 400, classes)
    loss = case.make(counts, reduction=None)
    labels = np.array([255, 256, 257, 258, 299, 0])
    logits = np.random.default_rng(9).normal(size=(len(labels), classes)).astype("float32")
    for dtype in ("bfloat16", "float16"):
        low = ops.cast(logits, dtype)
        losses = loss(labels, low)
        assert keras.backend.standardize_dtype(losses.dtype) == "float32", losses.dtype
        seen = ops.convert_to_numpy(ops.cast(low, "float32"))
        assert_close(ops.convert_to_numpy(losses), case.oracle(labels, seen, counts))


def check_serialization(case):
    """What comes back from its config behaves the same."""
    labels, logits = batch(10)
    loss = case.make(COUNTS, reduction="sum", name="of_my_own", dtype="float32")
    data = keras.saving.serialize_keras_object(loss)
    restored = keras.saving.deserialize_keras_object(data)
    assert type(restored) is type(loss)
    assert (restored.name, restored.reduction, restored.dtype) == ("of_my_own", "sum", "float32")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(restored(labels, logits)), ops.convert_to_numpy(loss(labels, logits))
    )


def check_compiled(case):
    """Compiled and eager agree, on labels that come as tensors."""
    loss = case.make(COUNTS, reduction=None)
    labels, logits = batch(11)
    eager = per_sample(loss, labels, logits)
    labels = ops.convert_to_tensor(labels, dtype="int32")
    # Only TensorFlow compiles in two ways.
    for xla in (True, False) if keras.backend.backend() == "tensorflow" else (True,):
        fast = compiled(lambda y, x: loss(y, x), xla=xla)
        assert_close(ops.convert_to_numpy(fast(labels, ops.convert_to_tensor(logits))), eager)


def check_zero_weight(case):
    """Samples of weight 0 change nothing, whatever they hold."""
    loss = case.make(COUNTS, reduction="sum")
    labels, logits = batch(12, size=12)
    other_labels, other_logits = batch(13, size=6)
    all_labels = np.concatenate([labels, other_labels])
    weight = np.concatenate([np.ones(12), np.zeros(6)]).astype("float32")

    def with_others(x):
        return loss(all_labels, ops.concatenate([x, 5 * other_logits]), sample_weight=weight)

    value, gradient = value_and_gradient(with_others, logits)
    plain_value, plain_gradient = value_and_gradient(lambda x: loss(labels, x), logits)
    assert_close(value, plain_value)
    assert_close(gradient, plain_gradient)


def check_nan_is_seen(case):
    """NaN or infinite logits give a NaN loss for their sample, and leave the others alone."""
    loss = case.make(COUNTS, reduction=None)
    labels, logits = batch(14)
    weight = np.where(np.arange(len(labels)) < 2, 0, 1).astype("float32")
    clean = per_sample(loss, labels, logits, weight)[2:]
    spoilt = logits.copy()
    spoilt[0, 1], spoilt[1, 3] = np.nan, np.inf
    losses = per_sample(loss, labels, spoilt)
    assert np.all(np.isnan(losses[:2])), losses
    assert_close(losses[2:], clean)


def check_bad_labels_when_compiled(case):
    """Compiled code cannot raise: a label that is no class gives NaN, and leaves others alone."""
    loss = case.make(COUNTS, reduction=None)
    labels, logits = batch(15)
    if keras.backend.backend() == "torch":  # runs eagerly, where it can raise
        refused = ""
        try:
            loss(np.where(labels == 0, CLASSES, labels), logits)
        except ValueError as error:
            refused = str(error)
        assert f"must lie in [0, {CLASSES})" in refused, "a label that is no class was accepted"
        return
    weight = np.where(np.arange(len(labels)) < 3, 0, 1).astype("float32")
    clean = per_sample(loss, labels, logits, weight)[3:]
    labels = labels.astype("float32")
    labels[:3] = [-1, CLASSES, 1.5]
    fast = compiled(lambda y, x: loss(y, x))
    losses = ops.convert_to_numpy(fast(ops.convert_to_tensor(labels), logits))
    assert np.all(np.isnan(losses[:3])), losses
    assert_close(losses[3:], clean)


def check_fit(case):
    """Trains in a plain model; weight 0 changes nothing; one-hot labels do what indices do."""
    rng = np.random.default_rng(16)
    x = rng.normal(size=(32, 6)).astype("float32")
    y = np.arange(32) % CLASSES
    weight = np.where(np.arange(32) < 24, 1.5, 0).astype("float32")
    trained = []
    for scramble, labels in ((False, y), (True, np.eye(CLASSES, dtype="float32")[y])):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(CLASSES)])
        model.compile(keras.optimizers.SGD(0.1), loss=case.make(COUNTS))
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


CHECKS = {name: check for name, check in list(globals().items()) if name.startswith("check_")}
