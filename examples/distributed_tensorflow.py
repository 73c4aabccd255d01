"""`fit` of an `LPLModel` on several devices, or several machines, with a strategy of TensorFlow.

    pip install ".[tensorflow,examples]"
    KERAS_BACKEND=tensorflow python examples/distributed_tensorflow.py

Without GPUs, the processor plays two devices. LPL and the running confidences are of the whole
batch, so the result is that of one device.
"""

import argparse
from pathlib import Path

import keras
import tensorflow as tf
from common import digits_network

import keras_lpl


def make_strategy():
    """All GPUs of this machine, or the processor as two devices."""
    if tf.config.list_physical_devices("GPU"):
        return tf.distribute.MirroredStrategy()
    (processor,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, two)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=30, help="(default: 30)")
    parser.add_argument("--batch-size", type=int, default=64, help="of all devices (default: 64)")
    parser.add_argument("--out", type=Path, default=Path("results/distributed/tensorflow.keras"))
    options = parser.parse_args()

    (x, y), test = keras_lpl.data.load("digits", imbalance_factor=50)
    keras.utils.set_random_seed(0)
    strategy = make_strategy()
    with strategy.scope():
        model = keras_lpl.LPLModel.from_model(digits_network())
        model.compile(
            keras.optimizers.Adam(2e-3),
            loss=keras_lpl.LPLLoss(class_counts=keras_lpl.data.class_counts(y)),
            metrics=[keras_lpl.metrics.BalancedAccuracy()],
        )
    # The strategy splits each batch over the devices.
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(y), seed=0)
    model.fit(data.batch(options.batch_size), epochs=options.epochs, verbose=0)

    result = model.evaluate(*test, batch_size=100, verbose=0, return_dict=True)
    devices = strategy.num_replicas_in_sync
    print(f"{devices} devices: balanced accuracy {result['balanced_accuracy']:.3f}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    model.save(options.out)


if __name__ == "__main__":
    main()
