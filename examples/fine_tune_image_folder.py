"""Fine-tunes a network of `keras.applications` on a folder of images with rare classes.

    pip install ".[data,examples]"
    python examples/fine_tune_image_folder.py FOLDER
    python examples/fine_tune_image_folder.py FOLDER --backbone ResNet50V2 --epochs 10 20
    python examples/fine_tune_image_folder.py FOLDER --backbone my_model.keras --loss cross-entropy

The folder holds `CLASS/IMAGE`, images of any sizes, as many as you like: they are read while the
network trains (`keras.utils.image_dataset_from_directory`, which needs TensorFlow on any backend).
A fifth of each class is held out for the report; or give a folder of test images with `--test`. A
folder with `train/CLASS/IMAGE` and `test/CLASS/IMAGE` is taken as that.

The backbone is any network of `keras.applications`, with weights from ImageNet that Keras downloads
once, or a `.keras` file. Training has two phases:

1. The backbone rests and a new last layer is trained: its first, random gradients would spoil the
   trained weights.
2. All is trained, with a hundredth of the learning rate; all but batch normalisation, whose
   averages over ImageNet are better than those over a few images.

The report has recall and precision of each class, the confusion matrix, the calibration, and the
mistakes that the model is most sure of. No epoch is chosen by the test images. The model is written
as `model.keras`, which Keras loads without this package: images of 0 to 255 in, logits out.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
import numpy as np
from common import OneLine
from folders import check_images, find_broken, link, list_images, split
from report import write_report

import keras_lpl

LOSSES = {
    "lpl": keras_lpl.LPLLoss,
    "la": keras_lpl.LogitAdjustmentLoss,
    "cross-entropy": lambda counts: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
}


def read_folder(options):
    """Paths and labels of both parts: `(train, test, class_names)`."""
    folder, test = options.folder, options.test
    if test is None and (folder / "train").is_dir() and (folder / "test").is_dir():
        folder, test = folder / "train", folder / "test"
    paths, labels, names = list_images(folder)
    if test is None:
        parts = split(labels, options.test_share, options.seed)
        train, test = (([paths[i] for i in part], labels[part]) for part in parts)
        single = [name for c, name in enumerate(names) if (labels == c).sum() == 1]
        if single:
            print(f"One image only, trained on and not tested: {', '.join(single)}")
        return train, test, names
    test_paths, test_labels, test_names = list_images(test)
    unknown = sorted(set(test_names) - set(names))
    if unknown:
        raise SystemExit(f"{test} has classes that {folder} does not: {', '.join(unknown)}.")
    number = np.array([names.index(name) for name in test_names])
    return (paths, labels), (test_paths, number[test_labels]), names


def stream(part, names, folder, options, shuffle):
    """A `tf.data.Dataset` of batches of images, read while it is iterated."""
    link(*part, names, folder)
    return keras.utils.image_dataset_from_directory(
        folder,
        class_names=names,
        image_size=(options.size, options.size),
        crop_to_aspect_ratio=True,
        batch_size=options.batch_size,
        shuffle=shuffle,
        seed=options.seed,
        label_mode="int",
        verbose=False,
    ).prefetch(2)


def build(name, weights, size, num_classes):
    """Returns `(model, backbone)`: the model takes images of 0 to 255 and ends in logits."""
    inputs = keras.Input((size, size, 3))
    x = keras.layers.RandomFlip("horizontal")(inputs)
    if name.endswith(".keras"):
        backbone = backbone_of_file(name)
    else:
        make = getattr(keras.applications, name, None)
        if make is None or not name[0].isupper():
            known = [each for each in dir(keras.applications) if each[0].isupper()]
            raise SystemExit(
                f"There is no keras.applications.{name}. There are {', '.join(known)}; "
                "or give a .keras file."
            )
        x = preprocessing(make)(x)
        backbone = make(include_top=False, weights=weights, input_shape=(size, size, 3))
    x = backbone(x)
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D()(x)
    logits = keras.layers.Dense(num_classes, name="logits")(keras.layers.Dropout(0.2)(x))
    return keras_lpl.LPLModel(inputs, logits), backbone


def backbone_of_file(path):
    """The model of a `.keras` file, without a dense layer at its end, which is another task's."""
    try:
        model = keras.saving.load_model(path, compile=False)
        last = model.layers[-1]
        return keras.Model(model.inputs, last.input) if has_units(last) else model
    except (ValueError, OSError, TypeError) as error:
        raise SystemExit(f"No backbone can be made of {path}: {error}".split("\n")[0]) from None


def has_units(layer):
    return isinstance(layer, keras.layers.Dense)


def preprocessing(make):
    """What a network of `keras.applications` wants done to images of 0 to 255, as a layer.

    In all of them it is `x @ scale + shift` of the channels. Found by trying it out, and kept as a
    dense layer of these weights, so that the saved model takes images as they are.
    """
    preprocess = importlib.import_module(make.__module__).preprocess_input
    colors = np.concatenate([np.zeros((1, 3)), np.eye(3)])[:, None, None].astype("float32")
    found = np.array(keras.ops.convert_to_numpy(preprocess(colors.copy())))[:, 0, 0]
    shift = found[0]
    layer = keras.layers.Dense(3, trainable=False, name="preprocessing")
    layer.build((None, None, None, 3))
    layer.set_weights([found[1:] - shift, shift])
    return layer


def set_trainable(backbone, trainable, normalization):
    """Whether the backbone's layers are trained; batch normalisation only if that is asked for.

    Not to be trained, batch normalisation uses its averages. `backbone(x, training=False)` would
    not see to that: the `training` of the whole model overrides it.
    """
    for layer in backbone.layers:
        is_normalization = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = trainable and (normalization or not is_normalization)


def compile_model(model, learning_rate, class_counts, loss):
    """Compiles the model: it is here that Keras looks at what is to be trained."""
    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss=LOSSES[loss](class_counts),
        metrics=[keras_lpl.metrics.BalancedAccuracy()],
    )


def train(model, backbone, parts, class_counts, options):
    """Trains in two phases."""
    first, second = options.epochs
    from_scratch = options.weights == "none" and not options.backbone.endswith(".keras")
    lines = OneLine(first + second)
    for trains_backbone, factor, start, end in [
        (False, 1, 0, first),
        (True, 0.01, first, first + second),
    ]:
        set_trainable(backbone, trains_backbone, normalization=from_scratch)
        compile_model(model, factor * options.learning_rate, class_counts, options.loss)
        model.fit(
            parts[0],
            validation_data=parts[1],
            initial_epoch=start,
            epochs=end,
            shuffle=False,  # the data set does it
            verbose=0,
            callbacks=[lines],
        )


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="with CLASS/IMAGE, images of any sizes")
    parser.add_argument("--test", type=Path, help="a folder of test images; else some are held out")
    parser.add_argument("--test-share", type=float, default=0.2, help="of each class")
    parser.add_argument(
        "--backbone", default="MobileNetV3Small", help="of keras.applications, or a .keras file"
    )
    parser.add_argument(
        "--weights", default="imagenet", help="imagenet, a file of weights, or none: random ones"
    )
    parser.add_argument("--loss", choices=LOSSES, default="lpl", help="the training loss")
    parser.add_argument("--size", type=int, default=224, help="of the images, in pixels")
    parser.add_argument(
        "--epochs", type=int, nargs=2, default=(5, 10), metavar="N", help="of each phase"
    )
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of phase 1")
    parser.add_argument("--batch-size", type=int, default=32, help="samples a step")
    parser.add_argument("--seed", type=int, default=0, help="of split, weights and order")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("results/fine_tune_image_folder"),
        help="folder of the report",
    )
    options = parser.parse_args(arguments)
    if not 0 < options.test_share < 1:
        parser.error("--test-share must be between 0 and 1")
    if min(options.epochs) < 0 or options.size < 1 or options.batch_size < 1:
        parser.error("--epochs, --size and --batch-size must be positive")
    return options


def main(arguments=None):
    options = parse(arguments)
    if importlib.util.find_spec("tensorflow") is None:
        raise SystemExit("Keras reads folders of images by tf.data: pip install tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # its log lines are no concern of ours
    train_part, test_part, names = read_folder(options)
    check_images([*train_part[0], *test_part[0]])
    class_counts = keras_lpl.data.class_counts(train_part[1], len(names))
    print(
        f"{len(names)} classes, {len(train_part[0])} images to train on ({class_counts.min()} to "
        f"{class_counts.max()} of a class), {len(test_part[0])} to test on"
    )
    keras.utils.set_random_seed(options.seed)
    weights = None if options.weights == "none" else options.weights
    try:
        model, backbone = build(options.backbone, weights, options.size, len(names))
    except Exception as error:  # of the download, of the size of the images, or of the file
        raise SystemExit(_one_line("The backbone cannot be built", error)) from None
    with tempfile.TemporaryDirectory() as folder:
        parts = [
            stream(part, names, Path(folder) / name, options, shuffle=name == "train")
            for name, part in (("train", train_part), ("test", test_part))
        ]
        try:
            train(model, backbone, parts, class_counts, options)
            logits = model.predict(parts[1], verbose=0)
        except Exception:
            broken = find_broken([*train_part[0], *test_part[0]])
            if broken is None:
                raise
            raise SystemExit(
                f"An image breaks off in the middle; repair or remove it: {broken}"
            ) from None

    options.out.mkdir(parents=True, exist_ok=True)
    plain = keras.Model(model.inputs, model.outputs, name=options.folder.resolve().name)
    plain.save(options.out / "model.keras")
    (options.out / "classes.json").write_text(json.dumps(names, indent=1) + "\n")
    title = f"{options.folder.resolve().name}: {options.loss}, {options.backbone}"
    write_report(test_part[1], logits, names, class_counts, options.out, title, test_part[0])
    print(f"Model: {options.out / 'model.keras'}, names of its classes: classes.json")


def _one_line(what, error):
    text = " ".join(str(error).split())
    hint = ""
    if "download" in text.lower() or "url" in text.lower():
        hint = " Without a network, give --weights FILE or --weights none."
    return f"{what}: {text[:300].rstrip('.')}.{hint}"


if __name__ == "__main__":
    sys.exit(main())
