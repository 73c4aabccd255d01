"""Small class-conditional generators of images: CGAN, ACGAN and infoGAN.

A generator `G(z, y)` learns against a discriminator. With `D(x)` the logit of "x is real", `C` the
logits of the classes, and `softplus(u) = log(1 + exp(u))`, each training step descends

    L_D = softplus(-D(x)) + softplus(D(G(z, y)))          by the weights of the discriminator
    L_G = softplus(-D(G(z, y)))                           by those of the generator

and besides

    CGAN     D sees the label, too: D(x, y)
    ACGAN    both descend the cross-entropy of C, on real and generated images
    infoGAN  both descend the cross-entropy of C on generated images alone, and the squared error of
             two further codes that the generator was given: a bound on their mutual information

`ConditionalGAN` is a Keras model; the two losses are one in Keras's own training step. The terms of
the generator see a discriminator whose weights are constants, and those of the discriminator images
that are constants.

infoGAN's class code is not told which class is which. Here it is: C also learns from real images,
a third as much, or its classes would come in any order.

References: Mirza and Osindero, "Conditional Generative Adversarial Nets", 2014; Odena et al.,
"Conditional Image Synthesis with Auxiliary Classifier GANs", ICML 2017; Chen et al., "InfoGAN:
Interpretable Representation Learning by Information Maximizing Generative Adversarial Nets",
NeurIPS 2016.
"""

import math

import quiet  # noqa: F401, before Keras

import keras
import numpy as np
from keras import layers, ops

KINDS = ("CGAN", "ACGAN", "infoGAN")
NOISE, CODES = 64, 2
REAL_SHARE_OF_INFOGAN = 0.3


class ConditionalGAN(keras.Model):
    """Trains with `fit((images, labels), epochs=...)`; images lie in [-1, 1].

    Args:
        kind: One of `KINDS`.
        image_shape: `(height, width, channels)`; height and width 8, 16, 32, ...
        num_classes: Number of classes.
        width: Filters of the layer nearest to the image.
        seed: Of the noise.
    """

    def __init__(self, kind, image_shape, num_classes, width=32, seed=0):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"`kind` must be one of {KINDS}. Received: kind={kind!r}")
        self.kind, self.num_classes = kind, num_classes
        self.noise_seed = keras.random.SeedGenerator(seed)
        self.generator = generator(image_shape, num_classes, width)
        self.discriminator = discriminator(kind, image_shape, num_classes, width)

    def call(self, inputs, training=False):
        """Generated images for labels, and the codes they were made with."""
        _, labels = inputs
        one_hot = ops.one_hot(labels, self.num_classes)
        size = ops.shape(labels)[0]
        noise = keras.random.normal((size, NOISE), seed=self.noise_seed)
        codes = keras.random.uniform((size, CODES), -1.0, 1.0, seed=self.noise_seed)
        return self.generator([noise, codes, one_hot], training=training), codes

    def compute_loss(self, x, y=None, y_pred=None, sample_weight=None, training=True):
        """Both losses: their gradients do not mix."""
        (real, labels), (fake, codes) = x, y_pred
        real, one_hot = ops.cast(real, "float32"), ops.one_hot(labels, self.num_classes)

        of_real = self.judged(real, one_hot, training)
        of_fake = self.judged(ops.stop_gradient(fake), one_hot, training)
        loss = ops.mean(ops.softplus(-of_real["real"]) + ops.softplus(of_fake["real"]))
        loss = loss + self._of_classes(of_real, of_fake, one_hot, codes)

        constants = [(v, ops.stop_gradient(v.value)) for v in self.discriminator.variables]
        with keras.StatelessScope(state_mapping=constants):
            of_fake = self.judged(fake, one_hot, training)
        loss = loss + ops.mean(ops.softplus(-of_fake["real"]))
        return loss + self._of_classes(None, of_fake, one_hot, codes)

    def judged(self, images, one_hot, training=False):
        """What the discriminator says of images, CGAN's of the classes they should be of."""
        inputs = [images, one_hot] if self.kind == "CGAN" else [images]
        return self.discriminator(inputs, training=training)

    def _of_classes(self, of_real, of_fake, one_hot, codes):
        """What the auxiliary outputs are trained on; the generator's turn has no real images."""
        loss = 0.0
        if self.kind != "CGAN":
            loss = _crossentropy(of_fake["classes"], one_hot)
        if self.kind != "CGAN" and of_real is not None:
            share = 1.0 if self.kind == "ACGAN" else REAL_SHARE_OF_INFOGAN
            loss = loss + share * _crossentropy(of_real["classes"], one_hot)
        if self.kind == "infoGAN":
            loss = loss + ops.mean(ops.square(of_fake["codes"] - codes))
        return loss

    def generate(self, labels, seed=0):
        """Images `(N, height, width, channels)` in [-1, 1] for labels, NumPy."""
        labels, rng = np.asarray(labels), np.random.default_rng(seed)
        noise = rng.normal(size=(len(labels), NOISE)).astype("float32")
        codes = rng.uniform(-1, 1, size=(len(labels), CODES)).astype("float32")
        one_hot = np.eye(self.num_classes, dtype="float32")[labels]
        return self.generator.predict([noise, codes, one_hot], batch_size=256, verbose=0)


def generator(image_shape, num_classes, width):
    """From noise, codes and a one-hot class to an image in [-1, 1]: doubled until it is large."""
    height, breadth, channels = image_shape
    doublings = _doublings(image_shape)
    inputs = [keras.Input((size,)) for size in (NOISE, CODES, num_classes)]
    filters = width * 2**doublings
    x = layers.Concatenate()(inputs)
    x = layers.Dense(height * breadth // 4**doublings * filters, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Reshape((height // 2**doublings, breadth // 2**doublings, filters))(x)
    for _ in range(doublings):
        filters //= 2
        x = layers.UpSampling2D()(x)
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(channels, 3, padding="same", activation="tanh")(x)
    return keras.Model(inputs, x, name="generator")


def discriminator(kind, image_shape, num_classes, width):
    """From an image, and CGAN's from a one-hot class, too, to a dict of the logit of `real`.

    And of what else the kind has: logits of the `classes`, of ACGAN and infoGAN, and the `codes` of
    infoGAN.
    """
    image, label = keras.Input(image_shape), keras.Input((num_classes,))
    inputs, x, filters = [image], image, width
    for _ in range(_doublings(image_shape)):
        x = layers.Conv2D(filters, 3, strides=2, padding="same")(x)
        x = layers.LeakyReLU(0.2)(x)
        filters *= 2
    x = layers.Flatten()(x)
    x = layers.LeakyReLU(0.2)(layers.Dense(128)(x))
    outputs = {"real": layers.Dense(1)(x)}
    if kind == "CGAN":
        # A logit of its own for each class: the projection of Miyato and Koyama (2018).
        of_class = layers.Dot(axes=1)([layers.Dense(num_classes)(x), label])
        outputs["real"] = layers.Add()([outputs["real"], of_class])
        inputs.append(label)
    else:
        outputs["classes"] = layers.Dense(num_classes)(x)
    if kind == "infoGAN":
        outputs["codes"] = layers.Dense(CODES)(x)
    return keras.Model(inputs, outputs, name="discriminator")


def _doublings(image_shape):
    """How often a side of 4, or of 2 for images of 8, is doubled."""
    side = min(image_shape[:2])
    doublings = round(math.log2(side)) - (1 if side == 8 else 2)
    if any(size % 2**doublings for size in image_shape[:2]) or side < 8:
        raise ValueError(
            "The sides of the images must be powers of two from 8 on. "
            f"Received: image_shape={image_shape}"
        )
    return doublings


def _crossentropy(logits, one_hot):
    return ops.mean(ops.categorical_crossentropy(one_hot, logits, from_logits=True))


def trained(kind, images, labels, num_classes, *, epochs, width=32, batch_size=64, seed=0, **fit):
    """A `ConditionalGAN` trained on images in [-1, 1].

    Args:
        kind: One of `KINDS`.
        images: `(N, height, width, channels)`.
        labels: `(N,)`.
        num_classes: Number of classes.
        epochs: Of training.
        width: As in `ConditionalGAN`.
        batch_size: Of training.
        seed: Of weights, noise and order.
        **fit: Passed on to `fit`, such as callbacks.
    """
    keras.utils.set_random_seed(seed)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # whatever the classifier is to be trained in
    try:
        model = ConditionalGAN(kind, images.shape[1:], num_classes, width, seed)
    finally:
        keras.config.set_dtype_policy(policy)
    model.compile(keras.optimizers.Adam(5e-4, beta_1=0.5))
    data = (np.asarray(images, "float32"), np.asarray(labels, "int32"))
    model.fit(data, batch_size=batch_size, epochs=epochs, verbose=0, **fit)
    return model


def generated(kind, x, y, *, size, epochs, seed=0, **keywords):
    """Generated images like those of a training set, as many of each class.

    Args:
        kind: One of `KINDS`.
        x: Images `(N, height, width, channels)` of any scale.
        y: Class indices `(N,)`.
        size: How many to generate.
        epochs: Of the generator's training.
        seed: Of all that is drawn.
        **keywords: Passed on to `trained`.

    Returns:
        `(x, y)`, on the scale of `x`.
    """
    low, high = float(np.min(x)), float(np.max(x))
    y, num_classes = np.asarray(y).reshape(-1), int(np.max(y)) + 1
    images = (np.asarray(x, "float32") - low) * (2 / (high - low)) - 1
    model = trained(kind, images, y, num_classes, epochs=epochs, seed=seed, **keywords)
    labels = np.arange(size) % num_classes
    made = (model.generate(labels, seed) + 1) * ((high - low) / 2) + low
    return made, labels.astype(y.dtype)


class WithGenerated(keras.utils.PyDataset):
    """Batches of a data set, in each of which a share of rows is replaced by generated samples.

    Args:
        batches: A `keras_lpl.data.ArrayDataset`.
        generated: `(x, y)` to draw from.
        share: Of a batch, 0 to 1.
        seed: Of what is drawn.
    """

    def __init__(self, batches, generated, share, seed=0):
        super().__init__()
        self.batches, self.generated, self.share, self.seed = batches, generated, share, seed

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        x, y = self.batches[index]
        rng = np.random.default_rng([self.seed, self.batches.epoch, index])
        count = round(self.share * len(x))
        drawn = rng.integers(len(self.generated[0]), size=count)
        x, y = np.array(x), np.array(y)
        x[:count], y[:count] = self.generated[0][drawn], self.generated[1][drawn]
        return x, y

    def on_epoch_begin(self):
        self.batches.on_epoch_begin()

    def on_epoch_end(self):
        self.batches.on_epoch_end()
