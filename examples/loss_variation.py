"""How each method changes the loss of each class: Figures 1 and 5 of the LPL paper, on CIFAR-100.

    python examples/loss_variation.py --data cifar100
    python examples/loss_variation.py --data cifar100.npz --epochs 30 --depth 20

Trains a small ResNet with each method, and at a few epochs compares, class by class, the loss of
the logits with that of the perturbed logits: `(l' - l) / l`.

- Figure 1: ISDA on balanced data; logit adjustment and LDAM on long-tailed data.
- Figure 5: LPL, split by confidence on balanced data and by frequency on long-tailed data.

Balanced data are up to 100 images of each class, long-tailed data 500 to 5. `--data` is `cifar100`
(downloaded by TensorFlow Datasets) or an `.npz` file with x_train, y_train, x_test, y_test. A
method that is finished is not trained again; one JSON each, and the pictures, go to
`results/loss_variation`.
"""

import argparse
import json
import time
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
import numpy as np
from common import ShowEpochs, environment, measure
from methods import named
from reporting import progress_bar, write_json

import keras_lpl

BATCH_SIZE = 128
SCALE = 30.0  # of the cosines, for LDAM

# name: (data, loss of the class counts, whether the head is a cosine)
METHODS = {
    "ISDA": ("balanced", lambda counts: keras_lpl.ISDALoss(), False),
    "logit adjustment": ("long-tailed", keras_lpl.LogitAdjustmentLoss, False),
    # The scale is in the head, so that the comparison shows the margin and not the scale.
    "LDAM": (
        "long-tailed",
        lambda counts: keras_lpl.LDAMLoss(counts, max_margin=0.5 * SCALE, scale=1.0),
        True,
    ),
    "LPL by confidence": ("balanced", lambda counts: keras_lpl.LPLLoss(), False),
    "LPL by frequency": (
        "long-tailed",
        lambda counts: keras_lpl.LPLLoss(counts, bound="ratio", delta_epsilon=2.5, head_scale=0.2),
        False,
    ),
}
FIGURES = {
    "figure1_balanced": ["ISDA"],
    "figure1_long-tailed": ["logit adjustment", "LDAM"],
    "figure5_balanced": ["LPL by confidence"],
    "figure5_long-tailed": ["LPL by frequency"],
}


METHODS_OF = {1: ["ISDA", "logit adjustment", "LDAM"], 5: ["LPL by confidence", "LPL by frequency"]}


def load(data, kind, seed):
    """Training and test images, as they come."""
    if kind == "long-tailed":
        return keras_lpl.data.load(data, imbalance_factor=100, seed=seed)
    (x, y), test = keras_lpl.data.load(data)
    of_each = min(100, np.bincount(y).min())
    kept = keras_lpl.data.long_tail_indices(y, np.full(y.max() + 1, of_each), seed=seed)
    return (x[kept], y[kept]), test


def run(name, options, advance):
    """Trains with one method, and returns what goes into its file."""
    kind, make_loss, cosine = METHODS[name]
    (x_train, y_train), (x_test, y_test) = load(options.data, kind, options.seed)
    class_counts = keras_lpl.data.class_counts(y_train)
    mean, std = keras_lpl.data.channel_statistics(x_train)
    train = keras_lpl.data.pipeline(
        x_train, y_train, BATCH_SIZE, training=True, seed=options.seed, mean=mean, std=std
    )
    test = keras_lpl.data.pipeline(x_test, y_test, 500, training=False, mean=mean, std=std)

    keras.utils.set_random_seed(options.seed)
    classes = len(class_counts)
    head = keras_lpl.layers.CosineDense(classes, scale=SCALE, name="head") if cosine else None
    network = keras_lpl.networks.resnet(
        options.depth, x_train.shape[1:], classes, weight_decay=2e-4, head=head
    )
    model = keras_lpl.LPLModel.from_model(network)
    steps = options.epochs * len(train)
    rate = keras.optimizers.schedules.CosineDecay(
        0.01, steps, warmup_target=0.1, warmup_steps=steps // 10
    )
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss=make_loss(class_counts))

    x = ((x_train - mean) / std).astype("float32")
    every = max(1, options.epochs // 4)
    variation = keras_lpl.callbacks.LossVariation(x, y_train, BATCH_SIZE, every=every)
    start = time.perf_counter()
    callbacks = [variation, ShowEpochs(advance), keras.callbacks.TerminateOnNaN()]
    history = model.fit(
        train, epochs=options.epochs, shuffle=False, verbose=0, callbacks=callbacks
    ).history
    return {
        "method": name,
        "data": kind,
        "images": Path(options.data).stem,
        "seed": options.seed,
        "epochs": options.epochs,
        "depth": options.depth,
        **measure(model.predict(test, verbose=0), y_test, class_counts),
        "training_loss": history["loss"],
        "loss_variation": {
            "epochs": variation.epochs,
            "by_class": [values.tolist() for values in variation.history],
        },
        "class_counts": class_counts.tolist(),
        "loss": keras.saving.serialize_keras_object(model.loss),
        "seconds": time.perf_counter() - start,
        "environment": environment(),
    }


def draw(results, out):
    """One picture for each part of the two figures: the mean over the epochs looked at."""
    for figure, names in FIGURES.items():
        found = {name: results[name] for name in names if name in results}
        if not found:
            continue
        first = next(iter(found.values()))
        balanced = first["data"] == "balanced"
        variations = {name: r["loss_variation"]["by_class"] for name, r in found.items()}
        drawn = keras_lpl.plots.loss_variation(
            variations,
            None if balanced else first["class_counts"],
            title=f"{' and '.join(found)}: {first['data']} {first.get('images', 'cifar100')}",
        )
        drawn.savefig(out / f"{figure}.png", dpi=120)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="cifar100")
    parser.add_argument("--figure", type=int, choices=METHODS_OF, help="only this one")
    parser.add_argument(
        "--methods", nargs="+", type=named(METHODS), choices=METHODS, default=list(METHODS)
    )
    parser.add_argument("--depth", type=int, default=8, help="of the ResNet (default: 8)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/loss_variation"))
    options = parser.parse_args(arguments)

    if options.figure is not None:
        options.methods = METHODS_OF[options.figure]
    results = {}
    with progress_bar() as bar:
        task = bar.add_task("", total=len(options.methods) * options.epochs)
        for name in options.methods:
            file = options.out / f"{name.replace(' ', '-').lower()}.json"
            bar.update(task, description=f"{name:<20}")
            if file.exists():
                bar.advance(task, options.epochs)
            else:
                write_json(file, run(name, options, lambda: bar.advance(task)))
            results[name] = json.loads(file.read_text())
            draw(results, options.out)
    print(f"Results and pictures: {options.out}/")


if __name__ == "__main__":
    main()
