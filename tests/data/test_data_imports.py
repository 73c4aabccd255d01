import json
import os
import subprocess
import sys

import pytest

LAZY = ("sklearn", "sklearn.datasets", "PIL.Image", "tensorflow_datasets", "tensorflow")

# Keras itself loads some of them, which is not ours to answer for: so what comes on top counts.
SCRIPT = f"""
import json, sys
loaded = lambda: {{name for name in {LAZY} if name in sys.modules}}
import keras
by_keras = loaded()
import keras_lpl.data as data
labels = [0, 1, 1]
data.long_tail_indices(labels, data.long_tail_counts(2, 1, 1))
data.channel_statistics([[0.0]])
data.disturb_labels(labels, 2, 0.1)
data.ArrayDataset([[0.0]] * 3, labels, 2, sampling="class_balanced")[0]
class Batches(keras.utils.PyDataset):
    num_batches = 1
    def __getitem__(self, index):
        return [[0.0]] * 3, labels
data.class_counts(labels)
data.load("digits")
data.class_counts(Batches())
by_us = loaded() - by_keras
import sklearn.datasets
print("REPORT", json.dumps([sorted(by_us), sorted(loaded() - by_keras)]))
"""


@pytest.mark.on_one_backend
def test_optional_packages_load_when_they_are_used():
    pytest.importorskip("sklearn")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    by_us, at_the_end = json.loads(done.stdout.split("REPORT")[-1])
    assert by_us == []
    assert "sklearn.datasets" in at_the_end  # so the check above could have failed
