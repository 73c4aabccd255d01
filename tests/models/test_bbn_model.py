"""`BBNModel`: against a float64 loop, its laws, its data, and what it refuses."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from keras_lpl import engines
from keras_lpl.data import ArrayDataset
from keras_lpl.models import BBNModel
from tests.models import helpers
from tests.models.helpers import CLASSES

RATE = 0.3


def network():
    """A shared layer and one of the branch, both linear but for a bend between them."""
    inputs = keras.Input((6,))
    shared = keras.layers.Dense(5, "tanh", name="shared")(inputs)
    own = keras.layers.Dense(4, name="own")(shared)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="head")(own))


def bbn(loss=None, **keywords):
    keras.utils.set_random_seed(5)
    model = BBNModel.from_model(network(), split_after="shared", **keywords)
    model.compile(
        keras.optimizers.SGD(RATE),
        loss=loss or keras_lpl.PerturbedCrossentropy([]),
        metrics=["acc"],
    )
    return model


def pairs(seed=0, batch_size=16):
    return ArrayDataset(*helpers.data(), batch_size, seed=seed, sampling="paired")


# --- The oracle ------------------------------------------------------------------------------


def loss_of_pair(weights, x, y, share):
    """Eq. 1 and 3 for one pair of samples after another, in float64."""
    shared, shared_bias, own, own_bias, other, other_bias, head, head_bias = weights
    half, total = len(x) // 2, 0.0
    for first in range(half):
        second = first + half
        conventional = np.tanh(x[first] @ shared + shared_bias) @ own + own_bias
        rebalancing = np.tanh(x[second] @ shared + shared_bias) @ other + other_bias
        z = share * conventional @ head[:4] + (1 - share) * rebalancing @ head[4:] + head_bias
        log_p = z - np.log(np.exp(z).sum())
        total += -share * log_p[y[first]] - (1 - share) * log_p[y[second]]
    return total / half


def gradient_step(weights, x, y, share):
    """A step of gradient descent by central differences."""
    stepped = []
    for index, value in enumerate(weights):
        gradient = np.zeros_like(value)
        for place in np.ndindex(value.shape):
            ends = []
            for move in (1e-5, -1e-5):
                moved = [weight.copy() for weight in weights]
                moved[index][place] += move
                ends.append(loss_of_pair(moved, x, y, share))
            gradient[place] = (ends[0] - ends[1]) / 2e-5
        stepped.append(value - RATE * gradient)
    return stepped


SHARES = {
    "parabolic": lambda p: 1 - p**2,
    "linear": lambda p: 1 - p,
    "cosine": lambda p: np.cos(p * np.pi / 2),
    0.3: lambda p: 0.3,
}


@pytest.mark.parametrize("mixing", SHARES)
def test_training_follows_the_float64_loop(mixing):
    model = bbn(mixing=mixing)
    weights = [ops.convert_to_numpy(v).astype("float64") for v in model.trainable_variables]
    x, y = helpers.data()
    data = ArrayDataset(x[:16], y[:16], 8, seed=3, sampling="paired")
    model.fit(data, epochs=2, shuffle=False, verbose=0)
    seen = ArrayDataset(x[:16], y[:16], 8, seed=3, sampling="paired")
    for step in range(4):
        x_batch, y_batch = seen[step % 2]
        weights = gradient_step(weights, x_batch, y_batch, SHARES[mixing](step / 4))
        if step == 1:
            seen.epoch = 1
    for variable, expected in zip(model.trainable_variables, weights, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), expected, atol=2e-5)
    np.testing.assert_allclose(float(model.share()), SHARES[mixing](1.0), atol=1e-6)


def test_prediction_gives_each_branch_a_half():
    model = bbn()
    x, _ = helpers.data()
    shared, shared_bias, own, own_bias, other, other_bias, head, head_bias = (
        ops.convert_to_numpy(v) for v in model.trainable_variables
    )
    hidden = np.tanh(x @ shared + shared_bias)
    first, second = (hidden @ own + own_bias) @ head[:4], (hidden @ other + other_bias) @ head[4:]
    expected = (first + second) / 2 + head_bias
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)


# --- Laws ------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [keras_lpl.LPLLoss, keras_lpl.LogitAdjustmentLoss])
def test_a_share_of_one_is_plain_training(loss):
    model = bbn(loss(helpers.COUNTS), mixing=1.0)
    plain = keras_lpl.LPLModel.from_model(network())
    before = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    shared, shared_bias, own, own_bias, *other, head, head_bias = before
    plain.set_weights(
        [shared, shared_bias, own, own_bias, head[:4], head_bias, *plain.get_weights()[6:]]
    )
    plain.compile(keras.optimizers.SGD(RATE), loss=loss(helpers.COUNTS))
    data = pairs()
    for x, y in data:
        plain.train_on_batch(x[: len(x) // 2], y[: len(y) // 2])
    model.fit(data, shuffle=False, verbose=0)
    *shared_and_own, other_kernel, other_bias, head, head_bias = (
        ops.convert_to_numpy(v) for v in model.trainable_variables
    )
    np.testing.assert_array_equal([other_kernel, other_bias][0], other[0])
    np.testing.assert_array_equal(other_bias, other[1])
    ours = [*shared_and_own, head[:4], head_bias]
    for one, expected in zip(ours, plain.trainable_variables, strict=True):
        np.testing.assert_allclose(one, ops.convert_to_numpy(expected), atol=1e-5)


@pytest.mark.shared_out
def test_training_shifts_to_rare_classes():
    model = bbn()
    plain = keras_lpl.LPLModel.from_model(network())
    plain.compile(keras.optimizers.SGD(RATE), loss=keras_lpl.PerturbedCrossentropy([]))
    x, y = helpers.data()
    model.fit(pairs(), epochs=30, shuffle=False, verbose=0)
    plain.fit(ArrayDataset(x, y, 16), epochs=30, shuffle=False, verbose=0)
    odds = [np.exp(each.predict(x, verbose=0)) for each in (model, plain)]
    of_rare = [np.mean(each[:, 2:].sum(axis=1) / each.sum(axis=1)) for each in odds]
    assert of_rare[0] > of_rare[1]


LOSSES = {
    "Keras's": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "with features": keras_lpl.ISDALoss,
    "by confidence": keras_lpl.LPLLoss,
}


@pytest.mark.shared_out
@pytest.mark.parametrize("loss", LOSSES)
def test_it_trains_with_any_loss_and_is_saved(loss, tmp_path):
    model = bbn(LOSSES[loss]())
    whole = bbn(LOSSES[loss]())
    whole.fit(pairs(), epochs=4, shuffle=False, verbose=0)
    model.fit(pairs(), epochs=4, shuffle=False, verbose=0, callbacks=[_StopAfter(2)])
    model.save(tmp_path / "bbn.keras")
    loaded = keras.models.load_model(tmp_path / "bbn.keras")
    assert isinstance(loaded, BBNModel)
    x, y = helpers.data()
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert loaded.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)
    loaded.fit(pairs(), initial_epoch=2, epochs=4, shuffle=False, verbose=0)
    for one, other in zip(loaded.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))


class _StopAfter(keras.callbacks.Callback):
    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch + 1 >= self.epochs


def test_weights_are_counted_sample_by_sample():
    x, y = helpers.data()
    x, y, weight = x[:16], y[:16], np.ones(16, "float32")
    weight[3], weight[11] = 0, 0
    model, other = bbn(mixing=0.4), bbn(mixing=0.4)
    changed = y.copy()
    changed[[3, 11]] = (y[[3, 11]] + 1) % CLASSES
    model.train_on_batch(x, y, weight)
    other.train_on_batch(x, changed, weight)
    for one, expected in zip(model.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(expected))


def test_metrics_are_those_of_the_conventional_samples():
    model = bbn(mixing=1.0)
    x, y = helpers.data()
    logs = model.fit(ArrayDataset(x, y, 64, sampling="paired"), shuffle=False, verbose=0).history
    # The step that changes the weights comes after the accuracy is taken.
    fresh = bbn(mixing=1.0)
    inputs, head = fresh.inputs, fresh.layers[-1]
    mixing = fresh.get_layer("mixing")
    features = keras.Model(inputs, mixing.input)
    first, _ = features.predict(x, verbose=0)
    kernel, bias = (ops.convert_to_numpy(v) for v in head.trainable_variables)
    found = (first @ kernel[:4] + bias).argmax(axis=1)
    assert logs["acc"][0] == pytest.approx(np.mean(found == y))


@pytest.mark.shared_out
def test_half_precision_and_several_steps_at_once():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = bbn()
    finally:
        keras.config.set_dtype_policy("float32")
    steps = 1 if keras.backend.backend() == "torch" else 2
    model.compile("sgd", loss=keras_lpl.LPLLoss(), steps_per_execution=steps)
    history = model.fit(pairs(), epochs=2, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


# --- Networks --------------------------------------------------------------------------------


def test_the_branches_of_a_residual_network_are_its_last_block():
    network = keras_lpl.networks.resnet(14, (8, 8, 3), 3)
    model = BBNModel.from_model(network)
    of_branch = model.get_layer("rebalancing")
    block = [layer for layer in network.layers if layer.name.startswith("stage3_block2_")]
    count = sum(layer.count_params() for layer in block)
    assert of_branch.count_params() == count
    head = network.layers[-1].count_params()
    own = sum(
        w.shape.num_elements() if hasattr(w.shape, "num_elements") else np.prod(w.shape)
        for w in model.trainable_variables
    )
    plain = sum(np.prod(w.shape) for w in network.trainable_variables)
    trainable = sum(np.prod(w.shape) for w in of_branch.trainable_variables)
    assert own == plain + trainable + (head - 3)  # a second kernel, no second bias


@pytest.mark.shared_out
@pytest.mark.parametrize(
    "network",
    [
        lambda: keras_lpl.networks.wide_resnet(10, 1, input_shape=(8, 8, 3)),
        lambda: keras_lpl.networks.bottleneck_resnet(1, input_shape=(8, 8, 3)),
        lambda: keras_lpl.networks.se_resnet(8, input_shape=(8, 8, 3)),
    ],
)
def test_every_network_of_the_package_has_branches(network):
    model = BBNModel.from_model(network())
    assert model.predict(np.zeros((2, 8, 8, 3), "float32"), verbose=0).shape == (2, 10)


def test_the_last_block_of_many():
    model = BBNModel.from_model(keras_lpl.networks.resnet(62, (8, 8, 3), 3))
    names = [layer.name for layer in model.get_layer("rebalancing").layers]
    assert "stage3_block10_conv1_rebalancing" in names


def test_branches_may_begin_with_the_same_weights():
    model = bbn(copy_weights=True)
    first, second = model.get_layer("own"), model.get_layer("rebalancing")
    np.testing.assert_array_equal(first.get_weights()[0], second.get_weights()[0])
    other = bbn()
    first, second = other.get_layer("own"), other.get_layer("rebalancing")
    assert not np.array_equal(first.get_weights()[0], second.get_weights()[0])


def test_a_last_layer_under_a_cast():
    inputs = keras.Input((6,))
    x = keras.layers.Dense(4, "relu", name="shared")(inputs)
    x = keras.layers.Dense(4, "relu")(x)
    logits = keras.layers.Activation("linear", dtype="float32")(keras.layers.Dense(CLASSES)(x))
    model = BBNModel.from_model(keras.Model(inputs, logits), split_after="shared")
    model.compile("sgd", loss=keras_lpl.ISDALoss())
    model.fit(pairs(), shuffle=False, verbose=0)


# --- Outputs ---------------------------------------------------------------------------------


class Batch(keras.utils.PyDataset):
    """One batch of pairs."""

    is_paired = True

    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.parts


def output_of(form):
    """A network, a batch of labels, and the loss's keywords."""
    rng = np.random.default_rng(2)
    if form == "pixels":
        inputs = keras.Input((4, 4, 6))
        x = keras.layers.Conv2D(5, 1, name="shared")(inputs)
        x = keras.layers.Conv2D(4, 1, activation="relu")(x)
        labels = rng.integers(0, 3, (8, 4, 4))
        labels[:, 0] = 255
        return keras.Model(inputs, keras.layers.Conv2D(3, 1)(x)), labels, {"ignore_class": 255}
    inputs = keras.Input((7, 6) if form == "tokens" else (6,))
    x = keras.layers.Dense(5, "relu", name="shared")(inputs)
    x = keras.layers.Dense(4, "relu")(x)
    units = {"one logit": 1, "several labels": 4}.get(form, 3)
    labels = {
        "tokens": rng.integers(0, 3, (8, 7)),
        "one logit": rng.integers(0, 2, 8),
        "several labels": rng.integers(0, 2, (8, 4)),
        "soft labels": rng.dirichlet(np.ones(3), 8).astype("float32"),
        "uint8": rng.integers(0, 3, 8).astype("uint8"),
    }[form]
    keywords = {"multi_label": True} if form == "several labels" else {}
    return keras.Model(inputs, keras.layers.Dense(units)(x)), labels, keywords


@pytest.mark.shared_out
@pytest.mark.parametrize("loss", [keras_lpl.LPLLoss, keras_lpl.ISDALoss])
@pytest.mark.parametrize(
    "form", ["pixels", "tokens", "one logit", "several labels", "soft labels", "uint8"]
)
def test_every_output_trains_is_saved_and_evaluated(form, loss, tmp_path):
    if form == "several labels" and loss is keras_lpl.ISDALoss:
        pytest.skip("ISDA is for one label")
    plain, y, keywords = output_of(form)
    x = np.random.default_rng(3).normal(size=(8, *plain.inputs[0].shape[1:])).astype("float32")
    weight = np.ones(y.shape[: len(plain.outputs[0].shape) - 1], "float32")
    weight[[1, 5]] = 0
    keras.utils.set_random_seed(5)
    model = BBNModel.from_model(plain, split_after="shared", mixing=0.4)
    model.compile(keras.optimizers.SGD(RATE), loss=loss(**keywords))
    model.save(tmp_path / "start.keras")
    other = keras.models.load_model(tmp_path / "start.keras")
    model.fit(Batch(x, y, weight), shuffle=False, verbose=0)
    # What counts for nothing may be anything.
    changed = np.array(y)
    changed[[1, 5]] = changed[[0, 4]]
    other.fit(Batch(x, changed, weight), shuffle=False, verbose=0)
    for one, same in zip(model.variables, other.variables, strict=True):
        assert np.isfinite(ops.convert_to_numpy(one)).all()
        np.testing.assert_allclose(ops.convert_to_numpy(one), ops.convert_to_numpy(same), atol=1e-6)
    model.save(tmp_path / "end.keras")
    loaded = keras.models.load_model(tmp_path / "end.keras")
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0))


def aligned(array):
    """Copy at an address at which TensorFlow takes the memory of an array as it is."""
    array = np.asarray(array)
    memory = np.zeros(array.nbytes + 64, "uint8")
    start = -memory.ctypes.data % 64
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def test_arrays_that_a_generator_keeps_stay_as_they_are():
    plain, y, keywords = output_of("pixels")
    x = np.random.default_rng(3).normal(size=(8, 4, 4, 6)).astype("float32")
    arrays = [aligned(x), aligned(y), aligned(np.where(y == 1, 0, 2).astype("float32"))]
    before = [array.copy() for array in arrays]
    model = BBNModel.from_model(plain, split_after="shared", mixing=0.4)
    model.compile("sgd", loss=keras_lpl.LPLLoss(**keywords), jit_compile=False)
    model.fit(Batch(*arrays), shuffle=False, epochs=2, verbose=0)
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)


# --- What is refused -------------------------------------------------------------------------


def around():
    inputs = keras.Input((6,))
    x = keras.layers.Dense(6, name="shared")(inputs)
    x = keras.layers.Add()([keras.layers.Dense(6)(x), inputs])
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(x))


def two_outputs():
    inputs = keras.Input((6,))
    return keras.Model(inputs, [keras.layers.Dense(2)(inputs), keras.layers.Dense(3)(inputs)])


def _tensors(model):
    return model.inputs, model.outputs


def masked():
    inputs = keras.Input((5,))
    x = keras.layers.Embedding(9, 4, mask_zero=True, name="shared")(inputs)
    branches = [keras.layers.LSTM(4, return_sequences=True)(x) for _ in range(2)]
    mixed = keras_lpl.layers.BranchMixing(name="mixing")(branches)
    return BBNModel(inputs, keras.layers.Dense(3)(mixed))


def masked_network():
    inputs = keras.Input((5,))
    x = keras.layers.Embedding(9, 4, mask_zero=True, name="shared")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.LSTM(4)(x)))


BAD = {
    "a mask": (masked, "masks differ.*mixing"),
    "a mask around": (
        lambda: BBNModel.from_model(masked_network(), split_after="shared"),
        "mask_zero",
    ),
    "mixing": (lambda: bbn(mixing=1.5), "mixing.*1.5"),
    "schedule": (lambda: bbn(mixing="cubic"), "parabolic.*cubic"),
    "no branches": (lambda: BBNModel(*_tensors(network())), "from_model"),
    "no layer": (lambda: BBNModel.from_model(network(), split_after="x"), "own.*Received.*'x'"),
    "no name": (lambda: BBNModel.from_model(network()), "split_after"),
    "nothing between": (
        lambda: BBNModel.from_model(network(), split_after="own"),
        "there must be.*weights.*'own'",
    ),
    "a way around": (lambda: BBNModel.from_model(around(), split_after="shared"), "lead around it"),
    "two outputs": (lambda: BBNModel.from_model(two_outputs(), split_after="x"), "one output"),
    "arrays": (lambda: bbn().fit(*helpers.data()), 'sampling="paired".*ndarray'),
    "no pairs": (lambda: bbn().fit(ArrayDataset(*helpers.data(), 8)), "pairs of batches"),
    "an odd batch": (
        lambda: bbn().train_on_batch(np.zeros((3, 6)), np.zeros(3, "int32")),
        "even number of rows.*3 rows",
    ),
    "one branch": (
        lambda: keras_lpl.layers.BranchMixing()(keras.Input((4,))),
        "a list of two",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()


def test_a_schedule_without_fit_is_told_about():
    model = bbn()
    x, y = pairs()[0]
    with pytest.warns(UserWarning, match="BBNModel.*set_progress"):
        model.train_on_batch(x, y)
    model.set_progress(0.5)
    np.testing.assert_allclose(float(model.share()), 0.75)


def test_replicas_are_refused(monkeypatch):
    model = bbn(mixing=0.5)
    monkeypatch.setattr(engines, "num_replicas", lambda: 2)
    with pytest.raises(ValueError, match=r"splits a batch of pairs.*2 replicas"):
        model.fit(pairs(), shuffle=False, verbose=0)
