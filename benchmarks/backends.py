"""The one place of the benchmarks that names Keras's backends: compile, differentiate, wait."""

import keras
import numpy as np
from keras import ops


def value_and_gradient(function, *arrays):
    """A function without arguments that computes `function(*arrays)` and its gradients.

    As `fit` would run it: compiled on JAX and TensorFlow (XLA), eager on torch. Returns when the
    work is done.

    Args:
        function: From tensors to a scalar.
        *arrays: float32 arrays, all differentiated.
    """
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        compiled = jax.jit(jax.value_and_grad(function, argnums=tuple(range(len(arrays)))))
        tensors = [jax.numpy.asarray(array) for array in arrays]
        return lambda: jax.block_until_ready(compiled(*tensors))
    if backend == "tensorflow":
        import tensorflow as tf

        tensors = [tf.constant(array) for array in arrays]

        @tf.function(jit_compile=True)
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


def torch_reference(function, *arrays):
    """The same for a function of torch tensors, eager, whatever Keras's backend is."""
    import torch

    tensors = [torch.tensor(np.asarray(array), requires_grad=True) for array in arrays]

    def eager():
        for tensor in tensors:
            tensor.grad = None
        function(*tensors).backward()

    return eager
