"""Operations and copies to the host of one step in eager PyTorch: counts, which no noise disturbs.

    KERAS_BACKEND=torch python benchmarks/count_operations.py
    KERAS_BACKEND=torch python benchmarks/count_operations.py \\
        --out docs/results/operations.json --page docs/speed.md

Another version is counted by the same script with `PYTHONPATH` set to a checkout of it.

A step is the value of the loss and its gradient with respect to the logits; or, with "LPLModel",
one whole training step of a small network. A copy to the host, which a GPU has to wait for, is a
tensor read as NumPy array or as Python number.
"""

import argparse
import collections
import json
import re
import sys
from pathlib import Path

import keras
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import keras_lpl

sys.path.append(str(Path(__file__).parent.parent / "examples"))

from common import environment
from reporting import markdown_table, write_json

BATCH, CLASSES = 128, 10
COUNTS = [5000 // 2**c for c in range(CLASSES)]
# Version 0.1 knew no other bound.
PAPER = {} if keras_lpl.__version__.startswith("0.1.") else {"bound": "ratio"}

LOSSES = {
    "cross-entropy of Keras": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "logit adjustment": lambda: keras_lpl.LogitAdjustmentLoss(COUNTS),
    "LDAM": lambda: keras_lpl.LDAMLoss(COUNTS),
    "LPLLoss(counts)": lambda: keras_lpl.LPLLoss(COUNTS),
    "LPL by frequency": lambda: keras_lpl.LPLLoss(COUNTS, **PAPER),
    "LPL by confidence": lambda: keras_lpl.LPLLoss(),
    "LA+LPL": lambda: keras_lpl.LPLLoss(COUNTS, logit_adjustment=1.0, **PAPER),
}


class Counter(TorchDispatchMode):
    """Counts operations, and the tensors that are read on the host."""

    def __init__(self):
        super().__init__()
        self.counts = collections.Counter(operations=0, copies=0)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        if "_local_scalar_dense" in name:
            self.counts["copies"] += 1
        elif not name.startswith(("aten::detach", "aten::view", "aten::alias", "aten::t.")):
            self.counts["operations"] += 1
        return func(*args, **(kwargs or {}))


def count(step):
    """Counts of one call of `step`, after one that is not counted."""
    step()
    counter, numpy = Counter(), torch.Tensor.numpy

    def counted(tensor, *args, **kwargs):
        counter.counts["copies"] += 1
        return numpy(tensor, *args, **kwargs)

    torch.Tensor.numpy = counted
    try:
        with counter:
            step()
    finally:
        torch.Tensor.numpy = numpy
    return dict(counter.counts)


def fill(page, content):
    """Puts the counts of all versions into the table of the page."""
    versions = content["rows"]
    names = dict.fromkeys(name for rows in versions.values() for name in rows)
    rows = []
    for name in names:
        of_versions = [of_version.get(name) for of_version in versions.values()]
        cells = [row and f"{row['operations']} / {row['copies']}" for row in of_versions]
        rows.append([name, *(cell or "-" for cell in cells)])
    table = markdown_table(["operations / copies to the host", *versions], rows)
    begin, end = "<!-- operations -->", "<!-- end of operations -->"
    pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
    page.write_text(pattern.sub(f"{begin}\n\n{table}\n\n{end}", page.read_text()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="JSON file, which keeps other versions' counts")
    parser.add_argument("--page", type=Path, help="page whose table of operations is to be filled")
    options = parser.parse_args()
    if options.page and not options.out:
        parser.error("--page is filled from the file of --out, which is missing")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, 64)).astype("float32")
    y = np.resize(np.arange(CLASSES), BATCH)
    labels = torch.tensor(y)
    logits = torch.tensor(rng.normal(size=(BATCH, CLASSES)).astype("float32"), requires_grad=True)

    rows = {}
    for name, make in LOSSES.items():
        loss = make()
        rows[name] = count(lambda loss=loss: torch.autograd.grad(loss(labels, logits), logits))
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(CLASSES)])
        model = keras_lpl.LPLModel.from_model(model)
        model.compile("sgd", loss=make())
        model.train_on_batch(x, y)  # builds
        rows[f"LPLModel, {name}"] = count(lambda model=model: model.train_on_batch(x, y))
    version = keras_lpl.__version__
    for name, row in rows.items():
        print(f"{version}  {name:<34} {row['operations']:>5} operations {row['copies']:>3} copies")
    if options.out:
        content = json.loads(options.out.read_text()) if options.out.exists() else {"rows": {}}
        content["rows"][version] = rows
        content["environment"] = environment()
        write_json(options.out, content)
        if options.page:
            fill(options.page, content)


if __name__ == "__main__":
    main()
