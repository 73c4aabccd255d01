"""Memory of a look ahead as XLA plans it, on JAX."""

import keras
import numpy as np
import pytest

if keras.config.backend() != "jax":
    pytest.skip("of JAX alone", allow_module_level=True)

import jax

import keras_lpl

CLASSES = 4


def planned_memory(make_model):
    """Bytes of a training step beside its arguments and results."""
    keras.utils.set_random_seed(0)
    inputs = hidden = keras.Input((64,))
    for _ in range(12):
        hidden = keras.layers.Dense(64, activation="gelu")(hidden)
    model = make_model(keras.Model(inputs, keras.layers.Dense(CLASSES)(hidden)))
    model.compile("sgd", loss=keras_lpl.PerturbedCrossentropy([]))
    x, y = np.ones((1024, 64), "float32"), np.arange(1024) % CLASSES
    model._symbolic_build(data_batch=(x, y))
    state = model._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=True,
        metrics_variables=True,
    )
    step = jax.jit(model.train_step).lower(state, (x, y)).compile()
    return step.memory_analysis().temp_size_in_bytes


def test_what_is_kept_of_a_pass_does_not_wait_for_the_others():
    """With one forward pass for all of it, as XLA would have it, twice as much is kept at once."""
    meta_data = np.ones((1024, 64), "float32"), np.arange(1024) % CLASSES

    def looking_ahead(network):
        return keras_lpl.models.MetaModel.from_model(
            network, meta_data=meta_data, meta_batch_size=1024
        )

    plain = planned_memory(keras_lpl.LPLModel.from_model)
    assert planned_memory(looking_ahead) < 1.5 * plain
