"""Report of a trained classifier on its test part: tables, pictures, and what goes wrong most.

Shared by `fine_tune_image_folder.py` and `fine_tune_table.py`; for a model of yours:

    report = write_report(labels, logits, class_names, class_counts, "results/mine")
"""

import csv
from pathlib import Path

import numpy as np
from reporting import print_rows, write_json
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

import keras_lpl

MOST_ROWS = 30  # on the terminal; the file has all of them
MOST_IMAGES = 24  # on the contact sheet


def measure(labels, logits, class_counts):
    """Measures of the whole, and of each class; NaN for the recall of classes without samples.

    Args:
        labels: `(samples,)`.
        logits: `(samples, classes)`.
        class_counts: Training samples of each class, `(classes,)`.
    """
    labels, logits = np.asarray(labels), np.asarray(logits, "float32")
    classes = np.arange(len(class_counts))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, logits.argmax(axis=1), labels=classes, zero_division=np.nan
    )
    tested = support > 0
    calibration = keras_lpl.metrics.ExpectedCalibrationError()
    calibration.update_state(labels, logits)
    return {
        "accuracy": float(np.mean(logits.argmax(axis=1) == labels)),
        "balanced accuracy": float(recall[tested].mean()),
        "macro F1": float(np.nan_to_num(f1[tested]).mean()),
        "calibration error": float(calibration.result()),
    }, {
        "train": np.asarray(class_counts),
        "test": support,
        "recall": np.where(tested, recall, np.nan),
        "precision": precision,
        "F1": np.where(tested, np.nan_to_num(f1), np.nan),
    }


def write_report(labels, logits, class_names, class_counts, out, title="", images=None):
    """Prints the report, and writes it into the folder `out`.

    Args:
        labels: Class indices of the test samples, `(samples,)`.
        logits: What the model predicts for them, `(samples, classes)`.
        class_names: Names of the classes.
        class_counts: Training samples of each class.
        out: Folder for `report.json`, `classes.csv` and the pictures.
        title: Title of the table.
        images: Paths of the test images, for the contact sheet; or None.

    Returns:
        The measures of the whole.
    """
    out = Path(out)
    labels, logits = np.asarray(labels), np.asarray(logits, "float32")
    whole, by_class = measure(labels, logits, class_counts)
    _write_classes(out / "classes.csv", class_names, by_class)
    _print_classes(class_names, by_class, title)
    print("  ".join(f"{name} {_percent(value)}" for name, value in whole.items()))
    for line in _confusions(labels, logits.argmax(axis=1), class_names):
        print(line)
    plots = keras_lpl.plots
    pictures = {
        "confusion": plots.confusion_matrix(labels, logits, class_names, class_counts),
        "classes": plots.class_report(labels, logits, class_names, class_counts),
        "reliability": plots.reliability(labels, {"this model": logits}),
    }
    if images is not None:
        sheet = contact_sheet(labels, logits, class_names, images)
        if sheet is not None:
            pictures["mistakes"] = sheet
    for name, figure in pictures.items():
        figure.savefig(out / f"{name}.png", dpi=110)
    write_json(out / "report.json", {**whole, "samples": len(labels), "classes": len(class_names)})
    print(f"Report: {out}/ ({', '.join(f'{name}.png' for name in pictures)}, classes.csv)")
    return whole


def _percent(value):
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def _write_classes(path, class_names, by_class):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class", *by_class])
        for name, *values in zip(class_names, *by_class.values(), strict=True):
            writer.writerow([name, *("" if np.isnan(value) else value for value in values)])


def _print_classes(class_names, by_class, title):
    """All classes, most frequent first; of many, those of the lowest F1 score."""
    order = np.argsort(-by_class["train"], kind="stable")
    caption = "recall, precision and F1 score on the test part, in %"
    if len(order) > MOST_ROWS:
        worst = np.argsort(np.nan_to_num(by_class["F1"], nan=2.0), kind="stable")[:MOST_ROWS]
        order = order[np.isin(order, worst)]
        caption += f"; the {MOST_ROWS} lowest of {len(class_names)} classes"
    rows = [
        [
            _shortened(class_names[c]),
            *(str(by_class[name][c]) for name in ("train", "test")),
            *(_percent(by_class[name][c]) for name in ("recall", "precision", "F1")),
        ]
        for c in order
    ]
    print_rows(["class", *by_class], rows, title, caption)


def _shortened(name, limit=32):
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _confusions(labels, predicted, class_names, most=5):
    """The pairs of classes that are mixed up most, as a share of the class's samples."""
    counts = confusion_matrix(labels, predicted, labels=np.arange(len(class_names)))
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    share = np.where(np.eye(len(counts), dtype=bool), 0, counts / total)
    pairs = np.stack(np.unravel_index(np.argsort(-share, axis=None, kind="stable"), share.shape), 1)
    pairs = [(true, taken) for true, taken in pairs[:most] if share[true, taken] > 0]
    if pairs:
        yield "Taken for another class most often:"
    for true, taken in pairs:
        yield (
            f"  {class_names[true]} for {class_names[taken]}: "
            f"{counts[true, taken]} of {total[true, 0]}"
        )


def contact_sheet(labels, logits, class_names, images):
    """Figure of the mistakes that the model is most sure of; None if there are none."""
    from matplotlib.figure import Figure
    from PIL import Image

    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = (shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1)
    predicted = logits.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_IMAGES]
    if not len(wrong):
        return None
    columns = min(6, len(wrong))
    rows = -(-len(wrong) // columns)
    figure = Figure(figsize=(max(5, 1.9 * columns), 0.6 + 2.3 * rows), layout="constrained")
    figure.suptitle("Mistakes that the model is most sure of", x=0.01, ha="left")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in panels:
        ax.set_axis_off()
    for ax, index in zip(panels, wrong, strict=False):
        with Image.open(images[index]) as image:
            image.thumbnail((256, 256))
            ax.imshow(image.convert("RGB"))
        names = [_shortened(class_names[c], 18) for c in (labels[index], predicted[index])]
        ax.set_title(f"{names[0]}\n→ {names[1]}, {confidence[index]:.0%}", fontsize=8)
    return figure
