"""The networks of the recipes: size, forward pass, precision, saving, training."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_lpl import networks
from tests.networks import oracle

SMALL = {
    "bottleneck_resnet": lambda **kwargs: networks.bottleneck_resnet(1, **kwargs),
    "resnet": lambda **kwargs: networks.resnet(8, **kwargs),
    "se_resnet": lambda **kwargs: networks.se_resnet(8, **kwargs),
    "wide_resnet": lambda **kwargs: networks.wide_resnet(10, 2, **kwargs),
}


@pytest.fixture(params=SMALL)
def build(request):
    """A function that builds a small network of each family."""
    keras.utils.set_random_seed(1)
    return SMALL[request.param]


@pytest.fixture
def bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def randomize(model, seed=0):
    """Gives every weight, moving statistics too, a value that its absence would show."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        kind, shape = variable.path.split("/")[-1], tuple(variable.shape)
        if kind == "kernel":
            continue
        if variable.dtype == "float32":
            low, high = (0.5, 1.5) if kind in ("gamma", "moving_variance") else (-0.5, 0.5)
            variable.assign(rng.uniform(low, high, size=shape))


def num_trainable(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def penalty(model):
    return float(sum(ops.convert_to_numpy(loss) for loss in model.losses))


@pytest.mark.on_one_backend
@pytest.mark.parametrize(
    ("network", "expected"),
    [
        # As published.
        (lambda: networks.resnet(32), 464_154),
        (lambda: networks.resnet(32, num_classes=100), 470_004),
        (lambda: networks.resnet(110), 1_727_962),
        (lambda: networks.wide_resnet(16, 8), 10_961_370),
        (lambda: networks.wide_resnet(28, 10), 36_479_194),
        (lambda: networks.wide_resnet(28, 10, num_classes=100), 36_536_884),
        # As the released code of LPL has it.
        (lambda: networks.bottleneck_resnet(), 300_762),
        (lambda: networks.bottleneck_resnet(num_classes=100), 306_612),
        # Two 1x1 convolutions and their norms over option A.
        (lambda: networks.resnet(32, shortcut="project"), 464_154 + 16 * 32 + 64 + 32 * 64 + 128),
        # 18 gates for each of 16, 32 and 64 channels over ResNet-110: c -> c / 16 -> c.
        (
            lambda: networks.se_resnet(110),
            1_727_962 + 18 * sum(2 * c * (c // 16) + c // 16 + c for c in (16, 32, 64)),
        ),
    ],
    ids=[
        "resnet-32",
        "resnet-32, 100 classes",
        "resnet-110",
        "wrn-16-8",
        "wrn-28-10",
        "wrn-28-10, 100 classes",
        "bottleneck resnet",
        "bottleneck resnet, 100 classes",
        "resnet-32, projection",
        "se-resnet-110",
    ],
)
def test_number_of_trainable_parameters(network, expected, monkeypatch):
    # Only shapes matter here, and drawing 36 million numbers takes its time.
    monkeypatch.setattr(
        keras.initializers.HeNormal,
        "__call__",
        lambda self, shape, dtype=None: ops.zeros(shape, dtype),
    )
    assert num_trainable(network()) == expected


@pytest.mark.shared_out
@pytest.mark.parametrize(
    ("model", "num_blocks", "width"),
    [
        (lambda: networks.resnet(14, (8, 8, 3)), 2, None),
        (lambda: networks.resnet(8, (9, 7, 1), 4), 1, None),
        (lambda: networks.resnet(8, (8, 8, 3), shortcut="project"), 1, None),
        (lambda: networks.se_resnet(8, (8, 8, 3), se_ratio=4), 1, None),
        (lambda: networks.wide_resnet(10, 1, (8, 8, 3)), 1, 1),
        (lambda: networks.wide_resnet(16, 2, (8, 6, 3)), 2, 2),
    ],
    ids=["resnet-14", "odd image", "projection", "se-resnet-8", "wrn-10-1", "wrn-16-2"],
)
def test_logits_are_the_papers(model, num_blocks, width, rng):
    keras.utils.set_random_seed(0)
    model = model()
    randomize(model)
    images = rng.normal(size=(3, *model.input_shape[1:])).astype("float32")
    expected = oracle.logits(model, images, num_blocks, width)
    actual = model.predict(images, verbose=0)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_logits_are_the_released_bottleneck_networks(rng):
    keras.utils.set_random_seed(0)
    model = networks.bottleneck_resnet(2, (8, 6, 3), 4)
    randomize(model)
    images = rng.normal(size=(3, 8, 6, 3)).astype("float32")
    expected = oracle.bottleneck_logits(model, images, 2)
    actual = model.predict(images, verbose=0)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.shared_out
def test_every_weight_reaches_the_logits(build):
    """The comparison above is worth something only if the weights it randomizes matter."""
    model = build(input_shape=(8, 8, 1))
    randomize(model)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    before = model.predict(images, verbose=0)
    for name in ("stem_conv", "stage2_block1_conv1", "stage3_block1_conv2", "head"):
        kernel = model.get_layer(name).kernel
        saved = ops.convert_to_numpy(kernel)
        kernel.assign(saved * 1.1)
        after = model.predict(images, verbose=0)
        kernel.assign(saved)
        assert np.abs(after - before).max() > 1e-3, name


def test_outputs_are_logits(build):
    model = build(num_classes=7)
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 7)
    assert model.layers[-1].name == "head"
    assert model.layers[-2].name == "features"
    assert model.get_layer("head").activation is keras.activations.linear
    assert not any("bias" in w.path for w in model.weights if "conv" in w.path)


def test_channels_last_whatever_the_configuration(build):
    keras.config.set_image_data_format("channels_first")
    try:
        model = build(input_shape=(8, 12, 3), num_classes=4)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert {getattr(layer, "data_format", "channels_last") for layer in model.layers} == {
        "channels_last"
    }
    grown = (3, 4) if "bottleneck" in model.name else (2, 3)  # by its wide padding
    assert model.get_layer("features").input.shape[1:3] == grown
    norms = [each for each in model.layers if isinstance(each, keras.layers.BatchNormalization)]
    assert {norm.axis for norm in norms} == {-1}


def test_the_seed_decides_the_weights(build):
    keras.utils.set_random_seed(3)
    first = build(input_shape=(8, 8, 1)).get_weights()
    keras.utils.set_random_seed(3)
    again = build(input_shape=(8, 8, 1)).get_weights()
    keras.utils.set_random_seed(4)
    other = build(input_shape=(8, 8, 1)).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_convolutions_start_he_normal():
    keras.utils.set_random_seed(0)
    kernel = networks.resnet(8).get_layer("stage3_block1_conv2").kernel
    values = ops.convert_to_numpy(kernel)
    assert values.std() == pytest.approx(np.sqrt(2 / (3 * 3 * 64)), rel=0.02)


def test_norms_have_the_recipes_constants(build):
    norms = [
        layer for layer in build().layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert norms
    assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.9, 1e-5)}


@pytest.mark.shared_out
def test_save_and_load(build, tmp_path, rng):
    model = build(input_shape=(8, 8, 3), num_classes=4, weight_decay=1e-3, dropout=0.1)
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = rng.normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0), rtol=1e-6
    )
    assert penalty(loaded) == pytest.approx(penalty(model), rel=1e-6)


@pytest.mark.usefixtures("bfloat16")
def test_mixed_bfloat16_computes_logits_in_float32(build, rng):
    model = build(input_shape=(8, 8, 3))
    assert model.get_layer("stage2_block1_conv1").compute_dtype == "bfloat16"
    assert model.get_layer("stage2_block1_conv1").output.dtype == "bfloat16"
    assert model.get_layer("features").output.dtype == "float32"
    assert model.output.dtype == "float32"
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    # More than eight bits: the head's product is not rounded to bfloat16.
    logits = model.predict(rng.normal(size=(2, 8, 8, 3)).astype("float32"), verbose=0)
    assert logits.dtype == "float32"
    rounded = ops.convert_to_numpy(ops.cast(ops.cast(logits, "bfloat16"), "float32"))
    assert np.all(np.isfinite(logits))
    assert not np.array_equal(logits, rounded)


def test_weight_decay_is_the_l2_penalty_on_every_trainable_weight(build):
    assert build(input_shape=(8, 8, 1)).losses == []
    model = build(input_shape=(8, 8, 1), weight_decay=0.02)
    randomize(model)
    weights = [ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    expected = 0.01 * sum(np.square(weight, dtype="float64").sum() for weight in weights)
    assert len(model.losses) == len(weights)
    assert penalty(model) == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("bfloat16")
def test_weight_decay_is_computed_in_float32():
    model = networks.resnet(8, (8, 8, 1), weight_decay=0.02)
    assert {keras.backend.standardize_dtype(loss.dtype) for loss in model.losses} == {"float32"}


def test_dropout_stands_between_the_convolutions_of_a_block(build):
    model = build(input_shape=(8, 8, 1), dropout=0.3)
    names = [layer.name for layer in model.layers]
    dropouts = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.rate for layer in dropouts] == [0.3] * 3
    for layer in dropouts:
        block = layer.name.removesuffix("_dropout")
        after = f"{block}_conv2_padding"  # a strided convolution pads by a layer of its own
        after = after if after in names else f"{block}_conv2"
        assert model.get_layer(after).input is layer.output
        assert names.index(f"{block}_conv1") < names.index(layer.name)
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in build().layers)


@pytest.mark.shared_out
def test_fit_learns(build, rng):
    labels = rng.integers(0, 2, size=64)
    images = rng.normal(size=(64, 8, 8, 1)) + 2 * labels[:, None, None, None]
    model = build(input_shape=(8, 8, 1), num_classes=2, weight_decay=1e-4)
    before = model.get_weights()
    model.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    losses = model.fit(images, labels, batch_size=32, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert all(changed)


@keras.saving.register_keras_serializable(package="tests")
class Headless(keras.layers.Layer):
    """Three logits, or whatever `units` says, from the features' mean."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def call(self, features):
        mean = ops.mean(features, axis=-1, keepdims=True)
        return ops.repeat(mean, self.units, axis=-1)


def test_another_head(build):
    model = build(num_classes=3, head=Headless(3, name="mine"))
    assert model.layers[-1].name == "mine"
    assert model.output_shape == (None, 3)
    with pytest.raises(ValueError, match=r"`head` must map features to 3 logits.*\(None, 5\)"):
        build(num_classes=3, head=Headless(5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: networks.resnet(18), r"`depth` must be 6n \+ 2.*8, 14, 20, 26.*depth=18"),
        (lambda: networks.resnet(2), "depth=2"),
        (lambda: networks.resnet(32.0), r"depth=32\.0"),
        (lambda: networks.se_resnet(51), "depth=51"),
        (lambda: networks.wide_resnet(28.5, 10), r"`depth` must be 6n \+ 4.*10, 16, 22, 28"),
        (lambda: networks.wide_resnet(28, 0), "`width` must be an integer of at least 1.*width=0"),
        (lambda: networks.se_resnet(8, se_ratio=0), "`se_ratio` must be an integer of at least 1"),
        (lambda: networks.resnet(8, num_classes=0), "`num_classes` must be.*num_classes=0"),
        (lambda: networks.resnet(8, input_shape=(32, 32)), r"`input_shape`.*\(32, 32\)"),
        (lambda: networks.resnet(8, input_shape=32), r"`input_shape` must be.*input_shape=32"),
        (lambda: networks.resnet(8, shortcut="B"), "`shortcut` must be one of.*shortcut='B'"),
        (lambda: networks.resnet(8, weight_decay=-1), "`weight_decay` must be.*weight_decay=-1"),
        (lambda: networks.resnet(8, dropout=1.5), "rate=1.5"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_shortcut_cannot_drop_channels():
    from keras_lpl.networks._blocks import ZeroPaddedShortcut

    with pytest.raises(ValueError, match="8 channels for filters=4"):
        ZeroPaddedShortcut(4)(np.zeros((1, 2, 2, 8), "float32"))
