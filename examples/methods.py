"""Every method by the name that tables use: its loss, and what else it changes about training.

A method is one entry of `METHODS`. What most of them change is the loss; some bring a head, a
callback, a sampler, or other labels. `Training` holds what they may want to know.
"""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

import keras_lpl
from keras_lpl import perturbations


@dataclasses.dataclass(frozen=True)
class Training:
    """What a method may depend on.

    Attributes:
        class_counts: Training samples per class.
        epochs: Length of the training.
        steps: The same in batches.
        lpl: Arguments of `LPL`: `threshold`, `delta_epsilon` and so on.
        lpl_by_confidence: The same for "LPL by confidence".
        tau: How much logit adjustment adds of the classes' log frequencies.
    """

    class_counts: tuple
    epochs: int
    steps: int
    lpl: dict = dataclasses.field(default_factory=dict)
    lpl_by_confidence: dict = dataclasses.field(default_factory=dict)
    tau: float = 1.0


@dataclasses.dataclass(frozen=True)
class Method:
    """What makes a method.

    Attributes:
        loss: `loss(training)` returns the Keras loss.
        cosine_head: Whether the model ends in `keras_lpl.layers.CosineDense`.
        one_hot: Whether labels are given as one-hot rows.
        numbered: Whether labels are given with the number of their sample.
        sampling: As in `keras_lpl.data.ArrayDataset`.
        disturb_rate: As in `keras_lpl.data.ArrayDataset`.
        deferred: Whether class weights set in after four fifths of the epochs.
        post_hoc: Whether the trained model's logits are adjusted for prediction.
        retrained: `retrained(training)` returns the loss of a new classifier, which is trained in
            the end on features that stay; None to keep the one that was trained with them.
        adversarial: Arguments of `keras_lpl.models.AdversarialModel`, if it is to train on those.
        meta: `meta(training)` returns what a `keras_lpl.models.MetaModel` learns from a few
            balanced samples.
        two_branches: Whether it trains a `keras_lpl.models.BBNModel`.
        generator: One of `reproduction.generators.KINDS`, which makes a share of each batch.
    """

    loss: Callable
    cosine_head: bool = False
    one_hot: bool = False
    numbered: bool = False
    sampling: str | None = None
    disturb_rate: float = 0.0
    deferred: bool = False
    post_hoc: bool = False
    retrained: Callable | None = None
    adversarial: dict | None = None
    meta: Callable | None = None
    two_branches: bool = False
    generator: str | None = None

    def labels(self, y, num_classes):
        """Class indices in the form in which the method takes them."""
        if self.numbered:
            return keras_lpl.data.numbered_labels(y)
        return keras.utils.to_categorical(y, num_classes) if self.one_hot else y

    def model(self, network, training, meta_data, virtual_learning_rate=None):
        """The model that trains the network.

        Args:
            network: A Keras model that ends in logits.
            training: The `Training`.
            meta_data: Returns balanced samples `(x, y)`, if the method wants some.
            virtual_learning_rate: Of its look ahead, which is gradient descent; None for that of
                the optimizer.
        """
        if self.adversarial is not None:
            return keras_lpl.models.AdversarialModel.from_model(network, **self.adversarial)
        if self.two_branches:
            is_residual = any(layer.name.startswith("stage") for layer in network.layers)
            shared = None if is_residual else network.layers[-3].name  # one layer each, of an MLP
            return keras_lpl.models.BBNModel.from_model(network, split_after=shared)
        if self.meta is None:
            return keras_lpl.LPLModel.from_model(network)
        return keras_lpl.models.MetaModel.from_model(
            network,
            method=self.meta(training),
            meta_data=meta_data(),
            virtual_learning_rate=virtual_learning_rate,
        )

    def callbacks(self, training):
        """The Keras callbacks it trains with."""
        if not self.deferred:
            return []
        # 160 of 200 epochs, as in Cao et al.
        start = round(0.8 * training.epochs)
        return [keras_lpl.callbacks.DeferredReweighting(training.class_counts, start)]

    def head(self, num_classes, **kwargs):
        """The last layer."""
        layer = keras_lpl.layers.CosineDense if self.cosine_head else keras.layers.Dense
        return layer(num_classes, **kwargs)

    def for_prediction(self, model, training, data):
        """The model that predicts, made from the one that was trained on `data`."""
        if self.retrained is not None:
            _retrain_classifier(model, self.retrained(training), data, training)
        if not self.post_hoc:
            return model
        return keras_lpl.models.with_logit_adjustment(model, training.class_counts)


def _retrain_classifier(model, loss, data, training):
    """Trains the last layer anew, for a fifth of the epochs, and nothing else.

    It starts from zero, at a rate that falls to zero: the logits it is to learn are small.
    """
    epochs, more = training.epochs, max(1, training.epochs // 5)
    *features, head = model.layers
    for layer in features:
        layer.trainable = False
    for variable in head.trainable_variables:
        variable.assign(ops.zeros(variable.shape))
    rate = keras.optimizers.schedules.CosineDecay(1e-3, more * training.steps // epochs)
    model.compile(keras.optimizers.Adam(rate), loss=loss)
    span = {"initial_epoch": epochs, "epochs": epochs + more}
    model.fit(data, shuffle=False, verbose=0, **span)


def crossentropy(training):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def weighted_crossentropy(training):
    """Weighted means, so that class weights do not change the size of the steps."""
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )


def ldam(training, **keywords):
    return keras_lpl.LDAMLoss(training.class_counts, **keywords)


def composed(*parts):
    """`parts` are functions from `Training` to a perturbation, applied in their order."""

    def loss(training):
        return keras_lpl.PerturbedCrossentropy([part(training) for part in parts])

    return loss


def _la(training):
    return perturbations.LogitAdjustment(training.class_counts)


@keras.saving.register_keras_serializable("keras_lpl_examples")
class LogarithmicLPL(perturbations.LPL):
    """LPL whose bound follows the logarithm of the count, as the shift of logit adjustment does.

    The paper's `N_min / N_c` falls off fast: with ten classes and imbalance factor 100, the second
    rarest class has 0.6 of the rarest one's bound and the fifth rarest 0.13; here 0.8 and 0.27.
    """

    supports_multi_label = False

    def direction_and_bound(self, confidence=None, weight=None):
        direction, bound = super().direction_and_bound(confidence, weight)
        if np.ptp(self.class_counts) == 0 or np.ptp(direction) == 0:
            return direction, np.zeros_like(bound)  # no class is rarer than another
        log = np.log(self.class_counts)
        middle = (log[direction < 0].min() + log[direction > 0].max()) / 2
        scale = np.where(direction < 0, self.head_scale, 1.0) * self.delta_epsilon
        return direction, scale * np.abs(log - middle) / np.abs(log.min() - middle)


@keras.saving.register_keras_serializable("keras_lpl_examples")
class OneSidedLogitAdjustment(perturbations.LogitAdjustment):
    """Logit adjustment of the samples of frequent classes alone, or of rare ones alone.

    It tells apart what logit adjustment does: rare samples have to outdo the frequent classes, and
    frequent samples no longer hold the rare classes down. For class indices.
    """

    def __init__(self, class_counts, tau=1.0, side="tail", threshold=0.4):
        super().__init__(class_counts, tau)
        self.side, self.threshold = side, threshold

    def __call__(self, samples, context):
        direction = keras_lpl.functional.split_by_frequency(self.class_counts, self.threshold)
        is_head = samples.of_own_class(direction) < 0
        is_meant = is_head if self.side == "head" else ops.logical_not(is_head)
        adjusted = super().__call__(samples, context)
        return ops.where(is_meant[:, None], adjusted, samples.logits)

    def get_config(self):
        return {**super().get_config(), "side": self.side, "threshold": self.threshold}


def _one_sided(side):
    return composed(lambda t: OneSidedLogitAdjustment(t.class_counts, t.tau, side))


def _lpl(training):
    return perturbations.LPL(training.class_counts, bound="ratio", **training.lpl)


def _isda(training):
    return perturbations.ISDA()


def _ldam(training):
    return perturbations.LDAM(training.class_counts)


def _large_margin(training):
    # The authors' annealing is made for some 20,000 steps.
    gamma = 2.5e-5 * 20_000 / training.steps
    return keras_lpl.LargeMarginLoss(margin=4, gamma=gamma)


def _noise(training):
    """One label in twenty is that of any other class."""
    classes = len(training.class_counts)
    return 0.95 * np.eye(classes) + 0.05 * (1 - np.eye(classes)) / (classes - 1)


def _class_balanced(base):
    def loss(training):
        counts = training.class_counts
        return keras_lpl.ClassBalancedLoss(counts, base=base, reduction="mean_with_sample_weight")

    return loss


def named(names):
    """For `argparse`: reads a method's name in any case, and spells it as `names` do."""
    spelt = {name.lower(): name for name in names}
    return lambda text: spelt.get(text.lower(), text)


METHODS = {
    "cross-entropy": Method(crossentropy),
    "logit adjustment": Method(lambda t: keras_lpl.LogitAdjustmentLoss(t.class_counts, t.tau)),
    "LPL": Method(lambda t: keras_lpl.LPLLoss(t.class_counts, bound="ratio", **t.lpl)),
    "LA+LPL": Method(
        lambda t: keras_lpl.LPLLoss(t.class_counts, logit_adjustment=t.tau, bound="ratio", **t.lpl)
    ),
    "LPL, one step": Method(lambda t: keras_lpl.LPLLoss(t.class_counts)),
    "LPL, logarithmic": Method(
        lambda t: keras_lpl.PerturbedCrossentropy(
            [LogarithmicLPL(t.class_counts, bound="ratio", **t.lpl)]
        )
    ),
    "LA of the head": Method(_one_sided("head")),
    "LA of the tail": Method(_one_sided("tail")),
    "LPL by confidence": Method(lambda t: keras_lpl.LPLLoss(**t.lpl_by_confidence)),
    "logit adjustment post hoc": Method(crossentropy, post_hoc=True),
    "VS": Method(lambda t: keras_lpl.VSLoss(t.class_counts, gamma=0.15)),
    "LDAM": Method(ldam, cosine_head=True),
    "LDAM-DRW": Method(
        lambda t: ldam(t, reduction="mean_with_sample_weight"), cosine_head=True, deferred=True
    ),
    "LDAM+LPL": Method(composed(_ldam, _lpl), cosine_head=True),
    "DRW": Method(weighted_crossentropy, deferred=True),
    "ISDA": Method(lambda t: keras_lpl.ISDALoss()),
    "ISDA diagonal": Method(lambda t: keras_lpl.ISDALoss(covariance="diagonal")),
    "LA+ISDA": Method(composed(_la, _isda)),
    "ISDA+LPL": Method(composed(_isda, _lpl)),
    "MetaSAug": Method(
        lambda t: keras_lpl.ISDALoss(reduction="mean_with_sample_weight"),
        deferred=True,
        meta=lambda t: keras_lpl.models.MetaSAug(),
    ),
    "Meta-Weight-Net": Method(crossentropy, meta=lambda t: keras_lpl.models.MetaWeightNet()),
    "learning to reweight": Method(
        crossentropy, meta=lambda t: keras_lpl.models.LearningToReweight()
    ),
    "meta label corrector": Method(
        lambda t: keras_lpl.PerturbedCrossentropy([]),
        numbered=True,
        meta=lambda t: keras_lpl.models.MetaLabelCorrector(int(sum(t.class_counts))),
    ),
    # Before the network has learnt wrong labels by heart.
    "meta label corrector, early": Method(
        lambda t: keras_lpl.PerturbedCrossentropy([]),
        numbered=True,
        meta=lambda t: keras_lpl.models.MetaLabelCorrector(int(sum(t.class_counts)), 0.15),
    ),
    "adversarial features": Method(lambda t: keras_lpl.AdversarialFeatureLoss(0.1, 5, norm="l2")),
    "adversarial inputs": Method(crossentropy, adversarial={"epsilon": 0.05, "num_steps": 3}),
    "Seesaw": Method(lambda t: keras_lpl.SeesawLoss()),
    "class-balanced": Method(_class_balanced("crossentropy")),
    "class-balanced focal": Method(_class_balanced("focal")),
    "class-balanced sigmoid focal": Method(_class_balanced("sigmoid_focal")),
    "focal": Method(lambda t: keras_lpl.FocalLoss()),
    "class-balanced sampling": Method(crossentropy, sampling="class_balanced"),
    "reversed sampling": Method(crossentropy, sampling="reversed"),
    "BBN": Method(crossentropy, sampling="paired", two_branches=True),
    "center": Method(lambda t: keras_lpl.CenterLoss()),
    "large margin": Method(_large_margin),
    "GCE": Method(lambda t: keras_lpl.GeneralizedCrossEntropyLoss()),
    "GCE truncated": Method(lambda t: keras_lpl.GeneralizedCrossEntropyLoss(truncate=0.5)),
    "bootstrapping": Method(lambda t: keras_lpl.BootstrappingLoss()),
    "bootstrapping hard": Method(lambda t: keras_lpl.BootstrappingLoss(hard=True)),
    "forward correction": Method(lambda t: keras_lpl.CorrectedLoss(_noise(t))),
    "backward correction": Method(lambda t: keras_lpl.CorrectedLoss(_noise(t), "backward")),
    "average top-k": Method(lambda t: keras_lpl.AverageTopKLoss()),
    "ProSelfLC": Method(lambda t: keras_lpl.ProSelfLCLoss()),
    "LADE": Method(lambda t: keras_lpl.LADELoss(t.class_counts)),
    "ALA": Method(lambda t: keras_lpl.ALALoss(t.class_counts), cosine_head=True),
    "GCL": Method(lambda t: keras_lpl.GCLLoss(t.class_counts), cosine_head=True),
    "LOS": Method(crossentropy, retrained=lambda t: keras_lpl.LabelOverSmoothingLoss()),
    "asymmetric": Method(lambda t: keras_lpl.AsymmetricLoss()),
    # Its weights are made for batches that are drawn class by class.
    "distribution-balanced": Method(
        lambda t: keras_lpl.DistributionBalancedLoss(t.class_counts), sampling="class_balanced"
    ),
    "label smoothing": Method(
        lambda t: keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        one_hot=True,
    ),
    "disturb label": Method(crossentropy, disturb_rate=0.1),
    "CGAN": Method(crossentropy, generator="CGAN"),
    "ACGAN": Method(crossentropy, generator="ACGAN"),
    "infoGAN": Method(crossentropy, generator="infoGAN"),
}
