"""Post-hoc logit adjustment: predict with `u - tau * log pi`.

Menon et al.: "Long-tail learning via logit adjustment", ICLR 2021, Eq. 9.
"""

import keras
import numpy as np
from keras import ops

from keras_lpl.core import checks


@keras.saving.register_keras_serializable(package="keras_lpl", name="LogitAdjustmentLayer")
class LogitAdjustment(keras.layers.Layer):
    """Takes `tau * log pi_c` off the logits of a model trained with plain cross-entropy.

    For prediction, after training. Not for a model trained with a logit-adjusted loss: that one has
    the prior out of its logits already.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices.
        tau: Strength. 1 is consistent for the balanced error; 0 leaves the logits alone. Best
            chosen on held-out data.
        **kwargs: As for `keras.layers.Layer`.

    Input shape: `(..., num_classes)`, logits. Output shape: the same.

    Raises:
        ValueError: for a count of zero or less, a negative `tau`, or if the number of counts is
            not that of the classes.

    Example:

    >>> adjust = keras_lpl.layers.LogitAdjustment(class_counts=[90, 10])
    >>> print(keras.ops.convert_to_numpy(adjust(np.zeros((1, 2), "float32"))).round(3))
    [[0.105 2.303]]
    """

    def __init__(self, class_counts, tau=1.0, **kwargs):
        super().__init__(**kwargs)
        self.class_counts = checks.class_counts(class_counts)
        self.tau = checks.number(tau, "tau", minimum=0)

    def build(self, input_shape):
        if input_shape[-1] != len(self.class_counts):
            raise ValueError(
                "`class_counts` must have one entry per class. Received: "
                f"{len(self.class_counts)} counts for logits of shape {tuple(input_shape)}"
            )

    def call(self, logits):
        """Returns the adjusted logits."""
        counts = np.asarray(self.class_counts, dtype="float64")
        shift = self.tau * np.log(counts / counts.sum())
        return logits - ops.convert_to_tensor(shift, dtype=logits.dtype)

    def compute_output_shape(self, input_shape):
        """The shape of the logits."""
        return input_shape

    def get_config(self):
        """Returns the arguments of the constructor."""
        config = {"class_counts": list(self.class_counts), "tau": self.tau}
        return {**super().get_config(), **config}
