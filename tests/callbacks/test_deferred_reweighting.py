"""Class weights from a late epoch on: at the right place, with any loss, without retracing."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from keras_lpl.losses import class_balanced_weights
from tests.models import helpers
from tests.models.helpers import COUNTS, assert_same_weights, compiled_lpl

START, EPOCHS = 2, 4


def reweighting(**arguments):
    return keras_lpl.callbacks.DeferredReweighting(COUNTS, start_epoch=START, **arguments)


def losses_of():
    return {
        "keras": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "lpl": keras_lpl.LPLLoss(COUNTS, bound="ratio"),
        "mean": keras_lpl.LogitAdjustmentLoss(COUNTS, reduction="mean_with_sample_weight"),
    }


def fit(model, epochs, weight=None, callbacks=(), initial_epoch=0, one_hot=False):
    x, y = helpers.data()
    y = np.eye(len(COUNTS), dtype="float32")[y] if one_hot else y
    model.fit(
        x,
        y,
        sample_weight=weight,
        batch_size=24,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return model


@pytest.mark.shared_out
@pytest.mark.parametrize("name", ["keras", "lpl", "mean"])
def test_is_training_without_weights_and_then_with_them(name):
    _, y = helpers.data()
    weight = np.linspace(0.5, 1.5, len(y)).astype("float32")
    deferred = fit(compiled_lpl(loss=losses_of()[name]), EPOCHS, weight, [reweighting()])

    by_hand = fit(compiled_lpl(loss=losses_of()[name]), START, weight)
    weight = weight * class_balanced_weights(COUNTS, 0.9999)[y].astype("float32")
    fit(by_hand, EPOCHS, weight, initial_epoch=START)
    for one, other in zip(deferred.trainable_weights, by_hand.trainable_weights, strict=True):
        one, other = ops.convert_to_numpy(one), ops.convert_to_numpy(other)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_goes_on_at_the_right_place_after_saving_and_loading(tmp_path):
    whole = fit(compiled_lpl(), EPOCHS, callbacks=[reweighting()])
    part = fit(compiled_lpl(), START + 1, callbacks=[reweighting()])
    part.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    fit(restored, EPOCHS, callbacks=[reweighting()], initial_epoch=START + 1)
    assert_same_weights(restored, whole, rtol=1e-6)


def test_compiles_once_for_all_epochs():
    traced = []

    @keras.saving.register_keras_serializable("keras_lpl_tests")
    class Counted(keras_lpl.LogitAdjustmentLoss):
        def per_sample(self, samples, context):
            traced.append(1)
            return super().per_sample(samples, context)

    model = compiled_lpl(loss=Counted(COUNTS))
    if keras.backend.backend() == "torch":
        pytest.skip("torch runs eagerly: nothing is traced")
    after_epoch = []
    count = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: after_epoch.append(len(traced))
    )
    fit(model, EPOCHS, callbacks=[reweighting(), count])
    # Weights set in after the second of four epochs; the first has seen both sizes of batches.
    assert after_epoch[0] > 0
    assert after_epoch == after_epoch[:1] * EPOCHS


def test_ends_without_weights_and_takes_one_hot_labels():
    model = fit(compiled_lpl(loss=keras_lpl.LPLLoss(COUNTS)), EPOCHS, callbacks=[reweighting()])
    np.testing.assert_array_equal(ops.convert_to_numpy(model.class_weight), np.ones(len(COUNTS)))
    soft = compiled_lpl(loss=keras_lpl.LPLLoss(COUNTS))
    fit(soft, EPOCHS, callbacks=[reweighting()], one_hot=True)
    for one, other in zip(model.trainable_weights, soft.trainable_weights, strict=True):
        one, other = ops.convert_to_numpy(one), ops.convert_to_numpy(other)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_training_ends_without_weights(error):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise error

    model = compiled_lpl(loss=keras_lpl.LPLLoss(COUNTS))
    callback = keras_lpl.callbacks.DeferredReweighting(COUNTS, start_epoch=0)
    with pytest.raises(error):
        fit(model, EPOCHS, callbacks=[callback, Interrupt()])
    np.testing.assert_array_equal(ops.convert_to_numpy(model.class_weight), np.ones(len(COUNTS)))
    assert not model.reweighted_outputs


def test_evaluation_is_never_weighted():
    x, y = helpers.data()
    model = compiled_lpl(loss=keras_lpl.LPLLoss(COUNTS))
    plain = model.evaluate(x, y, verbose=0)
    model.reweight_classes([1, 2, 3, 4, 5])
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), plain, rtol=1e-6)


def test_counts_of_classes_leave_class_weights_out():
    x, y = helpers.data()
    model = compiled_lpl(loss=keras_lpl.SeesawLoss())
    model.reweight_classes([1, 2, 3, 4, 5])
    model.fit(x, y, batch_size=24, verbose=0)
    counts = ops.convert_to_numpy(model.statistics.get("counts").counts)
    np.testing.assert_allclose(counts, COUNTS)


def test_weights_of_your_own():
    callback = reweighting(class_weight=[1, 0, 2, 0, 2])
    np.testing.assert_array_equal(callback.class_weight, [1, 0, 2, 0, 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start_epoch": -1}, "`start_epoch` must be an integer of at least 0"),
        ({"start_epoch": 1, "beta": 1.0}, "`beta`"),
        (
            {"start_epoch": 1, "class_weight": [1.0, 2.0]},
            r"class of `class_counts`, in the shape \(5,\)",
        ),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_lpl.callbacks.DeferredReweighting(COUNTS, **arguments)


def test_refuses_a_model_that_cannot():
    x, y = helpers.data()
    plain = helpers.functional()
    plain.compile("sgd", loss=losses_of()["keras"])
    with pytest.raises(ValueError, match=r"LPLModel\.from_model"):
        plain.fit(x, y, verbose=0, callbacks=[reweighting()])
    callback = keras_lpl.callbacks.DeferredReweighting([3, 2, 1], start_epoch=1)
    with pytest.raises(ValueError, match=r"the model's output, in the shape \(5,\)"):
        compiled_lpl().fit(x, y, verbose=0, callbacks=[callback])
