"""A keras-cv backbone and keras-cv's RandAugment, trained with LPL on long-tailed images.

    pip install ".[cv,data,examples]"
    python examples/keras_cv_backbone.py                          # digits, nothing to download
    python examples/keras_cv_backbone.py --data cifar10 --imbalance 100 --epochs 100

A backbone is a Keras model that ends in features. Pooling and a layer of logits make a classifier
of it, and `LPLModel.from_model` trains that with LPL. The augmentation is one more step of the
input pipeline; the loss knows nothing of it. Shown are the loss and the balanced accuracy on the
test set after each epoch, and the accuracy of frequent and rare classes at the end.

Of keras-cv 0.9.0, this takes what works with Keras 3.15: `ResNetBackbone` and `RandAugment`.
`ResNetV2Backbone` does not, and trained weights (presets) are downloaded when asked for. keras-cv
loads TensorFlow whatever the backend is. Keras has a `RandAugment` layer of its own; for a
backbone with trained weights see `fine_tune_image_folder.py`.
"""

import argparse
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
import keras_cv
import numpy as np
from common import measure, write_results
from reporting import print_table

import keras_lpl

BATCH_SIZE = 64


def load(name, imbalance):
    """Colour images of 0 to 255, as the backbone and RandAugment expect them."""
    (x_train, y_train), (x_test, y_test) = keras_lpl.data.load(name, imbalance)
    return (colour(x_train, name), y_train), (colour(x_test, name), y_test)


def colour(images, name):
    if name == "digits":  # 8 x 8 pixels of 0 to 1, and the backbone makes an eighth of a width
        images = np.repeat(np.repeat(255 * images, 4, axis=1), 4, axis=2)
    return np.broadcast_to(images, (*images.shape[:3], 3)).astype("uint8")


def training_data(x, y, magnitude):
    """Batches in a new order each epoch, each image changed by two operations drawn for it."""
    rand_augment = keras_cv.layers.RandAugment(
        value_range=(0, 255), augmentations_per_image=2, magnitude=magnitude, seed=0
    )
    # No crops and flips, and no normalisation: RandAugment and the backbone do theirs.
    batches = keras_lpl.data.pipeline(
        x, y, BATCH_SIZE, training=True, padding=0, flip=False, mean=0, std=1
    )
    return batches.map(lambda images, labels: (rand_augment(images), labels))


def classifier(input_shape, num_classes):
    backbone = keras_cv.models.ResNetBackbone(
        stackwise_filters=[64, 128],
        stackwise_blocks=[1, 1],
        stackwise_strides=[1, 2],
        block_type="basic_block",
        include_rescaling=True,
        input_shape=input_shape,
    )
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # keras-cv's 0.99 is for long trainings: in one of 200 steps, the averages that
            # prediction uses would not have forgotten what they started from.
            layer.momentum = 0.9
    inputs = keras.Input(input_shape)
    x = keras.layers.GlobalAveragePooling2D()(backbone(inputs))
    return keras.Model(inputs, keras.layers.Dense(num_classes)(x))  # logits: no softmax


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data", default="digits", help="digits, cifar10, cifar100, an .npz file or a folder"
    )
    parser.add_argument("--imbalance", type=float, default=50, help="factor (default: 50)")
    parser.add_argument("--epochs", type=int, default=30, help="(default: 30)")
    parser.add_argument("--magnitude", type=float, default=0.3, help="of RandAugment, 0 to 1")
    parser.add_argument("--out", type=Path, default=Path("results/keras_cv_backbone"))
    options = parser.parse_args()

    (x_train, y_train), (x_test, y_test) = load(options.data, options.imbalance)
    class_counts = keras_lpl.data.class_counts(y_train)
    keras.utils.set_random_seed(0)
    model = keras_lpl.LPLModel.from_model(classifier(x_train.shape[1:], len(class_counts)))
    model.compile(
        keras.optimizers.Adam(1e-3),
        loss=keras_lpl.LPLLoss(class_counts),
        metrics=[keras_lpl.metrics.BalancedAccuracy()],
    )
    model.fit(
        training_data(x_train, y_train, options.magnitude),
        validation_data=(x_test, y_test),
        epochs=options.epochs,
        shuffle=False,  # the pipeline shuffles
        verbose=2,
    )
    run = {"method": "LPL", **measure(model.predict(x_test, verbose=0), y_test, class_counts)}
    print_table([run], f"{Path(options.data).stem}, imbalance factor {options.imbalance:g}")
    write_results(options.out / f"{keras.config.backend()}.json", [run])


if __name__ == "__main__":
    main()
