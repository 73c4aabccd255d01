"""Every loss keeps the contract, and each law of the contract can be broken."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from tests import contract, reference
from tests.contract import CHECKS, COUNTS, LossCase
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


def _lpl_case(name, split, tau=0.0, normalize_gradient=True, **settings):
    def make(counts, **keywords):
        return keras_lpl.LPLLoss(
            class_counts=counts,
            split=split,
            logit_adjustment=tau,
            normalize_gradient=normalize_gradient,
            **settings,
            **keywords,
        )

    def reduces(counts, **keywords):
        return keras_lpl.LPLLoss(
            class_counts=counts, split=split, epsilon=0.0, delta_epsilon=0.0, **keywords
        )

    return LossCase(name, make, _lpl_oracle(split, tau, normalize_gradient, **settings), reduces)


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
    ),
    _lpl_case("lpl-as-printed", "frequency", normalize_gradient=False, **_varied),
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
    ),
    LossCase("plain", _plain, _plain_oracle, _plain),
    *plain_cases.CASES,
    *perturbation_cases.CASES,
]


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
@pytest.mark.parametrize("case", CASES, ids=str)
def test_contract(case, check):
    check(case)


# --- The laws can fail: a loss with one fault each ---------------------------------------------


@keras.saving.register_keras_serializable("keras_lpl_tests")
class Faulty(keras.losses.Loss):
    """Cross-entropy with a fault of choice."""

    def __init__(self, fault="", class_counts=None, reduction="sum_over_batch_size", **keywords):
        if fault == "serialization":
            keywords.pop("dtype", None)
            fault = "serialization-restored" if class_counts is None else fault
        super().__init__(reduction=reduction, **keywords)
        self.fault = fault

    def get_config(self):
        return {"fault": self.fault, **super().get_config(), "dtype": self.dtype}

    def __call__(self, y_true, y_pred, sample_weight=None):
        if self.fault == "low_precision":
            y_true = ops.cast(ops.cast(y_true, "bfloat16"), "int32")
        if self.fault == "zero_weight" and sample_weight is not None:
            sample_weight = ops.ones_like(sample_weight)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, labels, logits):
        if self.fault == "nan_is_seen":
            logits = ops.where(ops.isfinite(logits), logits, 0.0)
        classes = logits.shape[-1]
        if len(labels.shape) == 2 and labels.shape[-1] == classes:
            if self.fault == "soft_labels":
                labels = ops.one_hot(ops.argmax(labels, axis=-1), classes)
        else:
            labels = ops.reshape(ops.cast(labels, "int32"), (-1,))
            labels = ops.one_hot(ops.clip(labels, 0, classes - 1), classes)
        losses = ops.categorical_crossentropy(labels, logits, from_logits=True)
        if self.fault == "extreme_logits":
            losses = -ops.log(ops.clip(ops.sum(labels * ops.softmax(logits), -1), 1e-7, 1.0))
        if self.fault == "batch_permutation":
            losses = losses * ops.cumsum(ops.ones_like(losses))
        if self.fault == "class_relabelling":
            losses = losses + 0.1 * labels[:, 0]
        if self.fault == "gradient":
            losses = ops.stop_gradient(losses) + 0.9 * (losses - ops.stop_gradient(losses))
        if self.fault in ("oracle", "reduction_law"):
            losses = losses * 1.001
        if self.fault == "absent_classes":
            losses = losses / ops.cast(ops.min(ops.max(labels, axis=0)), losses.dtype)
        if self.fault == "compiled" and not isinstance(contract_value(losses), np.ndarray):
            losses = losses * 1.001
        if self.fault == "compiled" and keras.backend.backend() == "torch":
            self.calls = getattr(self, "calls", 0) + 1
            losses = losses * self.calls
        if self.fault == "fit":
            losses = ops.stop_gradient(losses) + 0 * losses
        if self.fault == "serialization-restored":
            losses = losses * 1.001
        return losses


def contract_value(tensor):
    """The tensor's values, or None while code is being traced."""
    try:
        return ops.convert_to_numpy(tensor)
    except Exception:
        return None


def _faulty_case(fault):
    def make(counts, **keywords):
        return Faulty(fault, class_counts=counts, **keywords)

    return LossCase(f"faulty-{fault}", make, _plain_oracle, make)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_each_law_can_fail(check):
    fault = check.__name__.removeprefix("check_")
    with pytest.raises(AssertionError):
        check(_faulty_case(fault))


@pytest.mark.parametrize("check", ["oracle", "gradient", "compiled", "zero_weight", "fit"])
def test_a_loss_without_a_fault_passes(check):
    CHECKS[f"check_{check}"](_faulty_case("none"))


def test_counts_of_the_contract_are_not_sorted():
    assert list(COUNTS) != sorted(COUNTS, reverse=True)
    assert contract.CLASSES == 5
