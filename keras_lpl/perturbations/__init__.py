"""Perturbations, `(samples, context) -> logits`, and what they are given."""

from keras_lpl.core.context import Context
from keras_lpl.core.perturbation import Perturbation
from keras_lpl.core.samples import Samples
from keras_lpl.methods.adversarial.perturbation import AdversarialFeatures
from keras_lpl.methods.ala import ALA
from keras_lpl.methods.gcl import GCL
from keras_lpl.methods.isda.perturbation import ISDA
from keras_lpl.methods.large_margin import LargeMargin
from keras_lpl.methods.ldam import LDAM
from keras_lpl.methods.logit_adjustment import LogitAdjustment
from keras_lpl.methods.lpl.perturbation import LPL
from keras_lpl.methods.seesaw import Seesaw
from keras_lpl.methods.vector_scaling import VS

__all__ = [
    "ALA",
    "GCL",
    "ISDA",
    "LDAM",
    "LPL",
    "VS",
    "AdversarialFeatures",
    "Context",
    "LargeMargin",
    "LogitAdjustment",
    "Perturbation",
    "Samples",
    "Seesaw",
]
