"""One training run from its description (see `configs`): resumable, with a JSON file as its result.

Stopped, a run goes on after its last whole epoch when it is started again. The result is that of
the last epoch: no epoch is chosen by looking at the test set.
"""

import json
import shutil
import time
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
import numpy as np
from common import environment, measure, meta_samples
from methods import METHODS, Training
from reporting import write_json

import keras_lpl
from reproduction import augmentation, configs, generators
from reproduction.locks import locked


def run(config, out, data_dir=None, report=None, waits=None):
    """Trains, or goes on training, and returns the result.

    Two processes do not train the same run: the second one waits for the first.

    Args:
        config: The description.
        out: Folder of the result.
        data_dir: Where TensorFlow Datasets keeps its files.
        report: Called after each epoch with `(epochs_done, logs)`.
        waits: Called with the id of the process that is waited for.
    """
    result = configs.result_of(config, out)
    if result is not None:
        return result
    folder = Path(out) / configs.run_name(config)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", waits):
        result = configs.result_of(config, out)  # of the process that was waited for
        if result is None:
            result = train(config, folder, data_dir, report)
            write_json(configs.result_file(config, out), result)
        shutil.rmtree(folder, ignore_errors=True)
    return result


def train(config, folder, data_dir, report):
    """Trains from what is in the folder on, and returns the result."""
    (x_train, y_train), (x_test, y_test), class_counts = load(config["data"], data_dir)

    def meta_data():
        """Normalised as the pipeline does, and not augmented."""
        data = config["data"]
        x, y = meta_samples(data["name"], class_counts, data.get("seed", 0), data_dir)
        mean, std = keras_lpl.data.channel_statistics(x_train)
        return (x - mean) / std, y

    model, state = resume_or_build(config, folder, class_counts, x_train.shape[1:], meta_data)
    method, training = METHODS[config["method"]], config["training"]

    train, test = augmentation.pipelines(
        (x_train, y_train),
        (x_test, y_test),
        method,
        training,
        seed=config["seed"],
        initial_epoch=state["epochs_done"],
        generated=generated_images(method, config, folder, x_train, y_train),
    )
    settings = training_settings(config, class_counts)
    model.fit(
        train,
        initial_epoch=state["epochs_done"],
        epochs=training["epochs"],
        verbose=0,
        shuffle=False,  # the pipeline shuffles
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch: learning_rate(epoch, training)),
            keras.callbacks.TerminateOnNaN(),
            SaveEachEpoch(folder, state, report),
            *method.callbacks(settings),
        ],
    )
    if state["epochs_done"] < training["epochs"]:
        raise RuntimeError(f"The loss became NaN after epoch {state['epochs_done']}.")

    logits = method.for_prediction(model, settings, train).predict(test, verbose=0)
    seconds = [epoch["seconds"] for epoch in state["curve"]]
    steps = -(-len(x_train) // training["batch_size"])
    return {
        "method": config["method"],
        "backend": keras.config.backend(),
        "seed": config["seed"],
        **measure(logits, y_test, class_counts),
        "config": configs.public(config),
        "loss": keras.saving.serialize_keras_object(model.loss),
        "class_counts": class_counts.tolist(),
        "parameters": model.count_params(),
        "seconds": sum(seconds),
        # The median epoch: the first one compiles, and a machine may be paused.
        "steps_per_second": steps / float(np.median(seconds)),
        "environment": environment(),
        "curve": state["curve"],
    }


def generated_images(method, config, folder, x_train, y_train):
    """Images of a generator, if the method wants some. It is trained first, and once a run."""
    if method.generator is None:
        return None
    file = folder / "generated.npz"
    if file.exists():
        with np.load(file) as saved:
            return saved["x"], saved["y"]
    print(f"Training the generator of {method.generator} first", flush=True)
    x, y = generators.generated(
        method.generator,
        x_train,
        y_train,
        size=len(x_train) // 4,
        epochs=config["training"].get("generator_epochs", 30),
        seed=config["seed"],
    )
    unfinished = folder / "generated.part.npz"
    np.savez(unfinished, x=x, y=y)
    unfinished.rename(file)
    return x, y


def load(data, data_dir=None):
    """The training set, the test set, and the class counts.

    With `held_out`, that share of each class is taken out of the training set and is the test set:
    the real one is not looked at.
    """
    (x_train, y_train), test = keras_lpl.data.load(
        data["name"],
        imbalance_factor=data.get("imbalance"),
        seed=data.get("seed", 0),
        data_dir=data_dir,
    )
    if data.get("held_out"):
        from sklearn.model_selection import train_test_split

        x_train, x_held, y_train, y_held = train_test_split(
            x_train, y_train, test_size=data["held_out"], stratify=y_train, random_state=0
        )
        test = (x_held, y_held)
    return (x_train, y_train), test, keras_lpl.data.class_counts(y_train)


def build(config, class_counts, input_shape, meta_data=None):
    """The network of a run, ready to train.

    Args:
        config: The description.
        class_counts: Training samples of each class.
        input_shape: Of one image.
        meta_data: Returns balanced samples, for the methods that learn from some.
    """
    method, training = METHODS[config["method"]], config["training"]
    keras.utils.set_random_seed(config["seed"])
    keras.config.set_dtype_policy(training.get("precision", "float32"))
    arguments = dict(config["network"])
    make = getattr(keras_lpl.networks, arguments.pop("name"))
    decay, head = training["weight_decay"], None
    if method.cosine_head:
        head = method.head(
            len(class_counts),
            kernel_regularizer=keras.regularizers.L2(decay / 2),
            dtype="float32",
            name="head",
        )
    network = make(
        input_shape=input_shape,
        num_classes=len(class_counts),
        weight_decay=decay,
        head=head,
        **arguments,
    )
    settings = training_settings(config, class_counts)
    model = method.model(network, settings, meta_data)
    model.compile(
        keras.optimizers.SGD(
            training["learning_rate"], momentum=0.9, nesterov=training.get("nesterov", False)
        ),
        loss=method.loss(settings),
        metrics=["accuracy"],
        jit_compile=jit_compile(),
    )
    return model


def training_settings(config, class_counts):
    """What a method may want to know of the training."""
    training = config["training"]
    steps = training["epochs"] * -(-int(class_counts.sum()) // training["batch_size"])
    given = {name: config[name] for name in configs.METHOD_ARGUMENTS if name in config}
    return Training(class_counts, training["epochs"], steps, **given)


def jit_compile():
    """On a CPU, TensorFlow's own convolutions are faster than XLA's."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            return False
    return "auto"


def learning_rate(epoch, training):
    """Linear warm-up, then steps; milestones are shares of the training."""
    rate, warm_up = training["learning_rate"], training.get("warm_up", 0)
    if epoch < warm_up:
        return rate * (epoch + 1) / (warm_up + 1)
    passed = sum(epoch >= round(share * training["epochs"]) for share in training["milestones"])
    return rate * training["factors"][passed - 1] if passed else rate


def resume_or_build(config, folder, class_counts, input_shape, meta_data):
    """The model and state of a run that was stopped, or of a new one."""
    state_file = folder / "state.json"
    if state_file.exists():
        state = json.loads(state_file.read_text())
        return keras.saving.load_model(folder / state["model"]), state
    return build(config, class_counts, input_shape, meta_data), {"epochs_done": 0, "curve": []}


class SaveEachEpoch(keras.callbacks.Callback):
    """Keeps the model and its curve, so that a run can go on where it stopped."""

    def __init__(self, folder, state, report=None):
        super().__init__()
        self.folder, self.state, self.report = folder, state, report

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        numbers = {key: float(value) for key, value in logs.items()}
        numbers["seconds"] = time.perf_counter() - self.start
        if not np.isfinite(numbers["loss"]):
            return  # a model that is lost is not kept
        self.state["epochs_done"] = epoch + 1
        self.state["curve"].append(numbers)
        # The model is written under a name of its own first: there is always a whole pair.
        name = f"epoch-{epoch + 1}.keras"
        self.model.save(self.folder / name)
        previous, self.state["model"] = self.state.get("model"), name
        write_json(self.folder / "state.json", self.state)
        if previous is not None:
            (self.folder / previous).unlink(missing_ok=True)
        if self.report is not None:
            self.report(epoch + 1, numbers)
