"""The noise of GCL: how it is distributed, and that every step has its own."""

import types

import keras
import numpy as np
import pytest
from keras import ops

import keras_lpl
from keras_lpl.core.context import Context
from tests.models import helpers


def drawn(seed=0, step=0, shape=(3, 4)):
    perturbation = keras_lpl.perturbations.GCL([7] * shape[1], seed=seed)
    samples = keras_lpl.read_output(np.zeros(shape[0], "int32"), np.zeros(shape, "float32"))
    steps = types.SimpleNamespace(steps=np.float32(step))
    return ops.convert_to_numpy(perturbation.draw(samples, Context(statistics={"steps": steps})))


def test_the_noise_is_that_of_a_normal_distribution_cut_off():
    noise = drawn(shape=(400, 100))
    assert noise.min() >= 0
    assert noise.max() == 1.0
    # Of |N(0, 1/3)|; 0.27% lie beyond 1.
    np.testing.assert_allclose(noise.mean(), np.sqrt(2 / np.pi) / 3, rtol=0.02)
    np.testing.assert_allclose((noise**2).mean(), 1 / 9, rtol=0.03)
    assert 0.001 < (noise == 1.0).mean() < 0.005


def test_seed_and_step_determine_the_noise():
    np.testing.assert_array_equal(drawn(seed=2**32 - 1, step=5), drawn(seed=2**32 - 1, step=5))
    different = [drawn(), drawn(step=1), drawn(step=2), drawn(seed=1), drawn(seed=2**32 - 1)]
    assert len(np.unique(np.stack(different))) == 5 * 12


@pytest.mark.parametrize("noise", [0.5, 0.0])
def test_each_step_has_noise_of_its_own(noise):
    """At learning rate 0 nothing else can change the loss of an epoch."""
    x, y = helpers.data()
    model = helpers.compiled_lpl(
        loss=keras_lpl.GCLLoss(helpers.COUNTS, noise=noise, scale=1.0),
        optimizer=keras.optimizers.SGD(0.0),
    )
    losses = model.fit(x, y, batch_size=64, epochs=3, verbose=0).history["loss"]
    assert len({round(loss, 5) for loss in losses}) == (3 if noise else 1), losses
