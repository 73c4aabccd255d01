"""Losses: softmax cross-entropy of perturbed logits, its named presets, and those beside it."""

from keras_lpl.core.loss import ClassificationLoss
from keras_lpl.core.perturbed_crossentropy import PerturbedCrossentropy
from keras_lpl.methods.adversarial.loss import AdversarialFeatureLoss
from keras_lpl.methods.ala import ALALoss
from keras_lpl.methods.asymmetric import AsymmetricLoss
from keras_lpl.methods.average_top_k import AverageTopKLoss
from keras_lpl.methods.bootstrapping import BootstrappingLoss
from keras_lpl.methods.center import CenterLoss
from keras_lpl.methods.class_balanced import ClassBalancedLoss, class_balanced_weights
from keras_lpl.methods.corrected import CorrectedLoss
from keras_lpl.methods.distribution_balanced import DistributionBalancedLoss
from keras_lpl.methods.focal import FocalLoss
from keras_lpl.methods.gcl import GCLLoss
from keras_lpl.methods.generalized_cross_entropy import GeneralizedCrossEntropyLoss
from keras_lpl.methods.isda.loss import ISDALoss
from keras_lpl.methods.label_over_smoothing import LabelOverSmoothingLoss
from keras_lpl.methods.lade import LADELoss
from keras_lpl.methods.large_margin import LargeMarginLoss
from keras_lpl.methods.ldam import LDAMLoss
from keras_lpl.methods.logit_adjustment import LogitAdjustmentLoss
from keras_lpl.methods.lpl.loss import LPLLoss
from keras_lpl.methods.proselflc import ProSelfLCLoss
from keras_lpl.methods.seesaw import SeesawLoss
from keras_lpl.methods.vector_scaling import VSLoss

__all__ = [
    "ALALoss",
    "AdversarialFeatureLoss",
    "AsymmetricLoss",
    "AverageTopKLoss",
    "BootstrappingLoss",
    "CenterLoss",
    "ClassBalancedLoss",
    "ClassificationLoss",
    "CorrectedLoss",
    "DistributionBalancedLoss",
    "FocalLoss",
    "GCLLoss",
    "GeneralizedCrossEntropyLoss",
    "ISDALoss",
    "LADELoss",
    "LDAMLoss",
    "LPLLoss",
    "LabelOverSmoothingLoss",
    "LargeMarginLoss",
    "LogitAdjustmentLoss",
    "PerturbedCrossentropy",
    "ProSelfLCLoss",
    "SeesawLoss",
    "VSLoss",
    "class_balanced_weights",
]
