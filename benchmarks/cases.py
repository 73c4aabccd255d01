"""What is measured. A case returns rows: what was timed, against what, and the ratio."""

import ctypes
import functools
import gc
import time
from pathlib import Path

import keras
import numpy as np
from backends import torch_reference, value_and_gradient
from keras import ops
from timing import ratio, side_by_side

import keras_lpl
from keras_lpl import functional, perturbations, read_output

# The paper's loop, up to 50 steps.
LPL = {
    "bound": "ratio",
    "threshold": 0.4,
    "delta_epsilon": 5.0,
    "head_scale": 0.6,
    "step_size": 0.1,
}


def long_tail(classes, batch, seed=0):
    """Class counts with imbalance factor 100, and a batch of labels (each class as likely) and
    logits."""
    rng = np.random.default_rng(seed)
    counts = keras_lpl.data.long_tail_counts(classes, 500, 100)
    labels = rng.integers(0, classes, batch).astype("int32")
    return counts, labels, (3 * rng.normal(size=(batch, classes))).astype("float32")


def mean_loss(loss, labels):
    """`loss` of the logits alone, as a scalar."""
    labels = ops.convert_to_tensor(labels)
    return lambda logits: ops.mean(loss.call(labels, logits))


def loss_case(classes=100, batch=128, seconds=3.0):
    """LPL's value and gradient, against a plain eager PyTorch loop, C, and plain cross-entropy."""
    import kernel
    import torch
    from reference import lpl_loss

    counts, labels, logits = long_tail(classes, batch)
    lpl = keras_lpl.LPLLoss(counts, **LPL)
    plain = keras_lpl.PerturbedCrossentropy([])
    direction, bound = perturbations.LPL(counts, **LPL).direction_and_bound()
    steps = ops.convert_to_numpy(functional.num_steps(bound, LPL["step_size"]))
    torch_labels = torch.tensor(labels, dtype=torch.int64)
    reference = torch_reference(
        lambda x: lpl_loss(
            torch_labels, x, torch.tensor(direction), torch.tensor(steps), LPL["step_size"]
        ),
        logits,
    )
    functions = {
        "LPL": value_and_gradient(mean_loss(lpl, labels), logits),
        "cross-entropy": value_and_gradient(mean_loss(plain, labels), logits),
        "PyTorch loop": reference,
        "C": kernel.value_and_gradient(labels, logits, direction, steps, LPL["step_size"]),
    }
    times = side_by_side({name: f for name, f in functions.items() if f is not None}, seconds)
    against_c = {"LPL / C": ratio(times, "LPL", "C")} if "C" in times else {}
    return [
        {
            "case": "loss",
            "classes": classes,
            "batch": batch,
            "most_steps": int(steps.max()),
            "mean_steps": float(steps[labels].mean()),
            "times": times,
            "ratios": {
                "PyTorch loop / LPL": ratio(times, "PyTorch loop", "LPL"),
                "LPL / cross-entropy": ratio(times, "LPL", "cross-entropy"),
                **against_c,
            },
        }
    ]


def scale_case(seconds=1.5):
    """The paper's LPL against plain cross-entropy, over both sizes."""

    def losses(counts):
        return {
            "LPL": keras_lpl.LPLLoss(counts, **LPL),
            "cross-entropy": keras_lpl.PerturbedCrossentropy([]),
        }

    return _over_sizes("scale", losses, seconds)


def default_case(seconds=1.5):
    """`LPLLoss(counts)` and logit adjustment against Keras's cross-entropy, over both sizes."""

    def losses(counts):
        return {
            "LPLLoss(counts)": keras_lpl.LPLLoss(counts),
            "logit adjustment": keras_lpl.LogitAdjustmentLoss(counts),
            "cross-entropy": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        }

    return _over_sizes("default", losses, seconds)


def _over_sizes(case, make_losses, seconds):
    """Values and gradients of losses over the number of classes, and over the batch size."""
    rows = []
    sizes = [(c, 128) for c in (10, 100, 1000, 10_000)] + [(100, b) for b in (512, 2048, 8192)]
    for classes, batch in sizes:
        counts, labels, logits = long_tail(classes, batch)
        functions = {
            name: value_and_gradient(mean_loss(loss, labels), logits)
            for name, loss in make_losses(counts).items()
        }
        times = side_by_side(functions, seconds)
        ratios = _over_crossentropy(times)
        rows.append(
            {"case": case, "classes": classes, "batch": batch, "times": times, "ratios": ratios}
        )
    return rows


def _over_crossentropy(times):
    others = [name for name in times if name != "cross-entropy"]
    return {f"{name} / cross-entropy": ratio(times, name, "cross-entropy") for name in others}


def fit_case(classes=10, batch=128, steps=100, seconds=15.0):
    """Training steps of a small network by `fit`: against plain Keras with cross-entropy."""
    counts, labels, _ = long_tail(classes, batch * steps)
    x = np.random.default_rng(4).normal(size=(batch * steps, 64)).astype("float32")
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def epoch(make_model, loss):
        inputs = hidden = keras.Input((64,))
        for _ in range(2):
            hidden = keras.layers.Dense(128, activation="relu")(hidden)
        model = make_model(inputs, keras.layers.Dense(classes)(hidden))
        model.compile("adam", loss=loss)
        return lambda: model.fit(x, labels, batch_size=batch, verbose=0)

    functions = {
        "logit adjustment": epoch(keras.Model, keras_lpl.LogitAdjustmentLoss(counts)),
        "logit adjustment, LPLModel": epoch(
            keras_lpl.LPLModel, keras_lpl.LogitAdjustmentLoss(counts)
        ),
        "LPLLoss(counts)": epoch(keras.Model, keras_lpl.LPLLoss(counts)),
        "LPLLoss(counts), LPLModel": epoch(keras_lpl.LPLModel, keras_lpl.LPLLoss(counts)),
        "cross-entropy": epoch(keras.Model, crossentropy),
    }
    times = {
        name: {**time_, "median": time_["median"] / steps, "min": time_["min"] / steps}
        for name, time_ in side_by_side(functions, seconds).items()
    }
    return [
        {
            "case": "fit",
            "network": "64-128-128-10",
            "classes": classes,
            "batch": batch,
            "times": times,
            "ratios": _over_crossentropy(times),
        }
    ]


def isda_case(features=64, classes=100, batch=128, seconds=4.0):
    """ISDA's value and gradients, running moments included, against PyTorch loops."""
    import torch
    from reference import ISDA, ReleasedISDA

    labels, x, kernel = _head_problem(features, classes, batch)
    torch_labels = torch.tensor(labels, dtype=torch.int64)

    def reference(isda):
        return torch_reference(lambda x, w: isda.loss(torch_labels, x, w, 0.5), x, kernel)

    def ours(covariance, jit_compile=True):
        isda = perturbations.ISDA(schedule=None, covariance=covariance)
        loss = keras_lpl.PerturbedCrossentropy([isda])
        statistics = isda.create_statistics((classes,), features)
        (moments,) = statistics.values()
        y = ops.convert_to_tensor(labels)

        def mean_loss(x, kernel):
            logits = ops.matmul(x, kernel)
            samples = read_output(y, logits, features=x, check_values=False)
            moments.update(samples.detached())
            context = perturbations.Context(kernel=kernel, statistics=statistics)
            return ops.mean(loss.per_sample(samples, context))

        return value_and_gradient(
            mean_loss, x, kernel, state=moments.variables, jit_compile=jit_compile
        )

    references = {
        "PyTorch as released": reference(ReleasedISDA(classes, features)),
        "PyTorch loop": reference(ISDA(classes, features)),
    }
    of_ours = {"ISDA full": ours("full"), "ISDA diagonal": ours("diagonal")}
    if keras.config.backend() == "tensorflow":  # `fit` on a CPU does not use XLA unless told to
        of_ours["ISDA full, no XLA"] = ours("full", jit_compile=False)
    times = side_by_side({**references, **of_ours}, seconds)
    return [
        {
            "case": "isda",
            "classes": classes,
            "batch": batch,
            "features": features,
            "times": times,
            "ratios": {
                f"{slow} / {fast}": ratio(times, slow, fast)
                for slow in references
                for fast in of_ours
            },
        }
    ]


def _head_problem(features, classes, batch):
    """Labels, features and a kernel."""
    _, labels, _ = long_tail(classes, batch)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(batch, features)).astype("float32")
    kernel = (rng.normal(size=(features, classes)) / np.sqrt(features)).astype("float32")
    return labels, x, kernel


def isda_step_case(features=64, classes=100, batch=128, seconds=4.0):
    """A whole training step with ISDA, of a model that is a head alone."""
    labels, x, kernel = _head_problem(features, classes, batch)
    losses = {
        "ISDA full": keras_lpl.ISDALoss(schedule=None),
        "ISDA diagonal": keras_lpl.ISDALoss(schedule=None, covariance="diagonal"),
        "cross-entropy": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    }
    steps = {name: _head_step(loss, labels, x, kernel) for name, loss in losses.items()}
    times = side_by_side(steps, seconds)
    return [
        {
            "case": "isda step",
            "classes": classes,
            "batch": batch,
            "features": features,
            "times": times,
            "ratios": {},
        }
    ]


def _head_step(loss, labels, x, kernel):
    """A model that is a head alone, trained the whole way through `LPLModel`."""
    inputs = keras.Input((x.shape[1],))
    head = keras.layers.Dense(kernel.shape[1], use_bias=False)
    model = keras_lpl.LPLModel(inputs, head(inputs))
    head.kernel.assign(kernel)
    model.compile(keras.optimizers.SGD(0.0), loss=loss)
    labels = ops.convert_to_tensor(labels)
    x = ops.convert_to_tensor(x)
    return lambda: model.train_on_batch(x, labels)


def step_case(depth=32, classes=100, batch=128, seconds=60.0):
    """A training step of a ResNet through `LPLModel`: LPL against plain cross-entropy."""
    from reproduction.training import jit_compile

    counts, labels, _ = long_tail(classes, batch)
    x = np.random.default_rng(2).normal(size=(batch, 32, 32, 3)).astype("float32")

    def step(loss):
        keras.utils.set_random_seed(0)
        network = keras_lpl.networks.resnet(depth, num_classes=classes, weight_decay=2e-4)
        model = keras_lpl.LPLModel.from_model(network)
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        model.compile(optimizer, loss=loss, jit_compile=jit_compile())
        return lambda: model.train_on_batch(x, labels)

    times = side_by_side(
        {
            "LPLLoss(counts)": step(keras_lpl.LPLLoss(counts)),
            "LPL": step(keras_lpl.LPLLoss(counts, **LPL)),
            "cross-entropy": step(keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
        },
        seconds,
    )
    return [
        {
            "case": "step",
            "network": f"ResNet-{depth}",
            "classes": classes,
            "batch": batch,
            "times": times,
            "ratios": _over_crossentropy(times),
        }
    ]


def network_case(depth=32, classes=100, batch=128, seconds=40.0):
    """A training step as the runner makes it, against the same network in plain PyTorch."""
    from reference import training_step
    from reproduction.training import build

    counts, labels, _ = long_tail(classes, batch)
    x = np.random.default_rng(2).normal(size=(batch, 32, 32, 3)).astype("float32")
    rows = []
    for precision in ("float32", "mixed_bfloat16"):
        training = {"epochs": 1, "batch_size": batch, "learning_rate": 0.01, "weight_decay": 2e-4}
        config = {
            "network": {"name": "resnet", "depth": depth},
            "method": "cross-entropy",
            "training": {**training, "precision": precision},
            "seed": 0,
        }
        model = build(config, counts, x.shape[1:])
        keras.config.set_dtype_policy("float32")
        functions = {
            "runner": functools.partial(model.train_on_batch, x, labels),
            "PyTorch": training_step(depth, classes, x, labels, precision != "float32"),
        }
        times = side_by_side(functions, seconds)
        rows.append(
            {
                "case": "network",
                "network": f"ResNet-{depth}, {precision}",
                "classes": classes,
                "batch": batch,
                "times": times,
                "images_per_second": {
                    name: 1e3 * batch / time["median"] for name, time in times.items()
                },
                "ratios": {"PyTorch / runner": ratio(times, "PyTorch", "runner")},
            }
        )
    return rows


def pipeline_case(size=10_000, batch=128, epochs=3):
    """Images per second of the input pipelines alone: no network is to wait for them."""
    from methods import METHODS
    from reproduction import augmentation

    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (size, 32, 32, 3), dtype="uint8")
    y = rng.integers(0, 100, size)
    rows = []
    for name in augmentation.NAMES:
        settings = {"batch_size": batch, "augmentation": name}
        data = (x, y)
        train, _ = augmentation.pipelines(data, data, METHODS["cross-entropy"], settings, seed=0)
        seconds = []
        for _ in range(epochs + 1):
            start = time.perf_counter()
            for _ in train:
                pass
            seconds.append(time.perf_counter() - start)
        per_batch = 1e3 * float(np.median(seconds[1:])) / len(train)
        rows.append(
            {
                "case": "pipeline",
                "network": name,
                "batch": batch,
                "times": {"batch": {"median": per_batch}},
                "images_per_second": {"pipeline": 1e3 * batch / per_batch},
                "ratios": {},
            }
        )
    return rows


def first_step_case(repeats=3):
    """Seconds of the first training step, of a model that was not compiled yet."""
    counts, labels, _ = long_tail(100, 128)
    x = np.random.default_rng(3).normal(size=(128, 64)).astype("float32")
    make_loss = {
        "LPLLoss(counts)": lambda: keras_lpl.LPLLoss(counts),
        "LPL": lambda: keras_lpl.LPLLoss(counts, **LPL),
        "cross-entropy": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    }
    seconds = {name: [] for name in make_loss}
    for _ in range(repeats + 1):
        for name in seconds:
            loss = make_loss[name]()
            inputs = keras.Input((64,))
            hidden = keras.layers.Dense(64, activation="relu")(inputs)
            model = keras_lpl.LPLModel(inputs, keras.layers.Dense(100)(hidden))
            model.compile("sgd", loss=loss)
            start = time.perf_counter()
            model.train_on_batch(x, labels)
            seconds[name].append(time.perf_counter() - start)
    # The very first of each also loads what the framework loads once.
    times = {
        name: {"median": 1e3 * float(np.median(all_[1:])), "min": 1e3 * min(all_[1:])}
        for name, all_ in seconds.items()
    }
    added = {
        name: (times[name]["median"] - times["cross-entropy"]["median"]) / 1e3
        for name in times
        if name != "cross-entropy"
    }
    return [{"case": "first step", "times": times, "added_seconds": added, "ratios": {}}]


def memory_of(name, depth=32, classes=100, batch=128):
    """Memory of training steps with one loss, in MiB (on Linux).

    After a few steps, so that what compiling took and gave back is not counted.

    Returns:
        `process`, the peak of all that this process holds, frameworks and compiled code included,
        and `step`, how much of it is taken for a step and given back.
    """
    counts, labels, _ = long_tail(classes, batch)
    x = np.random.default_rng(2).normal(size=(batch, 32, 32, 3)).astype("float32")
    model = keras_lpl.LPLModel.from_model(keras_lpl.networks.resnet(depth, num_classes=classes))
    loss = (
        keras_lpl.LPLLoss(counts, **LPL)
        if name == "LPL"
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss=loss)
    return memory_of_steps(model, x, labels)


def memory_of_steps(model, x, labels):
    """As `memory_of`, of a model that is compiled and has not been trained.

    And `training`: what all of training adds, which includes what a framework keeps from step to
    step, as TensorFlow does with most of its memory, and what compiling takes.
    """
    untrained = _mebibytes("VmRSS")
    for step in range(6):
        if step == 2:
            peak = _mebibytes("VmHWM")
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)  # what is free goes back to the system
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
            before = _mebibytes("VmRSS")
        model.train_on_batch(x, labels)
    later = _mebibytes("VmHWM")
    training = max(peak, later) - untrained
    return {"process": later, "step": later - before, "training": training}


def _mebibytes(name):
    """Memory of this process: `VmRSS` now, `VmHWM` at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024
