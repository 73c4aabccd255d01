"""Keras callbacks: what happened to the losses of the classes."""

from keras_lpl.callbacks.loss_variation import LossVariation

__all__ = ["LossVariation"]
