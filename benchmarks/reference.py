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
    """ISDA in whole arrays, `[B, C, A]` and `[B, A, A]`.

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
        weight = self.weight(count)
        self.covariance = (
            (1 - weight) * self.covariance + weight * covariance + weight * (1 - weight) * outer
        )
        self.mean = (1 - share)[:, None] * self.mean + share[:, None] * mean
        self.count = self.count + count

    def weight(self, count):
        """What a batch weighs in the covariance of each class, `[C, 1, 1]`."""
        return (count / (count + self.count).clamp(min=1))[:, None, None]

    def loss(self, labels, features, kernel, strength):
        """Cross-entropy of the augmented logits; `kernel` is `(num_features, num_classes)`."""
        self.update(labels, features.detach())
        columns = kernel.T
        difference = columns[None] - columns[labels][:, None]  # [B, C, A]
        spread = self.spread(difference, self.covariance[labels])
        return functional.cross_entropy(features @ kernel + 0.5 * strength * spread, labels)

    def spread(self, difference, covariance):
        """The quadratic form, `[B, C]`, of `[B, C, A]` and `[B, A, A]`."""
        return (torch.bmm(difference, covariance) * difference).sum(-1)


class ReleasedISDA(ISDA):
    """ISDA in the manner of its authors' released code, which does more than it has to.

    It weighs covariances by arrays `[C, A, A]`, and takes all products `[B, C, C]` of which it
    needs the diagonal.
    """

    def weight(self, count):
        shape = self.covariance.shape
        count = count[:, None, None].expand(shape)
        weight = count / (count + self.count[:, None, None].expand(shape))
        weight[weight != weight] = 0  # classes not seen yet
        return weight

    def spread(self, difference, covariance):
        products = torch.bmm(torch.bmm(difference, covariance), difference.transpose(1, 2))
        return (products * torch.eye(products.shape[1])).sum(2)


class _Block(torch.nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = torch.nn.BatchNorm2d(after)
        self.conv2 = torch.nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = torch.nn.BatchNorm2d(after)
        self.stride, self.more = stride, after - before

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.more:
            kept = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(kept, (0, 0, 0, 0, self.more // 2, self.more // 2))
        return functional.relu(x + y)


class ResNet(torch.nn.Module):
    """The ResNet for CIFAR (He et al., 2016) with zero-padded shortcuts, `depth = 6n + 2`."""

    def __init__(self, depth, classes):
        super().__init__()
        blocks, before = [], 16
        for filters in (16, 32, 64):
            for index in range((depth - 2) // 6):
                stride = 2 if filters > 16 and index == 0 else 1
                blocks.append(_Block(before, filters, stride))
                before = filters
        self.stem = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.norm = torch.nn.BatchNorm2d(16)
        self.blocks = torch.nn.Sequential(*blocks)
        self.head = torch.nn.Linear(64, classes)

    def forward(self, x):
        x = self.blocks(functional.relu(self.norm(self.stem(x))))
        return self.head(x.float().mean((2, 3)))


def training_step(depth, classes, images, labels, bfloat16):
    """A training step of a hand-written PyTorch loop: channels last, SGD with momentum and decay.

    Args:
        depth: Of the ResNet.
        classes: Number of classes.
        images: float32 `(batch, height, width, 3)`.
        labels: int64 `(batch,)`.
        bfloat16: Whether to use PyTorch's automatic mixed precision.
    """
    model = ResNet(depth, classes).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=2e-4)
    images = torch.tensor(images).permute(0, 3, 1, 2)  # channels last in memory
    labels = torch.tensor(labels, dtype=torch.int64)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = model(images)
        loss = functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step
