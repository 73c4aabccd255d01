"""Post-hoc logit adjustment of a trained model."""

import warnings

import keras

from keras_lpl.core.typing import Counts
from keras_lpl.methods.logit_adjustment import PostHocLogitAdjustment
from keras_lpl.models.head import check_logits, symbolic_tensors


def with_logit_adjustment(
    model: keras.Model, class_counts: Counts, tau: float = 1.0
) -> keras.Model:
    """A model that predicts the adjusted logits `u - tau * log pi` of a trained one.

    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, Eq. 9. It shares the layers
    and weights of `model`, and can be saved like any other. Compile it to evaluate it.

    Args:
        model: A model trained with plain cross-entropy that ends in logits: functional, Sequential,
            or a subclassed one that has been called.
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices; for one logit negatives and positives, for several labels `(labels, 2)`.
        tau: Strength; 1 is consistent for the balanced error. Best chosen on held-out data.

    Returns:
        A `keras.Model` from the same inputs to adjusted logits.

    Raises:
        ValueError: if the model ends in probabilities or its input shape is not known, for a count
            of zero or less, or if the number of counts is not that of the classes.

    Example:

    >>> inputs = keras.Input((8,))
    >>> model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    >>> adjusted = keras_lpl.models.with_logit_adjustment(model, class_counts=[90, 10])
    >>> difference = adjusted.predict(np.ones((1, 8)), verbose=0) - model.predict(
    ...     np.ones((1, 8)), verbose=0)
    >>> print(difference.round(3))
    [[0.105 2.303]]
    """
    inputs, outputs = symbolic_tensors(model)
    flat = keras.tree.flatten(outputs)
    if len(flat) != 1:
        raise ValueError(
            "`with_logit_adjustment` needs a model of one output, its logits. "
            f"Received: {len(flat)} outputs"
        )
    logits = flat[0]
    check_logits(logits, "`with_logit_adjustment`", inputs)
    for loss in keras.tree.flatten(getattr(model, "loss", None)):
        if getattr(loss, "corrects_prior", False):
            warnings.warn(
                "The model was compiled with a loss that corrects for the class counts, so its "
                "logits have the prior taken out already: adjusting them counts it twice. "
                f"Received: loss={loss.name!r}",
                stacklevel=2,
            )
    adjust = PostHocLogitAdjustment(class_counts, tau, name="logit_adjustment", dtype=logits.dtype)
    return keras.Model(inputs, adjust(logits), name=f"{model.name}_adjusted")
