"""`MetaModel`: reduction laws, state, precision, outputs, pipelines, and what it refuses."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from keras_lpl.models import LearningToReweight, MetaModel, MetaWeightNet
from tests.models import helpers
from tests.models.helpers import CLASSES

SGD = {"learning_rate": 0.1, "momentum": 0.9}


def meta_data(of_class=2):
    y = np.repeat(np.arange(CLASSES), of_class)
    x = np.random.default_rng(5).normal(size=(len(y), 6)) + y[:, None] * 0.5
    return x.astype("float32"), y


def meta_images():
    y = np.arange(2 * CLASSES) % CLASSES
    return np.random.default_rng(6).normal(size=(len(y), 8, 8, 3)).astype("float32"), y


def compiled(network=None, method=None, loss=None, meta=None, **keywords):
    keras.utils.set_random_seed(1)
    network = helpers.functional() if network is None else network
    model = MetaModel.from_model(network, method=method, meta_data=meta or meta_data())
    loss = keras_lpl.PerturbedCrossentropy([]) if loss is None else loss
    model.compile(keras.optimizers.SGD(**SGD), loss=loss, **keywords)
    return model


def constant_net(model):
    """Makes a net of constant value, in a model whose method does not change it."""
    model.meta_state.parameters[2].assign(np.zeros(model.meta_state.parameters[2].shape))
    return model


def frozen():
    return MetaWeightNet(units=3, learning_rate=0.0, weight_decay=0.0)


def with_batch_norm_and_dropout():
    inputs = keras.Input((6,))
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(8)(inputs))
    hidden = keras.layers.Dropout(0.3, seed=3)(keras.layers.Activation("relu")(hidden))
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(hidden))


LOSSES = {
    "cross-entropy": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "lpl": lambda: keras_lpl.LPLLoss(helpers.COUNTS),
    "isda": lambda: keras_lpl.ISDALoss(),
}


@pytest.mark.shared_out
@pytest.mark.parametrize("loss", LOSSES)
def test_a_constant_net_is_training_without_one(loss):
    """With the loss's statistics, batch normalisation and dropout each updated once a step."""
    x, y = helpers.data()
    weight = np.random.default_rng(2).uniform(0.5, 1.5, len(y)).astype("float32")
    models = []
    for is_meta in (True, False):
        keras.utils.set_random_seed(1)
        network = with_batch_norm_and_dropout()
        if is_meta:
            model = constant_net(compiled(network, frozen(), LOSSES[loss]()))
        else:
            model = keras_lpl.LPLModel.from_model(network)
            model.compile(keras.optimizers.SGD(**SGD), loss=LOSSES[loss]())
        network.set_weights(starting_weights(network))
        model.fit(x, y, batch_size=16, sample_weight=weight, shuffle=False, epochs=2, verbose=0)
        models.append((network.weights, model.statistics.weights))
    for one, other in zip(*models, strict=True):
        for a, b in zip(one, other, strict=True):
            a, b = ops.convert_to_numpy(a), ops.convert_to_numpy(b)
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=loss)


def starting_weights(network):
    rng = np.random.default_rng(4)
    return [
        w if w.ndim == 1 else rng.normal(size=w.shape, scale=0.5).astype("float32")
        for w in network.get_weights()
    ]


def test_a_wrong_label_gets_no_weight():
    """Of two equal inputs with two labels, the balanced samples want one."""
    x, y = np.eye(CLASSES, 6, dtype="float32"), np.arange(CLASSES)
    found = []
    for is_meta in (True, False):
        inputs = keras.Input((6,))
        head = keras.layers.Dense(CLASSES, kernel_initializer="zeros")
        network = keras.Model(inputs, head(inputs))
        if is_meta:
            model = compiled(network, LearningToReweight(), meta=(x, y))
            model.train_on_batch(np.concatenate([x, x]), np.concatenate([y, (y + 1) % CLASSES]))
        else:
            model = helpers.compiled_lpl(network, keras_lpl.PerturbedCrossentropy([]))
            model.train_on_batch(x, y)
        found.append(ops.convert_to_numpy(head.kernel))
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-7)
    assert found[0].any()


def test_nothing_is_learnt_where_every_step_hurts():
    x, y = np.eye(CLASSES, 6, dtype="float32"), np.arange(CLASSES)
    inputs = keras.Input((6,))
    network = keras.Model(inputs, keras.layers.Dense(CLASSES, kernel_initializer="zeros")(inputs))
    model = compiled(network, LearningToReweight(), meta=(x, y))
    model.train_on_batch(x, (y + 1) % CLASSES)
    assert not any(ops.convert_to_numpy(w).any() for w in network.weights)


@pytest.mark.shared_out
@pytest.mark.parametrize("method", [MetaWeightNet, LearningToReweight])
def test_a_run_interrupted_saved_and_resumed_comes_to_the_same(method, tmp_path):
    x, y = helpers.data()
    whole = compiled(method=method(), loss=keras_lpl.LPLLoss(), meta=meta_data(3))
    whole.meta_samples.batch_size = 4  # so that batches of them differ
    fit = {"batch_size": 16, "shuffle": False, "verbose": 0}
    whole.fit(x, y, **fit)
    whole.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    assert type(resumed) is MetaModel
    assert type(resumed.method) is method
    assert resumed.method.get_config() == whole.method.get_config()
    np.testing.assert_array_equal(
        *(ops.convert_to_numpy(m.meta_samples.y) for m in (whole, resumed))
    )
    for model in (whole, resumed):
        model.fit(x, y, **fit)
    helpers.assert_same_weights(whole, resumed)
    np.testing.assert_array_equal(whole.predict(x, verbose=0), resumed.predict(x, verbose=0))


@pytest.mark.shared_out
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(policy):
    x, y = helpers.data()
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled(helpers.functional())
    finally:
        keras.config.set_dtype_policy("float32")
    before = [ops.convert_to_numpy(p) for p in model.meta_state.parameters]
    weights = [ops.convert_to_numpy(w) for w in model.trainable_variables]
    history = model.fit(x, y, batch_size=16, epochs=12, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < history[0]
    for old, new in zip(before, model.meta_state.parameters, strict=True):
        assert np.isfinite(ops.convert_to_numpy(new)).all()
        assert not np.array_equal(old, ops.convert_to_numpy(new))
    for old, new in zip(weights, model.trainable_variables, strict=True):
        assert not np.array_equal(old, ops.convert_to_numpy(new))


def test_an_overflow_of_half_precision_changes_neither_net_nor_weights():
    x, y = helpers.data()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = compiled(helpers.functional())
    finally:
        keras.config.set_dtype_policy("float32")
    model.train_on_batch(x, y)
    model.optimizer.dynamic_scale.assign(1e30)
    before = [ops.convert_to_numpy(w) for w in model.trainable_variables]
    model.train_on_batch(x, y)
    for parameter in model.meta_state.parameters:
        assert np.isfinite(ops.convert_to_numpy(parameter)).all()
    for old, new in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))


@pytest.mark.shared_out
def test_ways_of_running_come_to_the_same():
    """Step by step, several steps at a time where Keras can, and not compiled."""
    x, y = helpers.data()
    ways = [{}, {"run_eagerly": True}]
    if keras.config.backend() != "torch":
        ways.append({"steps_per_execution": 2})
    found = []
    for way in ways:
        model = compiled(**way)
        model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
        found.append([ops.convert_to_numpy(w) for w in model.weights])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def _binary():
    inputs = keras.Input((6,))
    return keras.Model(inputs, keras.layers.Dense(1)(inputs))


def _pixels():
    inputs = keras.Input((4, 6))
    return keras.Model(inputs, keras.layers.Dense(3)(inputs))


def _tokens():
    inputs = keras.Input((4,), dtype="int32")
    embedded = keras.layers.Embedding(7, 6, mask_zero=True)(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(embedded))


def _two_inputs():
    inputs = {"a": keras.Input((6,), name="a"), "b": keras.Input((2,), name="b")}
    joined = keras.layers.Concatenate()([inputs["a"], inputs["b"]])
    return keras.Model(inputs, keras.layers.Dense(3)(joined))


def _x(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


TOKENS = np.array([[1, 2, 3, 0], [4, 5, 6, 0], [1, 5, 0, 0], [2, 4, 6, 3]] * 2)
LABELS = np.array([[0, 1, 2, 2], [0, 1, 2, 1], [2, 0, 1, 1], [1, 1, 0, 0]] * 2)
SEVERAL = (np.arange(96) % 2).reshape(8, 4, 3).astype("float32")
IGNORED = np.where(LABELS == 2, 255, LABELS)
IGNORED[0, 0] = 2
OUTPUTS = {
    "one logit": (_binary, {}, _x(8, 6), np.arange(8) % 2, MetaWeightNet),
    "one-hot labels": (
        _two_inputs,
        {},
        {"a": _x(8, 6), "b": _x(8, 2)},
        np.eye(3)[np.arange(8) % 3],
        LearningToReweight,
    ),
    "several labels": (_pixels, {"multi_label": True}, _x(8, 4, 6), SEVERAL, LearningToReweight),
    "pixels, some ignored": (_pixels, {"ignore_class": 255}, _x(8, 4, 6), IGNORED, MetaWeightNet),
    "masked tokens": (_tokens, {}, TOKENS, LABELS, LearningToReweight),
}


@pytest.mark.shared_out
@pytest.mark.parametrize("case", OUTPUTS)
def test_every_output_trains(case):
    make, keywords, x, y, method = OUTPUTS[case]
    loss = keras_lpl.PerturbedCrossentropy([], **keywords)
    model = compiled(make(), method(), loss, (x, y))
    first = model.test_on_batch(x, y)
    for _ in range(4):
        assert np.isfinite(model.train_on_batch(x, y))
    model.reset_metrics()  # before Keras 3.14, `test_on_batch` returns the mean of all
    assert model.test_on_batch(x, y) < first


@pytest.mark.shared_out
def test_labels_of_masked_tokens_do_not_matter():
    found = []
    for of_padding in (0, 2):
        labels = np.where(TOKENS == 0, of_padding, LABELS)
        keras.utils.set_random_seed(2)
        model = compiled(_tokens(), MetaWeightNet(), None, (TOKENS, LABELS))
        found.append([model.train_on_batch(TOKENS, labels) for _ in range(3)])
        found[-1].append(model.weight_of_losses([0.1, 1.0, 3.0]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_attention_trains():
    """Frameworks fuse it into kernels, some of which cannot be differentiated twice."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 5, 4)).astype("float32"), np.arange(12) % 3
    losses = []
    for method in (MetaWeightNet(), frozen()):
        keras.utils.set_random_seed(3)
        inputs = keras.Input((5, 4))
        hidden = keras.layers.MultiHeadAttention(2, 4)(inputs, inputs)
        hidden = keras.layers.GlobalAveragePooling1D()(hidden)
        network = keras.Model(inputs, keras.layers.Dense(3)(hidden))
        model = compiled(network, method, None, (x, y))
        if method.learning_rate == 0:
            constant_net(model)
        losses.append([float(model.train_on_batch(x, y)) for _ in range(3)])
    assert losses[0][2] < losses[0][0]
    np.testing.assert_allclose(*losses, rtol=0.05)


@pytest.mark.skipif(
    keras.config.backend() == "jax", reason="half a minute: each operation compiles for itself"
)
def test_run_eagerly_with_the_networks_of_this_package():
    x = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype("float32")
    y = np.arange(6) % CLASSES
    found = []
    for eagerly in (False, True):
        keras.utils.set_random_seed(4)
        network = keras_lpl.networks.resnet(8, num_classes=CLASSES, input_shape=(8, 8, 3))
        network = MetaModel.from_model(network, meta_data=meta_images())
        network.compile(
            "sgd", loss=keras_lpl.PerturbedCrossentropy([]), run_eagerly=eagerly, jit_compile=False
        )
        found.append([float(network.train_on_batch(x, y)) for _ in range(2)])
    np.testing.assert_allclose(*found, rtol=1e-3)


@keras.saving.register_keras_serializable(package="tests")
class OwnGradient(keras.layers.Layer):
    """Twice its input, with a gradient of its own if asked for."""

    def __init__(self, by_hand=True, **kwargs):
        super().__init__(**kwargs)
        self.by_hand = by_hand

    def call(self, x):
        @ops.custom_gradient
        def double(x):
            def gradient(*args, upstream=None):
                return 2.0 * ops.convert_to_tensor(args[0] if upstream is None else upstream)

            return 2.0 * x, gradient

        return double(x) if self.by_hand else 2.0 * x


@pytest.mark.shared_out
def test_a_layer_with_a_gradient_of_its_own_trains_alike():
    """On JAX such a layer has no forward mode."""
    x, y = helpers.data()
    found = []
    for by_hand in (True, False):
        keras.utils.set_random_seed(2)
        inputs = keras.Input((6,))
        hidden = OwnGradient(by_hand)(keras.layers.Dense(8, activation="tanh")(inputs))
        model = compiled(keras.Model(inputs, keras.layers.Dense(CLASSES)(hidden)))
        model.fit(x, y, batch_size=32, shuffle=False, verbose=0)
        found.append(model.weights)
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_samples_of_weight_zero_change_nothing():
    x, y = helpers.data(size=64)
    models = []
    for padded in (True, False):
        network = helpers.functional()
        network.set_weights(starting_weights(network))
        model = compiled(network)
        if padded:
            rows = np.concatenate([x, np.full_like(x, 1e3)])
            weight = np.concatenate([np.full(64, 2.0), np.zeros(64)])
            model.train_on_batch(rows, np.concatenate([y, y]), weight)
        else:
            model.train_on_batch(x, y)
        models.append([*model.trainable_variables, *model.meta_state.parameters])
    for a, b in zip(*models, strict=True):
        a, b = ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_trains_from_a_pipeline():
    x, y = helpers.data()
    model = compiled()
    dataset = keras_lpl.data.ArrayDataset(x, y, batch_size=24, seed=1)  # the last batch is smaller
    history = model.fit(dataset, epochs=8, shuffle=False, verbose=0, validation_data=(x, y)).history
    assert history["val_loss"][-1] < history["val_loss"][0]


def test_batches_of_meta_samples_are_balanced_and_go_round():
    model = compiled(meta=meta_data(3))
    samples = model.meta_samples
    assert samples.batch_size == 3 * CLASSES
    samples.batch_size = CLASSES
    rows = []
    for _ in range(3):
        x, y = samples.take()
        assert sorted(ops.convert_to_numpy(y)) == list(range(CLASSES))
        rows.append(ops.convert_to_numpy(x))
    np.testing.assert_array_equal(
        np.sort(np.concatenate(rows), axis=0), np.sort(meta_data(3)[0], axis=0)
    )
    np.testing.assert_array_equal(ops.convert_to_numpy(samples.take()[0]), rows[0])


@pytest.mark.parametrize("method", [MetaWeightNet, LearningToReweight])
def test_state_is_that_of_the_model(method):
    """Keras before 3.14 tracks no layers that are added to a functional model."""
    model = compiled(method=method())
    known = {id(variable) for variable in model.variables}
    assert {id(variable) for variable in model.own_variables_of_method()} <= known


def test_weights_of_losses():
    model = constant_net(compiled(method=frozen()))
    bias = float(ops.convert_to_numpy(model.meta_state.parameters[3])[0])
    np.testing.assert_allclose(
        model.weight_of_losses([[0.0, 2.0]]), np.full((1, 2), 1 / (1 + np.exp(-bias))), rtol=1e-5
    )
    with pytest.raises(ValueError, match="LearningToReweight"):
        compiled(method=LearningToReweight()).weight_of_losses([1.0])


X, Y = meta_data()


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (None, "meta_data"),
        (X, "meta_data"),
        ((X, Y, Y), "3 parts"),
        ((X[:, :5], Y), r"\(10, 5\)"),
        ((X[:4], Y), r"\(4, 6\)"),
        ((X[:0], Y[:0]), "without samples"),
        ((X[Y != 3], Y[Y != 3]), "class 3"),
        ((X, np.where(Y == 1, CLASSES, Y)), "meta_data"),
        ((X, np.where(Y == 1, -1, Y)), "meta_data"),
        ((X.astype(str), Y), "numbers"),
    ],
)
def test_bad_meta_data_raises(meta, message):
    def make():
        model = MetaModel.from_model(helpers.functional(), meta_data=meta)
        model.compile("sgd", loss=keras_lpl.PerturbedCrossentropy([]))

    with pytest.raises(ValueError, match=message):
        make()


def test_other_bad_arguments_raise():
    def make(network=None, loss=None, **keywords):
        model = MetaModel.from_model(network or helpers.functional(), meta_data=(X, Y), **keywords)
        model.compile("sgd", loss=loss)

    for keywords, message in (
        ({"method": "meta_weight_net"}, "`method` must be"),
        ({"meta_batch_size": 0}, "meta_batch_size"),
        ({"virtual_learning_rate": -1}, "virtual_learning_rate"),
        (
            {
                "network": helpers.functional(activation="softmax"),
                "loss": LOSSES["cross-entropy"](),
            },
            "logits",
        ),
        (
            {
                "method": LearningToReweight(),
                "loss": keras_lpl.PerturbedCrossentropy([], reduction="mean_with_sample_weight"),
            },
            "linear in the sample weights",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make(**keywords)
    inputs = keras.Input((6,))
    outputs = [keras.layers.Dense(2, name=name)(inputs) for name in ("a", "b")]
    with pytest.raises(ValueError, match="2 outputs"):
        MetaModel(inputs, outputs, meta_data=(X, Y))
    for name in ("units", "learning_rate", "weight_decay"):
        with pytest.raises(ValueError, match=name):
            MetaWeightNet(**{name: -1})
