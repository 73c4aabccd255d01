"""Models: `LPLModel`, which carries the state losses need, and models made or trained otherwise.

`MetaModel` is an `LPLModel` that learns from a few balanced samples, by one of the methods
`MetaWeightNet`, `LearningToReweight`, `MetaSAug` and `MetaLabelCorrector`. `AdversarialModel` is
one that trains on adversarial inputs, `BBNModel` one of two branches.
"""

from keras_lpl.core.meta_method import MetaMethod
from keras_lpl.methods.learning_to_reweight import LearningToReweight
from keras_lpl.methods.meta_label_corrector import MetaLabelCorrector
from keras_lpl.methods.meta_saug import MetaSAug
from keras_lpl.methods.meta_weight_net import MetaWeightNet
from keras_lpl.models.adjusted import with_logit_adjustment
from keras_lpl.models.adversarial_model import AdversarialModel, attack
from keras_lpl.models.bbn_model import BBNModel
from keras_lpl.models.lpl_model import LPLModel
from keras_lpl.models.meta_model import MetaModel

__all__ = [
    "AdversarialModel",
    "BBNModel",
    "LPLModel",
    "LearningToReweight",
    "MetaLabelCorrector",
    "MetaMethod",
    "MetaModel",
    "MetaSAug",
    "MetaWeightNet",
    "attack",
    "with_logit_adjustment",
]
