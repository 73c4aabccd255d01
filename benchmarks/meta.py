"""Training steps that look ahead, against plain ones: time and memory."""

import keras
import numpy as np
from cases import long_tail, memory_of_steps
from timing import ratio, side_by_side

import keras_lpl

METHODS = {
    "Meta-Weight-Net": keras_lpl.models.MetaWeightNet,
    "Learning to Reweight": keras_lpl.models.LearningToReweight,
    "MetaSAug": keras_lpl.models.MetaSAug,
}
PLAIN = "cross-entropy"


def _problem(depth, classes, batch):
    """A network, a batch, and as many meta samples."""
    _, labels, _ = long_tail(classes, batch)
    rng = np.random.default_rng(2)
    x, x_meta = rng.normal(size=(2, batch, 32, 32, 3)).astype("float32")
    labels_meta = (np.arange(batch) % classes).astype("int32")
    return (x, labels), (x_meta, labels_meta)


def _model(name, depth, classes, meta):
    from reproduction.training import jit_compile

    keras.utils.set_random_seed(0)
    network = keras_lpl.networks.resnet(depth, num_classes=classes, weight_decay=2e-4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if name == PLAIN:
        model = keras_lpl.LPLModel.from_model(network)
    else:
        model = keras_lpl.models.MetaModel.from_model(
            network, method=METHODS[name](), meta_data=meta, meta_batch_size=len(meta[1])
        )
        loss = keras_lpl.ISDALoss(schedule=None) if name == "MetaSAug" else loss
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(optimizer, loss=loss, jit_compile=jit_compile())
    return model


def meta_step_case(depth=32, classes=100, batch=128, seconds=90.0):
    """A training step of a ResNet that looks ahead, against a plain one; as many meta samples."""
    (x, labels), meta = _problem(depth, classes, batch)

    def step(name):
        model = _model(name, depth, classes, meta)
        return lambda: model.train_on_batch(x, labels)

    times = side_by_side({name: step(name) for name in (*METHODS, PLAIN)}, seconds)
    return [
        {
            "case": "meta step",
            "network": f"ResNet-{depth}",
            "classes": classes,
            "batch": batch,
            "times": times,
            "ratios": {f"{name} / {PLAIN}": ratio(times, name, PLAIN) for name in METHODS},
        }
    ]


def memory_of(name, depth=32, classes=100, batch=128):
    """Memory of training steps with one method, as `cases.memory_of`."""
    (x, labels), meta = _problem(depth, classes, batch)
    return memory_of_steps(_model(name, depth, classes, meta), x, labels)
