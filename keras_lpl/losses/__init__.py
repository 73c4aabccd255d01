"""Losses: softmax cross-entropy of perturbed logits, and its named presets."""

from keras_lpl.losses.logit_adjustment import LogitAdjustmentLoss
from keras_lpl.losses.lpl import LPLLoss
from keras_lpl.losses.perturbed_crossentropy import PerturbedCrossentropy

__all__ = ["LPLLoss", "LogitAdjustmentLoss", "PerturbedCrossentropy"]
