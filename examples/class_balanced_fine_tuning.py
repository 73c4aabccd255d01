"""Class-balanced fine-tuning on long-tailed digits: train as is, then briefly on balanced batches.

    python examples/class_balanced_fine_tuning.py
    python examples/class_balanced_fine_tuning.py --seeds 10 --sampling reversed

The recipe of Cui et al. (CVPR 2018), a row of the LPL paper's tables. It has two phases:

1. Train on the data as they are, so that the features are learnt from every image. Frequent classes
   win.
2. Go on for a few epochs, with a tenth of the learning rate, on batches in which every class is
   equally frequent. That moves the decision boundaries and hardly changes the features.

To tell what balancing does from what more training does, a copy of the same network spends the
second phase on the data as they are. The digits are those of the quickstart: 134 images of the most
frequent one, 2 of the rarest. A seed chooses the training images, the initial weights and all that
is drawn. Everything is written to `results/class_balanced_fine_tuning`.
"""

import argparse
import time
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
from common import ShowEpochs, digits_network, measure, write_results
from reporting import print_table, progress_bar

import keras_lpl

IMBALANCE_FACTOR = 50
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
FINE_TUNING_LEARNING_RATE = 1e-4
METHODS = {"class_balanced": "balanced", "reversed": "reversed"}


def train(model, dataset, learning_rate, epochs, advance):
    """Trains from the data set's epoch on. Returns the last training loss, and the time it took."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(learning_rate), loss)
    start = time.perf_counter()
    history = model.fit(
        dataset,
        initial_epoch=dataset.epoch,
        epochs=dataset.epoch + epochs,
        shuffle=False,  # the data set does it
        callbacks=[ShowEpochs(advance)],
        verbose=0,
    ).history
    return {"training_loss": history["loss"][-1], "seconds": time.perf_counter() - start}


def run(seed, epochs, fine_tuning_epochs, sampling, advance):
    """One network, before and after. Returns what goes into the results."""
    (x_train, y_train), (x_test, y_test) = keras_lpl.data.load(
        "digits", imbalance_factor=IMBALANCE_FACTOR, seed=seed
    )
    class_counts = keras_lpl.data.class_counts(y_train)
    keras.utils.set_random_seed(seed)
    model = digits_network()

    def result(method, training):
        return {
            "method": method,
            "backend": keras.config.backend(),
            "seed": seed,
            **measure(model.predict(x_test, verbose=0), y_test, class_counts),
            **training,
            "class_counts": class_counts.tolist(),
        }

    # Phase 1: each image once an epoch.
    dataset = keras_lpl.data.ArrayDataset(x_train, y_train, BATCH_SIZE, seed)
    results = [result("before", train(model, dataset, LEARNING_RATE, epochs, advance))]
    weights = model.get_weights()

    # Phase 2, twice from the same weights: once on each image as before, once on drawn ones.
    for method, drawn in [("more, as is", None), (METHODS[sampling], sampling)]:
        model.set_weights(weights)
        dataset = keras_lpl.data.ArrayDataset(
            x_train, y_train, BATCH_SIZE, seed, sampling=drawn, initial_epoch=epochs
        )
        training = train(model, dataset, FINE_TUNING_LEARNING_RATE, fine_tuning_epochs, advance)
        results.append(result(method, training))
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=60, help="of phase 1 (default: 60)")
    parser.add_argument(
        "--fine-tuning-epochs", type=int, default=30, help="of phase 2 (default: 30)"
    )
    parser.add_argument(
        "--sampling",
        choices=list(METHODS),
        default="class_balanced",
        help="how phase 2 draws classes (default: class_balanced)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="networks to train (default: 3)")
    parser.add_argument("--out", type=Path, default=Path("results/class_balanced_fine_tuning"))
    options = parser.parse_args()

    backend = keras.config.backend()
    print(f"keras-lpl {keras_lpl.__version__} on {backend}: digits, imbalance {IMBALANCE_FACTOR}")
    start = time.perf_counter()
    epochs, fine_tuning_epochs = options.epochs, options.fine_tuning_epochs
    runs = []
    with progress_bar() as bar:
        task = bar.add_task("", total=options.seeds * (epochs + 2 * fine_tuning_epochs))
        for seed in range(options.seeds):
            bar.update(task, description=f"seed {seed}")
            runs += run(
                seed, epochs, fine_tuning_epochs, options.sampling, lambda: bar.advance(task)
            )
    print(f"{options.seeds} networks in {time.perf_counter() - start:.0f} s")

    print_table(runs, f"Fine-tuning on digits, imbalance factor {IMBALANCE_FACTOR}, {backend}")
    settings = {
        "imbalance_factor": IMBALANCE_FACTOR,
        "batch_size": BATCH_SIZE,
        "epochs": epochs,
        "learning_rate": LEARNING_RATE,
        "fine_tuning_epochs": fine_tuning_epochs,
        "fine_tuning_learning_rate": FINE_TUNING_LEARNING_RATE,
        "sampling": options.sampling,
    }
    path = options.out / f"{backend}.json"
    write_results(path, runs, settings=settings)
    print(f"Results: {path}")


if __name__ == "__main__":
    main()
