"""The interface of a perturbation."""

import keras

NEEDS = ("confidence", "features", "kernel", "progress", "statistics")


class Perturbation:
    """Base class: changes the logits of a sample before the softmax cross-entropy.

    Implement `__call__`, and `get_config` if the constructor takes arguments. Register the class
    with `keras.saving.register_keras_serializable` to have models that use it saved and loaded.

    Attributes:
        needs: What `__call__` reads of the context, out of `"confidence"`, `"features"`,
            `"kernel"`, `"progress"` and `"statistics"`. All but the confidence need an
            `LPLModel`.

    Example: raise the true class's logit by one, so that the model has to do that much better
    without.

    >>> class Handicap(keras_lpl.perturbations.Perturbation):
    ...     def __call__(self, labels, logits, context):
    ...         return logits - keras.ops.one_hot(labels, logits.shape[-1])
    >>> loss = keras_lpl.PerturbedCrossentropy([Handicap()])
    """

    needs = ()

    def __call__(self, labels, logits, context):
        """Returns the perturbed logits.

        Args:
            labels: int32 `(batch,)`, or soft labels `(batch, num_classes)` where the user gave
                one-hot or soft ones. -1 is a label that is not a class: what is returned for it
                does not matter, as its loss is NaN.
            logits: float32 `(batch, num_classes)`, perturbed by those before in the list.
            context: A `Context`, with everything in `needs` filled in.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `__call__`")

    def create_statistics(self, num_classes, num_features):
        """Returns the running statistics this perturbation reads from `context.statistics`.

        Args:
            num_classes: Number of classes.
            num_features: Number of penultimate features, or None if `needs` has no features.

        Returns:
            A dict of name to new `keras_lpl.layers.RunningStatistic`. Perturbations that use the
            same name share one.
        """
        return {}

    def check_head(self, layer):
        """Looks at the layer that computes the logits, when compiled into an `LPLModel`.

        Args:
            layer: The model's last layer.
        """

    def get_config(self):
        """Returns the constructor's arguments as a JSON-serializable dict."""
        return {}

    @classmethod
    def from_config(cls, config):
        """Creates a perturbation from `get_config`'s dict."""
        return cls(**config)


def register(cls):
    """Registers a class of this package for saving, under its own name."""
    return keras.saving.register_keras_serializable(package="keras_lpl")(cls)
