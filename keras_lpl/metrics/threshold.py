"""The threshold of a model of two classes, chosen on held-out data."""

from typing import Any

import numpy as np
from keras import ops

from keras_lpl.core import checks

MEASURES = ("f1", "balanced_accuracy", "geometric_mean")


def choose_threshold(
    y_true: Any, y_pred: Any, maximize: str = "f1", min_precision: float | None = None
) -> float:
    """Threshold above which a sample is best called positive.

    Choose it on data that were not trained on, and not on those you report: it is fitted to them.

    Args:
        y_true: Labels 0 and 1, `(samples,)` or `(samples, 1)`.
        y_pred: Predictions of the same shape, logits or probabilities; the threshold is in the same
            units.
        maximize: `"f1"`, of the positives; `"balanced_accuracy"`; or `"geometric_mean"`, of both
            recalls.
        min_precision: If given, the threshold of the largest recall whose precision is at least
            this, whatever `maximize` says.

    Returns:
        The threshold: predict positive where `y_pred > threshold`.

    Raises:
        ValueError: if the shapes differ, a label is not 0 or 1, a class is missing, or no threshold
            has the precision asked for.

    Example:

    >>> logits = np.array([-3.0, -2.0, -1.0, -1.5, 2.0])
    >>> keras_lpl.metrics.choose_threshold([0, 0, 1, 0, 1], logits)
    -1.25
    """
    checks.one_of(maximize, "maximize", MEASURES)
    labels = np.asarray(ops.convert_to_numpy(y_true)).reshape(-1)
    scores = np.asarray(ops.convert_to_numpy(y_pred), "float64").reshape(-1)
    _check(labels, scores)
    values, place = np.unique(scores, return_inverse=True)
    # Positives and negatives above each candidate: below all scores, between two, above all.
    above = [
        np.concatenate(
            [np.cumsum(np.bincount(place[labels == side], minlength=len(values))[::-1])[::-1], [0]]
        )
        for side in (0, 1)
    ]
    false, true = np.asarray(above, "float64")
    positives, negatives = true[0], false[0]
    recall, specificity = true / positives, 1 - false / negatives
    precision = true / np.maximum(true + false, 1)
    if min_precision is not None:
        floor = checks.number(min_precision, "min_precision", minimum=0, maximum=1)
        allowed = (precision >= floor) & (true > 0)
        if not allowed.any():
            raise ValueError(
                "No threshold has that precision on these data. Received: "
                f"min_precision={min_precision}; the largest is {precision.max():.3g}"
            )
        quality = np.where(allowed, recall + precision * 1e-9, -1.0)
    elif maximize == "f1":
        quality = 2 * true / (true + false + positives)
    elif maximize == "balanced_accuracy":
        quality = (recall + specificity) / 2
    else:
        quality = np.sqrt(recall * specificity)
    best = int(quality.argmax())
    # Next to a large number, one less may be the same number in float32.
    below = min(values[0] - 1, float(np.nextafter(np.float32(values[0]), np.float32(-np.inf))))
    ends = np.concatenate([[below], values, [values[-1] + 1]])
    low, high = ends[best], ends[best + 1]
    middle = (low + high) / 2
    # Predictions are float32 as a rule, where there may be nothing between two neighbours.
    return float(middle if np.float32(low) <= np.float32(middle) < np.float32(high) else low)


def _check(labels, scores):
    if labels.shape != scores.shape:
        raise ValueError(
            "`y_true` and `y_pred` must have one number for each sample, of two classes. "
            f"Received: {labels.size} labels and {scores.size} predictions"
        )
    if not np.isfinite(scores).all():
        raise ValueError("`y_pred` must be finite. Received: NaN or infinite predictions")
    found = np.unique(labels)
    if not np.array_equal(found, [0, 1]):
        raise ValueError(
            "`y_true` must hold 0 and 1, both of them. "
            f"Received: labels {checks.shortened(found.tolist())}"
        )
