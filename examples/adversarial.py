"""Robust accuracy: digits learnt from inputs as they are, and from inputs moved against them.

    python examples/adversarial.py

Trains a small network on balanced digits, plainly, with adversarial features and with adversarial
inputs (Madry et al., ICLR 2018), and tests each on clean inputs and under an attack of 20 steps
within the same bound. Pixels lie in [0, 1].
"""

import argparse
import time
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
import numpy as np
from common import digits_network, environment
from reporting import markdown_table, mean_and_spread, write_json

import keras_lpl

EPSILON = 0.1
METHODS = ("plain", "adversarial features", "adversarial inputs")


def train(method, data, epochs):
    """A trained model."""
    network = digits_network()
    if method == "adversarial inputs":
        model = keras_lpl.models.AdversarialModel.from_model(
            network, epsilon=EPSILON, value_range=(0.0, 1.0)
        )
    else:
        model = keras_lpl.LPLModel.from_model(network)
    loss = keras_lpl.PerturbedCrossentropy([])
    if method == "adversarial features":
        loss = keras_lpl.AdversarialFeatureLoss(epsilon=EPSILON, num_steps=7)
    model.compile(keras.optimizers.Adam(1e-3), loss=loss)
    model.fit(*data, batch_size=64, epochs=epochs, verbose=0)
    return model


def accuracy(model, x, y):
    return float(np.mean(model.predict(x, verbose=0).argmax(axis=1) == y))


def run(method, seed, epochs):
    """Trains and tests one model."""
    data, (x, y) = keras_lpl.data.load("digits")
    keras.utils.set_random_seed(seed)
    start = time.perf_counter()
    model = train(method, data, epochs)
    seconds = time.perf_counter() - start
    moved = keras_lpl.models.attack(
        model, x, y, epsilon=EPSILON, num_steps=20, value_range=(0.0, 1.0)
    )
    return {
        "method": method,
        "seed": seed,
        "accuracy": accuracy(model, x, y),
        "robust_accuracy": accuracy(model, moved, y),
        "seconds": seconds,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method (default: 3)")
    parser.add_argument("--epochs", type=int, default=10, help="of each run (default: 10)")
    parser.add_argument("--out", type=Path, default=Path("results/adversarial"))
    options = parser.parse_args()
    runs = [run(m, seed, options.epochs) for m in METHODS for seed in range(options.seeds)]
    lines = []
    for method in METHODS:
        own = [each for each in runs if each["method"] == method]
        shown = [mean_and_spread([r[key] for r in own]) for key in ("accuracy", "robust_accuracy")]
        lines.append([method, *shown])
    print(markdown_table(["trained", "accuracy, %", "under PGD, %"], lines))
    content = {"epsilon": EPSILON, "epochs": options.epochs, "environment": environment()}
    path = options.out / f"{keras.config.backend()}.json"
    write_json(path, {**content, "rows": runs})


if __name__ == "__main__":
    main()
