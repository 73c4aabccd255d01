"""Models: what carries the state that losses need, and what adjusts a trained model."""

from keras_lpl.models.adjusted import with_logit_adjustment
from keras_lpl.models.lpl_model import LPLModel

__all__ = ["LPLModel", "with_logit_adjustment"]
