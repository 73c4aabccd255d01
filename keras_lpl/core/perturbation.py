"""The interface of a perturbation."""

import inspect
from typing import Any

from keras_lpl.core.context import Context
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor

NEEDS = ("confidence", "features", "kernel", "progress", "statistics")


class Perturbation:
    """Base class: changes the logits of a sample before the softmax cross-entropy.

    Implement `__call__`, and `get_config` if the constructor takes arguments. Register the class
    with `keras.saving.register_keras_serializable` to save and load models that use it.

    Attributes:
        needs: Fields of the context and samples that `__call__` reads, out of `"confidence"`,
            `"features"`, `"kernel"`, `"progress"` and `"statistics"`. All but the confidence need
            an `LPLModel`.
        supports_multi_label: False if the method makes no sense for several labels per sample.
        corrects_prior: True if it makes up for the class frequencies, as class weights do.

    Example: lower the true class's logit by one, so that the model has to do that much better.

    >>> class Handicap(keras_lpl.perturbations.Perturbation):
    ...     def __call__(self, samples, context):
    ...         return samples.logits - samples.membership
    >>> loss = keras_lpl.PerturbedCrossentropy([Handicap()])
    """

    needs: tuple[str, ...] = ()
    supports_multi_label: bool = True
    corrects_prior: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        call = cls.__dict__.get("__call__")
        if call is not None and "labels" in inspect.signature(call).parameters:
            raise TypeError(
                f"`{cls.__name__}.__call__` takes `(labels, logits, context)`, as in version 0.1. "
                "It now takes `(samples, context)`: read `samples.logits`, and "
                "`samples.membership` in place of one-hot labels."
            )

    def __call__(self, samples: Samples, context: Context) -> Tensor:
        """Perturbed logits, `(rows, classes)`.

        Args:
            samples: The batch. Its logits are those that earlier perturbations in the list have
                changed.
            context: State of training, with everything in `needs` filled in.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `__call__`")

    def create_statistics(
        self, shape_by_class: tuple[int, ...], num_features: int | None
    ) -> dict[str, Any]:
        """Creates the running statistics that this perturbation reads from `context.statistics`.

        Args:
            shape_by_class: `(classes,)`, or `(problems, classes)` for several labels.
            num_features: Number of penultimate features, or None if `needs` has no features.

        Returns:
            New `keras_lpl.layers.RunningStatistic` by name. Perturbations that use the same name
            share one.
        """
        return {}

    def check_head(self, layer: Any) -> None:
        """Checks the layer that computes the logits, when compiled into an `LPLModel`.

        Args:
            layer: The model's last layer.
        """

    def get_config(self) -> dict[str, Any]:
        """Constructor's arguments as a JSON-serializable dict."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Perturbation":
        """Creates a perturbation from `get_config`'s dict."""
        return cls(**config)
