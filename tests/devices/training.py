"""Trains every kind of loss at once, on one device or on two replicas, in a process of its own.

    python -m tests.devices.training FILE         all devices of one process
    python -m tests.devices.training FILE RANK    one of two processes, on PyTorch

One model has an output for each loss, over layers of its own, so that one training compares them
all. Its batches are of 16, 16, 16 and 1 rows, so that one replica has no part of the last. Writes
all variables to FILE, and the losses of this replica's rows without reduction.
"""

import os
import sys

import keras
import numpy as np

import keras_lpl

BATCH, EPOCHS, CLASSES = 16, 5, 4
# JAX itself takes only batches that its devices can share evenly.
ROWS = 50 if keras.config.backend() == "jax" else 49
COUNTS = [30, 12, 6, 3]


def make_losses():
    """Losses by the name of their output."""
    return {
        "lade": keras_lpl.LADELoss(COUNTS),
        "top_k": keras_lpl.AverageTopKLoss(),
        "lpl_confidence": keras_lpl.LPLLoss(),
        "la_lpl": keras_lpl.LPLLoss(COUNTS),  # with weights
        "isda": keras_lpl.ISDALoss(schedule=None),
        "center": keras_lpl.CenterLoss(strength=0.1),
        "seesaw": keras_lpl.SeesawLoss(),
        "summed": keras_lpl.FocalLoss(reduction="sum"),
        "labels": keras_lpl.LPLLoss(multi_label=True, reduction="mean_with_sample_weight"),
        "pixels": keras_lpl.LPLLoss(COUNTS, ignore_class=0),
    }


def make_model():
    """An `LPLModel` with an output for each loss."""
    keras.utils.set_random_seed(0)
    losses, outputs = make_losses(), {}
    inputs = keras.Input((6,))
    for name in losses:
        x = keras.layers.Dense(5, activation="tanh", name=f"{name}_features")(inputs)
        if name == "pixels":
            x = keras.layers.Reshape((5, 1))(x)
        outputs[name] = keras.layers.Dense(CLASSES, name=name)(x)
    model = keras_lpl.LPLModel(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.1), loss=losses)
    return model


def make_plain_model():
    """A plain Keras model, whose loss knows nothing but its batch."""
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(CLASSES, name="plain")])
    model.compile(keras.optimizers.SGD(0.1), loss=keras_lpl.LPLLoss(COUNTS, bound="ratio"))
    return model


def plain(data):
    """Of data for all outputs, those for the plain model."""
    x, y, weight = data
    return x, y["la_lpl"], weight["la_lpl"]


def make_data():
    """Inputs, and labels and weights by output."""
    rng = np.random.default_rng(0)
    share = np.array(COUNTS) / sum(COUNTS)
    x = rng.normal(size=(ROWS, 6)).astype("float32")
    y = dict.fromkeys(make_losses(), rng.choice(CLASSES, size=ROWS, p=share))
    y["labels"] = rng.integers(0, 2, size=(ROWS, CLASSES))
    y["pixels"] = rng.choice(CLASSES, size=(ROWS, 5), p=share)
    weight = {name: np.ones(ROWS, "float32") for name in y}
    weight["la_lpl"] = weight["labels"] = rng.choice([0.0, 0.5, 2.0], size=ROWS)
    return x, y, weight


def batches():
    """The batches of all epochs, as `(x, y, sample_weight)`."""
    data = make_data()
    for _ in range(EPOCHS):
        for start in range(0, ROWS, BATCH):
            yield keras.tree.map_structure(lambda a, at=start: a[at : at + BATCH], data)


def train_on_one():
    """Values after training on whole batches."""
    model, plain_model = make_model(), make_plain_model()
    for data in batches():
        model.train_on_batch(*data)
        plain_model.train_on_batch(*plain(data))
    return values_of(model, plain_model)


def values_of(*models):
    """All variables, by place and name. Paths count the layers that a process has made before."""
    return {
        f"{i} {j} {variable.name}": keras.ops.convert_to_numpy(variable)
        for i, model in enumerate(models)
        for j, variable in enumerate(model.weights)
    }


def rows_without_reduction():
    """A loss without reduction whose rows depend on each other; labels and logits of nine rows."""
    rng = np.random.default_rng(1)
    loss = keras_lpl.LADELoss(COUNTS, reduction=None)
    return loss, rng.choice(CLASSES, size=9), rng.normal(size=(9, CLASSES)).astype("float32")


def on_tensorflow():
    import tensorflow as tf

    devices = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        devices[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model, plain_model = make_model(), make_plain_model()
    for each, data in ((model, make_data()), (plain_model, plain(make_data()))):
        batched = tf.data.Dataset.from_tensor_slices(data).batch(BATCH)
        each.fit(batched, epochs=EPOCHS, shuffle=False, verbose=0)

    loss, labels, logits = rows_without_reduction()
    parts = [(labels[:4], logits[:4]), (labels[4:], logits[4:])]
    parts = [tuple(map(tf.convert_to_tensor, part)) for part in parts]

    def rows_and_gradient(part):
        labels, logits = part
        with tf.GradientTape() as tape:
            tape.watch(logits)
            rows = loss(labels, logits)
            total = tf.reduce_sum(rows)
        return rows, tape.gradient(total, logits)

    values = strategy.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group]
    )
    run = tf.function(lambda part: strategy.run(rows_and_gradient, args=(part,)), autograph=False)
    found = run(values)
    rows, gradient = (
        np.concatenate([part.numpy() for part in strategy.experimental_local_results(each)])
        for each in found
    )
    return {**values_of(model, plain_model), "rows": rows, "gradient": gradient}


def on_torch(rank, folder):
    import torch

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    model, plain_model = make_model(), make_plain_model()

    def mean_over_replicas(gradient):
        torch.distributed.all_reduce(gradient)
        return gradient / 2

    for variable in [*model.trainable_variables, *plain_model.trainable_variables]:
        variable.value.register_hook(mean_over_replicas)
    for data in batches():
        middle = -(-2 * len(data[0]) // 3)
        part = slice(middle) if rank == 0 else slice(middle, None)
        data = keras.tree.map_structure(lambda a, part=part: a[part], data)
        model.train_on_batch(*data)
        plain_model.train_on_batch(*plain(data))

    loss, labels, logits = rows_without_reduction()
    part = slice(4) if rank == 0 else slice(4, None)
    logits = torch.tensor(logits[part], requires_grad=True)
    rows = loss(labels[part], logits)
    (gradient,) = torch.autograd.grad(rows.sum(), logits)
    if rank == 0:  # alone: an evaluation waits for nobody
        with torch.no_grad():
            loss(labels, rows_without_reduction()[2])
    spoilt = logits.detach().clone()
    if rank == 0:  # a row of one rank alone
        spoilt[0, 0] = float("nan")
    spoilt = loss(labels[part], spoilt)
    try:  # weights of one rank alone
        loss(labels[part], logits, np.ones(len(logits), "float32") if rank == 0 else None)
        message = ""
    except ValueError as error:
        message = str(error)
    found = {"rows": rows.detach(), "gradient": gradient, "spoilt": spoilt.detach()}
    found = {name: tensor.numpy() for name, tensor in found.items()}
    return {**values_of(model, plain_model), **found, "refused": message}


def on_jax():
    import jax

    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=jax.devices()))
    return train_on_one()


def main(file, rank=None):
    backend = keras.config.backend()
    if backend == "torch":
        values = on_torch(int(rank), os.path.dirname(file))
    else:
        values = on_tensorflow() if backend == "tensorflow" else on_jax()
    np.savez(file, **values)


if __name__ == "__main__":
    main(*sys.argv[1:])
