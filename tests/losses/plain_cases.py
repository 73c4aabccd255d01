"""Cases for the contract: losses that bend or weigh cross-entropy."""

import functools

import numpy as np

import keras_lpl
from tests import reference
from tests import reference_losses as slow
from tests.contract import COUNTS, LossCase


def _oracle(function, **settings):
    """Per-sample losses that depend on neither the class counts nor the weights."""

    def oracle(labels, logits, class_counts, sample_weight=None, constant_at=None):
        return function(labels, logits, **settings)

    return oracle


def _case(name, loss, settings, oracle, neutral, **keywords):
    """A loss that is not told the class counts."""

    def make(counts, **arguments):
        return loss(**settings, **arguments)

    def reduces(counts, **arguments):
        return loss(**(settings | neutral), **arguments)

    return LossCase(name, make, oracle, reduces, **keywords)


def _class_balanced_case(base, function, reduces_to, is_variant=False, **settings):
    beta = 0.99

    def make(counts, **arguments):
        return keras_lpl.ClassBalancedLoss(counts, beta=beta, base=base, **settings, **arguments)

    def oracle(labels, logits, class_counts, sample_weight=None, constant_at=None):
        weight = slow.class_balanced_weight(labels, logits, class_counts, beta)
        return weight * function(labels, logits)

    def reduces(counts, **arguments):
        return keras_lpl.ClassBalancedLoss(
            [7] * len(counts), beta=beta, base=base, **(settings | {"gamma": 0.0}), **arguments
        )

    return LossCase(
        f"class-balanced-{base}", make, oracle, reduces, reduces_to, is_variant=is_variant
    )


def _transition(counts, noise=0.3):
    """Labels slip to a class at least as frequent, the more frequent the likelier.

    Neither symmetric nor free of zeros, and it follows its classes when they are renumbered.
    """
    counts = np.asarray(counts, "float64")
    matrix = np.where(counts[None] >= counts[:, None], counts[None], 0.0)
    np.fill_diagonal(matrix, 0.0)
    total = matrix.sum(axis=1, keepdims=True)
    matrix = noise * matrix / np.where(total == 0, 1, total)
    return matrix + np.diag(1 - matrix.sum(axis=1))


def _corrected_case(method, function, learns_from_errors):
    def make(counts, **arguments):
        return keras_lpl.CorrectedLoss(_transition(counts), method=method, **arguments)

    def oracle(labels, logits, class_counts, sample_weight=None, constant_at=None):
        return function(labels, logits, _transition(class_counts))

    def reduces(counts, **arguments):
        return keras_lpl.CorrectedLoss(np.eye(len(counts)), method=method, **arguments)

    return LossCase(
        f"corrected-{method}", make, oracle, reduces, learns_from_errors=learns_from_errors
    )


def _lade_oracle(labels, logits, class_counts, sample_weight=None, constant_at=None):
    return slow.lade(labels, logits, class_counts, 0.3, 0.2, sample_weight)


def _top_k_oracle(labels, logits, class_counts, sample_weight=None, constant_at=None):
    return slow.average_top_k(labels, logits, 0.4, sample_weight)


ASYMMETRIC = {"gamma_negative": 1.5, "gamma_positive": 0.5, "margin": 0.1}
REBALANCED = {"alpha": 0.2, "beta": 4.0, "mu": 0.3, "negative_scale": 3.0, "bias_scale": 0.4}
PLAIN = {"alpha": 0.5, "beta": 0.0, "negative_scale": 1.0, "bias_scale": 0.0}


def _asymmetric_oracle(labels, logits):
    yes = slow.yes_or_no(labels, logits)
    return slow.asymmetric(yes, logits, **ASYMMETRIC).sum(axis=1)


def _distribution_balanced_case(name, gamma, is_variant=False):
    def oracle(labels, logits, class_counts, sample_weight=None, constant_at=None):
        yes, settings = slow.yes_or_no(labels, logits), REBALANCED | {"gamma": gamma}
        by_question = slow.distribution_balanced(
            yes, logits, class_counts, sum(class_counts), **settings
        )
        return by_question.sum(axis=1)

    return LossCase(
        name,
        lambda counts, **k: keras_lpl.DistributionBalancedLoss(
            counts, gamma=gamma, **REBALANCED, **k
        ),
        oracle,
        lambda counts, **k: keras_lpl.DistributionBalancedLoss(counts, **PLAIN, gamma=gamma, **k),
        functools.partial(slow.sigmoid_focal, gamma=gamma),
        labels_are_apart=False,
        is_variant=is_variant,
    )


CASES = [
    _case(
        "focal",
        keras_lpl.FocalLoss,
        {"gamma": 0.5},
        _oracle(slow.focal, gamma=0.5),
        {"gamma": 0.0},
    ),
    _class_balanced_case(
        "crossentropy",
        reference.softmax_crossentropy,
        reference.softmax_crossentropy,
        is_variant=True,
    ),
    _class_balanced_case(
        "focal",
        functools.partial(slow.focal, gamma=2.0),
        reference.softmax_crossentropy,
        gamma=2.0,
    ),
    _class_balanced_case(
        "sigmoid_focal",
        functools.partial(slow.sigmoid_focal, gamma=0.5),
        functools.partial(slow.sigmoid_focal, gamma=0.0),
        gamma=0.5,
    ),
    _case(
        "gce",
        keras_lpl.GeneralizedCrossEntropyLoss,
        {"q": 0.7},
        _oracle(slow.generalized_cross_entropy, q=0.7),
        {"q": 0.0},
        learns_from_errors=False,
    ),
    _case(
        # Truncated at a probability that an untrained model exceeds now and then.
        "gce-truncated",
        keras_lpl.GeneralizedCrossEntropyLoss,
        {"q": 0.7, "truncate": 0.2, "start": 0.0},
        _oracle(slow.generalized_cross_entropy, q=0.7, truncate=0.2),
        {"truncate": 1e-30},
        reduces_to=functools.partial(slow.generalized_cross_entropy, q=0.7),
        learns_from_errors=False,
        is_variant=True,
    ),
    _case(
        "bootstrapping-soft",
        keras_lpl.BootstrappingLoss,
        {"beta": 0.7},
        _oracle(slow.bootstrapping, beta=0.7, hard=False),
        {"beta": 1.0},
    ),
    _case(
        "bootstrapping-hard",
        keras_lpl.BootstrappingLoss,
        {"hard": True},
        _oracle(slow.bootstrapping, beta=0.8, hard=True),
        {"beta": 1.0},
        is_variant=True,
    ),
    _corrected_case("forward", slow.forward_corrected, learns_from_errors=False),
    _corrected_case("backward", slow.backward_corrected, learns_from_errors=True),
    LossCase(
        "lade",
        lambda counts, **k: keras_lpl.LADELoss(counts, strength=0.3, penalty=0.2, **k),
        _lade_oracle,
        lambda counts, **k: keras_lpl.LADELoss(counts, strength=0.0, **k),
        lambda labels, logits: reference.logit_adjustment_loss(labels, logits, COUNTS),
    ),
    LossCase(
        # Of samples that are all as wrong, only a share has a gradient.
        "average-top-k",
        lambda counts, **k: keras_lpl.AverageTopKLoss(share=0.4, **k),
        _top_k_oracle,
        lambda counts, **k: keras_lpl.AverageTopKLoss(share=1.0, **k),
        learns_from_errors=False,
    ),
    _case(
        "asymmetric",
        keras_lpl.AsymmetricLoss,
        ASYMMETRIC,
        _oracle(_asymmetric_oracle),
        {"gamma_negative": 0.0, "gamma_positive": 0.0, "margin": 0.0},
        reduces_to=functools.partial(slow.sigmoid_focal, gamma=0.0),
    ),
    _distribution_balanced_case("distribution-balanced", gamma=0.0),
    _distribution_balanced_case("distribution-balanced-focal", gamma=1.5, is_variant=True),
    _case(
        "label-over-smoothing",
        keras_lpl.LabelOverSmoothingLoss,
        {"smoothing": 0.9},
        _oracle(slow.over_smoothed, smoothing=0.9),
        {"smoothing": 0.0},
    ),
]
