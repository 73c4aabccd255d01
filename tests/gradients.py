"""Differentiates and compiles on any backend: the one test helper that names frameworks."""

import functools

import keras
from keras import ops


def value_and_gradient(fn, x, *arguments, has_aux=False, **static):
    """Value of the scalar `fn(x, *arguments, **static)` and its gradient at `x`, as NumPy arrays.

    With `has_aux`, `fn` returns `(scalar, tensors)`, and this `((value, arrays), gradient)`.
    On JAX, a function at module level is compiled once per shape and `static`.
    """
    backend = keras.backend.backend()
    x = ops.convert_to_tensor(x)
    if backend == "jax":
        (value, aux), gradient = _jax_value_and_gradient(fn, has_aux, **static)(x, *arguments)
    elif backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            value, aux = _with_aux(fn, has_aux, **static)(x, *arguments)
        gradient = tape.gradient(value, x)
    else:
        x = x.detach().clone().requires_grad_(True)
        value, aux = _with_aux(fn, has_aux, **static)(x, *arguments)
        value.backward()
        gradient = x.grad
    result = (value, aux) if has_aux else value
    return keras.tree.map_structure(ops.convert_to_numpy, (result, gradient))


def _with_aux(fn, has_aux, **static):
    def value_and_aux(x, *arguments):
        result = fn(x, *arguments, **static)
        return result if has_aux else (result, None)

    return value_and_aux


@functools.cache
def _jax_value_and_gradient(fn, has_aux, **static):
    import jax

    return jax.jit(jax.value_and_grad(_with_aux(fn, has_aux, **static), has_aux=True))


def compiled(fn, xla=True):
    """`fn` as `fit` compiles it; `xla=False` is TensorFlow's plain graph. Torch stays eager."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(fn)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(fn, jit_compile=xla)
    return fn
