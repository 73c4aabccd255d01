"""LPL on NumPy arrays alone: no TensorFlow, no data library, any backend.

    pip install ".[jax]"                        # or torch
    KERAS_BACKEND=jax python examples/numpy_only.py
    KERAS_BACKEND=jax python examples/numpy_only.py --data FILE.npz

The data are drawn: ten clouds of points in 16 dimensions, which overlap. Or they are your own, in
an `.npz` file with `x_train`, `y_train`, `x_test` and `y_test`, and classes that are equally
frequent in the training part. A long tail is cut out of that. `ArrayDataset` shows it in batches,
in an order that depends on the seed and the epoch alone: the same one on every backend.

A table at the end compares cross-entropy, cross-entropy on batches that show every class equally
often (the usual remedy, which needs no loss), LPL, and LPL on adjusted logits.
"""

import argparse
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
import numpy as np
from common import measure, write_results
from reporting import print_table

import keras_lpl

NUM_CLASSES, DIMENSIONS = 10, 16
PER_CLASS = {"train": 500, "test": 200}
SPREAD = 1.5  # of a cloud; the centers of the clouds have one of 1
BATCH_SIZE = 128


def crossentropy(class_counts):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


METHODS = {  # loss, and how classes are drawn
    "cross-entropy": (crossentropy, None),
    "balanced batches": (crossentropy, "class_balanced"),
    "LPL": (lambda counts: keras_lpl.LPLLoss(counts, bound="ratio", head_scale=0.6), None),
    "LA+LPL": (lambda counts: keras_lpl.LPLLoss(counts), None),
}


def clouds():
    """The same amount of each class: `(x_train, y_train), (x_test, y_test)`."""
    random = np.random.default_rng(0)
    centers = random.normal(size=(NUM_CLASSES, DIMENSIONS))
    for count in PER_CLASS.values():
        labels = np.repeat(np.arange(NUM_CLASSES), count)
        noise = SPREAD * random.normal(size=(len(labels), DIMENSIONS))
        yield (centers[labels] + noise).astype("float32"), labels


def cut(x, y, imbalance):
    """A long-tailed part of balanced data."""
    available = keras_lpl.data.class_counts(y)
    counts = keras_lpl.data.long_tail_counts(len(available), int(available.min()), imbalance)
    kept = keras_lpl.data.long_tail_indices(y, counts, seed=0)
    return x[kept], y[kept]


def run(method, train, test, epochs, seed):
    make_loss, sampling = METHODS[method]
    (x_train, y_train), (x_test, y_test) = train, test
    class_counts = keras_lpl.data.class_counts(y_train)
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(x_train.shape[1:])
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(64, activation="relu")(x)
    model = keras_lpl.LPLModel(inputs, keras.layers.Dense(len(class_counts))(x))
    model.compile(keras.optimizers.Adam(2e-3), make_loss(class_counts))
    batches = keras_lpl.data.ArrayDataset(x_train, y_train, BATCH_SIZE, seed, sampling=sampling)
    model.fit(batches, epochs=epochs, shuffle=False, verbose=0)
    result = measure(model.predict(x_test, verbose=0), y_test, class_counts)
    return {"method": method, "seed": seed, **result}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="an .npz file (default: clouds of points)")
    parser.add_argument("--imbalance", type=float, default=50, help="factor (default: 50)")
    parser.add_argument("--epochs", type=int, default=20, help="of each training (default: 20)")
    parser.add_argument("--seeds", type=int, default=3, help="of each method (default: 3)")
    parser.add_argument("--out", type=Path, default=Path("results/numpy_only"))
    options = parser.parse_args()

    train, test = keras_lpl.data.load(options.data) if options.data else clouds()
    train = cut(*train, options.imbalance)
    print(f"Training samples by class: {keras_lpl.data.class_counts(train[1]).tolist()}")
    runs = [
        run(method, train, test, options.epochs, seed)
        for method in METHODS
        for seed in range(options.seeds)
    ]
    backend = keras.config.backend()
    print_table(runs, f"NumPy arrays, imbalance factor {options.imbalance:g}, {backend}")
    write_results(options.out / f"{backend}.json", runs)


if __name__ == "__main__":
    main()
