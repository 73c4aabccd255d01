"""Soft labels on long-tailed digits: LPL with label smoothing, and with Keras's MixUp.

    python examples/label_smoothing_and_mixup.py
    python examples/label_smoothing_and_mixup.py --seeds 10 --loss cross-entropy

Keras has both methods, so this library has neither. Its losses take what they make: soft labels, a
row of shares per sample. Here the same network is trained on

- hard labels: 1 for the digit, 0 for the others;
- smoothed labels (Szegedy et al., CVPR 2016): 0.91 for the digit, 0.01 for each of the others;
- mixed images and labels (Zhang et al., ICLR 2018): `keras.layers.MixUp` blends each image with
  another one, and their labels in the same ratio.

The digits are those of the quickstart: 134 images of the most frequent one, 2 of the rarest. A seed
chooses the training images, the initial weights and all that is drawn. Everything is written to
`results/label_smoothing_and_mixup`.
"""

import argparse
import time
import warnings
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
import numpy as np
from common import ShowEpochs, digits_network, measure, write_results
from reporting import print_table, progress_bar

import keras_lpl

IMBALANCE_FACTOR = 50
BATCH_SIZE = 128
LEARNING_RATE = 2e-3
SMOOTHING = 0.1
MIXUP_ALPHA = 0.2
LABELS = ("hard labels", "label smoothing", "MixUp")

# The counts are those of the digits themselves: neither smoothing nor mixing makes a digit rarer.
LOSSES = {
    "LPL": lambda class_counts: keras_lpl.LPLLoss(
        class_counts, bound="ratio", threshold=4, delta_epsilon=5.0, step_size=0.2, head_scale=0.6
    ),
    "LA": keras_lpl.LogitAdjustmentLoss,
    "cross-entropy": lambda class_counts: keras_lpl.PerturbedCrossentropy([]),
}


class MixedUp(keras.utils.PyDataset):
    """Batches of arrays, mixed anew in each epoch.

    `MixUp` wants a batch of images and one-hot labels. It mixes the whole training set at once,
    which is small; in a tf.data pipeline, map it over the batches.
    """

    def __init__(self, images, labels, batch_size, seed):
        super().__init__()
        self.data = {"images": images, "labels": labels}
        self.batch_size = batch_size
        self.random = np.random.default_rng(seed)
        # float32 whatever the model computes in: shares of a label must sum to 1.
        self.mix_up = keras.layers.MixUp(MIXUP_ALPHA, seed=seed, dtype="float32")
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index):
        part = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.mixed["images"][part], self.mixed["labels"][part]

    def on_epoch_end(self):
        self.order = self.random.permutation(len(self.data["images"]))
        mixed = self.mix_up(dict(self.data))
        self.mixed = {name: keras.ops.convert_to_numpy(value) for name, value in mixed.items()}


def training_data(kind, images, labels, seed):
    """The data set of one epoch after another, with hard, smoothed or mixed labels."""
    if kind == "hard labels":
        return keras_lpl.data.ArrayDataset(images, labels, BATCH_SIZE, seed)
    one_hot = keras.utils.to_categorical(labels, 10)
    if kind == "label smoothing":
        smooth = (1 - SMOOTHING) * one_hot + SMOOTHING / 10
        return keras_lpl.data.ArrayDataset(images, smooth, BATCH_SIZE, seed)
    return MixedUp(images, one_hot, BATCH_SIZE, seed)


def run(kind, loss, seed, epochs, advance):
    """Trains and tests one network. Returns what goes into the results."""
    (x_train, y_train), (x_test, y_test) = keras_lpl.data.load(
        "digits", imbalance_factor=IMBALANCE_FACTOR, seed=seed
    )
    class_counts = keras_lpl.data.class_counts(y_train)
    keras.utils.set_random_seed(seed)
    model = keras_lpl.LPLModel.from_model(digits_network())
    model.compile(keras.optimizers.Adam(LEARNING_RATE), LOSSES[loss](class_counts))
    start = time.perf_counter()
    history = model.fit(
        training_data(kind, x_train, y_train, seed),
        epochs=epochs,
        shuffle=False,  # the data sets do it
        callbacks=[ShowEpochs(advance)],
        verbose=0,
    ).history
    return {
        "method": kind,
        "backend": keras.config.backend(),
        "seed": seed,
        **measure(model.predict(x_test, verbose=0), y_test, class_counts),
        "training_loss": history["loss"][-1],
        "seconds": time.perf_counter() - start,
        "class_counts": class_counts.tolist(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--loss", choices=LOSSES, default="LPL", help="(default: LPL)")
    parser.add_argument("--seeds", type=int, default=2, help="of each kind of labels (default: 2)")
    parser.add_argument("--epochs", type=int, default=60, help="of each network (default: 60)")
    parser.add_argument("--out", type=Path, default=Path("results/label_smoothing_and_mixup"))
    options = parser.parse_args()
    # MixUp asks JAX for 64-bit integers and is content with 32.
    warnings.filterwarnings("ignore", message="Explicitly requested dtype int64")

    backend = keras.config.backend()
    print(f"keras-lpl {keras_lpl.__version__} on {backend}: digits, imbalance {IMBALANCE_FACTOR}")
    start = time.perf_counter()
    runs = []
    with progress_bar() as bar:
        task = bar.add_task("", total=options.seeds * len(LABELS) * options.epochs)
        for kind in LABELS:
            for seed in range(options.seeds):
                bar.update(task, description=f"{kind}, seed {seed}")
                runs.append(
                    run(kind, options.loss, seed, options.epochs, lambda: bar.advance(task))
                )
    print(f"{len(runs)} networks in {time.perf_counter() - start:.0f} s")

    title = f"{options.loss} on digits, imbalance factor {IMBALANCE_FACTOR}, {backend}"
    print_table(runs, title)
    settings = {
        "loss": options.loss,
        "imbalance_factor": IMBALANCE_FACTOR,
        "batch_size": BATCH_SIZE,
        "epochs": options.epochs,
        "learning_rate": LEARNING_RATE,
        "smoothing": SMOOTHING,
        "mixup_alpha": MIXUP_ALPHA,
    }
    path = options.out / f"{options.loss}-{backend}.json"
    write_results(path, runs, settings=settings)
    print(f"Results: {path}")


if __name__ == "__main__":
    main()
