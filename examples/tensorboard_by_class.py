"""What a loss does to each class, watched in TensorBoard while it trains.

    pip install ".[tensorboard,examples]"
    python examples/tensorboard_by_class.py
    tensorboard --logdir results/tensorboard_by_class

Two charts, each with a line for every digit and method:

- `accuracy`: of the class, on the test set;
- `loss variation`: how much the loss of the class's training samples changes by the perturbation,
  `(l' - l) / l`. Above zero the class is augmented, below it is held back.

Each class is a run of its own, as TensorBoard draws runs into one chart: filter them by `class 9`,
to compare methods on the rarest digit, or by `LPL`, to compare the classes. Loss and balanced
accuracy of a method are in the run that bears its name alone.

`ByClass` is the callback to take with you. It writes with TensorBoard's own writer, on any backend.
That needs no TensorFlow, but takes TensorFlow's file functions where TensorFlow is installed.
"""

import argparse
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
import numpy as np
from common import digits_network, measure
from methods import METHODS, Training, named
from tensorboard.summary import Writer

import keras_lpl

IMBALANCE_FACTOR = 50
BATCH_SIZE = 64
LPL = {"threshold": 4, "delta_epsilon": 5.0, "step_size": 0.1, "head_scale": 0.6}


class ByClass(keras.callbacks.Callback):
    """Writes the accuracy and the loss variation of each class after each epoch.

    Args:
        folder: Where TensorBoard looks for runs.
        name: Of the run; its classes become the runs `name/class 0` and so on.
        x: Test inputs.
        y: Their labels.
        class_counts: Training samples of each class.
        variation: A `keras_lpl.callbacks.LossVariation` that stands before this callback in `fit`.
    """

    def __init__(self, folder, name, x, y, class_counts, variation):
        super().__init__()
        self.folder, self.name = Path(folder), name
        self.x, self.y, self.class_counts = x, y, class_counts
        self.variation = variation

    def on_train_begin(self, logs=None):
        # TensorBoard draws all files of a folder as one line: those of an earlier run must go.
        for file in (self.folder / self.name).rglob("events.out.tfevents.*"):
            file.unlink()
        classes = [f"{self.name}/class {c}" for c in range(len(self.class_counts))]
        self.of_all = Writer(str(self.folder / self.name))
        self.of_class = [Writer(str(self.folder / run)) for run in classes]

    def on_epoch_end(self, epoch, logs=None):
        epoch += 1  # counted from 1, as by Keras's progress and by `LossVariation`
        tested = measure(self.model.predict(self.x, verbose=0), self.y, self.class_counts)
        self.of_all.add_scalar("loss", logs["loss"], epoch)
        self.of_all.add_scalar("balanced accuracy", 1 - tested["balanced_error"], epoch)
        for writer, accuracy in zip(self.of_class, tested["class_accuracy"], strict=True):
            writer.add_scalar("accuracy", accuracy, epoch)
        if epoch in self.variation.epochs:
            for writer, change in zip(self.of_class, self.variation.history[-1], strict=True):
                if np.isfinite(change):  # not so for a class without samples
                    writer.add_scalar("loss variation", change, epoch)
        for writer in (self.of_all, *self.of_class):
            writer.flush()  # to be seen while training goes on

    def on_train_end(self, logs=None):
        for writer in (self.of_all, *self.of_class):
            writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    perturbing = ("logit adjustment", "LPL", "LA+LPL", "LDAM", "VS")
    parser.add_argument(
        "--methods",
        nargs="+",
        type=named(perturbing),
        choices=perturbing,
        default=perturbing[:3],
    )
    parser.add_argument("--epochs", type=int, default=60, help="of each method (default: 60)")
    parser.add_argument("--out", type=Path, default=Path("results/tensorboard_by_class"))
    options = parser.parse_args()

    (x_train, y_train), test = keras_lpl.data.load("digits", imbalance_factor=IMBALANCE_FACTOR)
    class_counts = keras_lpl.data.class_counts(y_train)
    print(f"To watch: tensorboard --logdir {options.out}")
    for name in options.methods:
        method = METHODS[name]
        keras.utils.set_random_seed(0)
        model = keras_lpl.LPLModel.from_model(digits_network(method.head))
        loss = method.loss(Training(class_counts, options.epochs, steps=None, lpl=LPL))
        model.compile(keras.optimizers.Adam(2e-3), loss)
        variation = keras_lpl.callbacks.LossVariation(x_train, y_train, BATCH_SIZE)
        history = model.fit(
            keras_lpl.data.ArrayDataset(x_train, y_train, BATCH_SIZE),
            epochs=options.epochs,
            shuffle=False,  # the data set does it
            callbacks=[variation, ByClass(options.out, name, *test, class_counts, variation)],
            verbose=0,
        ).history
        print(f"{name}: loss {history['loss'][-1]:.3f} after {options.epochs} epochs")


if __name__ == "__main__":
    main()
