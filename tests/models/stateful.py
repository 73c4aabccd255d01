"""A perturbation that uses all the interface has: features, kernel, running statistics, progress.

ISDA in small: it keeps a running per-class variance of the features, and moves each logit along
the difference of the head's columns, more as training goes on. Real methods differ in detail.
"""

import keras
from keras import ops

import keras_lpl


class FeatureVariance(keras_lpl.layers.RunningStatistic):
    """Per-class mean and variance of the features over all samples seen (diagonal)."""

    def __init__(self, shape_by_class, num_features, **kwargs):
        super().__init__(**kwargs)
        self.count = self.add_statistic("count", (*shape_by_class, 1))
        self.mean = self.add_statistic("mean", (*shape_by_class, num_features))
        self.variance = self.add_statistic("variance", (*shape_by_class, num_features))

    def update(self, samples):
        count = samples.weight_by_class()[:, None]
        mean = samples.mean_by_class(samples.features)
        square = samples.mean_by_class(ops.square(samples.features))
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

    def __call__(self, samples, context):
        # The features are not needed for the formula: the statistic has seen them.
        assert samples.features.shape[-1] == context.kernel.shape[0]
        variance = context.statistics["variance"].variance + 0.0
        columns = ops.transpose(context.kernel)
        difference = columns[None] - samples.of_own_class(columns)[:, None]
        spread = samples.of_own_class(variance)[:, None] * ops.square(difference)
        spread = ops.sum(spread, axis=-1)
        return samples.logits + context.progress * self.strength / 2 * spread

    def create_statistics(self, shape_by_class, num_features):
        return {"variance": FeatureVariance(shape_by_class, num_features)}

    def get_config(self):
        return {"strength": self.strength}
