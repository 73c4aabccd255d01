"""What is measured of a trained lane."""

import numpy as np

BINS = 15


def measure(logits, labels, class_counts):
    """Measures of every lane, each an array `(lanes,)` of fractions; None where undefined.

    Args:
        logits: `(lanes, samples, classes)`.
        labels: int `(samples,)`; every class occurs.
        class_counts: `(classes,)`, training samples.
    """
    member = np.eye(len(class_counts))[labels]
    predicted = logits.argmax(axis=-1)
    correct = predicted == labels
    recall = correct @ member / member.sum(axis=0)
    counts = np.asarray(class_counts)
    shots = {"many": counts > 100, "few": counts < 20}
    shots["medium"] = ~(shots["many"] | shots["few"])
    # A third of the classes: where all are rich or all are poor, the usual limits say nothing.
    order = np.argsort(-counts, kind="stable")
    third = max(1, len(counts) // 3)
    shots |= {"head": np.isin(np.arange(len(counts)), order[:third])}
    shots |= {"tail": np.isin(np.arange(len(counts)), order[-third:])}
    return {
        "balanced_accuracy": recall.mean(axis=-1),
        "macro_f1": _f1(predicted, labels, len(counts)).mean(axis=-1),
        "accuracy": correct.mean(axis=-1),
        **{
            f"{name}_accuracy": recall[:, which].mean(axis=-1) if which.any() else None
            for name, which in shots.items()
        },
        "calibration_error": calibration_error(logits, correct),
    }


def _f1(predicted, labels, classes):
    """F1 of each class, `(lanes, classes)`; 0 where a class is neither there nor predicted."""
    there = np.bincount(labels, minlength=classes)
    of_lanes = []
    for lane in predicted:
        said = np.bincount(lane, minlength=classes)
        hits = np.bincount(labels[lane == labels], minlength=classes)
        of_lanes.append(2 * hits / np.maximum(said + there, 1))
    return np.array(of_lanes)


def calibration_error(logits, correct):
    """Expected calibration error over bins of equal width, `(lanes,)`."""
    of_lanes = []
    for lane, right in zip(logits, correct, strict=True):
        # Of the predicted class: 1 / sum(exp(z - max z)).
        probability = 1 / np.exp(lane - lane.max(axis=-1, keepdims=True)).sum(axis=-1)
        bins = np.minimum((probability * BINS).astype(int), BINS - 1)
        of_lanes.append(np.abs(np.bincount(bins, right - probability, BINS)).sum())
    return np.array(of_lanes) / correct.shape[1]


def measure_positives(logits, labels, held_out_logits, held_out_labels):
    """Recall, precision and F1 of class 1, at 0.5 and at thresholds chosen on held-out samples.

    Returns:
        Names to arrays `(lanes,)`: plain names for the threshold 0.5; `chosen_...` for the one of
        the best F1 on the held-out samples, except `chosen_balanced_accuracy`, for which the one of
        the best balanced accuracy is taken; `average_precision` needs none.
    """
    from sklearn.metrics import average_precision_score

    names = ("recall", "precision", "f1")
    rows = []
    for lane, held_out in zip(logits, held_out_logits, strict=True):
        score, held_out = lane[:, 1] - lane[:, 0], held_out[:, 1] - held_out[:, 0]
        row = dict(zip(names, _at(score > 0, labels), strict=True))
        best = choose_threshold(held_out, held_out_labels, lambda said, y: _at(said, y)[2])
        row |= {f"chosen_{n}": v for n, v in zip(names, _at(score > best, labels), strict=True)}
        best = choose_threshold(held_out, held_out_labels, _balanced)
        row["chosen_balanced_accuracy"] = _balanced(score > best, labels)
        row["average_precision"] = average_precision_score(labels, score)
        rows.append(row)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def choose_threshold(score, labels, value):
    """The middle of all thresholds between two scores at which `value(said, labels)` is best."""
    ordered = np.unique(score)
    below = np.concatenate([[ordered[0] - 1], (ordered[1:] + ordered[:-1]) / 2])
    # Only those just below a positive: one further down says yes to more negatives alone.
    below = below[np.isin(ordered, score[labels == 1])]
    values = np.array([value(score > threshold, labels) for threshold in below])
    best = np.flatnonzero(values == values.max())
    return below[best[len(best) // 2]]


def _at(said, labels):
    hits = (said & (labels == 1)).sum()
    recall = hits / (labels == 1).sum()
    precision = hits / said.sum() if said.any() else 0.0
    return recall, precision, 2 * hits / (said.sum() + (labels == 1).sum())


def _balanced(said, labels):
    return (said[labels == 1].mean() + (~said[labels == 0]).mean()) / 2
