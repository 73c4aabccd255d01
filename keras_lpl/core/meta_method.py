"""The interface of a method that learns from a look one training step ahead.

A `MetaModel` takes a virtual step of gradient descent, sees what it does to the loss of a few
clean, balanced samples, and improves what led to it: weights of the samples, the net that gives
them, the covariances of ISDA, or nets that correct labels.
"""

from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_lpl.core.context import Context
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor


class MetaMethod:
    """Base class: what a `keras_lpl.models.MetaModel` learns by looking one step ahead.

    Implement `learnt` and `improve`, and `sample_weight`, `correct` or `adapt`, which say how the
    training loss depends on what is learnt; and `get_config` if the constructor takes arguments.

    Attributes:
        takes_virtual_step: True: the meta samples are seen after the virtual step. False: where the
            weights are now, as for a step of length zero.
        follows_schedule: True if `correct` depends on the progress of training.
    """

    takes_virtual_step: bool = True
    follows_schedule: bool = False

    def create_state(self, num_classes: int) -> Any:
        """A new layer with the variables that the method keeps over training, or None."""
        return None

    def corrections(self, state: Any) -> Any:
        """The variable that keeps a corrected label for each training sample.

        `(samples + 1, classes)`: the last row takes what belongs to no sample. None (default): the
        method leaves labels as they are. Otherwise it implements `correct`, and labels come with
        the number of their sample, as `keras_lpl.data.numbered_labels` gives it.

        Args:
            state: The layer of `create_state`.
        """
        return None

    def check_loss(self, loss: Any) -> None:
        """Raises `ValueError` for a compiled loss that the method cannot train with."""

    def learnt(self, state: Any, statistics: Mapping[str, Any], shape: tuple) -> list[Tensor]:
        """What the look ahead starts from, tensors of floats.

        Args:
            state: The layer of `create_state`.
            statistics: The running statistics of the compiled loss, by name.
            shape: Leading shape of the model's output, `(batch, ...)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `learnt`")

    def improve(self, learnt: list[Tensor], gradients: list[Tensor], state: Any) -> list[Tensor]:
        """The improved `learnt`; may change `state`.

        Args:
            learnt: As `learnt` returned it.
            gradients: Gradients of the loss of the meta samples by `learnt`, finite.
            state: The layer of `create_state`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `improve`")

    def virtual_weight(self, learnt: list[Tensor], losses: Tensor, weight: Tensor) -> Tensor:
        """Sample weights of the virtual step; by default those of `sample_weight`."""
        return self.sample_weight(learnt, losses, weight)

    def sample_weight(self, learnt: list[Tensor], losses: Tensor, weight: Tensor) -> Tensor:
        """Sample weights of the training step, `(batch, ...)`.

        Args:
            learnt: What is learnt, before or after it was improved.
            losses: Plain cross-entropy of each sample, `(batch, ...)`. A constant.
            weight: Weights that the user gave, `(batch, ...)`, and 0 for samples that take no part.
        """
        return weight

    def adapt(self, context: Context, learnt: list[Tensor]) -> Context:
        """The context in which the compiled loss is computed."""
        return context

    def correct(
        self, learnt: list[Tensor], samples: Samples, last: Tensor, progress: Any
    ) -> tuple[Tensor, Tensor]:
        """Labels of the training step, and what is kept of them.

        Args:
            learnt: What is learnt, before or after it was improved.
            samples: The batch with its labels as they were given.
            last: Rows of `corrections` that belong to the samples, `(batch, classes)`. A constant.
            progress: Share of training that is done; 0 unless the method follows a schedule.

        Returns:
            Soft labels `(batch, classes)` that the loss sees, through which `learnt` gets its
            gradient, and the rows of `corrections` to keep, `(batch, classes)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `correct`")

    def get_config(self) -> dict[str, Any]:
        """Constructor's arguments as a JSON-serializable dict."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MetaMethod":
        """Creates a method from `get_config`'s dict."""
        return cls(**config)


def share_weight(value: Tensor, weight: Tensor) -> Tensor:
    """`weight * value`, scaled so that its sum is that of `weight`.

    Equal values give the weights themselves. If all of `value * weight` is 0, so is the result.
    """
    weighted = weight * value
    total = ops.sum(weighted)
    return weighted * (ops.sum(weight) / ops.where(total == 0, 1.0, total))
