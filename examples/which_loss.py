"""Which loss helps on your data? Trains a few on a CSV file or a folder of images, and says so.

    pip install ".[examples]"                     # for a folder of images: ".[data,examples]"
    python examples/which_loss.py FILE.csv --target COLUMN
    python examples/which_loss.py FOLDER --backbone EfficientNetV2B0
    python examples/which_loss.py FOLDER --weights none --splits 10

Each split holds out another fifth of every class. On the rest, each method trains the same network
from the same weights; of images, a small one on the features of a network of `keras.applications`
that is not trained, which takes minutes where training all takes hours. The table has what each
gains and costs beside cross-entropy, with the 95% interval over the splits. As these share most of
their rows, it is widened (Nadeau and Bengio, "Inference for the Generalization Error", 2003).
"""

import argparse
import tempfile
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
import numpy as np
from fine_tune_image_folder import build as build_image_model
from fine_tune_table import build, preparation, read_table
from folders import check_images, link, list_images, split
from report import measure
from reporting import print_rows, progress_bar
from scipy import stats

import keras_lpl

TEST_SHARE = 0.2
MEASURES = ("balanced accuracy", "macro F1", "accuracy")


def balanced_weights(counts):
    return dict(enumerate(counts.sum() / (len(counts) * counts)))


def crossentropy(counts):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# Each a loss, and whether Keras's class weights come with it.
METHODS = {
    "cross-entropy": (crossentropy, False),
    "class weights": (crossentropy, True),
    "focal": (lambda counts: keras_lpl.FocalLoss(), False),
    "logit adjustment": (keras_lpl.LogitAdjustmentLoss, False),
    "LPLLoss(counts)": (keras_lpl.LPLLoss, False),
}


def features_of_images(folder, options):
    """Features of all images, as an untrained last layer would see them, and their labels."""
    paths, labels, names = list_images(folder)
    check_images(paths)
    weights = None if options.weights == "none" else options.weights
    model, _ = build_image_model(options.backbone, weights, options.size, len(names))
    reader = keras.Model(model.inputs, model.get_layer("logits").input)
    with tempfile.TemporaryDirectory() as place:
        link(paths, labels, names, Path(place) / "all")
        images = keras.utils.image_dataset_from_directory(
            Path(place) / "all",
            image_size=(options.size, options.size),
            crop_to_aspect_ratio=True,
            shuffle=False,
            verbose=False,
        )
        return reader.predict(images, verbose=0), labels, names


def prepare_split(features, train, test):
    """Both parts as float32, standardised by the training part."""
    if hasattr(features, "iloc"):
        prepare = preparation(features)
        parts = prepare.fit_transform(features.iloc[train]), prepare.transform(features.iloc[test])
    else:
        mean, spread = features[train].mean(axis=0), features[train].std(axis=0) + 1e-6
        parts = tuple((features[part] - mean) / spread for part in (train, test))
    return tuple(part.astype("float32") for part in parts)


def run(name, parts, labels, num_classes, seed, options):
    """Measures of one method on one split."""
    (x_train, y_train), (x_test, y_test) = zip(parts, labels, strict=True)
    counts = keras_lpl.data.class_counts(y_train, num_classes)
    make_loss, weighted = METHODS[name]
    keras.utils.set_random_seed(seed)
    model = build(x_train.shape[1], options.units, num_classes)
    model.compile(keras.optimizers.Adam(options.learning_rate), loss=make_loss(counts))
    model.fit(
        x_train,
        y_train,
        batch_size=options.batch_size,
        epochs=options.epochs,
        class_weight=balanced_weights(counts) if weighted else None,
        verbose=0,
    )
    whole, _ = measure(y_test, model.predict(x_test, verbose=0), counts)
    return [whole[name] for name in MEASURES]


def interval(differences):
    """Mean of the differences, and half the width of its 95% interval."""
    differences = np.asarray(differences)
    splits = len(differences)
    variance = differences.var(ddof=1) * (1 / splits + TEST_SHARE / (1 - TEST_SHARE))
    return differences.mean(), float(stats.t.ppf(0.975, splits - 1) * np.sqrt(variance))


def signed(gain):
    mean, half = gain
    return f"{100 * mean:+.1f} ± {100 * half:.1f}"


def verdict(results):
    """One sentence: which method is ahead of cross-entropy in balanced accuracy, if any is."""
    gains = {
        name: interval(runs[:, 0] - results["cross-entropy"][:, 0])
        for name, runs in results.items()
    }
    ahead = {name: mean for name, (mean, half) in gains.items() if mean > half > 0}
    if not ahead:
        return "No method is clearly ahead of cross-entropy in balanced accuracy on these splits."
    best = max(ahead, key=ahead.get)
    price = interval(results[best][:, 2] - results["cross-entropy"][:, 2])
    return (
        f"{best} gains most: {signed(gains[best])} points of balanced accuracy, and "
        f"{signed(price)} of accuracy."
    )


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a CSV file, or a folder of CLASS/IMAGE")
    parser.add_argument("--target", help="of a CSV file, the column of the classes")
    parser.add_argument("--drop", nargs="*", default=[], help="columns to leave out, such as an id")
    parser.add_argument("--separator", default=",", help="between the columns")
    parser.add_argument("--backbone", default="MobileNetV3Small", help="for images")
    parser.add_argument("--weights", default="imagenet", help="imagenet, a file, or none")
    parser.add_argument("--size", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--splits", type=int, default=5, help="at least 2")
    parser.add_argument("--epochs", type=int, default=30, help="of training")
    parser.add_argument("--units", type=int, default=64, help="of the hidden layers")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam")
    parser.add_argument("--batch-size", type=int, default=64, help="samples a step")
    options = parser.parse_args(arguments)
    if options.splits < 2:
        parser.error("--splits must be 2 or more: one difference has no interval")
    if not options.data.exists():
        raise SystemExit(f"There is no file or folder {options.data}.")
    if not options.data.is_dir() and options.target is None:
        parser.error("a CSV file needs --target COLUMN")
    return options


def main(arguments=None):
    """Trains, prints, and returns the measures of each method, `(splits, 3)`."""
    options = parse(arguments)
    if options.data.is_dir():
        features, labels, names = features_of_images(options.data, options)
    else:
        features, labels, names = read_table(
            options.data, options.target, options.drop, options.separator
        )
    results = {name: [] for name in METHODS}
    with progress_bar() as bar:
        task = bar.add_task("training", total=options.splits * len(METHODS))
        for seed in range(options.splits):
            train, test = split(labels, TEST_SHARE, seed)
            parts = prepare_split(features, train, test)
            for name, runs in results.items():
                of_parts = labels[train], labels[test]
                runs.append(run(name, parts, of_parts, len(names), seed, options))
                bar.advance(task)
    results = {name: np.array(runs) for name, runs in results.items()}

    rows = []
    for name, runs in results.items():
        balanced, f1, accuracy = (f"{100 * value:.1f}" for value in runs.mean(axis=0))
        gain = cost = ""
        if name != "cross-entropy":
            differences = runs - results["cross-entropy"]
            gain, cost = (signed(interval(differences[:, column])) for column in (0, 2))
        rows.append([name, balanced, gain, f1, accuracy, cost])
    print_rows(
        ["method", "balanced accuracy", "gain", "macro F1", "accuracy", "gain"],
        rows,
        f"{options.data.name}: {len(labels)} samples of {len(names)} classes",
        f"in %, means over {options.splits} splits; gains over cross-entropy, with 95% intervals",
    )
    print(verdict(results))
    return results


if __name__ == "__main__":
    main()
