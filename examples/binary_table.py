"""A binary model of a table with few positives: one logit, and where to put the threshold.

    python examples/binary_table.py
    python examples/binary_table.py --seeds 10 --positives 0.05

The table is made by scikit-learn's `make_classification`. Cross-entropy alone finds few of the
positives. Class weights, logit adjustment and LPL move the boundary towards the negatives, and so
does a threshold chosen on held-out data, which works with any model. Ends in a table of recall,
precision and F1 score of the positives.
"""

import argparse

import quiet  # noqa: F401, before Keras

import keras
import numpy as np
from reporting import mean_and_spread, print_rows
from sklearn.datasets import make_classification
from sklearn.metrics import f1_score, precision_score, recall_score
from sklearn.model_selection import train_test_split

import keras_lpl


def make_table(rows, positives, seed):
    """Parts for training, validation and test, each `(features, labels)`."""
    x, y = make_classification(
        rows,
        20,
        n_informative=6,
        n_redundant=4,
        n_clusters_per_class=3,
        weights=[1 - positives],
        flip_y=0.005,
        class_sep=1.2,
        random_state=seed,
    )
    x = x.astype("float32")
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.5, stratify=y, random_state=seed)
    x, x_val, y, y_val = train_test_split(x, y, test_size=0.25, stratify=y, random_state=seed)
    return (x, y), (x_val, y_val), (x_test, y_test)


def methods(counts):
    """Losses, each with its class weights."""
    crossentropy = keras.losses.BinaryCrossentropy(from_logits=True)
    balanced = dict(enumerate(counts.sum() / (2 * counts)))
    return {
        "cross-entropy": (crossentropy, None),
        "class weights": (crossentropy, balanced),
        "logit adjustment": (keras_lpl.LogitAdjustmentLoss(counts), None),
        "LA+LPL": (keras_lpl.LPLLoss(counts), None),
    }


def scores(labels, logits, threshold=0.0):
    """Recall, precision and F1 score of the positives."""
    found = logits > threshold
    return [
        recall_score(labels, found),
        precision_score(labels, found, zero_division=0),
        f1_score(labels, found),
    ]


def main(arguments=None):
    """Trains, and returns the scores of each run: `{method: (seeds, 3)}`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000, help="of the table (default: 10000)")
    parser.add_argument("--positives", type=float, default=0.02, help="share (default: 0.02)")
    parser.add_argument("--epochs", type=int, default=20, help="of each run (default: 20)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method (default: 3)")
    options = parser.parse_args(arguments)

    results = {}
    for seed in range(options.seeds):
        (x, y), (x_val, y_val), (x_test, y_test) = make_table(options.rows, options.positives, seed)
        counts = keras_lpl.data.class_counts(y, 2)  # negatives, positives
        for name, (loss, class_weight) in methods(counts).items():
            keras.utils.set_random_seed(seed)
            model = keras.Sequential(
                [
                    keras.Input((20,)),
                    keras.layers.Dense(64, activation="relu"),
                    keras.layers.Dense(1),
                ]
            )
            model.compile(keras.optimizers.Adam(3e-3), loss=loss)
            model.fit(
                x, y, batch_size=64, epochs=options.epochs, class_weight=class_weight, verbose=0
            )
            logits = model.predict(x_test, verbose=0)[:, 0]
            held_out = model.predict(x_val, verbose=0)[:, 0]
            threshold = keras_lpl.metrics.choose_threshold(y_val, held_out, maximize="f1")
            results.setdefault(name, []).append(scores(y_test, logits))
            chosen = scores(y_test, logits, threshold)
            results.setdefault(f"{name}, threshold chosen", []).append(chosen)
    results = {name: np.array(runs) for name, runs in results.items()}

    rows = [[name, *map(mean_and_spread, runs.T)] for name, runs in results.items()]
    print_rows(
        ["method", "recall", "precision", "F1"],
        rows,
        f"{counts[1]} positives among {counts.sum()} training rows",
        "of the positives, in %; thresholds for the largest F1 score on held-out rows",
    )
    return results


if __name__ == "__main__":
    main()
