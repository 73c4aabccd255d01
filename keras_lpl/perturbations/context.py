"""What a perturbation may know besides labels and logits, and how it gets there.

Keras hands a loss its labels and predictions, nothing else. `LPLModel` knows more, and lays it out
for the loss in a scope around Keras's own loss computation, so that weighting, reduction,
regularizers and loss scaling stay Keras's.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Mapping

from keras_lpl.core.typing import Tensor


@dataclasses.dataclass(frozen=True)
class Context:
    """What is known about a batch. A field is None where nobody knows it.

    Attributes:
        training: False during evaluation: the loss is then plain cross-entropy.
        sample_weight: `(batch,)`.
        confidence: `(num_classes,)`, `q_c`: running over training (`LPLModel`), or else of the
            batch alone. Filled in for perturbations that need it.
        confidence_weight: `(num_classes,)`, how much of a class the confidence has seen; 0 for a
            class that never occurred.
        features: `(batch, num_features)`, the input of the model's last layer. Gradients flow.
        kernel: `(num_features, num_classes)`, that layer's kernel. Gradients flow.
        progress: Scalar in [0, 1], the share of training that is done.
        statistics: The running statistics that the loss and its perturbations created, by name.
    """

    training: bool = True
    sample_weight: Tensor | None = None
    confidence: Tensor | None = None
    confidence_weight: Tensor | None = None
    features: Tensor | None = None
    kernel: Tensor | None = None
    progress: Tensor | None = None
    statistics: Mapping | None = None

    def replace(self, **changes):
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)


# A context variable, as replicas of a distributed model run in threads of one process.
_current = contextvars.ContextVar("keras_lpl_context", default=None)


def current_context():
    """The context laid out around the loss being computed; an empty one outside of `LPLModel`."""
    context = _current.get()
    return Context() if context is None else context


@contextlib.contextmanager
def context_scope(context):
    """Lays out `context` for the losses computed inside the `with` block."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)
