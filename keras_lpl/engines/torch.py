"""PyTorch's part of `keras_lpl.engines`, which says what the functions are for."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import torch
from keras import ops
from torch.nn.attention import SDPBackend, sdpa_kernel

from keras_lpl.core import numerics
from keras_lpl.core.numerics import LARGEST
from keras_lpl.core.typing import Tensor
from keras_lpl.engines._torch_ascent import shift_of_classes, step_of_groups  # noqa: F401
from keras_lpl.engines._torch_constants import constant, ones  # noqa: F401
from keras_lpl.engines._torch_look_ahead import LinearGradients

COMPUTES_CHANNELS_FIRST = True
INDEX_DTYPE = "int64"  # what its operations take
BATCH_NORM_DTYPES: tuple[str, ...] = ("float32", "bfloat16", "float16", "float64")
REPLICAS_SUM_GRADIENTS = False


def concrete(tensor: Tensor) -> np.ndarray | None:
    """Values of `tensor` as a NumPy array, or None while code is traced."""
    if isinstance(tensor, torch.Tensor):
        if tensor.device.type == "meta":
            return None
        tensor = tensor.detach()
        if tensor.dtype == torch.bfloat16:  # unknown to NumPy
            tensor = tensor.float()
        return tensor.cpu().numpy()
    return None if isinstance(tensor, keras.KerasTensor) else np.asarray(tensor)


def with_rows(x: Tensor, rows: Any) -> Tensor:
    """`x` as it is: its size is known, and was compared with others."""
    return x


def rounded(x: Tensor) -> Tensor:
    """`x` as it is: operations are run one by one."""
    return x


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """`x[rows]`, for rows that exist, of a tensor or a variable."""
    return (x.value if isinstance(x, keras.Variable) else x)[rows]


def finite_or_zero(logits: Tensor) -> tuple[Tensor, Tensor | None]:
    """Rows of finite logits, and zeros for the others; see `keras_lpl.core.numerics`."""
    with torch.no_grad():
        if logits.device.type == "cpu":  # elsewhere the device would have to wait for the answer
            length = torch.linalg.vector_norm(logits)
            if bool(length < LARGEST):  # as nearly always, and several passes over them are spared
                return logits, None
    return numerics.finite_or_zero(logits)


def crossentropy_of_indices(labels: Tensor, logits: Tensor) -> Tensor:
    """Softmax cross-entropy of each row, `(rows,)`, of class indices `(rows,)`."""
    return torch.nn.functional.cross_entropy(logits, labels.long(), reduction="none")


def own_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax probability of each row's class index, `(rows,)`, without a gradient."""
    logits = logits.detach()
    own = logits.gather(1, labels[:, None].long())
    # Quicker than a softmax of few classes. Where a term overflows, the probability is 0.
    return (logits - own).exp_().sum(dim=1).reciprocal_()


@torch.compiler.disable  # it knows no generators
def normal(shape: tuple[Any, ...], seed: int, step: Tensor) -> Tensor:
    """Standard normal numbers, float32 `(*shape)`, determined by the seed and the step."""
    device = step.device
    generator = torch.Generator(device)
    generator.manual_seed(int(np.random.SeedSequence([seed, int(step)]).generate_state(1)[0]))
    return torch.randn(tuple(shape), generator=generator, device=device)


def sum_of_groups(x: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """Sums of the rows of each group, `(num_groups, ...)`. Keras takes thirteen operations."""
    return x.new_zeros((num_groups, *x.shape[1:])).index_add(0, group, x)


def weighted_sums(
    x: Tensor, weight: Tensor, group: Tensor, num_groups: int
) -> tuple[Tensor, Tensor]:
    """Sums of `weight * x` and of `weight` over the rows of each group, each `(num_groups,)`."""
    columns = torch.stack([x * weight, weight], dim=1)
    total, of_weight = columns.new_zeros((num_groups, 2)).index_add(0, group, columns).unbind(1)
    return total, of_weight


def row_of_group(group: Tensor, num_groups: int, rows: int) -> Tensor:
    """Index of one row of each group, whichever is written last; see `_compiled`."""
    index = torch.arange(rows, device=group.device)
    return group.new_zeros(num_groups).scatter_(0, group, index)


def add_product(x: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """`x + left @ right`, of a matrix or of many, in the memory of `x`; `x` may be None."""
    if x is None:
        return left @ right
    return x.addmm_(left, right) if len(x.shape) == 2 else x.baddbmm_(left, right)


def add_to_rows(variable: Any, rows: Tensor, num_rows: int, add: Callable[..., Any]) -> None:
    """Adds to some rows of a variable; see `keras_lpl.engines.jax.add_to_rows`."""
    array = variable.value
    for row in ops.convert_to_numpy(rows)[: int(num_rows)]:
        old = array[row]
        new = add(int(row), old)
        if new is not old:
            array[row] = new


def stack_rows(
    of_row: Callable[..., Any],
    num_rows: int,
    num_present: Tensor,
    shapes: Sequence[tuple[int, ...]],
    dtype: str,
) -> tuple[Tensor, ...]:
    """Arrays of rows computed one after the other; see `keras_lpl.engines.jax.stack_rows`."""
    arrays = tuple(ops.zeros((num_rows, *shape), dtype=dtype) for shape in shapes)
    for i in range(int(num_present)):
        for array, row in zip(arrays, of_row(i), strict=True):
            array[i] = row
    return arrays


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
    y, mean, inverse_deviation = torch.native_batch_norm(
        x.permute(0, 3, 1, 2), scale, offset, None, None, True, 0.0, epsilon
    )
    with torch.no_grad():
        variance = torch.clamp(inverse_deviation**-2 - epsilon, min=0.0)
    return y.permute(0, 2, 3, 1), mean.detach(), variance


def num_replicas() -> int:
    """Number of replicas that train in step; see `keras_lpl.engines.jax.num_replicas`.

    All processes of the default group, once it is initialised. One where no gradient is asked for:
    a process may then evaluate alone.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 1
    return torch.distributed.get_world_size() if torch.is_grad_enabled() else 1


class _GatheredRows(torch.autograd.Function):
    """The rows of all processes, as `gather_rows` says."""

    @staticmethod
    def forward(ctx, x, sizes, rank, scale):
        ctx.rows, ctx.first, ctx.scale = sizes[rank], sum(sizes[:rank]), scale
        # Processes exchange tensors of one shape.
        padded = x.new_zeros((max(sizes), x.shape[1]))
        padded[: x.shape[0]] = x
        of_all = [torch.empty_like(padded) for _ in sizes]
        torch.distributed.all_gather(of_all, padded)
        return torch.cat([part[:size] for part, size in zip(of_all, sizes, strict=True)])

    @staticmethod
    def backward(ctx, upstream):
        if ctx.scale is None:
            upstream = upstream.clone()
            torch.distributed.all_reduce(upstream)
        own = upstream[ctx.first : ctx.first + ctx.rows]
        return own if ctx.scale is None else ctx.scale * own, None, None, None


@torch.compiler.disable  # the number of rows is not known while code is traced
def gather_rows(x: Tensor, gradient_scale: float | None) -> tuple[Tensor, Any]:
    """The rows of all replicas; see `keras_lpl.engines.jax.gather_rows`."""
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    shape = torch.tensor(tuple(x.shape), device=x.device)
    shapes = [torch.empty_like(shape) for _ in range(world)]
    torch.distributed.all_gather(shapes, shape)
    rows, columns = zip(*(of_rank.tolist() for of_rank in shapes), strict=True)
    if len(set(columns)) > 1:
        raise ValueError(
            "Every process must give the loss the same kinds of input: `sample_weight` and a mask "
            "on all of them or on none, and labels of one form. "
            f"Received: {', '.join(map(str, columns))} numbers for a row, process by process"
        )
    return _GatheredRows.apply(x, rows, rank, gradient_scale), sum(rows[:rank])


def compiles() -> bool:
    """True where training steps are compiled, so that values cannot be looked at."""
    return False


def compiled(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` as `fit` runs it: operation by operation."""
    return fn


def compiled_ways(fn: Callable[..., Any]) -> list[Callable[..., Any]]:
    """`fn` in every way that `fit` may take."""
    return [fn]


def value_and_gradient(fn: Callable[..., Any], x: Any) -> tuple[np.ndarray, np.ndarray]:
    """Value of the scalar function `fn` at `x`, and its gradient, as NumPy arrays."""
    x = ops.convert_to_tensor(x).detach().clone().requires_grad_(True)
    value = fn(x)
    (gradient,) = torch.autograd.grad(value, x)
    return value.detach().cpu().numpy(), gradient.cpu().numpy()


def compiled_value_and_gradient(
    fn: Callable[..., Any],
) -> Callable[[Any], tuple[np.ndarray, np.ndarray]]:
    """Function of `x` that returns value and gradient of `fn`, as NumPy arrays."""
    return lambda x: value_and_gradient(fn, x)


def gradients_of(fn: Callable[..., Tensor], tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Value of the scalar function `fn` of a list of tensors, and its gradients, as tensors."""
    tensors = _leaves(tensors)
    with torch.enable_grad():
        value = fn(tensors)
        return value.detach(), _gradients(value, tensors)


def _leaves(tensors):
    return [tensor.detach().requires_grad_(True) for tensor in tensors]


def _gradients(value, tensors, **keywords):
    """Gradients, and 0 where nothing flows."""
    if not any(part.requires_grad for part in ([value] if torch.is_tensor(value) else value)):
        return [torch.zeros_like(tensor) for tensor in tensors]
    return torch.autograd.grad(
        value, tensors, allow_unused=True, materialize_grads=True, **keywords
    )


@torch.compiler.disable  # it cannot trace gradients of gradients
def look_ahead(
    forward: Callable[..., Any],
    virtual_loss: Callable[..., Tensor],
    loss: Callable[..., tuple[Tensor, Any]],
    weights: list[Tensor],
    learnt: list[Tensor],
    improve: Callable[..., list[Tensor]],
) -> tuple[Any, list[Tensor], list[Tensor]]:
    """Gradients of a loss that looks ahead; see `keras_lpl.engines.jax.look_ahead`."""
    weights, learnt = _leaves(weights), _leaves(learnt)
    # Fused attention has no second gradient.
    with LinearGradients(), sdpa_kernel(SDPBackend.MATH):
        outputs = forward(weights)
    improved = _improved(virtual_loss(weights, outputs, learnt), weights, learnt, improve)
    value, rest = loss(weights, outputs, [tensor.detach() for tensor in improved])
    return rest, list(_gradients(value, weights)), improved


def _improved(value, weights, learnt, improve):
    """Calls `improve`. The graph of the gradients is gone when it returns."""
    gradients = _gradients(value, weights, create_graph=True)

    def push(directions):
        pairs = zip(gradients, directions, strict=True)
        flowing = [pair for pair in pairs if pair[0].requires_grad]
        targets, vectors = zip(*flowing, strict=True)
        return _gradients(targets, learnt, grad_outputs=vectors)

    return improve([gradient.detach() for gradient in gradients], push)


@torch.no_grad()
def apply_gradients(optimizer: Any, gradients: list[Tensor], variables: list[Any]) -> None:
    """One step of an optimizer."""
    optimizer.apply(list(gradients), variables)


def run_train_step(model: Any, step: Callable[..., Any], *args: Any) -> Any:
    """Runs a training step; see `keras_lpl.engines.jax.run_train_step`."""
    return step(*args)


def run_prepared_step(
    model: Any, prepare: Callable[..., Any], step: Callable[..., Any], *args: Any
) -> Any:
    """Runs a step on a prepared batch; see `keras_lpl.engines.jax.run_prepared_step`."""
    return step(prepare(*args))
