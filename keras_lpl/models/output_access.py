"""What callbacks and people ask of an `LPLModel`: parts of its outputs, and perturbed logits."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lpl.core.context import scopes
from keras_lpl.core.perturbed_crossentropy import PerturbedCrossentropy
from keras_lpl.models.plan import Plan, part_of
from keras_lpl.models.state import OutputScope


class OutputAccess:
    """Outputs of an `LPLModel` by name, with their losses and what these make of a batch."""

    _plan: Plan
    loss: Any
    outputs: Any
    __call__: Any

    def perturb_on_batch(
        self, x: Any, y: Any, sample_weight: Any = None, output: str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The logits of a batch, and the perturbed ones that the loss would train on.

        Looks without touching: no state changes, no dropout. For pictures and for debugging.

        Args:
            x: Input data, one batch.
            y: Labels of the output, as for its loss; or of all outputs, in a dict or a list.
            sample_weight: `(batch,)` or `(batch, ...)`, or None.
            output: Name of the output; None for the only one.

        Returns:
            `(logits, perturbed)`, NumPy arrays `(batch, ..., classes)`. One logit `u` is shown as
            the two `[0, u]`, several labels as `(batch, ..., labels, 2)`.

        Raises:
            ValueError: if no `keras_lpl.PerturbedCrossentropy` loss is compiled.
        """
        plan = self._plan.find(output)
        if not isinstance(plan.loss, PerturbedCrossentropy):
            raise ValueError(
                "`perturb_on_batch` shows what the loss does to the logits: compile the model with "
                "a loss that perturbs, such as `keras_lpl.LPLLoss`, for this output. Received: "
                f"output {plan.output.name!r} with loss={plan.loss or self.loss!r}"
            )
        if isinstance(y, (dict, list, tuple)) and len(self.outputs) > 1:
            y = part_of(y, plan.output, tuple(each.output for each in self._plan.outputs), "y")
        features = None
        # Called rather than `predict_on_batch`, which loses Keras's masks.
        if plan.head is None:
            results = keras.tree.flatten(self(x, training=False))
        else:
            results = self._plan.twin(x, training=False)
            before = [p for p in self._plan.outputs if p.head is not None]
            features = ops.stop_gradient(results[len(self.outputs) + before.index(plan)])
        y_pred = results[plan.output.index]
        scope = OutputScope(self, plan, features, training=True)
        with scopes({None: scope}):
            perturbed = plan.loss.perturb(y, y_pred, sample_weight, scope.state())
        logits = ops.convert_to_numpy(y_pred)
        if tuple(perturbed.shape) != logits.shape:
            logits = np.stack([np.zeros_like(logits), logits], axis=-1)
        return logits.reshape(perturbed.shape), ops.convert_to_numpy(perturbed)

    def find_output(self, output: str | None) -> str:
        """Name of an output; of the only one if `output` is None.

        Raises:
            ValueError: if there is no such output, or several and none is named.
        """
        return self._plan.find(output).output.name

    def loss_of_output(self, output: str | None) -> Any:
        """Loss of an output, if it is one of this package; None otherwise."""
        return self._plan.find(output).loss

    def parts_of_output(self, output: str | None, y: Any, y_pred: Any, weight: Any) -> Any:
        """Labels, predictions and weights of one output: `(y, y_pred, sample_weight)`.

        Args:
            output: Name of the output; None for the only one.
            y: Labels of all outputs, as for `fit`.
            y_pred: Predictions of all outputs, as `predict_on_batch` returns them.
            weight: Sample weights of all outputs, as for `fit`.
        """
        plan = self._plan.find(output)
        outputs = tuple(each.output for each in self._plan.outputs)
        return (
            part_of(y, plan.output, outputs, "y"),
            keras.tree.flatten(y_pred)[plan.output.index],
            part_of(weight, plan.output, outputs, "sample_weight"),
        )
