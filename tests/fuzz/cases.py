"""Random, seeded calls of losses: settings of a loss and a form of output, then batches for it.

A `Setting` is what code is compiled for; `Setting.batch(draw)` gives one of any number of batches.
Both depend on nothing but their numbers, so that a case can be run again, and on another backend.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import keras_lpl
from keras_lpl import perturbations
from tests.losses.perturbation_cases import Informed

# Few sizes, as every new one compiles every operation anew.
ROWS, CLASSES, LABELS = 6, 5, 3
SHAPES = {
    "logits": (ROWS, CLASSES),
    "tokens": (2, 3, CLASSES),
    "pixels": (1, 2, 3, CLASSES),
    "one logit": (ROWS, 1),
    "one logit of tokens": (2, 3, 1),
    "several labels": (ROWS, LABELS),
}
SIZES = [0.0, 1e-30, 1e-3, 1.0, 1.0, 1.0, 5.0, 30.0, 90.0, 300.0, 1e4, 1e10, 1e20, 1e28]
LARGEST_OF_DTYPE = {"float16": 6e4}
NUMBERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float32", "float64")
WEIGHTS = (None, None, "ones", "random", "zeros", "huge", "tiny", "column", "scalar", "all")
MISTAKES = ("label", "nan label", "labels short", "labels wide", "weights", "counts", "text")


def choose(rng, choices):
    return choices[int(rng.integers(len(choices)))]


def random_counts(rng, classes):
    """Counts as users have them, from one sample a class to more than int32 holds."""
    kind = choose(rng, ["usual", "usual", "equal", "ones", "beyond int32", "fractions"])
    counts = {
        "usual": rng.integers(1, 5000, classes),
        "equal": np.full(classes, 7),
        "ones": np.ones(classes, "int64"),
        "beyond int32": rng.integers(1, 2**40, classes),
        "fractions": rng.uniform(0.5, 90, classes),
    }[kind]
    return counts.tolist()


def random_transition(rng, classes):
    matrix = 0.8 * np.eye(classes) + 0.2 * rng.dirichlet(np.ones(classes), classes)
    return (matrix / matrix.sum(axis=1, keepdims=True)).tolist()


def _lpl_ratio(rng, counts, **keywords):
    epsilon, delta = rng.uniform(0.01, 1), choose(rng, [0.0, 0.5, 2.5])
    return keras_lpl.LPLLoss(
        counts,
        bound="ratio",
        split=choose(rng, ["frequency", "confidence"]),
        threshold=choose(rng, [None, 0.0, 0.4]),
        epsilon=epsilon,
        delta_epsilon=delta,
        step_size=float(epsilon) / int(rng.integers(1, 30)),
        logit_adjustment=choose(rng, [None, 1.0]),
        normalize_gradient=bool(rng.integers(2)),
        **keywords,
    )


def _lpl_logarithmic(rng, counts, **keywords):
    return keras_lpl.LPLLoss(
        counts,
        delta_epsilon=choose(rng, [None, 0.3, 3.0]),
        head_scale=choose(rng, [0.0, 1.0, 2.0]),
        confidence_power=choose(rng, [None, 0.0, 1.0]),
        num_steps=choose(rng, [None, 1, 4]),
        **keywords,
    )


def _combined(rng, counts, **keywords):
    parts = [perturbations.LogitAdjustment(counts), perturbations.LPL(counts, bound="ratio")]
    return keras_lpl.PerturbedCrossentropy(parts[: int(rng.integers(3))], **keywords)


def _truncated(rng, counts, **k):
    truncate = choose(rng, [None, 0.5])
    start = None if truncate is None else 0.0
    q = choose(rng, [0.0, 0.3, 0.7, 1.0])
    return keras_lpl.GeneralizedCrossEntropyLoss(q, truncate, start, **k)


LOSSES: dict[str, Callable[..., Any]] = {
    "lpl": lambda rng, counts, **k: keras_lpl.LPLLoss(counts, **k),
    "lpl-confidence": lambda rng, counts, **k: keras_lpl.LPLLoss(**k),
    "lpl-ratio": _lpl_ratio,
    "lpl-logarithmic": _lpl_logarithmic,
    "la": lambda rng, counts, **k: keras_lpl.LogitAdjustmentLoss(
        counts, choose(rng, [0.0, 1.0, 2.5]), **k
    ),
    "combined": _combined,
    "vs": lambda rng, counts, **k: keras_lpl.VSLoss(
        counts, gamma=choose(rng, [0.0, 0.2, 1.0]), tau=choose(rng, [0.0, 1.0]), **k
    ),
    "ldam": lambda rng, counts, **k: keras_lpl.LDAMLoss(counts, **k),
    "seesaw": lambda rng, counts, **k: keras_lpl.SeesawLoss(
        counts, p=choose(rng, [0.0, 0.8, 3.0]), q=choose(rng, [0.0, 2.0]), **k
    ),
    "focal": lambda rng, counts, **k: keras_lpl.FocalLoss(choose(rng, [0.0, 0.5, 2.0, 5.0]), **k),
    "class-balanced": lambda rng, counts, **k: keras_lpl.ClassBalancedLoss(
        counts,
        beta=choose(rng, [0.0, 0.9, 0.9999, 0.9999999]),
        base=choose(rng, ["crossentropy", "focal", "sigmoid_focal"]),
        **k,
    ),
    "gce": _truncated,
    "bootstrapping": lambda rng, counts, **k: keras_lpl.BootstrappingLoss(
        choose(rng, [1e-6, 0.5, 1.0]), hard=bool(rng.integers(2)), **k
    ),
    "corrected": lambda rng, counts, **k: keras_lpl.CorrectedLoss(
        random_transition(rng, len(counts)), choose(rng, ["forward", "backward"]), **k
    ),
    "ala": lambda rng, counts, **k: keras_lpl.ALALoss(counts, **k),
    "lade": lambda rng, counts, **k: keras_lpl.LADELoss(counts, **k),
    "over-smoothing": lambda rng, counts, **k: keras_lpl.LabelOverSmoothingLoss(
        choose(rng, [0.0, 0.5, 0.98]), **k
    ),
    "distribution-balanced": lambda rng, counts, **k: keras_lpl.DistributionBalancedLoss(
        counts, gamma=choose(rng, [0.0, 2.0]), **k
    ),
    "asymmetric": lambda rng, counts, **k: keras_lpl.AsymmetricLoss(
        margin=choose(rng, [0.0, 0.05]), **k
    ),
    "average-top-k": lambda rng, counts, **k: keras_lpl.AverageTopKLoss(
        choose(rng, [0.1, 0.5, 1.0]), **k
    ),
    # Without noise, which each backend draws in its own way.
    "gcl": lambda rng, counts, **k: keras_lpl.GCLLoss(counts, noise=0.0, margin=0.2, **k),
    "proselflc": lambda rng, counts, **k: keras_lpl.ProSelfLCLoss(**k),
    "isda": lambda rng, counts, **k: keras_lpl.ISDALoss(
        covariance=choose(rng, ["full", "diagonal"]), **k
    ),
    "large-margin": lambda rng, counts, **k: keras_lpl.LargeMarginLoss(
        int(rng.integers(1, 5)), annealing=choose(rng, [0.0, 5.0]), **k
    ),
    "center": lambda rng, counts, **k: keras_lpl.CenterLoss(choose(rng, [0.0, 0.3]), **k),
}
READ_FEATURES = ("isda", "large-margin", "center")
WITH_CONTEXT = (*READ_FEATURES, "gcl", "proselflc")
WITHOUT_COUNTS = (
    *WITH_CONTEXT,
    *("lpl-confidence", "focal", "gce", "bootstrapping", "combined"),
    *("over-smoothing", "asymmetric", "average-top-k"),
)
ONE_LABEL_ONLY = (*WITH_CONTEXT, "seesaw", "ldam", "corrected", "ala", "lade")


@dataclasses.dataclass
class Batch:
    """Arguments of a call.

    Attributes:
        y_true: Labels, an array.
        logits: float32, cast to the dtype of the setting before the call.
        sample_weight: An array, or None.
        mistake: What is wrong with the call, or None.
    """

    y_true: Any
    logits: np.ndarray
    sample_weight: Any
    mistake: str | None


class Setting:
    """A loss, the form of its output and that of its labels."""

    def __init__(self, number: int, seed: int = 0) -> None:
        self.number, self.seed = number, seed
        rng = np.random.default_rng([seed, number])
        self.name = list(LOSSES)[number % len(LOSSES)]
        forms = [form for form in SHAPES if form != "several labels"]
        if self.name not in ONE_LABEL_ONLY:
            forms.append("several labels")
        self.form = choose(rng, forms)
        self.shape = SHAPES[self.form]
        self.is_binary = self.shape[-1] == 1 or self.form == "several labels"
        self.num_classes = 2 if self.is_binary else self.shape[-1]
        self.logits_dtype = choose(rng, ["float32"] * 3 + ["float64", "float16", "bfloat16"])
        self.labels = choose(rng, ["indices", "indices", "column", "soft", "one-hot"])
        self.labels_dtype = choose(rng, NUMBERS)
        self.weights = choose(rng, WEIGHTS)
        if self.weights == "huge" and self.logits_dtype == "float16":
            self.weights = "random"  # the gradient would overflow
        self.ignore_class = None
        if self.labels in ("indices", "column") and not self.labels_dtype.startswith("u"):
            self.ignore_class = choose(rng, [None, None, -1, 100])
        self.counts = random_counts(rng, self.num_classes)
        if self.form == "several labels":
            self.counts = [random_counts(rng, 2) for _ in range(LABELS)]
        self.keywords = {
            "reduction": choose(
                rng, ["sum", "sum_over_batch_size", None, "mean_with_sample_weight"]
            ),
            "dtype": choose(rng, ["float32"] * 3 + ["float64"]),
            "ignore_class": self.ignore_class,
            "multi_label": self.form == "several labels",
        }

    def __str__(self) -> str:
        return (
            f"{self.seed}-{self.number}: {self.name}, {self.form} {self.logits_dtype}, labels "
            f"{self.labels} {self.labels_dtype}, weights {self.weights}, counts {self.counts}, "
            f"{self.keywords}"
        )

    def loss(self, wrong_counts: bool = False) -> keras.losses.Loss:
        """The loss; the same each time."""
        counts = [*self.counts, self.counts[0]] if wrong_counts else self.counts
        rng = np.random.default_rng([self.seed, self.number, 1])
        loss = LOSSES[self.name](rng, counts, **self.keywords)
        return Informed(loss, counts) if self.name in WITH_CONTEXT else loss

    def batch(self, draw: int, may_be_wrong: bool = True) -> Batch:
        """One batch; some are made wrong on purpose, unless code is compiled."""
        rng = np.random.default_rng([self.seed, self.number, 2, draw])
        size = choose(rng, SIZES)
        if self.name in WITH_CONTEXT:
            # Features are as large as the logits, and half precision must hold the gradient.
            size = min(size, 10.0 if self.logits_dtype == "float16" else 1e8)
        if self.name == "lade":  # squares them
            size = min(size, 1e10)
        logits = size * rng.normal(size=self.shape)
        if rng.random() < 0.2:  # one logit alone is large
            logits = np.where(rng.random(self.shape) < 0.1, logits, rng.normal(size=self.shape))
        largest = LARGEST_OF_DTYPE.get(self.logits_dtype, np.inf)
        logits = np.clip(logits, -largest, largest).astype("float32")
        batch = Batch(self._labels(rng), logits, self._weights(rng), None)
        if may_be_wrong and rng.random() < 0.15:
            mistakes = [m for m in MISTAKES if m != "counts" or self.name not in WITHOUT_COUNTS]
            self._spoil(batch, choose(rng, mistakes))
        return batch

    def _labels(self, rng):
        leading = self.shape if self.form == "several labels" else self.shape[:-1]
        indices = rng.integers(0, self.num_classes, leading)
        if self.labels in ("soft", "one-hot"):
            if self.is_binary:
                shares = rng.random(leading) if self.labels == "soft" else indices
                return np.asarray(shares, "float32")
            one_hot = np.eye(self.num_classes)[indices]
            if self.labels == "one-hot":
                return one_hot.astype(self.labels_dtype)
            share = choose(rng, [0.0, 0.1, 0.5])
            other = rng.dirichlet(np.ones(self.num_classes), leading)
            return ((1 - share) * one_hot + share * other).astype("float32")
        if self.ignore_class is not None:
            indices = np.where(rng.random(leading) < 0.3, self.ignore_class, indices)
            indices.flat[0] = 0  # not all of them
        indices = indices.astype(self.labels_dtype)
        is_column = self.labels == "column" and self.form != "several labels"
        return indices[..., None] if is_column else indices

    def _weights(self, rng):
        leading = self.shape[:-1]
        ones = np.ones(leading[:1], "float32")
        random = rng.uniform(0.1, 2, leading[:1]).astype("float32")
        return {
            None: None,
            "ones": ones,
            "random": random,
            "zeros": random * (np.arange(len(ones)) != 0),
            "huge": random * np.float32(1e3),
            "tiny": random * np.float32(1e-20),
            "column": random[:, None],
            "scalar": np.float32(0.5),
            "all": rng.uniform(0, 2, leading).astype("float32"),
        }[self.weights]

    def _spoil(self, batch, mistake):
        """Makes one of the mistakes, where it is one for this setting."""
        y = batch.y_true
        soft = self.labels in ("soft", "one-hot")
        if mistake == "label":
            y = y.astype("float64")
            y.flat[0] = 7 if not soft else -0.5
        elif mistake == "nan label":
            y = y.astype("float64")
            y.flat[0] = np.nan
        elif mistake == "labels short":
            y = y[:-1] if len(y) > 1 else np.concatenate([y, y])
        elif mistake == "labels wide":
            y = np.concatenate([y, y, y], axis=-1)
        elif mistake == "text":
            y = y.astype(str)
        elif mistake == "weights":
            batch.sample_weight = np.ones((4, 7), "float32")
        batch.mistake, batch.y_true = mistake, y
        if mistake in ("label", "nan label") and self.weights in ("zeros", "all"):
            batch.sample_weight = None  # a row of weight 0 may hold anything
