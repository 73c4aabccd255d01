"""What the examples share: a small network, how it is tested, and what is written down."""

import os
import platform
import time
from importlib import metadata
from pathlib import Path

import keras
import numpy as np
from reporting import SHOTS, write_json

import keras_lpl


def digits_network(head=keras.layers.Dense):
    """64 pixels, two hidden layers, one logit per digit: no softmax at the end.

    Args:
        head: Makes the last layer, `head(10)`: last, as the seed gives weights in this order.
    """
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(128, activation="relu")(x)
    x = keras.layers.Dense(128, activation="relu")(x)
    return keras.Model(inputs, head(10)(x))


def measure(logits, labels, class_counts):
    """Balanced error, and accuracy over all samples, by shot and by class; all are fractions.

    A shot is `None` if the training set has no class of it.
    """
    labels = np.asarray(labels)
    correct = np.argmax(logits, axis=-1) == labels
    balanced_accuracy = keras_lpl.metrics.BalancedAccuracy()
    shots = [keras_lpl.metrics.ShotAccuracy(class_counts, shot) for shot in SHOTS]
    for metric in (balanced_accuracy, *shots):
        metric.update_state(labels, logits)
    return {
        "balanced_error": 1 - float(balanced_accuracy.result()),
        "accuracy": float(correct.mean()),
        **{shot.name: float(shot.result()) if shot.classes else None for shot in shots},
        "class_accuracy": [float(correct[labels == c].mean()) for c in range(len(class_counts))],
    }


META_SAMPLES_OF_CLASS = 10


def meta_samples(name, class_counts, seed, data_dir=None):
    """Balanced samples for the methods that learn from some: 10 of each class, as in their papers.

    Images that the long tail has left out, so that these methods see more than the others do; of a
    class that it has left none out of, some of the training set.

    Args:
        name: Of the data set, as in `keras_lpl.data.load`.
        class_counts: Training samples of each class in the long tail.
        seed: Of the long tail.
        data_dir: As in `keras_lpl.data.load`.
    """
    (x, y), _ = keras_lpl.data.load(name, data_dir=data_dir)
    used = keras_lpl.data.long_tail_indices(y, class_counts, seed)
    order = np.concatenate([np.setdiff1d(np.arange(len(y)), used), used])
    counts = [META_SAMPLES_OF_CLASS] * len(class_counts)
    picked = order[keras_lpl.data.long_tail_indices(y[order], counts, seed=None)]
    return x[picked], y[picked]


def environment():
    """Versions and hardware, to be written beside every result."""
    versions = {"python": platform.python_version(), "keras_lpl": keras_lpl.__version__}
    for package in ("keras", "numpy", "jax", "tensorflow", "tensorflow-cpu", "torch"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "backend": keras.config.backend(),
        "versions": versions,
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": platform.platform(terse=True),
    }


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def write_results(path, runs, **more):
    """Writes runs to a file, with the versions and the hardware they were made with."""
    write_json(path, {**more, "environment": environment(), "runs": runs})


class ShowEpochs(keras.callbacks.Callback):
    """Moves a progress bar on by one at each epoch."""

    def __init__(self, advance):
        super().__init__()
        self.advance = advance

    def on_epoch_end(self, epoch, logs=None):
        self.advance()


class OneLine(keras.callbacks.Callback):
    """Shows an epoch as one line: loss, accuracy on the validation data, seconds.

    Args:
        epochs: Of the whole run.
        every: Show the first epoch, the last, and one of so many between.
    """

    def __init__(self, epochs, every=1):
        super().__init__()
        self.epochs, self.every = epochs, every

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if epoch and (epoch + 1) % self.every and epoch + 1 < self.epochs:
            return
        parts = [f"epoch {epoch + 1}/{self.epochs}", f"loss {logs['loss']:.3f}"]
        if "val_balanced_accuracy" in logs:
            parts.append(f"balanced accuracy {100 * logs['val_balanced_accuracy']:.1f}")
        print("  ".join([*parts, f"{time.perf_counter() - self.start:.0f} s"]), flush=True)
