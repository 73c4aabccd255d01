"""State of training that a loss may read, beside the samples themselves.

Keras hands a loss its labels and predictions, nothing else. `LPLModel` knows more, and passes it to
the loss in a scope around Keras's own loss computation, so that weighting, reduction, regularizers
and loss scaling stay Keras's.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """State of training around one batch. Unknown tensors are None.

    Attributes:
        training: False during evaluation: the loss is then plain cross-entropy.
        confidence: `q_c`, `(classes,)` or `(problems, classes)`: running over training
            (`LPLModel`), or else of the batch alone. Filled in for perturbations that need it.
        confidence_weight: Weight of each class that the confidence has seen, in the same shape; 0
            for a class that never occurred.
        kernel: `(features, classes)`, the kernel of the model's last layer. Gradients flow.
        progress: Scalar in [0, 1], the share of training that is done.
        covariance_shift: What `MetaSAug` adds to the covariances of ISDA, in their shape. Gradients
            flow.
        statistics: Running statistics that the loss and its perturbations created, by name.
    """

    training: bool = True
    confidence: Tensor = None
    confidence_weight: Tensor = None
    kernel: Tensor = None
    progress: Tensor = None
    covariance_shift: Tensor = None
    statistics: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def replace(self, **changes: Any) -> "Context":
        """Copy with some fields changed."""
        return dataclasses.replace(self, **changes)


class Scope:
    """Access of one output's loss to the model it is computed in.

    This one is that of a plain `keras.Model`, which knows nothing but the batch. `LPLModel` lays
    out one of its own for each output.
    """

    features: Tensor | None = None
    class_weight: Tensor | None = None

    def __init__(self, context: Context | None = None) -> None:
        self.context = Context() if context is None else context

    def begin(self, samples: Samples) -> Context:
        """Folds the batch into the statistics that come before the loss; returns the context."""
        return self.context

    def end(self, samples: Samples) -> None:
        """Folds the batch into the statistics that come after the loss."""


# Scopes by the identity of the output they are of. A context variable, as replicas of a distributed
# model run in threads of one process.
_scopes: contextvars.ContextVar[Mapping[int | None, Scope] | None] = contextvars.ContextVar(
    "keras_lpl_scopes", default=None
)


def current_scope(y_pred: Tensor) -> Scope:
    """The scope laid out for the loss of `y_pred`; an empty one in a plain `keras.Model`."""
    of_outputs = _scopes.get()
    if of_outputs is None:
        return Scope()
    return of_outputs.get(id(y_pred)) or of_outputs.get(None) or Scope()


@contextlib.contextmanager
def scopes(of_outputs: Mapping[int | None, Scope]) -> Iterator[None]:
    """Lays out scopes for the losses computed inside the `with` block.

    Args:
        of_outputs: Scopes by the `id` of each output; that under None is for any other output.
    """
    token = _scopes.set(of_outputs)
    try:
        yield
    finally:
        _scopes.reset(token)


def context_scope(
    context: Context, features: Tensor | None = None
) -> contextlib.AbstractContextManager[None]:
    """Lays out one context, and features, for every loss computed inside the `with` block."""
    scope = Scope(context)
    scope.features = features
    return scopes({None: scope})
