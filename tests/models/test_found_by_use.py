"""Bugs that were found by use, each with the case that showed it."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from tests.models.helpers import loss_of_step

X = np.random.default_rng(0).normal(size=(14, 5)).astype("float32")
Y = np.repeat([0, 1, 2], [8, 4, 2])
COUNTS = [8, 4, 2]


def wrapped(units=3, loss=None):
    inputs = keras.Input((5,))
    head = keras.layers.Dense(units)
    model = keras_lpl.LPLModel(inputs, head(inputs))
    model.compile(keras.optimizers.SGD(0.0), loss=loss)
    return model, head


def test_class_weights_of_several_labels_are_each_labels_own():
    loss = keras_lpl.PerturbedCrossentropy([], multi_label=True, ignore_class=-1)
    model, head = wrapped(2, loss)
    head.set_weights([np.zeros((5, 2)), np.array([10.0, -10.0])])
    model.reweight_classes([[1.0, 1.0], [0.0, 0.0]])  # the second label does not count
    expected = np.log1p(np.exp(-10)) / 2
    assert loss_of_step(model, X[:1], np.array([[1, 1]])) == pytest.approx(expected, rel=1e-3)
    head.set_weights([np.zeros((5, 2)), np.zeros(2)])
    model.reweight_classes([[1.0, 1.0], [101.0, 101.0]])
    ignored = loss_of_step(model, X[:2], np.array([[0, -1], [0, -1]]))
    assert ignored == pytest.approx(np.log(2), rel=1e-5)


class SoftmaxInside(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(3, activation="softmax")

    def call(self, inputs):
        return self.head(inputs)


def reshaped():
    inputs = keras.Input((5,))
    outputs = keras.layers.Dense(3, activation="softmax")(inputs)
    return keras.Model(inputs, keras.layers.Reshape((3,))(outputs))


@pytest.mark.parametrize("make", [SoftmaxInside, reshaped])
def test_a_softmax_out_of_sight_is_found(make):
    model = make()
    model(X)
    with pytest.raises(ValueError, match=r"needs logits.*softmax"):
        keras_lpl.models.with_logit_adjustment(model, COUNTS)
    with pytest.raises(ValueError, match=r"needs logits.*softmax"):
        keras_lpl.LPLModel.from_model(model).compile("sgd", loss=keras_lpl.LPLLoss())


def test_class_weights_are_saved_with_the_model(tmp_path):
    model, _ = wrapped(3, keras_lpl.LPLLoss())
    plain = loss_of_step(model, X, Y)
    model.reweight_classes([1.0, 5.0, 20.0])
    expected = loss_of_step(model, X, Y)
    assert abs(expected - plain) > 0.1
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    assert loss_of_step(restored, X, Y) == pytest.approx(expected, rel=1e-5)


def test_looking_at_a_batch_leaves_padding_out():
    words, tags = np.array([[1, 2, 0], [2, 0, 0]]), np.array([[0, 1, 0], [2, 0, 0]])
    inputs = keras.Input((3,), dtype="int32")
    hidden = keras.layers.Embedding(3, 4, mask_zero=True)(inputs)
    model = keras_lpl.LPLModel(inputs, keras.layers.Dense(3)(hidden))
    loss = keras_lpl.LPLLoss(COUNTS, bound="ratio")
    model.compile("sgd", loss=loss)
    _, perturbed = model.perturb_on_batch(words, tags)
    logits = model.predict(words, verbose=0)
    expected = loss.perturb(tags, logits, (words > 0).astype("float32"))
    kept = words > 0
    np.testing.assert_allclose(perturbed[kept], ops.convert_to_numpy(expected)[kept], rtol=1e-5)


def test_statistics_that_a_file_has_and_the_model_has_not_are_told(tmp_path):
    model, _ = wrapped(3, keras_lpl.ISDALoss())
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="running statistics.*Received: full_moments, progress"):
        keras.saving.load_model(tmp_path / "model.keras", compile=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        keras.saving.load_model(tmp_path / "model.keras")


def test_weights_of_the_plain_model_can_be_loaded(tmp_path):
    def plain():
        return keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])

    trained = plain()
    trained.save_weights(tmp_path / "plain.weights.h5")
    model = keras_lpl.LPLModel.from_model(plain())
    model.load_weights(tmp_path / "plain.weights.h5")
    for one, other in zip(trained.get_weights(), model.trainable_weights, strict=True):
        np.testing.assert_array_equal(one, ops.convert_to_numpy(other))


@pytest.mark.parametrize("loss", ["binary_crossentropy", keras.losses.BinaryCrossentropy()])
def test_reweighting_of_several_labels_with_a_loss_of_keras_is_refused(loss):
    model, _ = wrapped(3, loss)
    callback = keras_lpl.callbacks.DeferredReweighting(COUNTS, start_epoch=0)
    labels = np.ones((14, 3), "float32")
    with pytest.raises(ValueError, match=r"multi_label=True.*for 3 labels"):
        model.fit(X, labels, callbacks=[callback], verbose=0)


@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
def test_unsigned_labels_with_a_negative_ignored_class(dtype):
    loss = keras_lpl.LogitAdjustmentLoss(COUNTS, ignore_class=-1)
    logits = X[:, :3]
    expected = float(loss(Y, logits))
    assert float(loss(Y.astype(dtype), logits)) == pytest.approx(expected)


def test_one_tensor_as_two_outputs_is_refused():
    inputs = keras.Input((5,))
    logits = keras.layers.Dense(3)(inputs)
    model = keras_lpl.LPLModel(inputs, {"a": logits, "b": logits})
    with pytest.raises(ValueError, match=r"are one tensor.*Identity"):
        model.compile("sgd", loss={"a": keras_lpl.LPLLoss(), "b": keras_lpl.LPLLoss()})


def test_an_adjusted_model_keeps_the_dtype_of_its_logits():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        inputs = keras.Input((5,))
        logits = keras.layers.Dense(3, dtype="float32")(inputs)
        adjusted = keras_lpl.models.with_logit_adjustment(keras.Model(inputs, logits), COUNTS)
    finally:
        keras.config.set_dtype_policy("float32")
    assert adjusted.output.dtype == "float32"


def test_statistics_that_the_model_has_and_a_file_has_not_are_told(tmp_path):
    first, _ = wrapped(3, keras_lpl.LPLLoss(COUNTS))
    first.save_weights(tmp_path / "first.weights.h5")
    second, head = wrapped(3, keras_lpl.ISDALoss())
    with pytest.warns(UserWarning, match="start anew. Received: full_moments, progress"):
        second.load_weights(tmp_path / "first.weights.h5")
    np.testing.assert_array_equal(head.kernel, first.layers[-1].kernel)
    again, _ = wrapped(3, keras_lpl.LPLLoss(COUNTS))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        again.load_weights(tmp_path / "first.weights.h5")


def batches_of_unknown_number():
    for _ in range(3):
        yield X, Y


class SeeProgress(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        progress = self.model.statistics.get("progress").value
        self.seen.append(float(ops.convert_to_numpy(progress)))


def test_a_schedule_over_data_of_unknown_length():
    model, _ = wrapped(3, keras_lpl.ISDALoss())
    with pytest.warns(UserWarning, match=r"in a single epoch the schedule stays.*steps_per_epoch"):
        model.fit(batches_of_unknown_number(), verbose=0)


@pytest.mark.on_one_backend
def test_steps_of_unknown_number_are_counted_in_the_first_epoch():
    data = pytest.importorskip("torch.utils.data")

    class Stream(data.IterableDataset):
        def __iter__(self):
            return batches_of_unknown_number()

    model, _ = wrapped(3, keras_lpl.ISDALoss())
    callback = SeeProgress()
    loader = data.DataLoader(Stream(), batch_size=None)
    model.fit(loader, epochs=2, verbose=0, callbacks=[callback])
    np.testing.assert_allclose(callback.seen, [0, 0, 0, 4 / 6, 5 / 6, 1], rtol=1e-5)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="others convert to its format")
def test_an_export_has_the_layers_alone(tmp_path):
    import tensorflow as tf

    model, head = wrapped(3, keras_lpl.ISDALoss())
    model.fit(X, Y, verbose=0)
    model.export(str(tmp_path / "model"), verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "model"))
    assert len(exported.variables) == len(head.weights)
    np.testing.assert_allclose(exported.serve(X), model.predict(X, verbose=0), rtol=1e-5)
