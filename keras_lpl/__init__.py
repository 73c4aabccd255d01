"""Logit perturbation for Keras 3: losses for imbalanced classes on TensorFlow, JAX and PyTorch.

>>> model.compile("sgd", loss=keras_lpl.LPLLoss(class_counts=counts))  # doctest: +SKIP

Every method is a perturbation of the logits; a loss applies perturbations; a model carries the
state they need. Start with `LPLLoss`; the equations are in `keras_lpl.functional`.
"""

from keras_lpl import (
    callbacks,
    data,
    functional,
    layers,
    losses,
    metrics,
    models,
    networks,
    perturbations,
    plots,
    testing,
)
from keras_lpl.core.outputs import read_output
from keras_lpl.core.samples import Samples
from keras_lpl.losses import (
    AdversarialFeatureLoss,
    ALALoss,
    AsymmetricLoss,
    AverageTopKLoss,
    BootstrappingLoss,
    CenterLoss,
    ClassBalancedLoss,
    CorrectedLoss,
    DistributionBalancedLoss,
    FocalLoss,
    GCLLoss,
    GeneralizedCrossEntropyLoss,
    ISDALoss,
    LabelOverSmoothingLoss,
    LADELoss,
    LargeMarginLoss,
    LDAMLoss,
    LogitAdjustmentLoss,
    LPLLoss,
    PerturbedCrossentropy,
    ProSelfLCLoss,
    SeesawLoss,
    VSLoss,
)
from keras_lpl.models import LPLModel

__version__ = "0.2.0"

__all__ = [
    "ALALoss",
    "AdversarialFeatureLoss",
    "AsymmetricLoss",
    "AverageTopKLoss",
    "BootstrappingLoss",
    "CenterLoss",
    "ClassBalancedLoss",
    "CorrectedLoss",
    "DistributionBalancedLoss",
    "FocalLoss",
    "GCLLoss",
    "GeneralizedCrossEntropyLoss",
    "ISDALoss",
    "LADELoss",
    "LDAMLoss",
    "LPLLoss",
    "LPLModel",
    "LabelOverSmoothingLoss",
    "LargeMarginLoss",
    "LogitAdjustmentLoss",
    "PerturbedCrossentropy",
    "ProSelfLCLoss",
    "Samples",
    "SeesawLoss",
    "VSLoss",
    "callbacks",
    "data",
    "functional",
    "layers",
    "losses",
    "metrics",
    "models",
    "networks",
    "perturbations",
    "plots",
    "read_output",
    "testing",
]
