"""Accuracies that do not let frequent classes speak for rare ones."""

from keras_lpl.metrics.balanced_accuracy import BalancedAccuracy
from keras_lpl.metrics.shot_accuracy import ShotAccuracy

__all__ = ["BalancedAccuracy", "ShotAccuracy"]
