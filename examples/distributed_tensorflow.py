"""`fit` of an `LPLModel` on several devices, or several machines, with a strategy of TensorFlow.

    pip install ".[tensorflow,examples]"
    KERAS_BACKEND=tensorflow python examples/distributed_tensorflow.py

Without GPUs, the processor plays two devices. LPL and the running confidences are of the whole
batch, so the result is that of one device. On several machines, set TF_CONFIG as TensorFlow says,
here for the first of two processes on one machine:

    export TF_CONFIG='{"cluster": {"worker": ["127.0.0.1:9912", "127.0.0.1:9913"]},
                       "task": {"type": "worker", "index": 0}}'

Keras 3.15's `fit` fails there, for any model, so that the script takes a loop of its own.
"""

import argparse
import json
import os
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
import tensorflow as tf
from common import digits_network

import keras_lpl


def make_strategy():
    """All machines of TF_CONFIG, all GPUs of this machine, or the processor as two devices."""
    if "TF_CONFIG" in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if tf.config.list_physical_devices("GPU"):
        return tf.distribute.MirroredStrategy()
    (processor,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, two)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def train_on_machines(strategy, model, data, epochs):
    """What `fit` does, in a loop of one's own."""

    def step(x, y):
        with model.training_step(), tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    with strategy.scope():
        model.optimizer.build(model.trainable_variables)
    run = tf.function(lambda batch: strategy.run(step, args=batch))
    shared = strategy.experimental_distribute_dataset(data)
    for _ in range(epochs):
        for batch in shared:
            run(batch)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=30, help="(default: 30)")
    parser.add_argument("--batch-size", type=int, default=64, help="of all devices (default: 64)")
    parser.add_argument("--out", type=Path, default=Path("results/distributed/tensorflow.keras"))
    options = parser.parse_args()

    (x, y), (x_test, y_test) = keras_lpl.data.load("digits", imbalance_factor=50)
    keras.utils.set_random_seed(0)
    strategy = make_strategy()
    with strategy.scope():
        model = keras_lpl.LPLModel.from_model(digits_network())
        model.compile(
            keras.optimizers.Adam(2e-3),
            loss=keras_lpl.LPLLoss(class_counts=keras_lpl.data.class_counts(y)),
        )
    # The strategy splits each batch over the devices.
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(y), seed=0)
    data = data.batch(options.batch_size)
    if "TF_CONFIG" in os.environ:
        train_on_machines(strategy, model, data, options.epochs)
    else:
        model.fit(data, epochs=options.epochs, verbose=0)

    if json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {}).get("index", 0) > 0:
        return  # the first process saves for all
    accuracy = keras_lpl.metrics.BalancedAccuracy()
    accuracy.update_state(y_test, model(x_test, training=False))
    print(f"{strategy.num_replicas_in_sync} devices: balanced accuracy {accuracy.result():.3f}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    model.save(options.out)


if __name__ == "__main__":
    main()
