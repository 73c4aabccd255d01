"""Fine-tunes a network of `keras.applications` on a folder of images with rare classes.

    pip install ".[examples]"
    python examples/fine_tune_image_folder.py FOLDER
    python examples/fine_tune_image_folder.py FOLDER --backbone EfficientNetV2B0 --epochs 10 20

The folder holds `train/CLASS/IMAGE` and `test/CLASS/IMAGE`, all images of one size, 32 pixels or
more; they are held in memory. The backbone comes with weights from ImageNet, which Keras downloads
once. Training has two phases:

1. The backbone rests and a new last layer is trained: its first, random gradients would spoil the
   trained weights.
2. All is trained, with a hundredth of the learning rate; all but batch normalisation, whose
   averages over ImageNet are better than those over a few images.

Both train with LPL on adjusted logits. After each epoch the accuracies on the test set are shown:
balanced, and of the classes with many, a medium number of, and few training images. No epoch is
chosen by them. The model is written to `results/fine_tune_image_folder`.
"""

import argparse
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
import numpy as np
from common import measure, write_results
from reporting import SHOTS, print_table

import keras_lpl

# They take images of 0 to 255 and normalise them themselves.
BACKBONES = ("MobileNetV3Small", "EfficientNetV2B0", "ConvNeXtTiny")


def load(folder):
    (x_train, y_train), (x_test, y_test) = keras_lpl.data.load(folder)
    shape = (*x_train.shape[1:3], 3)  # grey images become colour images
    x_train, x_test = (np.broadcast_to(x, (len(x), *shape)) for x in (x_train, x_test))
    return (x_train, y_train), (x_test, y_test)


def build(name, weights, input_shape, num_classes):
    """Returns `(model, backbone)`: the model ends in logits, and holds the backbone."""
    make = getattr(keras.applications, name)
    backbone = make(include_top=False, weights=weights, input_shape=input_shape, pooling="avg")
    inputs = keras.Input(input_shape)
    x = backbone(keras.layers.RandomFlip("horizontal")(inputs))
    logits = keras.layers.Dense(num_classes)(keras.layers.Dropout(0.2)(x))
    return keras_lpl.LPLModel(inputs, logits), backbone


def set_trainable(backbone, trainable, normalization):
    """Whether the backbone's layers are trained; batch normalisation only if that is asked for.

    Not to be trained, batch normalisation uses its averages. `backbone(x, training=False)` would
    not see to that: the `training` of the whole model overrides it.
    """
    for layer in backbone.layers:
        is_normalization = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = trainable and (normalization or not is_normalization)


def compile_model(model, learning_rate, class_counts):
    shots = [keras_lpl.metrics.ShotAccuracy(class_counts, shot) for shot in SHOTS]
    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss=keras_lpl.LPLLoss(class_counts),
        # A group without classes has no accuracy.
        metrics=[keras_lpl.metrics.BalancedAccuracy(), *(shot for shot in shots if shot.classes)],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="with train/CLASS/IMAGE and test/CLASS/IMAGE")
    parser.add_argument("--backbone", choices=BACKBONES, default=BACKBONES[0])
    parser.add_argument(
        "--weights", default="imagenet", help="imagenet, a file of weights, or none: random ones"
    )
    parser.add_argument(
        "--epochs", type=int, nargs=2, default=(5, 10), metavar="N", help="of each phase (5 10)"
    )
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of phase 1 (0.001)")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("results/fine_tune_image_folder"))
    options = parser.parse_args()

    (x_train, y_train), test = load(options.folder)
    class_counts = keras_lpl.data.class_counts(y_train)
    print(f"{len(x_train)} training images, by class: {class_counts.tolist()}")
    keras.utils.set_random_seed(0)
    weights = None if options.weights == "none" else options.weights
    model, backbone = build(options.backbone, weights, x_train.shape[1:], len(class_counts))
    train = keras_lpl.data.ArrayDataset(x_train, y_train, options.batch_size)
    first, second = options.epochs
    for trains_backbone, factor, epochs in [(False, 1, first), (True, 0.01, second)]:
        set_trainable(backbone, trains_backbone, normalization=weights is None)
        # Anew: it is here that Keras looks at what is to be trained.
        compile_model(model, factor * options.learning_rate, class_counts)
        model.fit(
            train,
            validation_data=test,
            initial_epoch=train.epoch,
            epochs=train.epoch + epochs,
            shuffle=False,  # the data set does it
            verbose=2,
        )

    run = measure(model.predict(test[0], verbose=0), test[1], class_counts)
    print_table([{"method": f"LA+LPL, {options.backbone}", **run}], options.folder.name)
    options.out.mkdir(parents=True, exist_ok=True)
    model.save(options.out / "model.keras")
    write_results(options.out / "result.json", [run])
    print(f"Model and result: {options.out}/")


if __name__ == "__main__":
    main()
