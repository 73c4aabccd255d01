"""JAX's part of `keras_lpl.engines`, which says what the functions are for."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
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

COMPUTES_CHANNELS_FIRST = False
INDEX_DTYPE = "int32"
LARGEST_NUMBER = 3.4e38
BATCH_NORM_DTYPES: tuple[str, ...] = ()
REPLICAS_SUM_GRADIENTS = False


def concrete(tensor: Tensor) -> np.ndarray | None:
    """Values of `tensor` as a NumPy array, or None while code is traced."""
    if isinstance(tensor, (jax.core.Tracer, keras.KerasTensor)):
        return None
    return np.asarray(tensor)


def with_rows(x: Tensor, rows: Any) -> Tensor:
    """`x` as it is: its size is known, and was compared with others."""
    return x


def rounded(x: Tensor) -> Tensor:
    """`x`, the product of two numbers, rounded before anything else is done with it.

    Compilers merge a product into what is subtracted from it, and round once. In a softmax,
    `exp(x - max(x))`, the largest number is then not 1, and overflows for logits of 1e8.
    """
    return ops.minimum(x, LARGEST_NUMBER)


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """`x[rows]`, for rows that exist, of a tensor or a variable."""
    return (x.value if isinstance(x, keras.Variable) else x)[rows]


def own_entry(x: Tensor, labels: Tensor) -> Tensor:
    """Entry of each row of `x` at its class index, `(rows,)`."""
    return jnp.take_along_axis(x, labels[:, None], axis=-1, mode="promise_in_bounds")[:, 0]


def normal(shape: tuple[Any, ...], seed: int, step: Tensor) -> Tensor:
    """Standard normal numbers, float32 `(*shape)`, determined by the seed and the step.

    Keras's own take a seed that is state of a layer; this one needs nothing saved but the step.
    """
    key = jax.random.fold_in(jax.random.key(seed), ops.cast(step, "uint32"))
    return jax.random.normal(key, shape, "float32")


def sum_of_groups(x: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """Sums of the rows of each group, `(num_groups, columns)` or `(num_groups,)`."""
    return ops.segment_sum(x, group, num_segments=num_groups)


def add_product(x: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """`x + left @ right`, of a matrix or of many; `x` may be None."""
    return left @ right if x is None else x + left @ right


def add_to_rows(variable: Any, rows: Tensor, num_rows: int, add: Callable[..., Any]) -> None:
    """Adds to some rows of a variable.

    Args:
        variable: `(n, ...)`, not differentiated.
        rows: int32 `(n,)`, all row numbers in any order.
        num_rows: Scalar int: only the first `num_rows` of `rows` are changed.
        add: `add(row, old)` returns the new row, given the scalar `row` and its `old` value. If
            `old` is None it returns what is to be added. May use the memory of `old`.
    """

    def write(i, array):
        row = rows[i]
        start = (row, *(0 for _ in array.shape[1:]))
        # Read from the loop's state: a second reader of `array` would make it a copy.
        old = ops.slice(array, start, (1, *array.shape[1:]))[0]
        return ops.slice_update(array, start, add(row, old)[None])

    variable.assign(ops.fori_loop(0, num_rows, write, variable.value))


def stack_rows(
    of_row: Callable[..., Any],
    num_rows: int,
    num_present: Tensor,
    shapes: Sequence[tuple[int, ...]],
    dtype: str,
) -> tuple[Tensor, ...]:
    """Arrays whose rows are computed one after the other.

    Args:
        of_row: `of_row(i)` returns a tuple of tensors, for a scalar `i`.
        num_rows: Number of rows of the arrays.
        num_present: Scalar int, the number of rows that are computed; the others are 0.
        shapes: The shape of each tensor of the tuple.
        dtype: Their dtype.

    Returns:
        A tuple of arrays `(num_rows, *shape)`.
    """

    def write(i, arrays):
        return tuple(
            ops.slice_update(array, (i, *(0 for _ in shape)), row[None])
            for array, shape, row in zip(arrays, shapes, of_row(i), strict=True)
        )

    start = tuple(ops.zeros((num_rows, *shape), dtype=dtype) for shape in shapes)
    return ops.fori_loop(0, num_present, write, start)


crossentropy_of_indices = make_crossentropy_of_indices(own_entry)
own_probability = make_own_probability(own_entry)
shift_of_classes = make_shift_of_classes(take_rows)
step_of_groups = make_step_of_groups(take_rows, sum_of_groups)


def batch_norm(
    x: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Not offered: XLA fuses what Keras does."""
    raise NotImplementedError


def num_replicas() -> int:
    """Number of replicas that train in step, each with a part of the batch that only it sees.

    One: on JAX an array is global, over however many devices and processes it is spread.
    """
    return 1


def gather_rows(x: Tensor, gradient_scale: float | None) -> tuple[Tensor, Any]:
    """The rows of all replicas, in the order of the replicas.

    Args:
        x: `(rows, columns)`, this replica's part. Replicas may have different numbers of rows.
        gradient_scale: Factor on this replica's gradient, which flows back to its part; None for
            the sum of the gradients of all replicas.

    Returns:
        `(x, first)`: `(rows of all, columns)`, and the row at which this replica's part begins.
    """
    raise NotImplementedError("there is one replica on JAX")


def compiles() -> bool:
    """True where training steps are compiled, so that values cannot be looked at."""
    return True


def compiled(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` as `fit` compiles it."""
    return jax.jit(fn)


def compiled_ways(fn: Callable[..., Any]) -> list[Callable[..., Any]]:
    """`fn` compiled in every way that `fit` may take."""
    return [jax.jit(fn)]


def value_and_gradient(fn: Callable[..., Any], x: Any) -> tuple[np.ndarray, np.ndarray]:
    """Value of the scalar function `fn` at `x`, and its gradient, as NumPy arrays."""
    value, gradient = jax.value_and_grad(fn)(ops.convert_to_tensor(x))
    return np.asarray(value), np.asarray(gradient)


def compiled_value_and_gradient(
    fn: Callable[..., Any],
) -> Callable[[Any], tuple[np.ndarray, np.ndarray]]:
    """Compiled function of `x` that returns value and gradient of `fn`, as NumPy arrays."""
    fast = jax.jit(jax.value_and_grad(fn))

    def call(x):
        value, gradient = fast(ops.convert_to_tensor(x))
        return np.asarray(value), np.asarray(gradient)

    return call


def gradients_of(fn: Callable[..., Tensor], tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Value of the scalar function `fn` of a list of tensors, and its gradients, as tensors."""
    return jax.value_and_grad(fn)(tensors)


def look_ahead(
    forward: Callable[..., Any],
    virtual_loss: Callable[..., Tensor],
    loss: Callable[..., tuple[Tensor, Any]],
    weights: list[Tensor],
    learnt: list[Tensor],
    improve: Callable[..., list[Tensor]],
) -> tuple[Any, list[Tensor], list[Tensor]]:
    """Gradients of a loss whose other arguments were improved by looking one step ahead.

    With `g = d virtual_loss / d weights`, the gradient of `g . direction` with respect to `learnt`
    is the product of the mixed second derivative with a vector. It takes one more pass through the
    network, and no second-order graph of it: forwards, along the direction, on JAX; on the others
    once more backwards, as `g` is linear in what comes in from above.

    Args:
        forward: `forward(weights)` returns what both losses read.
        virtual_loss: `virtual_loss(weights, outputs, learnt)` returns a scalar.
        loss: `loss(weights, outputs, learnt)` returns a scalar and anything else.
        weights: Values of the trainable variables.
        learnt: What is improved.
        improve: `improve(gradients, push)` returns the new `learnt`, given `g` and a function
            `push(directions)` that returns the gradients of `g . directions` by `learnt`.

    Returns:
        `(rest, gradients, learnt)`: what else `loss` returned, its gradients by `weights`, and the
        new `learnt`.
    """

    def virtual_loss_at(weights, learnt):
        return virtual_loss(weights, forward(weights), learnt)

    later = weights  # of the passes after the virtual step

    def push(directions):
        nonlocal later
        later = _when_known(weights, directions)
        if not _has_forward_mode(forward, later):
            gradients_at = functools.partial(jax.grad(virtual_loss_at), later)
            return jax.vjp(gradients_at, learnt)[1](directions)[0]
        outputs, along = jax.jvp(forward, (later,), (directions,))
        gradients_at = jax.grad(virtual_loss, argnums=(0, 1), allow_int=True)
        _, pull = jax.vjp(functools.partial(gradients_at, later, outputs), learnt)
        return pull((directions, along))[0]

    # The forward pass is run twice, for the virtual step and for all that follows, so that what is
    # kept of it need not wait for the pass of the meta samples: a third of the memory.
    improved = improve(jax.grad(virtual_loss_at)(weights, learnt), push)

    def loss_at(weights):
        return loss(weights, forward(weights), improved)

    (_, rest), gradients = jax.value_and_grad(loss_at, has_aux=True)(later)
    return rest, gradients, improved


def _has_forward_mode(fn, *args):
    """False if a part of `fn` has a gradient of its own, by `keras.ops.custom_gradient` for one."""

    def names(jaxpr):
        for equation in jaxpr.eqns:
            yield equation.primitive.name
            for inner in jax.tree.leaves(equation.params):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from names(inner)

    return not any(name.startswith("custom_vjp") for name in names(jax.make_jaxpr(fn)(*args).jaxpr))


def _when_known(arrays, others):
    """`arrays` as they are, but not before `others` are known: XLA may not merge what reads them.

    On CPUs it drops `jax.lax.optimization_barrier` before it looks for what is computed twice.
    """
    never = jnp.abs(others[0].ravel()[0]) < -1
    return [jnp.where(never, other, array) for array, other in zip(arrays, others, strict=True)]


def apply_gradients(optimizer: Any, gradients: list[Tensor], variables: list[Any]) -> None:
    """One step of an optimizer that is built, also where values are those of a scope."""
    slots = optimizer.variables
    values, slot_values = optimizer.stateless_apply(
        [slot.value for slot in slots], gradients, [variable.value for variable in variables]
    )
    for variable, value in zip([*variables, *slots], [*values, *slot_values], strict=True):
        variable.assign(value)


def run_train_step(model: Any, step: Callable[..., Any], *args: Any) -> Any:
    """Runs a training step that reads and assigns variables, as Keras calls it on JAX.

    Args:
        model: The model.
        step: `step(data)` returns the logs.
        *args: What Keras passes: on JAX `(state, data)`, the values of the model's variables and
            one batch; else `(data,)`.

    Returns:
        What Keras takes: on JAX `(logs, state)`, else the logs.
    """
    state, data = args
    groups = _groups(model)
    with keras.StatelessScope(state_mapping=_mapping(groups, state)) as scope:
        logs = step(data)
    return logs, _values(groups, scope)


def run_prepared_step(
    model: Any, prepare: Callable[..., Any], step: Callable[..., Any], *args: Any
) -> Any:
    """Runs Keras's training step on a batch that was prepared first.

    Args:
        model: The model.
        prepare: `prepare(data)` returns the batch to train on. It may assign to variables.
        step: Keras's own training step.
        *args: What Keras passes, as for `run_train_step`.

    Returns:
        What Keras takes.
    """
    state, data = args
    groups = _groups(model)
    with keras.StatelessScope(state_mapping=_mapping(groups, state)) as scope:
        data = prepare(data)
    return step(_values(groups, scope), data)


def _groups(model):
    """Variables of a model in the order of the state that Keras passes to a training step."""
    return (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )


def _mapping(groups, state):
    for variables, values in zip(groups, state, strict=True):
        yield from zip(variables, values, strict=True)


def _values(groups, scope):
    return tuple([scope.get_current_value(variable) for variable in group] for group in groups)
