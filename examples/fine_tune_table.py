"""Trains a network on a table with rare classes, from a CSV file to a report.

    pip install ".[examples]"
    python examples/fine_tune_table.py FILE.csv --target COLUMN
    python examples/fine_tune_table.py FILE.csv --target COLUMN --drop id name --loss cross-entropy

Numbers are standardised and missing ones replaced by the median; words become one column for each
that occurs often enough. Columns of which nearly every word is another one, such as names, are left
out, and it is said. A fifth of each class is held out for the report: recall and precision of each
class, the confusion matrix and the calibration. No epoch is chosen by it.

`model.keras` and `prepare.joblib` are written beside the report. For new rows:

    prepare = joblib.load("prepare.joblib")
    model = keras.saving.load_model("model.keras")
    logits = model.predict(prepare.transform(pandas.read_csv("new.csv")))
"""

import argparse
import json
import sys
from pathlib import Path

import quiet  # noqa: F401, before Keras

import joblib
import keras
import numpy as np
import pandas
from common import OneLine
from folders import split
from report import write_report
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import keras_lpl

LOSSES = {
    "lpl": keras_lpl.LPLLoss,
    "la": keras_lpl.LogitAdjustmentLoss,
    "cross-entropy": lambda counts: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
}
MOST_WORDS = 0.5  # a column with more different words than this share of its rows is left out


def read_table(file, target, drop=(), separator=","):
    """Features, labels and names of the classes: `(features, labels, class_names)`.

    Rows without a label are left out.
    """
    try:
        table = pandas.read_csv(file, sep=separator)
    except FileNotFoundError:
        raise SystemExit(f"There is no file {file}.") from None
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise SystemExit(f"{file} cannot be read as CSV: {' '.join(str(error).split())}") from None
    missing = [name for name in (target, *drop) if name not in table.columns]
    if missing:
        hint = "; another --separator?" if len(table.columns) == 1 else "."
        shown = ", ".join(map(str, table.columns[:20]))
        raise SystemExit(f"{file} has no column {missing[0]!r}. It has {shown}{hint}")
    unlabelled = table[target].isna()
    if unlabelled.any():
        print(f"{unlabelled.sum()} rows without a value of {target!r} are left out")
        table = table[~unlabelled]
    labels, class_names = pandas.factorize(table[target], sort=True)
    sizes = np.bincount(labels, minlength=len(class_names))
    if len(class_names) < 2:
        raise SystemExit(f"Two classes or more are needed: {target!r} has {len(class_names)}.")
    if len(class_names) > 0.5 * len(table):
        raise SystemExit(
            f"{target!r} has {len(class_names)} different values in {len(table)} rows: is it a "
            "number to be predicted rather than a class?"
        )
    features = table.drop(columns=[target, *drop])
    features = features.drop(columns=_left_out(features))
    if not len(features.columns):
        raise SystemExit(f"No column is left beside {target!r}.")
    if (sizes == 1).any():
        single = ", ".join(str(class_names[c]) for c in np.flatnonzero(sizes == 1)[:5])
        print(f"One row only, trained on and not tested: {single}")
    return features, labels, [str(name) for name in class_names]


def _left_out(features):
    names = []
    for name in features.select_dtypes(exclude="number").columns:
        different = features[name].nunique()
        if different > max(20, MOST_WORDS * len(features)):
            print(f"Column {name!r} is left out: {different} different words")
            names.append(name)
    names += [name for name in features.columns if features[name].isna().all()]
    return names


def preparation(features):
    """What turns a table into numbers, not fitted yet."""
    numbers = features.select_dtypes(include="number").columns.tolist()
    words = [name for name in features.columns if name not in numbers]
    scaled = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    encoded = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing"),
        OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5, sparse_output=False),
    )
    columns = ColumnTransformer([("numbers", scaled, numbers), ("words", encoded, words)])
    return columns.set_output(transform="default")


def build(columns, units, num_classes):
    """A network of two hidden layers that ends in logits."""
    return keras.Sequential(
        [
            keras.Input((columns,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(num_classes),
        ]
    )


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("file", type=Path, help="CSV with a header")
    parser.add_argument("--target", required=True, help="the column of the classes")
    parser.add_argument("--drop", nargs="*", default=[], help="columns to leave out, such as an id")
    parser.add_argument("--separator", default=",", help="between the columns")
    parser.add_argument("--loss", choices=LOSSES, default="lpl", help="the training loss")
    parser.add_argument("--test-share", type=float, default=0.2, help="of each class")
    parser.add_argument("--epochs", type=int, default=30, help="of training")
    parser.add_argument("--units", type=int, default=64, help="of the hidden layers")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam")
    parser.add_argument("--batch-size", type=int, default=64, help="samples a step")
    parser.add_argument("--seed", type=int, default=0, help="of split, weights and order")
    parser.add_argument(
        "--out", type=Path, default=Path("results/fine_tune_table"), help="folder of the report"
    )
    options = parser.parse_args(arguments)
    if not 0 < options.test_share < 1:
        parser.error("--test-share must be between 0 and 1")
    if min(options.epochs, options.units, options.batch_size) < 1:
        parser.error("--epochs, --units and --batch-size must be positive")
    return options


def main(arguments=None):
    options = parse(arguments)
    features, labels, names = read_table(
        options.file, options.target, options.drop, options.separator
    )
    train, test = split(labels, options.test_share, options.seed)
    if not len(test):
        raise SystemExit("Every class has one row: nothing is left to test on.")
    prepare = preparation(features)
    x_train = prepare.fit_transform(features.iloc[train]).astype("float32")
    x_test = prepare.transform(features.iloc[test]).astype("float32")
    y_train, y_test = labels[train], labels[test]
    class_counts = keras_lpl.data.class_counts(y_train, len(names))
    print(
        f"{len(names)} classes, {x_train.shape[1]} columns of numbers, {len(train)} rows to train "
        f"on ({class_counts.min()} to {class_counts.max()} of a class), {len(test)} to test on"
    )
    keras.utils.set_random_seed(options.seed)
    model = build(x_train.shape[1], options.units, len(names))
    model.compile(
        keras.optimizers.Adam(options.learning_rate), loss=LOSSES[options.loss](class_counts)
    )
    model.fit(
        x_train,
        y_train,
        batch_size=options.batch_size,
        epochs=options.epochs,
        verbose=0,
        callbacks=[OneLine(options.epochs, every=max(1, options.epochs // 10))],
    )

    options.out.mkdir(parents=True, exist_ok=True)
    # Without its loss, so that Keras loads it without this package.
    keras.Model(model.inputs, model.outputs).save(options.out / "model.keras")
    joblib.dump(prepare, options.out / "prepare.joblib")
    (options.out / "classes.json").write_text(json.dumps(names, indent=1) + "\n")
    title = f"{options.file.name}, {options.target}: {options.loss}"
    write_report(y_test, model.predict(x_test, verbose=0), names, class_counts, options.out, title)
    print(f"Model: {options.out / 'model.keras'}, prepare.joblib, names in classes.json")


if __name__ == "__main__":
    sys.exit(main())
