"""Measures that do not let frequent classes speak for rare ones."""

from keras_lpl.metrics.balanced_accuracy import BalancedAccuracy
from keras_lpl.metrics.by_class import GeometricMean, PrecisionByClass, RecallByClass
from keras_lpl.metrics.calibration import ExpectedCalibrationError
from keras_lpl.metrics.shot_accuracy import ShotAccuracy
from keras_lpl.metrics.threshold import choose_threshold

__all__ = [
    "BalancedAccuracy",
    "ExpectedCalibrationError",
    "GeometricMean",
    "PrecisionByClass",
    "RecallByClass",
    "ShotAccuracy",
    "choose_threshold",
]
