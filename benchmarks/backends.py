"""The one place of the benchmarks that names Keras's backends: compile, differentiate, wait."""

import keras
import numpy as np
from keras import ops


def value_and_gradient(function, *arrays, state=(), jit_compile=True):
    """A function without arguments that computes `function(*arrays)` and its gradients.

    As `fit` would run it: compiled on JAX and TensorFlow (XLA), eager on torch. Returns when the
    work is done.

    Args:
        function: From tensors to a scalar.
        *arrays: float32 arrays, all differentiated.
        state: Keras variables that the function assigns to.
        jit_compile: Whether TensorFlow uses XLA.
    """
    backend = keras.config.backend()
    if backend == "jax":
        return _value_and_gradient_jax(function, arrays, state)
    if backend == "tensorflow":
        import tensorflow as tf

        tensors = [tf.constant(array) for array in arrays]

        @tf.function(jit_compile=jit_compile)
        def compiled(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                value = function(*tensors)
            return value, tape.gradient(value, tensors)

        return lambda: compiled(*tensors)[0].numpy()
    tensors = [ops.convert_to_tensor(array).detach().requires_grad_(True) for array in arrays]

    def eager():
        for tensor in tensors:
            tensor.grad = None
        function(*tensors).backward()

    return eager


def _value_and_gradient_jax(function, arrays, state):
    import jax

    def with_state(values, *tensors):
        with keras.StatelessScope(state_mapping=list(zip(state, values, strict=True))) as scope:
            value = function(*tensors)
        return value, [scope.get_current_value(variable) for variable in state]

    places = tuple(range(1, len(arrays) + 1))
    differentiated = jax.value_and_grad(with_state, argnums=places, has_aux=True)
    compiled = jax.jit(differentiated, donate_argnums=0)  # as Keras's training step
    tensors = [jax.numpy.asarray(array) for array in arrays]
    values = [jax.numpy.array(variable.value) for variable in state]

    def call():
        nonlocal values
        (_, values), _ = jax.block_until_ready(compiled(values, *tensors))

    return call


def torch_reference(function, *arrays):
    """The same for a function of torch tensors, eager, whatever Keras's backend is."""
    import torch

    tensors = [torch.tensor(np.asarray(array), requires_grad=True) for array in arrays]

    def eager():
        for tensor in tensors:
            tensor.grad = None
        function(*tensors).backward()

    return eager
