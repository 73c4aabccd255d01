"""Input pipelines by the name of their augmentation.

`standard` is that of the recipes: pad, crop, flip (`keras_lpl.data.pipeline`). `modern` adds
Keras's own `RandAugment` and `RandomErasing` (Cubuk et al., 2020; Zhong et al., 2020). `mixup` and
`cutmix` add Keras's `MixUp` and `CutMix` to the standard one, and give soft labels.
"""

import keras
from keras import layers

import keras_lpl

GENERATED_SHARE = 0.2
NAMES = ("none", "standard", "modern", "mixup", "cutmix")


def pipelines(train, test, method, training, seed, initial_epoch=0, generated=None):
    """`tf.data` pipelines of the training set, augmented as the recipe says, and of the test set.

    Args:
        train: `(x, y)`, images of 0 to 255.
        test: Likewise.
        method: A `methods.Method`, which may sample classes or want one-hot labels.
        training: The part `training` of a run's description.
        seed: Of order and augmentation.
        initial_epoch: To go on after an interruption.
        generated: `(x, y)`, generated images that take a share of each batch, and their labels.
    """
    name = training.get("augmentation", "standard")
    if name not in NAMES:
        raise ValueError(f"The augmentation must be one of {NAMES}. Received: {name!r}")
    (x, y), (x_test, y_test) = train, test
    mean, std = keras_lpl.data.channel_statistics(x)
    mixes = name in ("mixup", "cutmix")
    num_classes = int(y.max()) + 1
    y = keras.utils.to_categorical(y, num_classes) if mixes else method.labels(y, num_classes)
    plain, is_modern = name == "none", name == "modern"
    size = training["batch_size"]
    share = 0 if generated is None else round(GENERATED_SHARE * size)
    options = {
        "training": True,
        "seed": seed,
        "mean": 0.0 if is_modern else mean,
        "std": 1.0 if is_modern else std,
        "padding": 0 if plain else 4,
        "padding_mode": training.get("padding_mode", "constant"),
        "flip": not plain,
        "initial_epoch": initial_epoch,
        "sampling": method.sampling,
        "disturb_rate": method.disturb_rate,
    }
    batches = keras_lpl.data.pipeline(x, y, size - share, **options)
    if share:
        batches = with_generated(batches, keras_lpl.data.pipeline(*generated, share, **options))
    if is_modern:
        batches = modern(batches, mean, std, seed + initial_epoch)
    elif mixes:
        batches = mixed(batches, name, seed + initial_epoch)
    test_batches = keras_lpl.data.pipeline(x_test, y_test, 500, training=False, mean=mean, std=std)
    return batches, test_batches


def with_generated(batches, generated):
    """Batches, each followed by one of generated images and their labels."""
    import tensorflow as tf

    pairs = tf.data.Dataset.zip(batches, generated.repeat())
    return pairs.map(
        lambda real, made: tuple(tf.concat(parts, 0) for parts in zip(real, made, strict=True)),
        num_parallel_calls=2,
        deterministic=True,
    ).prefetch(2)


def modern(batches, mean, std, seed):
    """RandAugment on pixels of 0 to 255, then normalisation, then a patch of each image erased."""
    policy = layers.RandAugment(value_range=(0, 255), num_ops=2, factor=0.4, seed=seed)
    erasing = layers.RandomErasing(
        factor=0.5, scale=(0.02, 0.25), fill_value=0.0, value_range=(-5, 5), seed=seed
    )

    def augment(x, y):
        x = (policy(x, training=True) - mean) / std
        return erasing(x, training=True), y

    return batches.map(augment, num_parallel_calls=2).prefetch(2)


def mixed(batches, name, seed):
    """Images and one-hot labels mixed within the batch."""
    layer = layers.MixUp(alpha=0.2, seed=seed) if name == "mixup" else layers.CutMix(seed=seed)

    def mix(x, y):
        out = layer({"images": x, "labels": y}, training=True)
        return out["images"], out["labels"]

    return batches.map(mix, num_parallel_calls=2).prefetch(2)
