"""A float64 NumPy training loop of the meta methods, by finite differences of what is learnt.

Written from the papers: nothing is differentiated twice. What the look ahead is for, the gradient
of the meta loss after the virtual step, is taken by moving each learnt number a little and looking
again.
"""

import numpy as np

STEP = 1e-5
SHAPES = [(6, 4), (4,), (4, 3), (3,)]  # of a net of two layers, tanh between them
REGULARIZER = 0.05  # L2, on the kernels


def starting_weights(seed=8):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape, scale=0.5) for shape in SHAPES]


def starting_parameters(units=5, seed=9):
    """Of the weight net."""
    rng = np.random.default_rng(seed)
    shapes = [(1, units), (units,), (units, 1), (1,)]
    return [rng.normal(size=shape) for shape in shapes]


def batches(steps, size=8, seed=7):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        y = rng.choice(3, size=size, p=(0.6, 0.3, 0.1))
        x = rng.normal(size=(size, 6)) + np.eye(3, 6)[y]
        yield x, y, rng.uniform(0.2, 1.8, size)


def meta_data(of_class=2, seed=6):
    """Samples in the order in which the model takes them: each class in turn."""
    y = np.tile(np.arange(3), of_class)
    return np.random.default_rng(seed).normal(size=(len(y), 6)) + np.eye(3, 6)[y], y


def losses_and_logit_gradients(weights, x, y):
    """Cross-entropy of each sample, what its gradient by the logits is, and the hidden layer."""
    w1, b1, w2, b2 = weights
    hidden = np.tanh(x @ w1 + b1)
    logits = hidden @ w2 + b2
    logits = logits - logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(y)), y], np.exp(log_p) - np.eye(3)[y], hidden


def gradient(weights, x, y, sample_weight):
    """Gradient of the mean weighted loss by the weights."""
    _, of_logits, hidden = losses_and_logit_gradients(weights, x, y)
    of_logits = of_logits * sample_weight[:, None] / len(y)
    back = (of_logits @ weights[2].T) * (1 - hidden**2)
    return [x.T @ back, back.sum(0), hidden.T @ of_logits, of_logits.sum(0)]


def net(parameters, losses):
    kernel, bias, last_kernel, last_bias = parameters
    hidden = np.maximum(losses[:, None] @ kernel + bias, 0)
    return 1 / (1 + np.exp(-(hidden @ last_kernel + last_bias)))[:, 0]


def shared(value, weight):
    """Weights in proportion to `value * weight`, whose sum is that of `weight`."""
    weighted = value * weight
    return weighted * (weight.sum() / weighted.sum()) if weighted.sum() else weighted


def look(weights, x, y, sample_weight, meta, rate):
    """Meta loss after the virtual step: no momentum, no regularizer."""
    ahead = gradient(weights, x, y, sample_weight)
    ahead = [w - rate * g for w, g in zip(weights, ahead, strict=True)]
    return losses_and_logit_gradients(ahead, *meta)[0].mean()


def by_finite_differences(function, arrays):
    """Gradient of `function(arrays)` by each number of the arrays."""
    gradients = []
    for k, array in enumerate(arrays):
        found = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            values = []
            for sign in (1, -1):
                moved = [a.copy() for a in arrays]
                moved[k][place] += sign * STEP
                values.append(function(moved))
            found[place] = (values[0] - values[1]) / (2 * STEP)
        gradients.append(found)
    return gradients


class Adam:
    """As in Keras."""

    def __init__(self, rate):
        self.rate, self.count, self.first, self.second = rate, 0, None, None

    def __call__(self, arrays, gradients):
        self.count += 1
        if self.first is None:
            self.first = [np.zeros_like(a) for a in arrays]
            self.second = [np.zeros_like(a) for a in arrays]
        self.first = [0.9 * m + 0.1 * g for m, g in zip(self.first, gradients, strict=True)]
        self.second = [
            0.999 * v + 0.001 * g**2 for v, g in zip(self.second, gradients, strict=True)
        ]
        alpha = self.rate * np.sqrt(1 - 0.999**self.count) / (1 - 0.9**self.count)
        parts = zip(arrays, self.first, self.second, strict=True)
        return [a - alpha * m / (np.sqrt(v) + 1e-7) for a, m, v in parts]


def gradient_of_parameters(weights, parameters, x, y, given, meta, rate):
    """Gradient of the meta loss by the parameters of the weight net; the losses are constants."""
    losses = losses_and_logit_gradients(weights, x, y)[0]

    def of_parameters(parameters):
        weight = shared(net(parameters, losses), given)
        return look(weights, x, y, weight, meta, rate)

    return by_finite_differences(of_parameters, parameters)


def gradient_of_weights(weights, x, y, meta):
    """Gradient of the meta loss by the weights of the samples, where all of them are zero."""
    zeros = [np.zeros(len(y))]
    return by_finite_differences(lambda v: look(weights, x, y, v[0], meta, 1.0), zeros)[0]


def train(method, steps, rate, momentum=0.9, net_rate=0.05, decay=1e-2, weighted=True):
    """Returns the losses, the weights and the net's parameters after `steps` steps."""
    weights, parameters, adam = starting_weights(), starting_parameters(), Adam(net_rate)
    velocity = [np.zeros_like(w) for w in weights]
    meta, trained = meta_data(), []
    for x, y, given in batches(steps):
        given = given if weighted else np.ones(len(y))
        losses = losses_and_logit_gradients(weights, x, y)[0]
        if method == "meta_weight_net":
            g = gradient_of_parameters(weights, parameters, x, y, given, meta, rate)
            g = [one + decay * p for one, p in zip(g, parameters, strict=True)]
            parameters = adam(parameters, g)
            weight = shared(net(parameters, losses), given)
        else:
            g = gradient_of_weights(weights, x, y, meta)
            weight = shared(np.maximum(-g, 0), given)
        penalty = REGULARIZER * sum((w**2).sum() for w in weights[::2])
        trained.append((weight * losses).mean() + penalty)
        g = gradient(weights, x, y, weight)
        g = [one + 2 * REGULARIZER * w * (w.ndim == 2) for one, w in zip(g, weights, strict=True)]
        velocity = [momentum * v - rate * one for v, one in zip(velocity, g, strict=True)]
        weights = [w + v for w, v in zip(weights, velocity, strict=True)]
    return trained, weights, parameters


def meta_saug_step(weights, sigma, strength, step_size, x, y, class_weight, meta, rate):
    """One training step of MetaSAug in PyTorch, float64, differentiated as it stands.

    Args:
        weights: Arrays.
        sigma: Covariances with the batch folded in; or their diagonals.
        strength: `lambda` of ISDA.
        step_size: Of the covariances.
        x: The batch.
        y: Its labels.
        class_weight: Weights of the classes.
        meta: Meta samples `(x, y)`.
        rate: Learning rate.

    Returns:
        The new weights, the gradient by the covariances, and the function it is the gradient of.
    """
    import torch

    crossentropy = torch.nn.functional.cross_entropy

    def forward(weights, x):
        return torch.tanh(torch.tensor(x) @ weights[0] + weights[1]) @ weights[2] + weights[3]

    def gradients_of_isda(weights, sigma, **keywords):
        rows = []
        for logit, label in zip(forward(weights, x), y, strict=True):
            matrix = sigma[label] if sigma.ndim == 3 else torch.diag(sigma[label])
            difference = weights[2] - weights[2][:, label : label + 1]
            spread = torch.stack([d @ matrix @ d for d in difference.T])
            rows.append(logit + strength / 2 * spread)
        each = crossentropy(torch.stack(rows), torch.tensor(y), reduction="none")
        each = each * torch.tensor(class_weight[y])
        return torch.autograd.grad(each.mean(), weights, **keywords)

    def meta_loss(sigma):
        gradients = gradients_of_isda(weights, sigma, create_graph=True)
        ahead = [w - rate * g for w, g in zip(weights, gradients, strict=True)]
        return crossentropy(forward(ahead, meta[0]), torch.tensor(meta[1]))

    weights = [torch.tensor(w, requires_grad=True) for w in weights]
    sigma = torch.tensor(sigma, requires_grad=True)
    (of_sigma,) = torch.autograd.grad(meta_loss(sigma), sigma)
    gradients = gradients_of_isda(weights, sigma.detach() - step_size * of_sigma)
    new = [(w - rate * g).detach().numpy() for w, g in zip(weights, gradients, strict=True)]
    return new, of_sigma.numpy(), lambda array: meta_loss(torch.tensor(array)).item()
