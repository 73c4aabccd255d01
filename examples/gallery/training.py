"""What the pictures share: the methods, two sets of data, and trained networks."""

import functools

import keras
import numpy as np
from sklearn.datasets import make_moons

import keras_lpl

METHODS = (
    "cross-entropy",
    "class weights",
    "focal",
    "logit adjustment",
    "LDAM-DRW",
    "LPLLoss(counts)",
)
FREQUENT, RARE = 500, 10  # samples of the two moons


def loss_of(method, counts):
    """The loss that a method trains with."""
    if method == "focal":
        return keras_lpl.FocalLoss()
    if method == "logit adjustment":
        return keras_lpl.LogitAdjustmentLoss(counts)
    if method == "LDAM-DRW":
        return keras_lpl.LDAMLoss(counts, reduction="mean_with_sample_weight")
    if method == "LPLLoss(counts)":
        return keras_lpl.LPLLoss(counts)
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )


def train(method, x, y, seed, epochs, callbacks=()):
    """An `LPLModel` with two hidden layers, trained."""
    keras.utils.set_random_seed(seed)
    counts = keras_lpl.data.class_counts(y)
    hidden = inputs = keras.Input(x.shape[1:])
    for _ in range(2):
        hidden = keras.layers.Dense(64, activation="relu")(hidden)
    head = keras_lpl.layers.CosineDense if method == "LDAM-DRW" else keras.layers.Dense
    model = keras_lpl.LPLModel(inputs, head(len(counts))(hidden))
    model.compile(keras.optimizers.Adam(3e-3), loss=loss_of(method, counts))
    callbacks = list(callbacks)
    if method == "LDAM-DRW":
        callbacks.append(keras_lpl.callbacks.DeferredReweighting(counts, round(0.8 * epochs)))
    weights = None
    if method == "class weights":
        weights = {c: len(y) / len(counts) / n for c, n in enumerate(counts)}
    model.fit(
        x,
        y,
        batch_size=128,
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
        class_weight=weights,
    )
    return model


def probabilities(method, model, x):
    """Softmax probabilities, `(samples, classes)`: of LDAM with its scale."""
    logits = model.predict(x, verbose=0, batch_size=4096)
    if method == "LDAM-DRW":
        logits = logits * model.loss.get_config()["scale"]
    logits = logits - logits.max(axis=1, keepdims=True)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def moons(frequent, rare, seed):
    """Two half moons: class 0 is frequent, class 1 is rare."""
    x, y = make_moons((frequent, rare), noise=0.2, random_state=seed)
    return x.astype("float32"), y.astype("int32")


@functools.cache
def digits(seed):
    """Long-tailed digits as rows of 64 numbers: `(x, y), (x_test, y_test)`."""
    parts = keras_lpl.data.load("digits", imbalance_factor=50, seed=seed)
    return tuple((x.reshape(len(x), -1), y) for x, y in parts)


@functools.cache
def trained_on_moons(method, seed, epochs):
    """A network for 500 samples of one moon and 10 of the other."""
    return train(method, *moons(FREQUENT, RARE, seed), seed, epochs)


@functools.cache
def trained_on_digits(method, seed, epochs):
    """A network for digits, trained once for all the pictures that look at it."""
    x, y = digits(seed)[0]
    return train(method, x, y, seed, epochs)


def new_figure(width, height):
    """A figure of its own, with the room it needs."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
