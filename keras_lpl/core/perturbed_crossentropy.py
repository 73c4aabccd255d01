"""The one loss: softmax cross-entropy of the logits, after each perturbation in turn."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from keras_lpl.core.context import Context, current_scope
from keras_lpl.core.crossentropy import crossentropy
from keras_lpl.core.loss import ClassificationLoss, refuse_multi_label
from keras_lpl.core.perturbation import Perturbation
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor


@register
class PerturbedCrossentropy(ClassificationLoss):
    """Softmax cross-entropy of perturbed logits.

    `loss_i = -log softmax(u_i + delta_i)[y_i]` (LPL, Eq. 10), where each perturbation adds its
    part of `delta` in the order of the list. An empty list is plain cross-entropy.

    Compiled into an `LPLModel`, the loss perturbs during training only, and `val_loss` is plain
    cross-entropy. Compiled into any other `keras.Model` it cannot tell the two apart and perturbs
    wherever it is called, knowing nothing but its batch.

    Args:
        perturbations: A list of `keras_lpl.perturbations`.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`.
        multi_label: As in `keras_lpl.losses.ClassificationLoss`.
        ignore_class: As in `keras_lpl.losses.ClassificationLoss`.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: if `perturbations` holds anything else, or, when called, as
            `keras_lpl.losses.ClassificationLoss`.

    Example:

    >>> loss = keras_lpl.PerturbedCrossentropy(
    ...     [keras_lpl.perturbations.LogitAdjustment(class_counts=[90, 10])]
    ... )
    >>> print(round(float(loss(np.array([1]), np.array([[0.0, 0.0]]))), 4))
    2.3026
    """

    def __init__(
        self,
        perturbations: Sequence[Perturbation] | Perturbation,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "perturbed_crossentropy",
        dtype: str | None = None,
    ) -> None:
        if isinstance(perturbations, Perturbation):
            perturbations = [perturbations]
        self.perturbations = list(perturbations)
        for perturbation in self.perturbations:
            if not isinstance(perturbation, Perturbation):
                raise ValueError(
                    "`perturbations` must be a list of `keras_lpl.perturbations.Perturbation`. "
                    f"Received: {perturbation!r}"
                )
        self.corrects_prior = any(each.corrects_prior for each in self.perturbations)
        super().__init__(
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def per_sample(self, samples: Samples, context: Context) -> Tensor:
        return crossentropy(samples, self._perturb(samples, context).logits)

    def perturb(
        self,
        labels: Tensor,
        logits: Tensor,
        sample_weight: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        """Perturbed logits, `(batch, ..., classes)`.

        Args:
            labels: As `y_true` of the loss.
            logits: As `y_pred` of the loss.
            sample_weight: As in a call of the loss.
            context: State of training; None if only the batch is known.

        Returns:
            `(batch, ..., classes)`. One logit `u` comes back as the two `[0, u]`, perturbed;
            several labels as `(batch, ..., labels, 2)`.
        """
        scope = current_scope(logits)
        samples = self.read(labels, logits, sample_weight, scope)
        context = self._complete(scope.context if context is None else context, samples)
        perturbed = self._perturb(samples, context).logits
        problems = () if samples.num_problems is None else (samples.num_problems,)
        return ops.reshape(perturbed, (*samples.shape, *problems, samples.num_classes))

    def _perturb(self, samples: Samples, context: Context) -> Samples:
        for perturbation in self.perturbations:
            logits = perturbation(samples, context)
            if logits is None or tuple(logits.shape) != tuple(samples.logits.shape):
                received = None if logits is None else f"shape {tuple(logits.shape)}"
                raise ValueError(
                    f"`{type(perturbation).__name__}` must return the perturbed logits, of the "
                    f"shape of `samples.logits`, {tuple(samples.logits.shape)}. "
                    f"Received: {received}"
                )
            samples = samples.replace(logits=logits)
        return samples

    def create_statistics(
        self, shape_by_class: tuple[int, ...], num_features: int | None
    ) -> dict[str, Any]:
        created: dict[str, Any] = {}
        for perturbation in self.perturbations:
            created |= perturbation.create_statistics(shape_by_class, num_features)
        return created

    def check_head(self, layer: Any) -> None:
        for perturbation in self.perturbations:
            perturbation.check_head(layer)

    def _who_needs(self) -> Iterable[tuple[str, tuple[str, ...]]]:
        return [(type(each).__name__, each.needs) for each in self.perturbations]

    def _check_multi_label(self) -> None:
        for perturbation in self.perturbations:
            if not perturbation.supports_multi_label:
                raise refuse_multi_label(type(perturbation).__name__)

    def get_config(self) -> dict[str, Any]:
        perturbations = [keras.saving.serialize_keras_object(p) for p in self.perturbations]
        return {"perturbations": perturbations, **super().get_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PerturbedCrossentropy":
        config = dict(config)
        if "perturbations" in config:
            config["perturbations"] = [
                keras.saving.deserialize_keras_object(p) if isinstance(p, dict) else p
                for p in config["perturbations"]
            ]
        return cls(**config)


class PerturbationLoss(PerturbedCrossentropy):
    """Base class of the presets: a loss of one perturbation, whose arguments are its own."""

    def get_config(self) -> dict[str, Any]:
        return {**self.perturbations[0].get_config(), **ClassificationLoss.get_config(self)}
