"""Segmentation with a rare class: cross-entropy, logit adjustment and LPL, a label for each pixel.

    python examples/segmentation.py
    python examples/segmentation.py --seeds 5 --epochs 30

The images are drawn here: noise, a large bright disc in each, and in every third one a small dim
one, which is the rare class. The outlines carry the label 255, "not labelled", as in many data
sets of segmentation. Ends in a table of recall and intersection over union (IoU).
"""

import argparse

import quiet  # noqa: F401, before Keras

import keras
import numpy as np
from reporting import mean_and_spread, print_rows

import keras_lpl

SIZE = 32
CLASSES = ("background", "large disc", "small disc")
UNLABELLED = 255


def draw_images(number, seed):
    """Images `(number, SIZE, SIZE, 1)` and their masks `(number, SIZE, SIZE)`."""
    rng = np.random.default_rng(seed)
    down, right = np.mgrid[:SIZE, :SIZE]
    masks = np.zeros((number, SIZE, SIZE), "uint8")
    for index, mask in enumerate(masks):
        for label, radius in ((1, 8), (2, 2.5)):
            y, x = rng.uniform(radius, SIZE - radius, 2)
            if label == 1 or index % 3 == 0:
                mask[(down - y) ** 2 + (right - x) ** 2 <= radius**2] = label
    brightness = np.array([0.0, 1.0, 0.6])[masks]
    images = (brightness + rng.normal(0, 0.4, masks.shape)).astype("float32")[..., None]
    is_outline = np.zeros(masks.shape, bool)
    is_outline[:, 1:] |= masks[:, 1:] != masks[:, :-1]
    is_outline[:, :, 1:] |= masks[:, :, 1:] != masks[:, :, :-1]
    masks[is_outline] = UNLABELLED
    return images, masks


def network():
    """Three convolutions, and a head for each pixel."""
    inputs = keras.Input((SIZE, SIZE, 1))
    x = inputs
    for dilation in (1, 2, 4):
        x = keras.layers.Conv2D(16, 3, padding="same", dilation_rate=dilation, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Conv2D(len(CLASSES), 1)(x))


def losses(counts):
    """The losses to compare; each leaves out the unlabelled pixels."""
    return {
        "cross-entropy": keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=UNLABELLED
        ),
        "logit adjustment": keras_lpl.LogitAdjustmentLoss(counts, ignore_class=UNLABELLED),
        "logit adjustment, tau 0.3": keras_lpl.LogitAdjustmentLoss(
            counts, tau=0.3, ignore_class=UNLABELLED
        ),
        "LA+LPL": keras_lpl.LPLLoss(counts, ignore_class=UNLABELLED),
    }


def recall_and_iou(masks, logits):
    """Recall and IoU of each class, over the labelled pixels."""
    is_labelled = masks != UNLABELLED
    truth, found = masks[is_labelled], logits.argmax(axis=-1)[is_labelled]
    is_class = [(truth == c, found == c) for c in range(len(CLASSES))]
    recall = [(is_true & is_found).sum() / is_true.sum() for is_true, is_found in is_class]
    iou = [
        (is_true & is_found).sum() / (is_true | is_found).sum() for is_true, is_found in is_class
    ]
    return np.array(recall), np.array(iou)


def main(arguments=None):
    """Trains, and returns the recall and IoU of each run: `{loss: (seeds, 2, classes)}`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=200, help="for training (default: 200)")
    parser.add_argument("--epochs", type=int, default=40, help="of each run (default: 40)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each loss (default: 3)")
    options = parser.parse_args(arguments)

    results = {}
    for seed in range(options.seeds):
        images, masks = draw_images(options.images, seed)
        test_images, test_masks = draw_images(60, 1000 + seed)
        counts = keras_lpl.data.class_counts(masks, len(CLASSES), ignore_class=UNLABELLED)
        for name, loss in losses(counts).items():
            keras.utils.set_random_seed(seed)
            model = network()
            model.compile(keras.optimizers.Adam(3e-3), loss=loss)
            model.fit(images, masks, batch_size=20, epochs=options.epochs, verbose=0)
            logits = model.predict(test_images, verbose=0)
            results.setdefault(name, []).append(recall_and_iou(test_masks, logits))
    results = {name: np.array(runs) for name, runs in results.items()}

    columns = ["loss", "mean recall", "mean IoU", f"recall, {CLASSES[-1]}", f"IoU, {CLASSES[-1]}"]
    rows = [
        [name, *map(mean_and_spread, [*runs.mean(axis=2).T, *runs[..., -1].T])]
        for name, runs in results.items()
    ]
    share = ", ".join(f"{n} {c / counts.sum():.1%}" for n, c in zip(CLASSES, counts, strict=True))
    print_rows(columns, rows, f"Pixels of the training masks: {share}", "in %, over the test masks")
    return results


if __name__ == "__main__":
    main()
