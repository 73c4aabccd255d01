"""Losses: softmax cross-entropy of perturbed logits, its named presets, and those beside it."""

from keras_lpl.losses.base import ClassificationLoss
from keras_lpl.losses.bootstrapping import BootstrappingLoss
from keras_lpl.losses.center import CenterLoss
from keras_lpl.losses.class_balanced import ClassBalancedLoss
from keras_lpl.losses.corrected import CorrectedLoss
from keras_lpl.losses.focal import FocalLoss
from keras_lpl.losses.generalized_cross_entropy import GeneralizedCrossEntropyLoss
from keras_lpl.losses.isda import ISDALoss
from keras_lpl.losses.large_margin import LargeMarginLoss
from keras_lpl.losses.ldam import LDAMLoss
from keras_lpl.losses.logit_adjustment import LogitAdjustmentLoss
from keras_lpl.losses.lpl import LPLLoss
from keras_lpl.losses.perturbed_crossentropy import PerturbedCrossentropy
from keras_lpl.losses.seesaw import SeesawLoss
from keras_lpl.losses.vector_scaling import VSLoss

__all__ = [
    "BootstrappingLoss",
    "CenterLoss",
    "ClassBalancedLoss",
    "ClassificationLoss",
    "CorrectedLoss",
    "FocalLoss",
    "GeneralizedCrossEntropyLoss",
    "ISDALoss",
    "LDAMLoss",
    "LPLLoss",
    "LargeMarginLoss",
    "LogitAdjustmentLoss",
    "PerturbedCrossentropy",
    "SeesawLoss",
    "VSLoss",
]
