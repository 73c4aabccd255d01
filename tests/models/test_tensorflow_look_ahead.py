"""The gradient of a gradient of batch normalisation, as the look ahead takes it, on TensorFlow."""

import keras
import numpy as np
import pytest

if keras.config.backend() != "tensorflow":
    pytest.skip("of TensorFlow alone", allow_module_level=True)

import tensorflow as tf

from keras_lpl.engines import _tensorflow_look_ahead as look_ahead

SHAPES = ((3, 5, 6, 4), (4,), (4,))


def gradients(dtype, compiled):
    rng = np.random.default_rng(0)
    inputs = [tf.constant(rng.normal(size=shape), "float32") for shape in SHAPES]
    inputs[0] = tf.cast(inputs[0], dtype)
    directions = [tf.cast(rng.normal(size=x.shape), x.dtype) for x in inputs]

    @tf.function(jit_compile=compiled)
    def all_of_them():
        upstream = tf.cast(tf.linspace(-1.0, 1.0, int(np.prod(SHAPES[0]))), dtype)
        upstream = tf.reshape(upstream, SHAPES[0])
        with tf.GradientTape() as outer:
            outer.watch(upstream)
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                y, mean, variance = look_ahead.fused_batch_norm(*inputs, 1e-3)
            once = inner.gradient(y, inputs, output_gradients=upstream)
        return [y, mean, variance, *once, outer.gradient(once, upstream, directions)]

    return [tf.cast(part, "float32").numpy() for part in all_of_them()]


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "XLA"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_gradients_of_gradients_are_tensorflows(dtype, compiled):
    expected = gradients(dtype, compiled=False)
    with look_ahead.linear_gradients():
        found = gradients(dtype, compiled)
    tolerance = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}[dtype]
    for one, other in zip(found, expected, strict=True):
        size = np.abs(other).max()
        np.testing.assert_allclose(one / size, other / size, rtol=0, atol=tolerance)


def test_a_look_ahead_normalises_so():
    """TensorFlow's second gradient takes more operations over the images."""

    def operations():
        def step(x):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    y = look_ahead.fused_batch_norm(x, tf.ones(4), tf.zeros(4), 1e-3)[0]
                gradient = inner.gradient(y, x, output_gradients=x)
            return outer.gradient(gradient, x)

        graph = tf.function(step).get_concrete_function(tf.TensorSpec(SHAPES[0])).graph
        return [op.type for op in graph.get_operations()]

    with look_ahead.linear_gradients():
        assert operations().count("FusedBatchNormGradV3") == 2
    assert operations().count("FusedBatchNormGradV3") == 1
