"""A drill for faults: kills a training with SIGKILL, starts it again, and compares the weights.

    python -m tests.drill jax tensorflow torch      # or: make drill

One model has an output for each loss with state, and dropout, so that a training drills them all; a
model that looks ahead and one of two branches are drilled by themselves. Each is killed in the
middle of an epoch, and in the middle of writing a backup. The same script, started again, must come
to the weights, statistics and random states of a run that nothing interrupts, bit by bit.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
EPOCHS, ROWS, BATCH, CLASSES = 4, 60, 20, 4
COUNTS = [30, 15, 9, 6]
MOMENTS = ("epoch", "save")
KINDS = ("losses", "meta", "bbn")


# --- One training, in a process of its own -----------------------------------------------------


def make_losses():
    """The losses with state, by the name of their output."""
    import keras_lpl

    return {
        "lpl_confidence": keras_lpl.LPLLoss(),
        "la_lpl": keras_lpl.LPLLoss(COUNTS),
        "isda": keras_lpl.ISDALoss(),
        "isda_diagonal": keras_lpl.ISDALoss(covariance="diagonal"),
        "seesaw": keras_lpl.SeesawLoss(),
        "center": keras_lpl.CenterLoss(strength=0.1),
        "large_margin": keras_lpl.LargeMarginLoss(2, annealing=5.0, gamma=0.1, power=2.0),
        "truncated": keras_lpl.GeneralizedCrossEntropyLoss(truncate=0.3),
        "labels": keras_lpl.LPLLoss(multi_label=True),
    }


def make_model(kind):
    import keras

    import keras_lpl

    keras.utils.set_random_seed(0)
    if kind == "losses":
        return make_model_of_losses()
    x, y = make_data()
    network = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, "tanh", name="shared")])
    network.add(keras.layers.Dense(5, "tanh", name="own"))
    network.add(keras.layers.Dropout(0.2, seed=1))
    network.add(keras.layers.Dense(CLASSES))
    if kind == "bbn":
        model = keras_lpl.models.BBNModel.from_model(network, split_after="shared")
    else:
        clean = np.concatenate([np.flatnonzero(y == c)[:3] for c in range(CLASSES)])
        model = keras_lpl.models.MetaModel.from_model(network, meta_data=(x[clean], y[clean]))
    loss = keras_lpl.PerturbedCrossentropy([])
    model.compile(keras.optimizers.Adam(0.01), loss=loss)
    return model


def make_model_of_losses():
    import keras

    import keras_lpl

    losses, outputs = make_losses(), {}
    inputs = keras.Input((6,))
    for i, name in enumerate(losses):
        x = keras.layers.Dense(5, activation="tanh", name=f"{name}_features")(inputs)
        x = keras.layers.Dropout(0.2, seed=i)(x)
        outputs[name] = keras.layers.Dense(CLASSES, name=name)(x)
    model = keras_lpl.LPLModel(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.01), loss=losses)
    return model


def make_data():
    x = np.random.default_rng(0).normal(size=(ROWS, 6)).astype("float32")
    return x, np.repeat(np.arange(CLASSES), COUNTS)


def make_dataset(kind):
    import keras_lpl

    if kind != "losses":
        sampling = "paired" if kind == "bbn" else None
        return keras_lpl.data.ArrayDataset(*make_data(), BATCH, sampling=sampling)

    class ForEachOutput(keras_lpl.data.ArrayDataset):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            labels = dict.fromkeys(make_losses(), y)
            return x, {**labels, "labels": np.eye(CLASSES, dtype="int32")[y]}

    return ForEachOutput(*make_data(), BATCH, disturb_rate=0.1)


def train(folder, kind, dies=None):
    """Trains, or goes on training, from what is in the folder; kills itself if it is to die."""
    import keras

    model = make_model(kind)

    class Die(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch
            if dies == "save" and epoch == 2:  # when this one's weights are written
                model.statistics.save_own_variables = lambda store: die()

        def on_train_batch_end(self, batch, logs=None):
            if dies == "epoch" and (self.epoch, batch) == (2, 1):
                die()

    # With one checkpoint only, a training that is killed while writing it could not be resumed.
    backup = keras.callbacks.BackupAndRestore(folder / "backup", double_checkpoint=True)
    model.fit(
        make_dataset(kind), epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[backup, Die()]
    )
    values = {
        f"{i} {variable.path}": keras.ops.convert_to_numpy(variable)
        for i, variable in enumerate([*model.variables, *model.optimizer.variables])
    }
    np.savez(folder / "values.npz", **values)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


# --- The drill ---------------------------------------------------------------------------------


def drill(backend, folder, kind, moments=MOMENTS):
    """Drills one kind of model on a backend, and returns what went wrong, as lines of text."""
    problems = []
    _train(backend, kind, folder / "whole")
    expected = dict(np.load(folder / "whole" / "values.npz"))
    for moment in moments:
        status = _train(backend, kind, folder / moment, "--dies", moment, check=False)
        if status != -signal.SIGKILL:
            problems.append(f"{kind}, {moment}: was not killed, and ended with status {status}")
            continue
        _train(backend, kind, folder / moment)
        found = dict(np.load(folder / moment / "values.npz"))
        problems += [
            f"{kind}, {moment}: {name} differs"
            for name in expected
            if found[name].tobytes() != expected[name].tobytes()
        ]
    return problems


def _train(backend, kind, folder, *arguments, check=True):
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--train", str(folder), "--kind", kind, *arguments]
    command = [sys.executable, "-m", "tests.drill", *options]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    return subprocess.run(command, cwd=ROOT, env=environment, check=check).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("backends", nargs="*")
    parser.add_argument("--train", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--dies", choices=MOMENTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(options.train, options.kind, options.dies)
        return 0
    failed = False
    for backend in options.backends:
        problems = []
        for kind in KINDS:
            with tempfile.TemporaryDirectory(prefix="keras-lpl-drill-") as folder:
                problems += drill(backend, Path(folder), kind)
        said = "resumed runs are the uninterrupted one, bit by bit"
        print(f"{backend}: " + ("\n  ".join(problems) or said), flush=True)
        failed = failed or bool(problems)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
