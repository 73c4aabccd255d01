"""`AdversarialFeatures`: the logits of features that were moved against the classifier."""

from typing import Any

from keras import ops

from keras_lpl.core.context import Context
from keras_lpl.core.numerics import residual
from keras_lpl.core.perturbation import Perturbation
from keras_lpl.core.registry import register
from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor
from keras_lpl.methods.adversarial.ascent import Ascent
from keras_lpl.methods.cosine_dense import warn_of_cosine_head


@register
class AdversarialFeatures(Perturbation):
    """Moves the features of each sample, within a ball, to where its loss is largest.

    `u + W' delta` with `delta = argmax_{|delta| <= epsilon} l(u + W' delta, y)`: Eq. 1 of LPL for
    the hidden feature before the last layer, whose kernel `W` is. By projected gradient ascent from
    `delta = 0` (PGD; one step in the maximum norm is FGSM), which costs two products of matrices a
    step. `delta` is a constant for back-propagation; the kernel is not. Trains in an `LPLModel`.

    Args:
        epsilon: Bound of `delta`, in units of the features.
        num_steps: Steps of the ascent.
        step_size: Length of a step; by default `epsilon` for one step, `2.5 * epsilon / num_steps`
            for several.
        norm: `"linf"`: no feature moves by more than `epsilon`; `"l2"`: all of them together.

    Raises:
        ValueError: for an argument out of range, or, when called, outside of `LPLModel`.
    """

    needs = ("kernel",)
    supports_multi_label = False

    def __init__(
        self,
        epsilon: float,
        num_steps: int = 1,
        step_size: float | None = None,
        norm: str = "linf",
    ) -> None:
        self.ascent = Ascent.checked(epsilon, num_steps, step_size, norm)

    def __call__(self, samples: Samples, context: Context) -> Tensor:
        kernel = ops.cast(context.kernel, samples.logits.dtype)
        logits, fixed = ops.stop_gradient(samples.logits), ops.stop_gradient(kernel)
        membership, back = ops.stop_gradient(samples.membership), ops.transpose(fixed)

        def gradient_of(delta):
            return ops.matmul(residual(membership, logits + ops.matmul(delta, fixed)), back)

        start = ops.zeros_like(ops.matmul(logits, back))
        delta = ops.stop_gradient(self.ascent.climb(gradient_of, start))
        return samples.logits + ops.matmul(delta, kernel)

    def check_head(self, layer: Any) -> None:
        warn_of_cosine_head(self, layer)

    def get_config(self) -> dict[str, Any]:
        return self.ascent.get_config()
