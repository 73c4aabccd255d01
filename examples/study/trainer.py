"""Trains a small head for all methods and many seeds in one compiled step."""

import dataclasses
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from examples.study import methods as study_methods


@dataclasses.dataclass(frozen=True)
class Regime:
    """How the head is trained.

    Attributes:
        epochs: Passes over the training set; the last batch of an epoch runs on into the next.
        hidden: Units of the hidden layer; 0 is a linear head.
        weight_decay: Decoupled, as in Keras's `AdamW`.
        learning_rate: Of Adam at the start; falls to 0 along a cosine.
        batch: Samples in a batch.
    """

    epochs: int
    hidden: int = 256
    weight_decay: float = 0.0
    learning_rate: float = 1e-3
    batch: int = 128


def batches(num_samples, regime, seed):
    """Row numbers of every step, `(steps, batch)`: shuffled anew in each epoch."""
    generator = np.random.default_rng([seed, 1])
    steps = max(1, round(num_samples * regime.epochs / regime.batch))
    epochs = -(-steps * regime.batch // num_samples)
    rows = np.concatenate([generator.permutation(num_samples) for _ in range(epochs)])
    return rows[: steps * regime.batch].reshape(steps, regime.batch).astype("int32")


def initial_weights(num_features, num_classes, hidden, num_lanes, seed):
    """Glorot uniform, each array `(lanes, ...)`; every lane starts from the same weights."""
    generator = np.random.default_rng([seed, 2])

    def kernel(rows, columns):
        limit = np.sqrt(6 / (rows + columns))
        return generator.uniform(-limit, limit, (rows, columns))

    def of_lanes(value):
        return np.repeat(value[None], num_lanes, axis=0).astype("float32")

    weights = {}
    if hidden:
        weights["hidden_kernel"] = of_lanes(kernel(num_features, hidden).T)
        weights["hidden_bias"] = of_lanes(np.zeros(hidden))
    weights["kernel"] = of_lanes(kernel(hidden or num_features, num_classes))
    weights["bias"] = of_lanes(np.zeros(num_classes))
    return weights


def forward(weights, x, num_cosine):
    """Logits `(lanes, batch, classes)` of `x` `(batch, features)`.

    The first `num_cosine` lanes give the cosines of a normalised head without bias.
    """
    # Samples last: one product makes the hidden layer of all lanes, as they share their batches.
    if "hidden_kernel" in weights:
        x = jnp.einsum("lhf,bf->lhb", weights["hidden_kernel"], x)
        x = jax.nn.relu(x + weights["hidden_bias"][..., None])
    else:
        x = jnp.broadcast_to(x.T, (len(weights["kernel"]), *x.T.shape))
    kernel, bias = weights["kernel"], weights["bias"][:, None]
    plain = jnp.einsum("lhb,lhc->lbc", x[num_cosine:], kernel[num_cosine:]) + bias[num_cosine:]
    if not num_cosine:
        return plain
    cosines = jnp.einsum("lhb,lhc->lbc", _unit(x[:num_cosine]), _unit(kernel[:num_cosine]))
    return jnp.concatenate([cosines, plain])


def _unit(x):
    """Columns of length 1."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=1, keepdims=True), 1e-12))


@dataclasses.dataclass
class Trainer:
    """All lanes and seeds of one data set under one regime.

    Args:
        x: `(rows, features)`, all samples of the set.
        train: `(seeds, samples)`, each seed's training rows of `x`.
        labels: `(seeds, samples)`, their classes.
        class_counts: Training samples of each class, the same for all seeds.
        methods: A list of `Method`, those with a bound last.
        regime: A `Regime`.
        seeds: A list of integers.
    """

    x: np.ndarray
    train: np.ndarray
    labels: np.ndarray
    class_counts: np.ndarray
    methods: list
    regime: Regime
    seeds: list

    def fit(self, chunks=10, report=lambda done: None):
        """Returns the trained weights, each with leading axes for seeds and lanes as in `forward`.

        Args:
            chunks: How often `report` is called, with the share that is done.
            report: A function.
        """
        regime, num_lanes = self.regime, len(self.methods)
        lanes = study_methods.lanes(self.methods, self.class_counts)
        shape = self.x.shape[1], len(self.class_counts), regime.hidden, num_lanes
        weights = _stack([initial_weights(*shape, seed) for seed in self.seeds])
        order = np.stack([batches(self.train.shape[1], regime, seed) for seed in self.seeds])
        bounded = study_methods.initial_statistics(len(lanes["rule"]), len(self.class_counts))
        statistics = _stack([bounded] * len(self.seeds))
        first, second = (jax.tree.map(jnp.zeros_like, weights) for _ in range(2))
        state = weights, first, second, statistics
        steps = order.shape[1]
        of_rows = np.take_along_axis(self.train, order.reshape(len(order), -1), 1)
        rows = jnp.asarray(of_rows.reshape(order.shape), "int32")
        of_rows = np.take_along_axis(self.labels, order.reshape(len(order), -1), 1)
        labels = jnp.asarray(of_rows.reshape(order.shape), "int32")
        settings = jnp.array([regime.learning_rate, regime.weight_decay], "float32")
        x = jnp.asarray(self.x, "float32")
        edges = np.linspace(0, steps, min(chunks, steps) + 1).astype("int32")
        for start, stop in itertools.pairwise(edges):
            state = _train(state, x, rows, labels, lanes, settings, start, stop)
            jax.block_until_ready(state)
            report(float(stop / steps))
        return state[0]

    def logits(self, weights, rows):
        """`(lanes, rows, classes)` of one seed's weights; cosines times their scale."""
        num_cosine = sum(method.ldam for method in self.methods)
        logits = _forward(weights, jnp.asarray(self.x[rows], "float32"), num_cosine)
        return np.asarray(logits.at[:num_cosine].multiply(study_methods.LDAM_SCALE))


def _stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *trees)


_forward = jax.jit(forward, static_argnums=2)


@partial(jax.jit, donate_argnums=0)
def _train(state, x, rows, labels, lanes, settings, start, stop):
    steps = rows.shape[1]
    over_seeds = jax.vmap(_step, in_axes=(0, 0, 0, None, None, None))

    def body(step, state):
        progress = step / steps
        return over_seeds(
            state, x[rows[:, step]], labels[:, step], lanes, settings, (step, progress)
        )

    return jax.lax.fori_loop(start, stop, body, state)


def _step(state, x, labels, lanes, settings, time):
    weights, first, second, statistics = state
    step, progress = time

    def objective(weights):
        logits = forward(weights, x, len(lanes["cosine"]))
        loss, after = study_methods.loss_of_lanes(logits, labels, lanes, statistics, progress)
        return loss.sum(), after

    gradient, statistics = jax.grad(objective, has_aux=True)(weights)
    rate = settings[0] * 0.5 * (1 + jnp.cos(jnp.pi * progress))
    decay = settings[1] * rate
    corrected = rate * jnp.sqrt(1 - 0.999 ** (step + 1.0)) / (1 - 0.9 ** (step + 1.0))

    def update(weight, gradient, first, second):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        weight = weight - decay * weight - corrected * first / (jnp.sqrt(second) + 1e-7)
        return weight, first, second

    new = {key: update(weights[key], gradient[key], first[key], second[key]) for key in weights}
    weights, first, second = ({key: new[key][i] for key in new} for i in range(3))
    return weights, first, second, statistics
