"""Keras layers: heads, and running statistics of the classes, carried by a model."""

from keras_lpl.core.statistics import (
    ClassWeight,
    RunningClassConfidence,
    RunningStatistic,
    StepCounter,
)
from keras_lpl.methods.bbn import BranchMixing
from keras_lpl.methods.center import ClassCenters
from keras_lpl.methods.cosine_dense import CosineDense
from keras_lpl.methods.isda.moments import RunningMoments
from keras_lpl.methods.logit_adjustment import PostHocLogitAdjustment
from keras_lpl.methods.seesaw import RunningClassCounts

__all__ = [
    "BranchMixing",
    "ClassCenters",
    "ClassWeight",
    "CosineDense",
    "PostHocLogitAdjustment",
    "RunningClassConfidence",
    "RunningClassCounts",
    "RunningMoments",
    "RunningStatistic",
    "StepCounter",
]
