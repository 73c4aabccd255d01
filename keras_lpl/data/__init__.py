"""Long-tailed training data: counts, subsamples, samplers, sources and an input pipeline.

Importing this package loads nothing but NumPy and Keras. The functions that need another package
import it: Pillow for `load` of an image folder, TensorFlow for `pipeline`, and TensorFlow Datasets,
where it is installed, for `load("cifar10")`. `pip install "keras-lpl[data]"` brings all of them.
"""

from keras_lpl.data.array_dataset import ArrayDataset
from keras_lpl.data.counts import class_counts
from keras_lpl.data.long_tail import long_tail_counts, long_tail_indices
from keras_lpl.data.numbered import numbered_labels
from keras_lpl.data.sampling import class_probabilities, disturb_labels, sample_indices
from keras_lpl.data.sources import load
from keras_lpl.data.tf_data import channel_statistics, pipeline

__all__ = [
    "ArrayDataset",
    "channel_statistics",
    "class_counts",
    "class_probabilities",
    "disturb_labels",
    "load",
    "long_tail_counts",
    "long_tail_indices",
    "numbered_labels",
    "pipeline",
    "sample_indices",
]
