"""Class weights of an `LPLModel` that a callback may change while training goes on."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.outputs import form_of, read_output, rows_of_weight
from keras_lpl.core.statistics import ClassWeight
from keras_lpl.models.plan import OutputPlan, Plan, losses_of, outputs_of, part_of


class ClassReweighting:
    """Weights of the classes of each output, as the part of `LPLModel` that knows of them.

    The weights are state of the model, so that changing them compiles nothing.
    """

    _plan: Plan
    statistics: Any
    loss: Any
    output_names: Any
    train_function: Any
    reweighted_outputs: frozenset[str]

    def class_weight_of(self, plan: OutputPlan) -> ClassWeight | None:
        kind = "label_" if plan.loss is not None and plan.loss.multi_label else ""
        return self.statistics.get(f"{plan.output.prefix}{kind}class_weight")

    @property
    def class_weight(self) -> Any:
        """Weights set by `reweight_classes`, else ones; of several outputs, a dict by name."""
        found = {
            plan.output.name: ops.convert_to_tensor(weight.value)
            for plan in self._plan.outputs
            if (weight := self.class_weight_of(plan)) is not None
        }
        return found if len(self._plan.outputs) > 1 else next(iter(found.values()))

    def check_single_labels(self, output: str | None) -> None:
        """Raises `ValueError` for an output of several labels with a loss of Keras's own."""
        plan = self._plan.find(output)
        outputs = outputs_of(self)
        loss = losses_of(self.loss, outputs, self.output_names)[plan.output.index]
        name = loss if isinstance(loss, str) else getattr(loss, "name", "")
        form = plan.output.form
        if form is not None and form.units > 1 and str(name).startswith("binary_"):
            raise ValueError(
                "Class weights of several labels need a loss that knows the labels apart, such as "
                "`keras_lpl.PerturbedCrossentropy([], multi_label=True)`, which is the same "
                f"cross-entropy. Received: loss={loss!r} for {form.units} labels"
            )

    def reweight_classes(self, class_weight: Any, output: str | None = None) -> None:
        """Multiplies the loss of each training sample by the weight of its class, from now on.

        Whatever the loss. The first call compiles the training step once more; later ones change
        a variable.

        Args:
            class_weight: `(classes,)`, or None to train without weights again. Soft labels get the
                mean weight of their classes, several labels `(labels, 2)`.
            output: Name of the output; None for the only one.

        Raises:
            ValueError: for weights of another shape, negative ones, or what is no finite number.
        """
        if class_weight is None and output is None:
            chosen = list(self._plan.outputs)
        else:
            chosen = [self._plan.find(output)]
        for plan in chosen:
            weight = self.class_weight_of(plan)
            if weight is not None:
                shape = tuple(weight.value.shape)
                value = np.ones(shape, "float32")
                if class_weight is not None:
                    value = checks.class_weights(class_weight, shape, "the model's output")
                weight.value.assign(value)
        names = {plan.output.name for plan in chosen}
        reweighted = self.reweighted_outputs - names
        if class_weight is not None:
            reweighted |= names
        if reweighted != self.reweighted_outputs:
            self.reweighted_outputs = frozenset(reweighted)
            self.train_function = None

    def _reweighted(self, y, flat, y_pred, sample_weight):
        """Sample weights times class weights, for outputs with losses of Keras's own."""
        outputs = tuple(plan.output for plan in self._plan.outputs)
        if all(plan.loss is not None for plan in self._plan.outputs):
            return sample_weight
        weights = []
        for plan in self._plan.outputs:
            weight = part_of(sample_weight, plan.output, outputs, "sample_weight")
            labels = part_of(y, plan.output, outputs, "y")
            class_weight = self.class_weight_of(plan)
            is_due = plan.loss is None and plan.output.name in self.reweighted_outputs
            if is_due and labels is not None and class_weight is not None:
                logits = flat[plan.output.index]
                samples = read_output(labels, logits, check_values=False)
                of_rows = samples.of_own_class(ops.convert_to_tensor(class_weight.value))
                form = form_of(logits.shape)
                given = rows_of_weight(weight, form, samples.shape, "float32", "sample_weight")
                of_rows = of_rows if given is None else of_rows * given
                weight = ops.reshape(of_rows, samples.shape)
            weights.append(weight)
        if len(weights) == 1 and not keras.tree.is_nested(y_pred):
            return weights[0]
        return keras.tree.pack_sequence_as(y_pred, weights)
