"""What is timed side by side computes the same, and the table shows ratios whatever they are."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from keras import ops

import keras_lpl
from keras_lpl import functional, perturbations, read_output
from keras_lpl.layers import RunningMoments
from keras_lpl.methods.isda.spread import spread_of_full

pytestmark = pytest.mark.on_one_backend

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"
LPL = {"bound": "ratio", "threshold": 0.4, "delta_epsilon": 2.0}
LPL |= {"head_scale": 0.6, "step_size": 0.1}
CLASSES, BATCH, FEATURES = 7, 20, 4


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, BATCH)
    return labels, rng.normal(size=(BATCH, FEATURES)).astype("float32"), rng


def test_the_lpl_reference_computes_lpl(batch):
    torch = pytest.importorskip("torch")
    labels, _, rng = batch
    logits = (3 * rng.normal(size=(BATCH, CLASSES))).astype("float32")
    counts = keras_lpl.data.long_tail_counts(CLASSES, 500, 100)
    direction, bound = perturbations.LPL(counts, **LPL).direction_and_bound()
    steps = ops.convert_to_numpy(functional.num_steps(bound, LPL["step_size"]))
    theirs = load("reference").lpl_loss(
        torch.tensor(labels),
        torch.tensor(logits),
        torch.tensor(direction),
        torch.tensor(steps),
        LPL["step_size"],
    )
    ours = keras_lpl.LPLLoss(counts, **LPL)(labels, logits)
    np.testing.assert_allclose(float(theirs), float(ours), rtol=1e-5)


def test_the_c_kernel_computes_lpl(batch):
    labels, _, rng = batch
    logits = (3 * rng.normal(size=(BATCH, CLASSES))).astype("float32")
    counts = keras_lpl.data.long_tail_counts(CLASSES, 500, 100)
    direction, bound = perturbations.LPL(counts, **LPL).direction_and_bound()
    steps = ops.convert_to_numpy(functional.num_steps(bound, LPL["step_size"]))
    theirs = load("kernel").value_and_gradient(labels, logits, direction, steps, LPL["step_size"])
    if theirs is None:
        pytest.skip("there is no C compiler")
    value, gradient = theirs()
    perturbed = functional.perturb_logits(labels, logits, direction, steps, LPL["step_size"])
    loss = ops.convert_to_numpy(functional.softmax_crossentropy(labels, perturbed))
    np.testing.assert_allclose(value, loss.mean(), rtol=1e-5)
    probability = ops.convert_to_numpy(ops.softmax(perturbed, axis=-1))
    expected = (probability - np.eye(CLASSES)[labels]) / BATCH
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["ISDA", "ReleasedISDA"])
def test_the_isda_references_compute_isda(kind, batch):
    torch = pytest.importorskip("torch")
    labels, features, rng = batch
    kernel = rng.normal(size=(FEATURES, CLASSES)).astype("float32")
    reference = getattr(load("reference"), kind)(CLASSES, FEATURES)
    moments = RunningMoments(CLASSES, FEATURES)
    for part in (slice(0, 12), slice(12, BATCH)):  # a second batch shows the running moments
        theirs = reference.loss(
            torch.tensor(labels[part]), torch.tensor(features[part]), torch.tensor(kernel), 0.5
        )
        logits = features[part] @ kernel
        samples = read_output(labels[part], logits, features=features[part])
        moments.update(samples.detached())
        of_kernel = ops.convert_to_tensor(kernel)
        spread = spread_of_full(samples, of_kernel, moments.scatter, moments.count)
        changed = logits + 0.25 * ops.convert_to_numpy(spread)
        ours = ops.convert_to_numpy(functional.softmax_crossentropy(labels[part], changed)).mean()
        np.testing.assert_allclose(float(theirs), ours, rtol=1e-4)


def test_the_table_shows_a_loss_as_well_as_a_win(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    times = {"LPL": {"median": 8.0}, "PyTorch loop": {"median": 4.0}}
    ratios = {"PyTorch loop / LPL": load("timing").ratio(times, "PyTorch loop", "LPL")}
    row = {"case": "loss", "batch": 128, "classes": 100, "times": times, "ratios": ratios}
    (tmp_path / "torch_loss.json").write_text(json.dumps({"backend": "torch", "rows": [row]}))
    table = load("run").markdown(tmp_path)
    assert "| loss | B=128, C=100 | torch |" in table
    assert "PyTorch loop / LPL: 0.5" in table
    sys.modules.pop("run", None)


def test_the_pytorch_network_is_ours(batch):
    """The same number of parameters and the same logits, with the same weights."""
    torch = pytest.importorskip("torch")
    theirs = load("reference").ResNet(14, CLASSES).eval()
    ours = keras_lpl.networks.resnet(14, (8, 8, 3), CLASSES)
    parameters = [p.detach().numpy() for p in theirs.parameters()]
    trainable = ours.trainable_variables
    assert sum(p.size for p in parameters) == sum(int(np.prod(v.shape)) for v in trainable)
    for variable, value in zip(trainable, parameters, strict=True):
        axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[value.ndim]
        variable.assign(value.transpose(axes))
    images = batch[2].normal(size=(4, 8, 8, 3)).astype("float32")
    expected = theirs(torch.tensor(images).permute(0, 3, 1, 2)).detach().numpy()
    np.testing.assert_allclose(ours.predict(images, verbose=0), expected, rtol=1e-4, atol=1e-4)
