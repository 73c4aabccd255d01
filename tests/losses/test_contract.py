"""Every loss keeps the contract, and each law of the contract can be broken."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from keras_lpl import engines
from tests import reference
from tests.contract import CHECKS, COUNTS, LossCase, assert_close, batch, laws_of
from tests.losses import perturbation_cases, plain_cases


def _lpl_oracle(split, tau=0.0, normalize_gradient=True, **settings):
    """Algorithm 2 in float64, with what the bare loss knows: its batch."""
    step_size = settings.pop("step_size")
    threshold = settings.pop("threshold")

    def oracle(labels, logits, class_counts, sample_weight=None, constant_at=None):
        at = np.asarray(logits if constant_at is None else constant_at, "float64")
        prior = tau * np.log(np.asarray(class_counts) / np.sum(class_counts))
        if split == "frequency":
            direction = reference.split_by_frequency(class_counts, threshold)
            bound = reference.bound_by_frequency(class_counts, threshold, **settings)
        else:
            confidence, weight = reference.class_confidence(labels, at, sample_weight)
            direction = reference.split_by_confidence(confidence, threshold, weight)
            bound = reference.bound_by_confidence(confidence, threshold, weight=weight, **settings)
        steps = reference.num_steps(bound, step_size)
        start = at + prior
        perturbed = reference.perturb_logits(
            labels, start, direction, steps, step_size, normalize_gradient, sample_weight
        )
        shifted = np.asarray(logits, "float64") + (perturbed - at)
        return reference.softmax_crossentropy(labels, shifted)

    return oracle


def _log_bound_oracle(
    labels, logits, class_counts, sample_weight=None, constant_at=None, num_steps=1
):
    """LA, then `num_steps` equal steps by the logarithmic bound times a power of the confidence."""
    at = np.asarray(logits if constant_at is None else constant_at, "float64")
    direction, bound = reference.split_and_bound_by_log_frequency(class_counts, 1.5, 0.7)
    confidence, _ = reference.class_confidence(labels, at, sample_weight)
    bound = bound * confidence**2
    start = at + np.log(np.asarray(class_counts) / np.sum(class_counts))
    steps = np.full(len(bound), num_steps)
    perturbed = reference.perturb_logits(
        labels, start, direction, steps, bound / num_steps, sample_weight=sample_weight
    )
    return reference.softmax_crossentropy(labels, np.asarray(logits, "float64") + perturbed - at)


def _lpl_case(name, split, tau=0.0, normalize_gradient=True, is_variant=False, **settings):
    def make(counts, **keywords):
        return keras_lpl.LPLLoss(
            class_counts=counts,
            split=split,
            logit_adjustment=tau,
            normalize_gradient=normalize_gradient,
            bound="ratio",
            **settings,
            **keywords,
        )

    def reduces(counts, **keywords):
        return keras_lpl.LPLLoss(
            class_counts=counts,
            split=split,
            epsilon=0.0,
            delta_epsilon=0.0,
            bound="ratio",
            **keywords,
        )

    oracle = _lpl_oracle(split, tau, normalize_gradient, **settings)
    return LossCase(name, make, oracle, reduces, is_variant=is_variant)


def _log_bound_case(name, num_steps, is_variant=False):
    """As `_log_bound_oracle`."""

    def make(counts, **keywords):
        return keras_lpl.LPLLoss(
            counts,
            logit_adjustment=1.0,
            bound="logarithmic",
            delta_epsilon=1.5,
            head_scale=0.7,
            confidence_power=2.0,
            num_steps=num_steps,
            **keywords,
        )

    def reduces(counts, **keywords):
        return keras_lpl.LPLLoss([7] * len(counts), bound="logarithmic", **keywords)

    oracle = functools.partial(_log_bound_oracle, num_steps=num_steps)
    return LossCase(name, make, oracle, reduces, is_variant=is_variant)


def _la_oracle(labels, logits, class_counts, sample_weight=None, constant_at=None):
    return reference.logit_adjustment_loss(labels, logits, class_counts, tau=1.5)


def _plain_oracle(labels, logits, class_counts, sample_weight=None, constant_at=None):
    return reference.softmax_crossentropy(labels, logits)


def _plain(class_counts, **keywords):
    return keras_lpl.PerturbedCrossentropy([], **keywords)


_varied = {"threshold": 0.4, "epsilon": 0.15, "delta_epsilon": 1.0, "step_size": 0.1}

CASES = [
    _lpl_case("lpl-frequency-varied", "frequency", **_varied, head_scale=0.6),
    _lpl_case(
        "lpl-frequency-fixed",
        "frequency",
        threshold=2,
        epsilon=0.55,
        delta_epsilon=0.0,
        step_size=0.1,
        is_variant=True,
    ),
    _lpl_case(
        "lpl-confidence-varied",
        "confidence",
        threshold="mean",
        epsilon=0.25,
        delta_epsilon=0.4,
        step_size=0.03,
    ),
    _lpl_case(
        "lpl-confidence-fixed",
        "confidence",
        threshold=0.4,
        epsilon=0.5,
        delta_epsilon=0.0,
        step_size=0.06,
        is_variant=True,
    ),
    _lpl_case("lpl-as-printed", "frequency", normalize_gradient=False, is_variant=True, **_varied),
    _log_bound_case("la+lpl-one-step", num_steps=1),
    _log_bound_case("la+lpl-three-steps", num_steps=3, is_variant=True),
    _lpl_case("la+lpl", "frequency", tau=1.5, **_varied),
    LossCase(
        "logit-adjustment",
        lambda counts, **keywords: keras_lpl.LogitAdjustmentLoss(counts, tau=1.5, **keywords),
        _la_oracle,
        lambda counts, **keywords: keras_lpl.LogitAdjustmentLoss(counts, tau=0.0, **keywords),
    ),
    LossCase(
        "logit-adjustment-equal-counts",
        lambda counts, **keywords: keras_lpl.LogitAdjustmentLoss(counts, tau=1.5, **keywords),
        _la_oracle,
        lambda counts, **keywords: keras_lpl.LogitAdjustmentLoss([7] * len(counts), **keywords),
        is_variant=True,
    ),
    LossCase("plain", _plain, _plain_oracle, _plain),
    *plain_cases.CASES,
    *perturbation_cases.CASES,
]


# Of how a loss reads its batch, and all losses have that from one place. The others are laws of
# their arithmetic.
OF_READING = {
    "bad_labels",
    "dense_output",
    "ignored_rows",
    "label_dtypes",
    "low_precision",
    "nan_stays_in_its_row",
    "one_hot_labels",
    "one_logit",
    "several_labels",
    "zero_weight",
}


def contract():
    for case in CASES:
        for law in laws_of(case):
            marks = [pytest.mark.shared_out] if law in OF_READING else []
            yield pytest.param(case, law, id=f"{case}-{law}", marks=marks)


@pytest.mark.parametrize(("case", "law"), contract())
def test_contract(case, law):
    CHECKS[law](case)


# --- The laws can fail: a loss with one fault each ---------------------------------------------


@keras.saving.register_keras_serializable("keras_lpl_tests")
class Faulty(keras_lpl.PerturbedCrossentropy):
    """Cross-entropy with a fault of choice."""

    def __init__(self, fault="", class_counts=None, **keywords):
        self.fault = fault
        self.is_restored = class_counts is None
        self.calls = 0
        super().__init__([], **keywords)

    def get_config(self):
        config = super().get_config()
        del config["perturbations"]
        return {"fault": self.fault, **config}

    def read(self, y_true, y_pred, sample_weight=None, scope=None):
        is_half = keras.backend.standardize_dtype(y_pred.dtype) != "float32"
        if self.fault == "low_precision" and is_half:
            rounded = ops.cast(ops.cast(y_true, "bfloat16"), "int32")
            y_true = ops.minimum(rounded, y_pred.shape[-1] - 1)
        if self.fault == "label_dtypes" and getattr(y_true, "dtype", None) == np.uint8:
            y_true = np.minimum(y_true, 127)
        if self.fault == "nan_stays_in_its_row":
            y_pred = ops.nan_to_num(ops.convert_to_tensor(y_pred))
        if self.fault == "bad_labels" and len(np.shape(y_true)) == 1:
            y_true = ops.clip(ops.convert_to_tensor(y_true), 0, y_pred.shape[-1] - 1)
        if self.fault == "one_logit" and y_pred.shape[-1] == 1:
            y_pred = 1.01 * y_pred
        return super().read(y_true, y_pred, sample_weight, scope)

    def _weight_of_losses(self, samples, weight, scope):
        if self.fault in ("zero_weight", "fit_with_weights", "ignored_rows"):
            return None
        return super()._weight_of_losses(samples, weight, scope)

    def call(self, y_true, y_pred):
        losses = super().call(y_true, y_pred)
        is_dense = self.fault == "dense_output" and len(losses.shape) > 1
        return ops.reshape(losses, (-1,)) if is_dense else losses

    def per_sample(self, samples, context):
        losses = super().per_sample(samples, context)
        faults = {
            "oracle": True,
            "reduction_law": True,
            "one_hot_labels": samples.has_soft_labels,
            "soft_labels": samples.has_soft_labels,
            "low_precision_oracle": True,
            "several_labels": samples.num_problems is not None,
            "serialization": self.is_restored,
            "compiled": engines.concrete(losses) is None,
        }
        if faults.get(self.fault):
            losses = losses * 1.001
        if self.fault == "compiled" and not engines.compiles():
            self.calls += 1
            losses = losses * self.calls
        if self.fault == "extreme_logits":
            p = ops.sum(samples.membership * ops.softmax(samples.logits), axis=-1)
            losses = -ops.log(ops.clip(p, 1e-7, 1.0))
        if self.fault == "batch_permutation":
            losses = losses * ops.cumsum(ops.ones_like(losses))
        if self.fault == "class_relabelling":
            losses = losses + 0.1 * samples.membership[:, 0]
        if self.fault == "gradient":
            losses = ops.stop_gradient(losses) + 0.9 * (losses - ops.stop_gradient(losses))
        if self.fault == "absent_classes":
            losses = losses / ops.min(ops.max(samples.membership, axis=0))
        if self.fault == "fit":
            losses = ops.stop_gradient(losses) + 0 * losses
        return losses


def _faulty_case(fault):
    def make(counts, **keywords):
        return Faulty(fault, class_counts=counts, **keywords)

    return LossCase(f"faulty-{fault}", make, _plain_oracle, make)


@pytest.mark.parametrize("name", CHECKS)
def test_each_law_can_fail(name):
    with pytest.raises(AssertionError):
        CHECKS[name](_faulty_case(name))


@pytest.mark.parametrize("name", CHECKS)
def test_a_loss_without_a_fault_passes(name):
    CHECKS[name](_faulty_case("none"))


# --- Features: of losses that read them, with what an `LPLModel` would lay out -------------------


@pytest.mark.parametrize("name", ["isda-full", "isda-diagonal", "large-margin-4", "center"])
def test_bad_features_stay_in_their_row(name):
    (case,) = (case for case in CASES if case.name == name)
    labels, logits = batch(30, size=8)
    loss = case.make(COUNTS, reduction="sum")
    features = (logits @ perturbation_cases.mixing_of(COUNTS)).astype("float32")
    bad = features.copy()
    bad[:4, 1] = np.nan, np.inf, -np.inf, 1e16
    weight = np.where(np.arange(8) < 4, 0, 1).astype("float32")

    def total(flat, weight=None):
        x, z = (ops.reshape(part, (8, -1)) for part in ops.split(flat, [logits.size]))
        return loss.of_features(labels, x, z, weight)

    def gradients(flat):
        return [part.reshape(8, -1) for part in np.split(flat, [logits.size])]

    flat, flat_bad = (np.concatenate([logits.ravel(), z.ravel()]) for z in (features, bad))
    clean = gradients(engines.value_and_gradient(lambda x: total(x, weight), flat)[1])
    eager = engines.value_and_gradient(total, flat_bad)
    for value, flat_gradient in (eager, engines.compiled_value_and_gradient(total)(flat_bad)):
        assert np.isnan(value)
        for one, other in zip(gradients(flat_gradient), clean, strict=True):
            assert not one[:4].any()
            assert_close(one[4:], other[4:])


# --- Sizes that TensorFlow learns only when the code runs -----------------------------------------


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="others know all sizes")
@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("which", ["one label", "one soft label", "one weight"])
def test_one_label_or_weight_is_not_spread_over_a_batch_of_unknown_size(which, xla):
    import tensorflow as tf

    loss = keras_lpl.FocalLoss()
    y, weight = np.zeros(8, "int32"), np.ones(8, "float32")
    if which == "one soft label":
        y = np.eye(3, dtype="float32")[y]
    arguments = [y[:1] if "label" in which else y, np.zeros((8, 3), "float32")]
    arguments.append(weight[:1] if which == "one weight" else weight)
    signature = [tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in arguments]
    fast = tf.function(lambda *a: loss(*a), input_signature=signature, jit_compile=xla)
    with pytest.raises(Exception, match=r"as many rows as the logits|[Ii]ncompatible|[Ss]hape"):
        fast(*arguments)
    assert np.isfinite(fast(y, arguments[1], weight))


@pytest.mark.parametrize("name", ["ldam", "ala", "vector-scaling"])
def test_scaled_logits_of_any_size_agree_with_eager(name):
    """Compilers merge the scale into the softmax's `x - max(x)`, unless they are kept from it."""
    counts = [900, 300, 80, 20, 7]
    loss = {
        "ldam": lambda: keras_lpl.LDAMLoss(counts, reduction="sum"),
        "ala": lambda: keras_lpl.ALALoss(counts, reduction="sum"),
        "vector-scaling": lambda: keras_lpl.VSLoss(counts, gamma=1.0, tau=0.0, reduction="sum"),
    }[name]()
    labels = np.arange(6) % 5

    def total(x):
        return loss(labels, x)

    fast = engines.compiled_value_and_gradient(total)
    for seed, size in enumerate([1e4, 1e8, 1e9, 1e10, 1e20, 1e28]):
        logits = (size * np.random.default_rng(seed).normal(size=(6, 5))).astype("float32")
        expected = engines.value_and_gradient(total, logits)
        for one, other in zip(fast(logits), expected, strict=True):
            assert_close(one, other)
