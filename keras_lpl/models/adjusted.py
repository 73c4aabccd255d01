"""Post-hoc logit adjustment of a trained model."""

import warnings
from typing import Any

import keras

from keras_lpl.core import checks
from keras_lpl.core.typing import Counts
from keras_lpl.methods.logit_adjustment import PostHocLogitAdjustment
from keras_lpl.models.best_tau import best_tau
from keras_lpl.models.head import check_logits, symbolic_tensors


def with_logit_adjustment(
    model: keras.Model, class_counts: Counts, tau: float | str = 1.0, data: Any = None
) -> keras.Model:
    """A model that predicts the adjusted logits `u - tau * log pi` of a trained one.

    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, Eq. 9. It shares the layers
    and weights of `model`, and can be saved like any other. Compile it to evaluate it.

    Args:
        model: A model trained with plain cross-entropy that ends in logits: functional, Sequential,
            or a subclassed one that has been called.
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices; for one logit negatives and positives, for several labels `(labels, 2)`.
        tau: Strength; 1 is consistent for the balanced error. `"auto"` chooses the one of 0, 0.1,
            ..., 3 with the largest balanced accuracy on `data`; of equals the one closest to 1.
        data: For `tau="auto"`: held-out data `(x, y)` or `(x, y, sample_weight)`, or anything that
            gives such batches, each once. Masked steps do not count. Where rare classes have a
            handful of samples in it, 1 is the better choice.

    Returns:
        A `keras.Model` from the same inputs to adjusted logits. Its last layer,
        `adjusted.get_layer("logit_adjustment")`, has the `tau`.

    Raises:
        ValueError: if the model ends in probabilities or its input shape is not known, for a count
            of zero or less, if the number of counts is not that of the classes, or for
            `tau="auto"` without data, or with data that are no such batches or whose predictions
            are not finite.

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
    if tau == "auto":
        strength = best_tau(model, class_counts, data)
    elif data is not None:
        raise ValueError(f'`data` is for `tau="auto"`. Received: tau={tau!r} and data')
    else:
        strength = checks.number(tau, "tau", minimum=0)
    adjust = PostHocLogitAdjustment(
        class_counts, strength, name="logit_adjustment", dtype=logits.dtype
    )
    return keras.Model(inputs, adjust(logits), name=f"{model.name}_adjusted")
