"""The networks of the papers' recipes, as functional models that end in logits.

Every function returns a `keras.Model` whose second-to-last layer is named `"features"` and whose
last is named `"head"`. `keras_lpl.LPLModel.from_model` takes them as they are.
"""

from keras_lpl.networks.bottleneck_resnet import bottleneck_resnet
from keras_lpl.networks.resnet import resnet
from keras_lpl.networks.se_resnet import se_resnet
from keras_lpl.networks.wide_resnet import wide_resnet

__all__ = ["bottleneck_resnet", "resnet", "se_resnet", "wide_resnet"]
