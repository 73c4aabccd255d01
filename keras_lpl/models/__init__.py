"""Models: `LPLModel`, which carries the state losses need, and adjusted trained models."""

from keras_lpl.models.adjusted import with_logit_adjustment
from keras_lpl.models.lpl_model import LPLModel

__all__ = ["LPLModel", "with_logit_adjustment"]
