"""What the library is measured against: plain PyTorch loops of the same mathematics.

Written as a competent user would write them in eager PyTorch: whole-tensor operations, no loop over
samples or classes, and automatic differentiation for the rest.
"""

import torch
from torch.nn import functional


def lpl_loss(labels, logits, direction, num_steps, step_size):
    """LPL with unit steps: one-hot products over `[C, C]`, back-propagated through the steps.

    Args:
        labels: int64 `(batch,)`.
        logits: `(batch, num_classes)`.
        direction: `(num_classes,)` of +1 and -1.
        num_steps: int `(num_classes,)`.
        step_size: Length of a step.
    """
    classes = logits.shape[1]
    one_hot = functional.one_hot(labels, classes).to(logits.dtype)
    count = one_hot.sum(0).clamp(min=1)[:, None]
    delta = torch.zeros(classes, classes)
    rate = (direction * step_size)[:, None]
    for k in range(int(num_steps.max())):
        probability = torch.softmax(logits + one_hot @ delta, dim=1)
        gradient = one_hot.T @ (probability - one_hot) / count
        unit = gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-12)
        delta = delta + (k < num_steps)[:, None] * rate * unit
    return functional.cross_entropy(logits + one_hot @ delta, labels)


class ISDA:
    """ISDA in the manner of the released code: arrays `[B, C, A]` and `[B, A, A]`.

    Per-class moments are updated through `[B, C, A]` arrays, and the quadratic form is taken for
    each sample, with its own gathered covariance.
    """

    def __init__(self, classes, features):
        self.count = torch.zeros(classes)
        self.mean = torch.zeros(classes, features)
        self.covariance = torch.zeros(classes, features, features)

    def update(self, labels, features):
        """Folds a batch into the moments."""
        classes = len(self.count)
        one_hot = functional.one_hot(labels, classes).to(features.dtype)
        count = one_hot.sum(0)
        safe = count.clamp(min=1)
        spread = one_hot[:, :, None] * features[:, None, :]
        mean = spread.sum(0) / safe[:, None]
        around = (spread - one_hot[:, :, None] * mean).permute(1, 2, 0)
        covariance = torch.bmm(around, around.permute(0, 2, 1)) / safe[:, None, None]
        share = count / (count + self.count).clamp(min=1)
        gap = self.mean - mean
        outer = torch.bmm(gap[:, :, None], gap[:, None, :])
        weight = share[:, None, None]
        self.covariance = (
            (1 - weight) * self.covariance + weight * covariance + weight * (1 - weight) * outer
        )
        self.mean = (1 - share)[:, None] * self.mean + share[:, None] * mean
        self.count = self.count + count

    def loss(self, labels, features, kernel, strength):
        """Cross-entropy of the augmented logits; `kernel` is `(num_features, num_classes)`."""
        self.update(labels, features.detach())
        columns = kernel.T
        difference = columns[None] - columns[labels][:, None]  # [B, C, A]
        covariance = self.covariance[labels]  # [B, A, A]
        spread = (torch.bmm(difference, covariance) * difference).sum(-1)
        return functional.cross_entropy(features @ kernel + 0.5 * strength * spread, labels)
