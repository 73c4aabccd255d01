"""Models: what carries the state that perturbations need."""

from keras_lpl.models.lpl_model import LPLModel

__all__ = ["LPLModel"]
