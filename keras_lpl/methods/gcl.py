"""GCL: `scale * (u_ic - noise * A_c |eps_ic| - margin * y_ic)`: more noise for rare classes.

    cloud size  A_c = (log N_max - log N_c) / (log N_max - log N_min)    0 to 1
    noise       eps_ic ~ N(0, 1/3), clipped to [-1, 1]

Li, Cheung, Lu: "Long-tailed visual recognition via Gaussian clouded logit adjustment", CVPR 2022,
and the authors' code. The noise is drawn anew for each class of each sample in each step.
"""

from typing import Any

import numpy as np
from keras import ops

from keras_lpl import engines
from keras_lpl.core import checks
from keras_lpl.core.context import Context
from keras_lpl.core.outputs import check_counts
from keras_lpl.core.perturbation import Perturbation
from keras_lpl.core.perturbed_crossentropy import PerturbationLoss
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.statistics import StepCounter
from keras_lpl.core.typing import Counts, Tensor
from keras_lpl.methods.cosine_dense import warn_of_dense_head

DEVIATION = 1 / 3


def cloud_sizes(class_counts: Counts) -> np.ndarray:
    """`A_c`, 0 for the most frequent class and 1 for the rarest, float64 `(classes,)`."""
    log_counts = np.log(np.asarray(class_counts, dtype="float64"))
    below = log_counts.max() - log_counts
    return below / max(below.max(), 1e-30)


@register
class GCL(Perturbation):
    """Takes random amounts off the logits, larger ones off those of rare classes, and scales.

    Made for cosines within [-1, 1], as `LDAM`: end the model in `keras_lpl.layers.CosineDense`.
    Needs an `LPLModel`, which counts the steps: each step has noise of its own, and a run that is
    interrupted and resumed draws what the whole run would have drawn.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, any class order.
        noise: Factor on the noise, in units of the cosine. The rarest class loses
            `noise * min(|N(0, 1/3)|, 1)`, a quarter of `noise` in the mean.
        margin: Taken off the true class's logit besides, in units of the cosine.
        scale: Factor on all logits in the end, the inverse temperature.
        seed: Of the noise.

    Raises:
        ValueError: for a count of zero or less, a negative `noise` or `margin`, a `scale` that is
            not positive, or, when called, outside of `LPLModel`.
    """

    needs = ("statistics",)
    supports_multi_label = False

    def __init__(
        self,
        class_counts: Counts,
        noise: float = 0.5,
        margin: float = 0.0,
        scale: float = 30.0,
        seed: int = 0,
    ) -> None:
        self.class_counts = checks.class_counts(class_counts)
        self.noise = checks.number(noise, "noise", minimum=0)
        self.margin = checks.number(margin, "margin", minimum=0)
        self.scale = checks.number(scale, "scale", minimum=0, exclusive=True)
        self.seed = checks.seed(seed)

    def __call__(self, samples: Samples, context: Context) -> Tensor:
        check_counts(self.class_counts, samples)
        sizes = samples.of_classes(self.noise * cloud_sizes(self.class_counts))
        clouded = samples.logits - sizes * self.draw(samples, context)
        return engines.rounded(self.scale * (clouded - self.margin * samples.membership))

    def draw(self, samples: Samples, context: Context) -> Tensor:
        """`|eps|`, `(rows, classes)`, the same for the same seed, step and place in the batch."""
        step = ops.convert_to_tensor(context.statistics["steps"].steps)
        drawn = engines.normal(ops.shape(samples.logits), self.seed, step)
        drawn = ops.minimum(ops.abs(DEVIATION * drawn), 1.0)
        return ops.cast(drawn, samples.logits.dtype)

    def create_statistics(
        self, shape_by_class: tuple[int, ...], num_features: int | None
    ) -> dict[str, Any]:
        return {"steps": StepCounter()}

    def check_head(self, layer: Any) -> None:
        warn_of_dense_head(self, self.scale, layer)

    def get_config(self) -> dict[str, Any]:
        return {
            "class_counts": checks.as_config(self.class_counts),
            "noise": self.noise,
            "margin": self.margin,
            "scale": self.scale,
            "seed": self.seed,
        }


@register
class GCLLoss(PerturbationLoss):
    """Gaussian clouded logits (GCL): random margins, larger ones for rare classes.

    Li et al., "Long-tailed visual recognition via Gaussian clouded logit adjustment", CVPR 2022.
    Trains in a `keras_lpl.LPLModel`, which counts the steps that the noise depends on; evaluation
    is plain cross-entropy of bare cosines, which is never small: watch accuracy.

    The model must end in `keras_lpl.layers.CosineDense(num_classes)`; where it does not, it warns.

    Args:
        class_counts: Training samples per class, `(num_classes,)`, in the order of the class
            indices. They need not be sorted.
        noise: Factor on the noise, in units of the cosine. The authors' code has 0.5 for CIFAR.
        margin: Taken off the true class's logit besides. The authors' code has 0 for CIFAR.
        scale: Factor on all logits in the end.
        seed: Of the noise.
        from_logits: As in `keras_lpl.losses.ClassificationLoss`, as all that follow.
        multi_label: True for several labels per sample.
        ignore_class: Class index whose rows take no part.
        reduction: As in `keras.losses.Loss`.
        name: Optional name of the loss.
        dtype: `"float32"` (default) or `"float64"`.

    Raises:
        ValueError: for a count of zero or less, another argument out of range, or, when called,
            outside of `LPLModel`, or if the number of counts is not that of the classes.

    Example:

    >>> inputs = keras.Input((8,))
    >>> model = keras_lpl.LPLModel(inputs, keras_lpl.layers.CosineDense(3)(inputs))
    >>> model.compile("sgd", loss=keras_lpl.GCLLoss(class_counts=[3, 2, 1]))
    >>> history = model.fit(np.ones((6, 8)), np.array([0, 0, 0, 1, 1, 2]), verbose=0)
    """

    def __init__(
        self,
        class_counts: Counts,
        noise: float = 0.5,
        margin: float = 0.0,
        scale: float = 30.0,
        seed: int = 0,
        *,
        from_logits: bool = True,
        multi_label: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "gcl_loss",
        dtype: str | None = None,
    ) -> None:
        super().__init__(
            [GCL(class_counts, noise, margin, scale, seed)],
            from_logits=from_logits,
            multi_label=multi_label,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
