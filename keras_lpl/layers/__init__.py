"""Keras layers: running statistics of the classes, carried by a model."""

from keras_lpl.layers.running_statistics import RunningClassConfidence, RunningStatistic

__all__ = ["RunningClassConfidence", "RunningStatistic"]
