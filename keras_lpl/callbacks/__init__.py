"""Keras callbacks: class weights from a late epoch on, and what happened to the classes' losses."""

from keras_lpl.callbacks.deferred_reweighting import DeferredReweighting
from keras_lpl.callbacks.loss_variation import LossVariation

__all__ = ["DeferredReweighting", "LossVariation"]
