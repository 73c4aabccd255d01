"""TensorFlow's part of `keras_lpl.engines`, which says what the functions are for."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_lpl.core.numerics import finite_or_zero  # noqa: F401
from keras_lpl.core.typing import Tensor
from keras_lpl.engines._compiled import (  # noqa: F401
    constant,
    make_crossentropy_of_indices,
    make_own_probability,
    ones,
    row_of_group,
    weighted_sums,
)
from keras_lpl.engines._compiled_ascent import make_shift_of_classes, make_step_of_groups
from keras_lpl.engines._tensorflow_look_ahead import fused_batch_norm, linear_gradients

COMPUTES_CHANNELS_FIRST = False
INDEX_DTYPE = "int32"
LARGEST_NUMBER = 3.4e38
BATCH_NORM_DTYPES: tuple[str, ...] = ("float32", "bfloat16", "float16")
REPLICAS_SUM_GRADIENTS = True


def concrete(tensor: Tensor) -> np.ndarray | None:
    """Values of `tensor` as a NumPy array, or None while code is traced."""
    if isinstance(tensor, keras.KerasTensor):
        return None
    if tf.is_tensor(tensor):
        return tensor.numpy() if hasattr(tensor, "numpy") else None
    return np.asarray(tensor)


def with_rows(x: Tensor, rows: Any) -> Tensor:
    """`x`, which must have so many rows: a size not known before would be broadcast in silence."""
    if x.shape[0] is not None and isinstance(rows, int):
        return x
    same = tf.debugging.assert_equal(
        tf.shape(x)[0], rows, "Labels and weights must have as many rows as the logits."
    )
    with tf.control_dependencies([] if same is None else [same]):
        return ops.reshape(x, (rows, *ops.shape(x)[1:]))  # XLA knows no assertions


def rounded(x: Tensor) -> Tensor:
    """`x`, the product of two numbers, rounded before anything else is done with it.

    Compilers merge a product into what is subtracted from it, and round once. In a softmax,
    `exp(x - max(x))`, the largest number is then not 1, and overflows for logits of 1e8.
    """
    return ops.minimum(x, LARGEST_NUMBER)


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """`x[rows]`, for rows that exist, of a tensor or a variable."""
    if isinstance(x, keras.Variable):
        x = x.value
    if _has_rows_in_place(x):
        return x.sparse_read(rows)
    x = ops.convert_to_tensor(x)
    if len(getattr(rows, "shape", ())) > 0:
        return tf.gather(x, rows)
    return x[rows]


def own_entry(x: Tensor, labels: Tensor) -> Tensor:
    """Entry of each row of `x` at its class index, `(rows,)`."""
    # No gather: its gradient takes long to trace, and is no faster.
    is_own = ops.equal(labels[:, None], ops.arange(x.shape[-1], dtype=labels.dtype))
    return ops.sum(ops.where(is_own, x, 0.0), axis=-1)


def normal(shape: tuple[Any, ...], seed: int, step: Tensor) -> Tensor:
    """Standard normal numbers, float32 `(*shape)`, determined by the seed and the step."""
    pair = tf.stack([tf.constant(seed, "int64"), tf.cast(step, "int64")])
    return tf.random.stateless_normal(shape, pair)


def sum_of_groups(x: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """Sums of the rows of each group, `(num_groups, columns)` or `(num_groups,)`."""
    return ops.segment_sum(x, group, num_segments=num_groups)


def _has_rows_in_place(x):
    """True if single rows of a variable's value can be read and changed.

    Not those of a distributed variable, which has `values`, one for each replica, to be averaged;
    and not those of the tensor that a stateless scope has in the variable's place.
    """
    return hasattr(x, "scatter_nd_add") and not hasattr(x, "values")


def add_product(x: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """`x + left @ right`, of a matrix or of many; `x` may be None."""
    return left @ right if x is None else x + left @ right


def add_to_rows(variable: Any, rows: Tensor, num_rows: int, add: Callable[..., Any]) -> None:
    """Adds to some rows of a variable; see `keras_lpl.engines.jax.add_to_rows`."""
    array = variable.value
    if _has_rows_in_place(array):

        def write(i, done):
            row = take_rows(rows, i)
            array.scatter_nd_add(ops.reshape(row, (1, 1)), add(row, None)[None])
            return done + 1

        ops.fori_loop(0, num_rows, write, 0)
        return
    # Stacked anew, as each update of a tensor would copy all of it.
    is_changed = ops.argsort(rows) < num_rows

    def of_row(row):
        old = take_rows(array, row)
        return ops.cond(take_rows(is_changed, row), lambda: add(row, old), lambda: old)

    variable.assign(ops.map(of_row, ops.arange(array.shape[0], dtype="int32")))


def stack_rows(
    of_row: Callable[..., Any],
    num_rows: int,
    num_present: Tensor,
    shapes: Sequence[tuple[int, ...]],
    dtype: str,
) -> tuple[Tensor, ...]:
    """Arrays of rows computed one after the other; see `keras_lpl.engines.jax.stack_rows`."""

    # An array that is written to row by row would be copied with each row.
    def of_any_row(i):
        absent = tuple(ops.zeros(shape, dtype=dtype) for shape in shapes)
        return ops.cond(i < num_present, lambda: tuple(of_row(i)), lambda: absent)

    return ops.map(of_any_row, ops.arange(num_rows, dtype="int32"))


crossentropy_of_indices = make_crossentropy_of_indices(own_entry)
own_probability = make_own_probability(own_entry)
shift_of_classes = make_shift_of_classes(take_rows)
step_of_groups = make_step_of_groups(take_rows, sum_of_groups)


def batch_norm(
    x: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalises over all axes of `x` but the last.

    Args:
        x: `(batch, height, width, channels)`, of one of `BATCH_NORM_DTYPES`.
        scale: float32 `(channels,)`.
        offset: float32 `(channels,)`.
        epsilon: Added to the variance.

    Returns:
        `(y, mean, variance)`: `y` like `x`, the other two float32 and without gradient.
    """
    y, mean, variance = fused_batch_norm(x, scale, offset, epsilon)
    # The kernel returns an estimate of the population's variance; Keras keeps the sample's.
    size = tf.cast(tf.size(x) // tf.shape(x)[-1], tf.float32)
    variance = variance * (size - 1) / size
    return y, tf.stop_gradient(mean), tf.stop_gradient(variance)


def num_replicas() -> int:
    """Number of replicas that train in step; see `keras_lpl.engines.jax.num_replicas`.

    One outside of `strategy.run`.

    Raises:
        ValueError: for a strategy whose replicas do not wait for each other.
    """
    if not tf.distribute.has_strategy():
        return 1
    strategy = tf.distribute.get_strategy()
    if isinstance(strategy, _ASYNCHRONOUS):
        raise ValueError(
            "The workers of a parameter server strategy do not wait for each other, so there is no "
            "batch of all of them, which this loss is of. Train with "
            "`tf.distribute.MirroredStrategy` or `tf.distribute.MultiWorkerMirroredStrategy`. "
            f"Received: a strategy of type {type(strategy).__name__}"
        )
    return 1 if tf.distribute.in_cross_replica_context() else strategy.num_replicas_in_sync


def gather_rows(x: Tensor, gradient_scale: float | None) -> tuple[Tensor, Any]:
    """The rows of all replicas; see `keras_lpl.engines.jax.gather_rows`."""
    replica = tf.distribute.get_replica_context()
    number = tf.cast(replica.replica_id_in_sync_group, x.dtype)
    rows = tf.shape(x)[0]

    @tf.custom_gradient
    def gather(x):
        # The number of its replica comes with each row, which spares an exchange of sizes.
        numbered = tf.concat([tf.fill((rows, 1), number), x], axis=1)
        of_all = replica.all_gather(numbered, axis=0)
        first = tf.math.count_nonzero(of_all[:, 0] < number, dtype=tf.int32)

        def gradient(upstream, _):
            if gradient_scale is None:
                return replica.all_reduce("sum", upstream)[first : first + rows]
            return gradient_scale * upstream[first : first + rows]

        return (of_all[:, 1:], first), gradient

    of_all, first = gather(x)
    return tf.ensure_shape(of_all, (None, x.shape[1])), first


_ASYNCHRONOUS = (
    tf.distribute.ParameterServerStrategy,
    tf.distribute.experimental.ParameterServerStrategy,
)


def compiles() -> bool:
    """True where training steps are compiled, so that values cannot be looked at."""
    return True


def compiled(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` as `fit` compiles it."""
    return tf.function(fn, jit_compile=True)


def compiled_ways(fn: Callable[..., Any]) -> list[Callable[..., Any]]:
    """`fn` compiled in every way that `fit` may take: with XLA and without."""
    return [tf.function(fn, jit_compile=xla) for xla in (True, False)]


def _value_and_gradient(fn, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = fn(x)
    return value, tf.convert_to_tensor(tape.gradient(value, x))


def value_and_gradient(fn: Callable[..., Any], x: Any) -> tuple[np.ndarray, np.ndarray]:
    """Value of the scalar function `fn` at `x`, and its gradient, as NumPy arrays."""
    return tuple(part.numpy() for part in _value_and_gradient(fn, tf.convert_to_tensor(x)))


def compiled_value_and_gradient(
    fn: Callable[..., Any],
) -> Callable[[Any], tuple[np.ndarray, np.ndarray]]:
    """Compiled function of `x` that returns value and gradient of `fn`, as NumPy arrays."""
    fast = tf.function(lambda x: _value_and_gradient(fn, x), jit_compile=True)
    return lambda x: tuple(part.numpy() for part in fast(tf.convert_to_tensor(x)))


def gradients_of(fn: Callable[..., Tensor], tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Value of the scalar function `fn` of a list of tensors, and its gradients, as tensors."""
    tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        value = fn(tensors)
    return value, _dense_gradients(tape, value, tensors)


def _dense_gradients(tape, value, tensors):
    """Gradients as tensors: those of gathered rows are not, and 0 where nothing flows."""
    gradients = tape.gradient(value, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [tf.convert_to_tensor(gradient) for gradient in gradients]


def look_ahead(
    forward: Callable[..., Any],
    virtual_loss: Callable[..., Tensor],
    loss: Callable[..., tuple[Tensor, Any]],
    weights: list[Tensor],
    learnt: list[Tensor],
    improve: Callable[..., list[Tensor]],
) -> tuple[Any, list[Tensor], list[Tensor]]:
    """Gradients of a loss that looks ahead; see `keras_lpl.engines.jax.look_ahead`."""
    # Variables are assigned to on the way; their values now are meant.
    weights = [tf.convert_to_tensor(value) for value in weights]
    learnt = [tf.convert_to_tensor(value) for value in learnt]
    tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
    with tape, linear_gradients():
        tape.watch(weights)
        outputs = forward(weights)
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch(learnt)
        with tape:
            value = virtual_loss(weights, outputs, learnt)
        gradients = _dense_gradients(tape, value, weights)

    def push(directions):
        return outer.gradient(
            gradients,
            learnt,
            output_gradients=directions,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )

    learnt = improve(gradients, push)
    with tape:
        value, rest = loss(weights, outputs, learnt)
    return rest, _dense_gradients(tape, value, weights), learnt


def apply_gradients(optimizer: Any, gradients: list[Tensor], variables: list[Any]) -> None:
    """One step of an optimizer."""
    optimizer.apply(gradients, variables)


def run_train_step(model: Any, step: Callable[..., Any], *args: Any) -> Any:
    """Runs a training step; see `keras_lpl.engines.jax.run_train_step`."""
    return step(*args)


def run_prepared_step(
    model: Any, prepare: Callable[..., Any], step: Callable[..., Any], *args: Any
) -> Any:
    """Runs a step on a prepared batch; see `keras_lpl.engines.jax.run_prepared_step`."""
    return step(prepare(*args))
