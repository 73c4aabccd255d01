"""Keras layers: heads, and running statistics of the classes, carried by a model."""

from keras_lpl.layers.class_statistics import (
    ClassCenters,
    RunningClassCounts,
    RunningMoments,
    StepCounter,
)
from keras_lpl.layers.cosine_dense import CosineDense
from keras_lpl.layers.logit_adjustment import LogitAdjustment
from keras_lpl.layers.running_statistics import (
    ClassWeight,
    RunningClassConfidence,
    RunningStatistic,
)

__all__ = [
    "ClassCenters",
    "ClassWeight",
    "CosineDense",
    "LogitAdjustment",
    "RunningClassConfidence",
    "RunningClassCounts",
    "RunningMoments",
    "RunningStatistic",
    "StepCounter",
]
