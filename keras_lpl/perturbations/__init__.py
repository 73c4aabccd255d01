"""Perturbations: one method a file, `(labels, logits, context) -> logits`."""

from keras_lpl.perturbations.base import Perturbation
from keras_lpl.perturbations.context import Context
from keras_lpl.perturbations.isda import ISDA
from keras_lpl.perturbations.large_margin import LargeMargin
from keras_lpl.perturbations.ldam import LDAM
from keras_lpl.perturbations.logit_adjustment import LogitAdjustment
from keras_lpl.perturbations.lpl import LPL
from keras_lpl.perturbations.seesaw import Seesaw
from keras_lpl.perturbations.vector_scaling import VS

__all__ = [
    "ISDA",
    "LDAM",
    "LPL",
    "VS",
    "Context",
    "LargeMargin",
    "LogitAdjustment",
    "Perturbation",
    "Seesaw",
]
