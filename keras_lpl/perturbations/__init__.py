"""Perturbations: one method a file, `(labels, logits, context) -> logits`."""

from keras_lpl.perturbations.base import Perturbation
from keras_lpl.perturbations.context import Context
from keras_lpl.perturbations.logit_adjustment import LogitAdjustment
from keras_lpl.perturbations.lpl import LPL

__all__ = ["LPL", "Context", "LogitAdjustment", "Perturbation"]
