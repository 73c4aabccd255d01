"""Rows of logits as yes-or-no questions, for losses that are sums of binary ones.

A row of two classes is one question, "is it class 1?": one logit and several labels come as such
rows. A row of more classes is one question for each of them, "is it this one?".
"""

from keras import ops

from keras_lpl.core.samples import Samples
from keras_lpl.core.typing import Tensor


def questions(samples: Samples) -> tuple[Tensor, Tensor]:
    """Logits of "yes", and how much "yes" is the label, both `(rows, questions)`."""
    logits, member = samples.logits, samples.membership
    if samples.num_classes == 2:
        return logits[:, 1:] - logits[:, :1], member[:, 1:]
    return logits, member


def of_questions(samples: Samples, x: Tensor) -> Tensor:
    """Entries of the class that each question is about, which broadcast to `(rows, questions)`.

    Args:
        samples: The batch.
        x: `(classes,)`, or `(problems, classes)`.
    """
    x = samples.of_classes(x)
    return x[:, 1:] if samples.num_classes == 2 else x


def sum_of_sample(samples: Samples, x: Tensor) -> Tensor:
    """Sum over all questions of a sample, several labels included, `(rows, 1)`.

    Args:
        samples: The batch.
        x: `(rows, questions)`.
    """
    if samples.num_problems is None:
        return ops.sum(x, axis=-1, keepdims=True)
    # Rows lie sample by sample, and in each sample problem by problem.
    total = ops.sum(ops.reshape(x, (-1, samples.num_problems)), axis=-1, keepdims=True)
    return ops.reshape(ops.repeat(total, samples.num_problems, axis=-1), (-1, 1))
