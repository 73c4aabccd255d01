"""A perturbation that uses all the interface has: features, kernel, running statistics, progress.

ISDA in small: it keeps a running per-class variance of the features, and moves each logit along
the difference of the head's columns, more as training goes on. Real methods differ in detail.
"""

import keras
from keras import ops

import keras_lpl


class FeatureVariance(keras_lpl.layers.RunningStatistic):
    """Per-class mean and variance of the features over all samples seen (diagonal)."""

    def __init__(self, num_classes, num_features, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.count = self.add_statistic("count", (num_classes, 1))
        self.mean = self.add_statistic("mean", (num_classes, num_features))
        self.variance = self.add_statistic("variance", (num_classes, num_features))

    def update(self, labels, logits, features=None, sample_weight=None):
        member = ops.one_hot(labels, self.num_classes)
        if sample_weight is not None:
            member = member * ops.cast(sample_weight, "float32")[:, None]
        count = ops.sum(member, axis=0)[:, None]
        safe = ops.maximum(count, 1e-12)
        mean = ops.matmul(ops.transpose(member), features) / safe
        square = ops.matmul(ops.transpose(member), ops.square(features)) / safe
        variance = square - ops.square(mean)
        share = count / ops.maximum(count + self.count, 1e-12)
        gap = ops.square(mean - self.mean)
        self.variance.assign(
            (1 - share) * self.variance + share * variance + share * (1 - share) * gap
        )
        self.mean.assign((1 - share) * self.mean + share * mean)
        self.count.assign(self.count + count)


@keras.saving.register_keras_serializable("keras_lpl_tests")
class SmallISDA(keras_lpl.perturbations.Perturbation):
    """`u_c + progress * strength / 2 * sum_a var_ya (w_ac - w_ay)^2`."""

    needs = ("features", "kernel", "progress")

    def __init__(self, strength=0.5):
        self.strength = strength

    def __call__(self, labels, logits, context):
        # context.features are not needed for the formula: the statistic has seen them.
        assert context.features.shape[-1] == context.kernel.shape[0]
        variance = context.statistics["variance"].variance + 0.0
        columns = ops.transpose(context.kernel)
        of_label = ops.take(variance, labels, axis=0)
        difference = columns[None] - ops.take(columns, labels, axis=0)[:, None]
        spread = ops.sum(of_label[:, None] * ops.square(difference), axis=-1)
        return logits + context.progress * self.strength / 2 * spread

    def create_statistics(self, num_classes, num_features):
        return {"variance": FeatureVariance(num_classes, num_features)}

    def get_config(self):
        return {"strength": self.strength}
