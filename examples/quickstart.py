"""Long-tailed digits: cross-entropy, logit adjustment, LPL as in the paper and as by default.

    python examples/quickstart.py                 # or: make quickstart
    python examples/quickstart.py --seeds 5 --methods LPL LA+LPL LDAM-DRW
    python examples/quickstart.py --seeds 1 --methods all
    python examples/quickstart.py --imbalance 1 --wrong-labels 0.4 --methods cross-entropy GCE

Trains a small network on handwritten digits of which the rarest class has 2 images and the most
frequent one 134 (imbalance factor 50), with each method and several seeds, and tests it on 40
images of every digit. Ends in a table and two pictures; everything is written to
`results/quickstart`. A seed chooses the training images and the network's initial weights.

With `--wrong-labels`, a share of the training labels is redrawn among all classes, once.
"""

import argparse
import functools
import time
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
from common import ShowEpochs, digits_network, measure, meta_samples, write_results
from methods import METHODS, Training, named
from reporting import print_table, progress_bar
from reproduction import generators

import keras_lpl

# The head is classes 0 to 3. `threshold`, `delta_epsilon` and `step_size` are on the paper's grids
# for long tails, `head_scale` is the authors' choice for CIFAR-10.
LPL = {"threshold": 4, "delta_epsilon": 5.0, "step_size": 0.1, "head_scale": 0.6}
IMBALANCE_FACTOR = 50
BATCH_SIZE = 64
MOST_IN_PICTURE = 6
GENERATOR_EPOCHS, GENERATED_SHARE = 100, 0.2
DEFAULT_METHODS = ("cross-entropy", "logit adjustment", "LPL", "LPL, one step")


def run(name, seed, options, advance):
    """Trains and tests one model. Returns what goes into the results."""
    epochs = options.epochs
    (x_train, y_train), (x_test, y_test) = keras_lpl.data.load(
        "digits", imbalance_factor=options.imbalance, seed=seed
    )
    true_counts = keras_lpl.data.class_counts(y_train)
    if options.wrong_labels:
        y_train = keras_lpl.data.disturb_labels(y_train, 10, options.wrong_labels, seed)
    class_counts = keras_lpl.data.class_counts(y_train)
    steps = epochs * -(-len(x_train) // BATCH_SIZE)
    method, training = METHODS[name], Training(class_counts, epochs, steps, LPL)
    keras.utils.set_random_seed(seed)
    meta_data = functools.partial(meta_samples, "digits", true_counts, seed)
    network = digits_network(method.head)
    # Adam's rate is of another kind than that of the look ahead.
    model = method.model(network, training, meta_data, virtual_learning_rate=0.1)
    model.compile(keras.optimizers.Adam(1e-3), loss=method.loss(training))

    callbacks = [ShowEpochs(advance), *method.callbacks(training)]
    variation = None
    if isinstance(model.loss, keras_lpl.PerturbedCrossentropy):
        variation = keras_lpl.callbacks.LossVariation(
            x_train, y_train, BATCH_SIZE, every=max(1, epochs // 5)
        )
        callbacks.append(variation)
    train = keras_lpl.data.ArrayDataset(
        x_train,
        method.labels(y_train, 10),
        batch_size=BATCH_SIZE,
        seed=seed,
        sampling=method.sampling,
        disturb_rate=method.disturb_rate,
    )
    if method.generator is not None:
        made = generators.generated(
            method.generator,
            x_train,
            y_train,
            size=1000,
            epochs=min(GENERATOR_EPOCHS, epochs),
            width=16,
            seed=seed,
        )
        train = generators.WithGenerated(train, made, GENERATED_SHARE, seed)
    start = time.perf_counter()
    history = model.fit(train, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks).history
    seconds = time.perf_counter() - start
    model = method.for_prediction(model, training, train)

    return {
        "method": name,
        "backend": keras.config.backend(),
        "seed": seed,
        **measure(model.predict(x_test, verbose=0), y_test, class_counts),
        "training_loss": history["loss"][-1],
        "seconds": seconds,
        "class_counts": class_counts.tolist(),
        "loss_variation": None
        if variation is None
        else {
            "epochs": variation.epochs,
            "by_class": [values.tolist() for values in variation.history],
        },
    }


def draw(runs, out):
    """Accuracy per class, and how each perturbation changes the loss of each class."""
    class_counts = runs[0]["class_counts"]

    def of_methods(value):
        methods = list(dict.fromkeys(run["method"] for run in runs if value(run) is not None))
        return {  # more than a picture's worth is left to the results file
            m: [value(r) for r in runs if r["method"] == m] for m in methods[:MOST_IN_PICTURE]
        }

    accuracy = of_methods(lambda run: run["class_accuracy"])
    figure = keras_lpl.plots.class_accuracy(accuracy, class_counts)
    figure.savefig(out / "class_accuracy.png", dpi=150)

    # The first look is taken early in training: later, classes are learnt by heart, their loss
    # all but vanishes, and a relative change of it says little.
    variation = of_methods(
        lambda run: run["loss_variation"] and run["loss_variation"]["by_class"][0]
    )
    if variation:
        figure = keras_lpl.plots.loss_variation(variation, class_counts)
        figure.savefig(out / "loss_variation.png", dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--methods",
        nargs="+",
        type=named([*METHODS, "all"]),
        choices=[*METHODS, "all"],
        default=DEFAULT_METHODS,
        metavar="METHOD",
        help=f"all, or some of: {', '.join(METHODS)} (default: the first four)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method (default: 3)")
    parser.add_argument("--epochs", type=int, default=200, help="of each run (default: 200)")
    parser.add_argument(
        "--imbalance",
        type=float,
        default=IMBALANCE_FACTOR,
        help="images of the most frequent digit over those of the rarest (default: 50)",
    )
    parser.add_argument(
        "--wrong-labels",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of training labels that are redrawn among all classes (default: 0)",
    )
    parser.add_argument("--out", type=Path, default=Path("results/quickstart"))
    options = parser.parse_args()

    methods = list(METHODS) if "all" in options.methods else list(options.methods)
    backend = keras.config.backend()
    what = f"imbalance factor {options.imbalance:g}"
    if options.wrong_labels:
        what += f", {options.wrong_labels:.0%} of labels redrawn"
    print(f"keras-lpl {keras_lpl.__version__} on {backend}: digits, {what}")
    start = time.perf_counter()
    runs = []
    with progress_bar() as bar:
        plan = [(method, seed) for seed in range(options.seeds) for method in methods]
        task = bar.add_task("", total=len(plan) * options.epochs)
        for method, seed in plan:
            bar.update(task, description=f"{method:<28} seed {seed}")
            runs.append(run(method, seed, options, lambda: bar.advance(task)))
            keras.utils.clear_session()  # lets go of the model's memory
    print(f"{len(runs)} runs in {time.perf_counter() - start:.0f} s")

    runs.sort(key=lambda r: methods.index(r["method"]))
    print_table(runs, f"Digits, {what}, {backend}")
    settings = {
        "imbalance_factor": options.imbalance,
        "wrong_labels": options.wrong_labels,
        "epochs": options.epochs,
        "lpl": LPL,
    }
    write_results(options.out / f"{backend}.json", runs, settings=settings)
    draw(runs, options.out)
    print(f"Results and pictures: {options.out}/")


if __name__ == "__main__":
    main()
