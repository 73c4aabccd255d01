"""`fit` of an `LPLModel` on several devices, or several machines, with JAX.

    pip install ".[jax,examples]"
    KERAS_BACKEND=jax python examples/distributed_jax.py
    KERAS_BACKEND=jax python examples/distributed_jax.py --processes 2 --process 0 &
    KERAS_BACKEND=jax python examples/distributed_jax.py --processes 2 --process 1

Without GPUs, the processor plays two devices. On JAX a batch is one array over all devices, so that
losses and statistics are those of one device.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import quiet  # noqa: F401, before Keras

import keras
import numpy as np
from common import digits_network

import keras_lpl


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=30, help="(default: 30)")
    parser.add_argument("--batch-size", type=int, default=64, help="of all devices (default: 64)")
    parser.add_argument("--processes", type=int, default=1, help="(default: 1)")
    parser.add_argument("--process", type=int, default=0, help="number of this one (default: 0)")
    parser.add_argument("--address", default="127.0.0.1:9911", help="of process 0")
    parser.add_argument("--out", type=Path, default=Path("results/distributed/jax.keras"))
    options = parser.parse_args()
    if options.processes > 1:
        keras.distribution.initialize(options.address, options.processes, options.process)

    (x, y), (x_test, y_test) = keras_lpl.data.load("digits", imbalance_factor=50)
    keras.utils.set_random_seed(0)  # the same weights everywhere
    devices = keras.distribution.list_devices()
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    )
    model = keras_lpl.LPLModel.from_model(digits_network())
    model.compile(
        keras.optimizers.Adam(2e-3),
        loss=keras_lpl.LPLLoss(class_counts=keras_lpl.data.class_counts(y)),
        metrics=[keras_lpl.metrics.BalancedAccuracy()],
    )
    # JAX takes only batches that all devices can share evenly: the last one is filled up with rows
    # that were shown before. Each process shows its part of each batch.
    rows = np.resize(np.arange(len(y)), -(-len(y) // options.batch_size) * options.batch_size)
    own = rows[options.process :: options.processes]
    data = keras_lpl.data.ArrayDataset(x[own], y[own], options.batch_size // options.processes)
    model.fit(data, epochs=options.epochs, shuffle=False, verbose=0)

    even = len(y_test) // len(devices) * len(devices)
    result = model.evaluate(x_test[:even], y_test[:even], even, verbose=0, return_dict=True)
    if options.process == 0:
        print(f"{len(devices)} devices: balanced accuracy {result['balanced_accuracy']:.3f}")
        options.out.parent.mkdir(parents=True, exist_ok=True)
        model.save(options.out)


if __name__ == "__main__":
    main()
