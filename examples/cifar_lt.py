"""Long-tailed CIFAR with one method, on any backend: resumable, results as JSON.

    python examples/cifar_lt.py --data cifar10 --imbalance 100 --method LPL --epochs 200 --depth 32
    python examples/cifar_lt.py --data cifar10.npz --method "LA+LPL" --epochs 30 --depth 8
    python examples/cifar_lt.py --table results/cifar_lt

`--data` is `cifar10` or `cifar100` (downloaded by TensorFlow Datasets), the path of an `.npz` file
with x_train, y_train, x_test, y_test, or a folder of images. The recipe is that of LDAM-DRW (Cao et
al., 2019), its milestones scaled to the number of epochs: SGD with momentum, learning rate 0.1
after 5 epochs of warm-up, x0.01 after 80% and x0.0001 after 90% of the epochs, L2 decay 2e-4, crop
and flip. The result is that of the last epoch; no epoch is chosen by looking at the test set.

Stopped, a run goes on after its last whole epoch when it is started again with the same arguments.
A run that is finished is not repeated.
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path

import keras
from common import (
    environment,
    markdown_table,
    measure,
    print_table,
    write_json,
)
from methods import METHODS, Training

import keras_lpl

WARM_UP_EPOCHS = 5
WEIGHT_DECAY = 2e-4


def learning_rate(epoch, epochs):
    """Warm-up, then steps, at the shares of training at which the recipe has them."""
    if epoch < WARM_UP_EPOCHS:
        return 0.1 * (epoch + 1) / WARM_UP_EPOCHS
    if epoch >= 0.9 * epochs:
        return 1e-5
    return 1e-3 if epoch >= 0.8 * epochs else 0.1


class SaveEachEpoch(keras.callbacks.Callback):
    """Keeps the model and its curve, so that a run can go on where it stopped."""

    def __init__(self, folder, state):
        super().__init__()
        self.folder, self.state = folder, state
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter()
        self.state["seconds"] += now - self.start
        self.start = now
        self.state["epochs_done"] = epoch + 1
        self.state["curve"].append({key: float(value) for key, value in logs.items()})
        # The model is written under a name of its own first: there is always a whole pair.
        name = f"epoch-{epoch + 1}.keras"
        self.model.save(self.folder / name)
        previous, self.state["model"] = self.state.get("model"), name
        write_json(self.folder / "state.json", self.state)
        if previous is not None:
            (self.folder / previous).unlink(missing_ok=True)


class ShowEpoch(keras.callbacks.Callback):
    """A line for each epoch, with the time left."""

    def __init__(self, epochs):
        super().__init__()
        self.epochs, self.start, self.first = epochs, time.perf_counter(), None

    def on_epoch_begin(self, epoch, logs=None):
        self.first = epoch if self.first is None else self.first

    def on_epoch_end(self, epoch, logs=None):
        per_epoch = (time.perf_counter() - self.start) / (epoch + 1 - self.first)
        left = per_epoch * (self.epochs - epoch - 1)
        print(
            f"epoch {epoch + 1}/{self.epochs}  loss {logs['loss']:.3f}  "
            f"accuracy {logs['accuracy']:.3f}  {per_epoch:.1f} s/epoch, {left / 60:.1f} min left",
            flush=True,
        )


def build(options, num_classes, input_shape):
    """A CIFAR ResNet that ends in logits, trained through `LPLModel`."""
    keras.config.set_dtype_policy(options.precision)
    head = None
    if METHODS[options.method].cosine_head:
        decay = keras.regularizers.L2(WEIGHT_DECAY / 2)
        head = METHODS[options.method].head(
            num_classes, kernel_regularizer=decay, dtype="float32", name="head"
        )
    network = keras_lpl.networks.resnet(
        options.depth, input_shape, num_classes, weight_decay=WEIGHT_DECAY, head=head
    )
    return keras_lpl.LPLModel.from_model(network)


def run(options):
    """Trains, or goes on training, and returns the result."""
    out = options.out / run_name(options)
    result_file = out.with_name(out.name + ".json")  # the name has dots of its own
    if result_file.exists():
        print(f"{result_file}: already there")
        return json.loads(result_file.read_text())

    (x_train, y_train), (x_test, y_test) = keras_lpl.data.load(
        options.data,
        imbalance_factor=options.imbalance,
        seed=options.data_seed,
        data_dir=options.data_dir,
    )
    class_counts = keras_lpl.data.class_counts(y_train)
    mean, std = keras_lpl.data.channel_statistics(x_train)

    method = METHODS[options.method]
    steps = options.epochs * -(-len(x_train) // options.batch_size)
    training = Training(class_counts, options.epochs, steps, lpl_arguments(options))
    if method.one_hot:
        y_train = keras.utils.to_categorical(y_train, len(class_counts))

    out.mkdir(parents=True, exist_ok=True)
    state_file = out / "state.json"
    if state_file.exists():
        state = json.loads(state_file.read_text())
        model = keras.saving.load_model(out / state["model"])
        print(f"going on after epoch {state['epochs_done']}")
    else:
        state = {"epochs_done": 0, "curve": [], "seconds": 0.0}
        keras.utils.set_random_seed(options.seed)
        model = build(options, len(class_counts), x_train.shape[1:])
        model.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            loss=method.loss(training),
            metrics=["accuracy"],
        )

    done = state["epochs_done"]
    train = keras_lpl.data.pipeline(
        x_train,
        y_train,
        options.batch_size,
        training=True,
        seed=options.seed,
        mean=mean,
        std=std,
        initial_epoch=done,
        sampling=method.sampling,
        disturb_rate=method.disturb_rate,
    )
    test = keras_lpl.data.pipeline(x_test, y_test, 500, training=False, mean=mean, std=std)
    model.fit(
        train,
        initial_epoch=done,
        epochs=options.epochs,
        verbose=0,
        shuffle=False,  # the pipeline shuffles
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda e: learning_rate(e, options.epochs)),
            keras.callbacks.TerminateOnNaN(),
            SaveEachEpoch(out, state),
            ShowEpoch(options.epochs),
            *method.callbacks(training),
        ],
    )
    if state["epochs_done"] < options.epochs:
        raise SystemExit("Training stopped early: the loss became NaN.")

    logits = method.for_prediction(model, class_counts).predict(test, verbose=0)
    arguments = {key: value for key, value in vars(options).items() if key not in HOUSEKEEPING}
    arguments["data"] = Path(options.data).stem
    result = {
        "method": options.method,
        "backend": keras.config.backend(),
        "seed": options.seed,
        **measure(logits, y_test, class_counts),
        "arguments": arguments,
        "loss": keras.saving.serialize_keras_object(model.loss),
        "class_counts": class_counts.tolist(),
        "parameters": model.count_params(),
        "seconds": state["seconds"],
        "environment": environment(),
        "curve": state["curve"],
    }
    write_json(result_file, result)
    shutil.rmtree(out)
    print(f"balanced error {100 * result['balanced_error']:.2f}%, written to {result_file}")
    return result


HOUSEKEEPING = ("out", "data_dir", "table")


def lpl_arguments(options):
    """The arguments of `LPLLoss` that were given."""
    names = ("threshold", "delta_epsilon", "step_size", "head_scale")
    given = {name: getattr(options, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def run_name(options):
    """A name that tells runs apart, for files."""
    parts = [Path(options.data).stem, f"if{options.imbalance:g}", f"resnet{options.depth}"]
    parts += [f"{options.epochs}epochs", options.method.replace(" ", "-").lower()]
    if "LPL" in options.method:
        given = lpl_arguments(options).items()
        parts += [f"{key.replace('_', '-')}{value:g}" for key, value in given]
    return "_".join([*parts, f"seed{options.seed}"])


def show_table(folder):
    """Prints the table of all results in a folder, for the terminal and for a page."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise SystemExit(f"There are no results in {folder}")
    results = [json.loads(file.read_text()) for file in files]
    results.sort(key=lambda r: list(METHODS).index(r["method"]))
    print_table(results, str(folder))
    print(markdown_table(results))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", help="where TensorFlow Datasets keeps its files")
    parser.add_argument("--imbalance", type=float, default=100, help="most over least frequent")
    parser.add_argument(
        "--data-seed",
        type=lambda text: None if text == "none" else int(text),
        default=0,
        help="seed of the long-tailed subset, or 'none' for the first images of each class",
    )
    parser.add_argument("--method", choices=METHODS, default="LPL", metavar="METHOD")
    parser.add_argument(
        "--depth", type=int, default=32, help="of the ResNet: 8, 14, 20, 26, 32 ..."
    )
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="float32", help="or mixed_bfloat16")
    parser.add_argument("--threshold", type=float, help="LPL: end of the head")
    parser.add_argument("--delta-epsilon", type=float, help="LPL: how far to push")
    parser.add_argument("--step-size", type=float)
    parser.add_argument("--head-scale", type=float, default=0.6)
    parser.add_argument("--out", type=Path, default=Path("results/cifar_lt"))
    parser.add_argument("--table", type=Path, metavar="FOLDER", help="only show results")
    options = parser.parse_args()
    if options.table is not None:
        show_table(options.table)
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    run(options)


if __name__ == "__main__":
    main()
