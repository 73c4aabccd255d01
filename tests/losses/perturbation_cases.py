"""Cases for the contract: presets of perturbations other than LPL and logit adjustment.

Losses that need an `LPLModel` get what it would lay out from `Informed`: a context made from the
class counts and the logits, so that it follows when samples or classes are put in another order.
"""

import types

import keras
import numpy as np
from keras import ops

import keras_lpl
from keras_lpl.core.context import Context, context_scope
from tests import reference, reference_losses, reference_perturbations
from tests.contract import COUNTS, LossCase

NUM_FEATURES = 3
STEPS = 2.0
PROGRESS = 0.7


def of_classes(class_counts, *shape):
    """Random numbers `(num_classes, *shape)`, drawn for each class from its count."""
    rows = [np.random.default_rng(int(count)).normal(size=shape) for count in class_counts]
    return np.stack(rows).astype("float32")


def kernel_of(class_counts):
    return of_classes(class_counts, NUM_FEATURES).T


def covariance_of(class_counts, diagonal):
    if diagonal:
        return of_classes(class_counts, 1, NUM_FEATURES)[:, 0] ** 2
    root = of_classes(class_counts, NUM_FEATURES, NUM_FEATURES)
    return root @ root.transpose(0, 2, 1)


def centers_of(class_counts):
    return of_classes(class_counts, 2, NUM_FEATURES)[:, 1]


def mixing_of(class_counts):
    """Features are a linear map of the logits: `(num_classes, NUM_FEATURES)`."""
    mixing = of_classes(class_counts, 3, NUM_FEATURES)[:, 2]
    return (mixing / np.sqrt(len(class_counts))).astype("float32")


@keras.saving.register_keras_serializable("keras_lpl_tests")
class Informed(keras.losses.Loss):
    """A loss with the context laid out that it needs."""

    def __init__(self, loss, class_counts):
        super().__init__(name=loss.name, reduction=loss.reduction, dtype=loss.dtype)
        self.loss = loss
        self.class_counts = [int(count) for count in class_counts]

    def __call__(self, y_true, y_pred, sample_weight=None):
        logits = ops.cast(y_pred, "float32")
        if logits.shape[-1] == 1:  # one logit `u` is `[0, u]`
            logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
        features = ops.matmul(logits, mixing_of(self.class_counts))
        return self.of_features(y_true, y_pred, features, sample_weight)

    def of_features(self, y_true, y_pred, features, sample_weight=None):
        """The loss, with features of one's own."""
        counts = self.class_counts
        statistics = {
            "full_moments": types.SimpleNamespace(
                scatter=3 * covariance_of(counts, False),
                count=np.full((len(counts), 1), 3, "float32"),
            ),
            "diagonal_moments": types.SimpleNamespace(covariance=covariance_of(counts, True)),
            "centers": types.SimpleNamespace(centers=centers_of(counts)),
            "steps": types.SimpleNamespace(steps=np.float32(STEPS)),
            "counts": types.SimpleNamespace(counts=np.array(counts, "float32")),
        }
        context = Context(
            kernel=ops.convert_to_tensor(kernel_of(counts)),
            progress=ops.convert_to_tensor(np.float32(PROGRESS)),
            statistics=statistics,
        )
        with context_scope(context, features):
            return self.loss(y_true, y_pred, sample_weight)

    def get_config(self):
        loss = keras.saving.serialize_keras_object(self.loss)
        return {"loss": loss, "class_counts": self.class_counts}

    @classmethod
    def from_config(cls, config):
        loss = keras.saving.deserialize_keras_object(config["loss"])
        return cls(loss, config["class_counts"])


def _case(name, make, change, neutral, reduces_to=reference.softmax_crossentropy, **keywords):
    """A case from `change(labels, logits, counts, constant_at)`, the oracle of the logits."""

    def oracle(labels, logits, class_counts, sample_weight=None, constant_at=None):
        changed = change(labels, np.asarray(logits, "float64"), class_counts, constant_at)
        return reference.softmax_crossentropy(labels, changed)

    return LossCase(name, make, oracle, neutral, reduces_to, **keywords)


def _informed(make):
    def made(counts, **keywords):
        return Informed(make(counts, **keywords), counts)

    return made


def _isda_case(covariance, schedule):
    strength = 0.5 * (PROGRESS if schedule else 1)

    def change(labels, logits, counts, constant_at):
        moments = covariance_of(counts, covariance == "diagonal")
        return reference_perturbations.isda(labels, logits, kernel_of(counts), moments, strength)

    return _case(
        f"isda-{covariance}",
        _informed(lambda counts, **k: keras_lpl.ISDALoss(0.5, schedule, covariance, **k)),
        change,
        _informed(lambda counts, **k: keras_lpl.ISDALoss(0.0, schedule, covariance, **k)),
        is_variant=covariance == "diagonal",
    )


def _large_margin_case(margin, annealing):
    settings = {"annealing": annealing, "gamma": 0.25, "power": 2.0}

    def change(labels, logits, counts, constant_at):
        features, kernel = logits @ mixing_of(counts), kernel_of(counts)
        now = annealing * (1 + 0.25 * STEPS) ** -2.0
        return reference_perturbations.large_margin(labels, logits, features, kernel, margin, now)

    return _case(
        f"large-margin-{margin}",
        _informed(lambda counts, **k: keras_lpl.LargeMarginLoss(margin, **settings, **k)),
        change,
        _informed(lambda counts, **k: keras_lpl.LargeMarginLoss(1, **settings, **k)),
    )


@keras.saving.register_keras_serializable("keras_lpl_tests")
class CloudOfLogits(keras_lpl.perturbations.GCL):
    """GCL whose noise follows from the logits, and so goes with the sample and the class."""

    def draw(self, samples, context):
        return ops.stop_gradient(ops.abs(ops.sin(samples.logits)))


def _gcl(counts, **keywords):
    cloud = CloudOfLogits(counts, noise=0.8, margin=0.2, scale=4.0)
    return keras_lpl.PerturbedCrossentropy([cloud], **keywords)


def _gcl_change(labels, logits, counts, constant_at):
    drawn = np.abs(np.sin(logits if constant_at is None else np.asarray(constant_at, "float64")))
    return reference_perturbations.gcl(
        labels, logits, counts, drawn, noise=0.8, margin=0.2, scale=4.0
    )


def _center_oracle(labels, logits, class_counts, sample_weight=None, constant_at=None):
    features = np.asarray(logits, "float64") @ mixing_of(class_counts)
    return reference_perturbations.center_loss(
        labels, logits, features, centers_of(class_counts), strength=0.3
    )


def _self_corrected_oracle(labels, logits, class_counts, sample_weight=None, constant_at=None):
    trust = 1 / (1 + np.exp(-4.0 * (PROGRESS - 0.6)))
    return reference_losses.self_corrected(labels, logits, trust, constant_at)


def _adversarial_case(norm, steps):
    settings = {"epsilon": 0.3, "num_steps": steps, "norm": norm}

    def change(labels, logits, counts, constant_at):
        kernel = kernel_of(counts)
        return reference_perturbations.adversarial(
            labels, logits, kernel, **settings, at=constant_at
        )

    return _case(
        f"adversarial-{norm}",
        _informed(lambda counts, **k: keras_lpl.AdversarialFeatureLoss(**settings, **k)),
        change,
        _informed(lambda counts, **k: keras_lpl.AdversarialFeatureLoss(0.0, **k)),
        is_variant=norm == "linf",
    )


CASES = [
    _adversarial_case("l2", 3),
    _adversarial_case("linf", 1),
    _case(
        "vector-scaling",
        lambda counts, **k: keras_lpl.VSLoss(counts, gamma=0.2, tau=1.5, **k),
        lambda labels, logits, counts, _: reference_perturbations.vector_scaling(
            labels, logits, counts, gamma=0.2, tau=1.5
        ),
        lambda counts, **k: keras_lpl.VSLoss(counts, gamma=0.0, tau=1.5, **k),
        lambda labels, logits: reference.logit_adjustment_loss(labels, logits, COUNTS, tau=1.5),
    ),
    _case(
        "ldam",
        lambda counts, **k: keras_lpl.LDAMLoss(counts, scale=4.0, **k),
        lambda labels, logits, counts, _: reference_perturbations.ldam(
            labels, logits, counts, max_margin=0.5, scale=4.0
        ),
        lambda counts, **k: keras_lpl.LDAMLoss(counts, max_margin=0.0, scale=1.0, **k),
    ),
    _case(
        "ala",
        lambda counts, **k: keras_lpl.ALALoss(counts, scale=4.0, **k),
        lambda labels, logits, counts, at: reference_perturbations.ala(
            labels, logits, counts, scale=4.0, constant_at=at
        ),
        # Where all classes are as frequent, what is left is the difficulty of the sample.
        lambda counts, **k: keras_lpl.ALALoss([7] * len(counts), scale=1.0, **k),
        lambda labels, logits: reference.softmax_crossentropy(
            labels, logits - np.eye(logits.shape[1])[labels] * (1 - logits) / 2
        ),
    ),
    _case(
        "gcl",
        _informed(_gcl),
        _gcl_change,
        _informed(
            lambda counts, **k: keras_lpl.GCLLoss(counts, noise=0.0, margin=0.0, scale=1.0, **k)
        ),
    ),
    _case(
        "seesaw",
        lambda counts, **k: keras_lpl.SeesawLoss(counts, **k),
        lambda labels, logits, counts, at: reference_perturbations.seesaw(
            labels, logits, counts, p=0.8, q=2.0, constant_at=at
        ),
        lambda counts, **k: keras_lpl.SeesawLoss(counts, p=0.0, q=0.0, **k),
    ),
    _isda_case("full", "linear"),
    _isda_case("diagonal", None),
    _large_margin_case(4, annealing=0.5),
    LossCase(
        "center",
        _informed(lambda counts, **k: keras_lpl.CenterLoss(strength=0.3, **k)),
        _center_oracle,
        _informed(lambda counts, **k: keras_lpl.CenterLoss(strength=0.0, **k)),
    ),
    LossCase(
        "proselflc",
        _informed(lambda counts, **k: keras_lpl.ProSelfLCLoss(4.0, transition=0.6, **k)),
        _self_corrected_oracle,
        # Steep, and late: until then the model is not trusted at all.
        _informed(lambda counts, **k: keras_lpl.ProSelfLCLoss(1000.0, transition=1.0, **k)),
    ),
]
