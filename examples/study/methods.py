"""The methods of the study: what each does to logits, as numbers that one compiled step reads.

All methods train side by side, so each is a *lane*: a row of settings, not a piece of code. The
constants of a lane (priors, margins, weights, bounds) come from the library; `loss_of_lanes` is
the arithmetic that all lanes share. A test holds it against the library's own losses.

    z = scale * (u - margin_y * onehot(y)) + shift
    z = z + delta_y                                             lanes with a bound
    loss = weight_y * (1 - p_y)^focal * cross-entropy(z)
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from keras_lpl import functional
from keras_lpl.core.numerics import SCALE
from keras_lpl.losses import class_balanced_weights
from keras_lpl.methods.ldam import ldam_margins
from keras_lpl.methods.logit_adjustment import log_prior

LDAM_SCALE, LDAM_MARGIN = 30.0, 0.5

# What a bound is multiplied by, q_c being the mean probability of the true class.
RULES = {
    "none": 0,
    "running": 1,  # q_c^power, q_c averaged over training
    "batch": 2,  # q_c^power, q_c of the batch
    "overall": 3,  # the mean of the running q_c over all classes, to this power
    "loss": 4,  # exp(-power * the class's running loss)
    "lead": 5,  # the bound is at most `power` times the running lead of the true logit
}
# How a bound is spent.
WAYS = {
    "gradient": 0,  # LPL: one step along the class's own mean gradient
    "shift": 1,  # on all samples' logits, as logit adjustment does
    "margin": 2,  # on the true class's logit alone
}


@dataclasses.dataclass(frozen=True)
class Method:
    """One method with all its settings.

    Attributes:
        family: Name without settings.
        settings: The settings that the recipe lists several values of.
        tau: Strength of logit adjustment.
        gamma: Exponent of the vector scaling.
        weights: None, "balanced" (inverse frequency) or "effective" (class-balanced).
        weights_from: Share of training after which the weights apply.
        beta: Of the effective number of samples.
        focal: Exponent of the focal term.
        ldam: Margins on the cosines of a normalised head.
        bound: None, "logarithmic" or "ratio".
        kappa: Factor on the bound (`delta_epsilon`).
        head_scale: Factor on the head's part of the ratio bound.
        rule: A key of `RULES`.
        power: What the rule does with its number.
        way: A key of `WAYS`.
        smooth: Added to every count before the logarithm of the bound.
    """

    family: str
    settings: dict = dataclasses.field(default_factory=dict)
    tau: float = 0.0
    gamma: float = 0.0
    weights: str | None = None
    weights_from: float = 0.0
    beta: float = 0.9999
    focal: float = 0.0
    ldam: bool = False
    bound: str | None = None
    kappa: float = 0.0
    head_scale: float = 1.0
    rule: str = "none"
    power: float = 0.0
    way: str = "gradient"
    smooth: float = 0.0

    @property
    def name(self):
        if not self.settings:
            return self.family
        return f"{self.family}, " + " ".join(f"{k} {v:g}" for k, v in self.settings.items())


def expand(recipes):
    """Methods of the recipe's tables; a list of values becomes one method for each."""
    methods = []
    for recipe in recipes:
        recipe = dict(recipe)
        family = recipe.pop("name")
        listed = [key for key, value in recipe.items() if isinstance(value, list)]
        for values in itertools.product(*(recipe[key] for key in listed)):
            settings = dict(zip(listed, values, strict=True))
            methods.append(Method(family, settings, **(recipe | settings)))
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise ValueError(f"Two methods have one name: {sorted(names)}")
    # Lanes with a normalised head first, those with a bound last: only they pay for it.
    return sorted(methods, key=lambda method: (method.bound is not None) - method.ldam)


def lanes(methods, class_counts):
    """The constants of all methods, as float32 arrays whose first axis is the lane."""
    counts = np.asarray(class_counts, dtype="float64")
    one = np.ones_like(counts)

    def weights(method):
        if method.weights == "balanced":
            return counts.sum() / (len(counts) * counts)
        if method.weights == "effective":
            return class_balanced_weights(class_counts, method.beta)
        return one

    def scale(method):
        return LDAM_SCALE * one if method.ldam else (counts / counts.max()) ** method.gamma

    def margin(method):
        return ldam_margins(counts, LDAM_MARGIN) if method.ldam else 0 * one

    plain = {
        "shift": [method.tau * log_prior(counts) for method in methods],
        "scale": [scale(method) for method in methods],
        "margin": [margin(method) for method in methods],
        "weight": [weights(method) for method in methods],
        "weight_from": [method.weights_from for method in methods],
        "focal": [method.focal for method in methods],
        "cosine": [1.0 for method in methods if method.ldam],
    }
    bounded = [method for method in methods if method.bound is not None]
    plain |= {
        "bound": [signed_bound(method, counts) for method in bounded],
        "rule": [RULES[method.rule] for method in bounded],
        "power": [method.power for method in bounded],
        "way": [WAYS[method.way] for method in bounded],
    }
    return {name: jnp.asarray(np.array(values), "float32") for name, values in plain.items()}


def signed_bound(method, counts):
    """`s_c * eps_c`: positive where the class's loss is raised."""
    if method.bound == "logarithmic":
        logs = np.log(counts + method.smooth)
        return method.kappa * (logs.mean() - logs)
    by = (counts, 0.4)
    direction = np.asarray(functional.split_by_frequency(*by))
    bound = functional.bound_by_frequency(*by, 0.0, method.kappa, method.head_scale)
    return direction * np.asarray(bound)


def initial_statistics(num_bounded, num_classes):
    """Running sums of each class: what was seen, and of it confidence, loss and lead."""
    sums = jnp.zeros((num_bounded, num_classes))
    return {"weight": jnp.zeros(num_classes), "confidence": sums, "loss": sums, "lead": sums}


def loss_of_lanes(logits, labels, lanes, statistics, progress, momentum=0.9):
    """Mean loss of each lane over the batch.

    Args:
        logits: `(lanes, batch, classes)`.
        labels: int `(batch,)`.
        lanes: From `lanes`.
        statistics: From `initial_statistics` or the last step.
        progress: Share of training that is done.
        momentum: Of the running statistics.

    Returns:
        `(loss, statistics)`, with `loss` of shape `(lanes,)`.
    """
    member = jax.nn.one_hot(labels, logits.shape[-1])
    own = lanes["margin"][:, labels][..., None] * member
    z = (logits - own) * lanes["scale"][:, None] + lanes["shift"][:, None]
    bounded = len(lanes["rule"])
    if bounded:
        last = slice(len(logits) - bounded, None)
        raw = jax.lax.stop_gradient(logits[last])
        delta, statistics = _delta(
            raw, jax.lax.stop_gradient(z[last]), labels, member, lanes, statistics, momentum
        )
        z = z.at[last].add(delta)
    log_p = jnp.sum(jax.nn.log_softmax(z) * member, axis=-1)
    p = jnp.minimum(jnp.exp(log_p), 1 - 1e-6)
    focal = jnp.exp(lanes["focal"][:, None] * jnp.log1p(-p))
    weighted = (progress >= lanes["weight_from"])[:, None]
    weight = jnp.where(weighted, lanes["weight"][:, labels], 1.0)
    return jnp.mean(-weight * focal * log_p, axis=-1), statistics


def _delta(raw, z, labels, member, lanes, statistics, momentum):
    """What is added to the logits of each sample, `(lanes, batch, classes)`; and the statistics."""
    count = member.sum(axis=0)
    of_class = member / jnp.maximum(count, 1.0)
    now = _batch_means(raw, member, of_class)
    kept = jnp.where(count > 0, momentum, 1.0)
    weight = kept * statistics["weight"] + count
    statistics = {"weight": weight} | {
        name: kept * statistics[name] + count * now[name] for name in now
    }
    seen = weight > 0
    running = {name: statistics[name] / jnp.where(seen, weight, 1.0) for name in now}
    factor = _factor(now, running, seen, count, lanes, raw.shape[-1])

    # Mean gradient of each class `(lanes, classes, classes)`: softmax(z) - onehot(c).
    wrong = jnp.einsum("bk,lbc->lkc", of_class, jax.nn.softmax(z) * (1 - member))
    own = jnp.eye(raw.shape[-1])
    gradient = wrong - wrong.sum(axis=-1, keepdims=True) * own
    # Scaled, as squares of the small gradients of memorised samples underflow.
    gradient = SCALE * gradient
    norm = jnp.linalg.norm(gradient, axis=-1, keepdims=True)
    length = lanes["bound"] * factor
    step = length[..., None] * gradient / jnp.where(norm > 0, norm, 1.0)
    way = lanes["way"][:, None, None]
    step = jnp.where(way == WAYS["shift"], -length[:, None], step)
    step = jnp.where(way == WAYS["margin"], -length[..., None] * own, step)
    return step[:, labels], statistics


def _batch_means(raw, member, of_class):
    log_p = jnp.sum(jax.nn.log_softmax(raw) * member, axis=-1)
    lead = jnp.sum(raw * member, axis=-1) - jnp.max(raw - 1e9 * member, axis=-1)
    each = {"confidence": jnp.exp(log_p), "loss": -log_p, "lead": lead}
    return {name: values @ of_class for name, values in each.items()}


def _factor(now, running, seen, count, lanes, classes):
    power, rule = lanes["power"][:, None], lanes["rule"][:, None]
    q = jnp.where(seen, running["confidence"], 1 / classes)
    overall = jnp.sum(running["confidence"] * seen, axis=-1, keepdims=True) / jnp.sum(seen)
    room = power * jnp.maximum(running["lead"], 0.0)
    limit = jnp.maximum(jnp.abs(lanes["bound"]), 1e-6)
    of_rule = {
        "none": jnp.ones_like(q),
        "running": q**power,
        "batch": jnp.where(count > 0, now["confidence"], 1 / classes) ** power,
        "overall": jnp.broadcast_to(overall, q.shape) ** power,
        "loss": jnp.exp(-power * running["loss"]),
        "lead": jnp.minimum(1.0, room / limit),
    }
    return sum(jnp.where(rule == RULES[name], value, 0.0) for name, value in of_rule.items())
