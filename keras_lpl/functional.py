"""Logit perturbation (LPL) as pure functions of tensors: the equations of the paper.

Li, Su, Wu, Zhang: "Logit Perturbation", AAAI 2022. Equation numbers are the paper's.

    confidence  q_c      mean probability of the true class       `class_confidence`        Eq. 13
    direction   s_c      +1 raises the class's loss, -1 lowers it `split_by_confidence`     Eq. 12
                                                                  `split_by_frequency`      Eq. 14
                                                                  `split_by_log_frequency`
    bound       eps_c    how far class c may be pushed            `bound_by_confidence`     Eq. 18
                                                                  `bound_by_frequency`      Eq. 18
                                                                  `bound_by_log_frequency`
                                                                  `scale_by_confidence`
    steps       K_c      floor(eps_c / alpha)                     `num_steps`               Eq. 19
    push        delta_c  K_c steps of ascent or descent           `perturb_logits`          Alg. 2
                         one step of length eps_c                 `perturb_logits_at_once`

Everywhere: `logits` are `(..., classes)`; `labels` are class indices `(...)` or soft labels
`(..., classes)`; `sample_weight` is `(batch,)` or `(...)`, and a row of weight 0 has no influence
on any class. Results are float32 whatever the precision of the inputs, except that float64 logits
give float64 logits, losses and confidences. Nothing here looks at the values of a tensor, so
everything can be compiled; a label that is not a class, or a logit that is not finite, makes its
own row's result NaN and touches no other.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_lpl.core.crossentropy import crossentropy
from keras_lpl.core.outputs import read_output
from keras_lpl.core.samples import Samples
from keras_lpl.core.statistics import mean_confidence
from keras_lpl.core.typing import Tensor
from keras_lpl.methods.lpl import ascent, equations
from keras_lpl.methods.lpl.equations import (
    bound_by_confidence,
    bound_by_frequency,
    bound_by_log_frequency,
    num_steps,
    scale_by_confidence,
    split_by_confidence,
    split_by_frequency,
    split_by_log_frequency,
)

__all__ = [
    "bound_by_confidence",
    "bound_by_frequency",
    "bound_by_log_frequency",
    "class_confidence",
    "class_membership",
    "num_steps",
    "perturb_logits",
    "perturb_logits_at_once",
    "scale_by_confidence",
    "softmax_crossentropy",
    "split_by_confidence",
    "split_by_frequency",
    "split_by_log_frequency",
]


def softmax_crossentropy(labels: Tensor, logits: Tensor) -> Tensor:
    """Cross-entropy of each row, from logits.

    Args:
        labels: Class indices `(...)` or soft labels `(..., classes)`.
        logits: `(..., classes)`.

    Returns:
        `(...)`, NaN where the label is not a class or a logit is not finite.

    Example:

    >>> loss = keras_lpl.functional.softmax_crossentropy([0], [[0.0, 0.0]])
    >>> print(round(float(loss[0]), 4))
    0.6931
    """
    samples = _read(labels, logits)
    return samples.to_output(crossentropy(samples))


def class_membership(labels: Tensor, logits: Tensor) -> Tensor:
    """Share of each class in a row: soft labels as they are, class indices as one-hot.

    Args:
        labels: Class indices `(...)` or soft labels `(..., classes)`.
        logits: `(..., classes)`, for the number of classes and the precision.

    Returns:
        `(..., classes)`; zeros for a label that is not a class.

    Example:

    >>> print(keras.ops.convert_to_numpy(
    ...     keras_lpl.functional.class_membership(np.array([1]), np.zeros((1, 3)))))
    [[0. 1. 0.]]
    """
    samples = _read(labels, logits)
    member = samples.replace_bad(samples.membership, 0.0)
    return ops.reshape(member, (*samples.shape, samples.num_classes))


def class_confidence(
    labels: Tensor, logits: Tensor, sample_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mean probability that the rows of a class give to their class (Eq. 13).

    Args:
        labels: Class indices `(...)` or soft labels `(..., classes)`. A soft label spreads its
            row's weight over the classes.
        logits: `(..., classes)`.
        sample_weight: `(batch,)` or `(...)`, or None.

    Returns:
        `(confidence, weight)`, both `(classes,)`: the confidence `q_c`, and the weight seen of each
        class. Where that is 0 the class was not there; its confidence is given as 0, and means
        over classes leave it out when they are given `weight`.

    Example:

    >>> confidence, weight = keras_lpl.functional.class_confidence([0, 0], [[0.0, 0.0]] * 2)
    >>> print(keras.ops.convert_to_numpy(confidence))
    [0.5 0. ]
    >>> print(keras.ops.convert_to_numpy(weight))
    [2. 0.]
    """
    return mean_confidence(_read(labels, logits, sample_weight))


def perturb_logits(
    labels: Tensor,
    logits: Tensor,
    direction: Tensor,
    num_steps: Tensor,
    step_size: Tensor | float,
    normalize_gradient: bool = True,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Pushes each class's logits by a PGD-like ascent or descent on its own loss (Algorithm 2).

    For each class `c` in the batch, `num_steps[c]` times:

        g_c      = mean over the rows of c of  softmax(u_i + delta_c) - onehot(c)       (Eq. 16)
        delta_c += direction_c * step_size * g_c / |g_c|                                (Eq. 17)

    and `u_i + delta_{y_i}` is returned. `delta` is a constant for back-propagation.

    Steps of unit length keep `|delta_c| <= num_steps[c] * step_size <= eps_c`, and push a class
    that is already learnt as far as one that is not, as long as float32 holds its gradient: up to
    a lead of about 90 over all other logits. With `normalize_gradient=False` the step is
    `step_size * g_c`, Eqs. 16-17 as printed: it fades as the class is learnt.

    With soft labels membership is a weight: `g_c = sum_i y_ic (p_i - y_i) / sum_i y_ic`, and
    row `i` is shifted by `sum_c y_ic delta_c`. One-hot labels give back the above.

    Only classes in the batch cost anything: time per step is O(rows * classes), memory
    O(rows * classes), for soft labels a factor min(rows, classes) more time.

    Args:
        labels: Class indices `(...)` or soft labels `(..., classes)`.
        logits: `u`, `(..., classes)`.
        direction: `(classes,)` of +1 (raise the loss) or -1 (lower it).
        num_steps: `K_c`, int `(classes,)`, 5,000 at most; larger ones of a tensor are cut off.
        step_size: `alpha`, in units of the logits; a number, or one for each class.
        normalize_gradient: Steps of unit length (default), or as long as the gradient.
        sample_weight: `(batch,)` or `(...)`, or None. Weights of the class means.

    Returns:
        Perturbed logits, `(..., classes)`.

    Raises:
        ValueError: for more than 5,000 steps.

    Example:

    >>> perturbed = keras_lpl.functional.perturb_logits(
    ...     labels=[0], logits=[[0.0, 0.0]], direction=[1.0, 1.0], num_steps=[2, 2], step_size=0.5
    ... )
    >>> print(keras.ops.convert_to_numpy(perturbed).round(3))
    [[-0.707  0.707]]
    """
    samples = _read(labels, logits, sample_weight)
    if not equations.is_tensor(num_steps):
        num_steps = np.asarray(num_steps)
        equations.check_num_steps(num_steps.max(initial=0), f"num_steps={num_steps.tolist()}")
    steps = ops.minimum(ops.convert_to_tensor(num_steps), equations.MOST_STEPS)
    steps = ops.cast(steps, "int32")
    direction = ops.cast(ops.convert_to_tensor(direction), samples.logits.dtype)
    shift = ascent.steps_of_size(
        _detached(samples), direction, steps, step_size, normalize_gradient
    )
    return _shifted(samples, shift)


def perturb_logits_at_once(
    labels: Tensor,
    logits: Tensor,
    direction: Tensor,
    bound: Tensor,
    normalize_gradient: bool = True,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Pushes each class's logits by one step of the length of its bound.

    `delta_c = direction_c * eps_c * g_c / |g_c|`, with the gradient `g_c` at the raw logits:
    Eqs. 16 and 17 of LPL with a single step. There is no loop, and no class is left out because a
    step is longer than its bound.

    Args:
        labels: Class indices `(...)` or soft labels `(..., classes)`.
        logits: `u`, `(..., classes)`.
        direction: `(classes,)` of +1 (raise the loss) or -1 (lower it).
        bound: `eps_c`, `(classes,)`, in units of the logits.
        normalize_gradient: As in `perturb_logits`.
        sample_weight: As in `perturb_logits`.

    Returns:
        Perturbed logits, `(..., classes)`.

    Example:

    >>> perturbed = keras_lpl.functional.perturb_logits_at_once(
    ...     labels=[0], logits=[[0.0, 0.0]], direction=[1.0, 1.0], bound=[1.0, 1.0]
    ... )
    >>> print(keras.ops.convert_to_numpy(perturbed).round(3))
    [[-0.707  0.707]]
    """
    samples = _read(labels, logits, sample_weight)
    direction, bound = ops.convert_to_tensor(direction), ops.convert_to_tensor(bound)
    shift = ascent.one_step(_detached(samples), direction, bound, normalize_gradient)
    return _shifted(samples, shift)


def _read(labels: Tensor, logits: Tensor, sample_weight: Tensor | None = None) -> Samples:
    """Reads a batch without looking at values; float64 stays float64."""
    logits = ops.convert_to_tensor(logits)
    is_double = keras.backend.standardize_dtype(logits.dtype) == "float64"
    return read_output(
        labels,
        logits,
        sample_weight,
        dtype="float64" if is_double else "float32",
        name="labels",
        check_values=False,
    )


def _detached(samples: Samples) -> Samples:
    return samples.replace(logits=ops.stop_gradient(samples.logits))


def _shifted(samples: Samples, shift: Tensor) -> Tensor:
    perturbed = samples.logits + ops.stop_gradient(shift)
    perturbed = samples.replace_bad(perturbed, math.nan)
    return ops.reshape(perturbed, (*samples.shape, samples.num_classes))
