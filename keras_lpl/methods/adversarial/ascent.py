"""Projected gradient ascent: `delta <- project(delta + step_size * direction(gradient))`.

`max_{|delta| <= epsilon} l(f(x + delta), y)` (Eq. 1 of LPL) by a few steps: one step of length
`epsilon` from zero in the maximum norm is the fast gradient sign method (FGSM; Goodfellow, Shlens,
Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015), several are PGD (Madry et
al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_lpl.core import checks
from keras_lpl.core.numerics import divide_or_zero, unit_rows
from keras_lpl.core.typing import Tensor

NORMS = ("linf", "l2")

# Several steps are so much longer than `epsilon`, together, that they can reach the ball's edge
# by a detour (Madry et al. on MNIST: 40 steps of 0.01 for 0.3; on CIFAR-10: 7 of 2 for 8).
_REACH = 2.5


@dataclasses.dataclass(frozen=True)
class Ascent:
    """Bound and steps of an ascent; the attributes are the arguments of all that have one.

    Attributes:
        epsilon: Radius of the ball.
        num_steps: Number of steps.
        step_size: Length of a step; None: `epsilon` for one step, `2.5 * epsilon / num_steps` for
            more.
        norm: `"linf"` or `"l2"`.
    """

    epsilon: float
    num_steps: int
    step_size: float | None
    norm: str

    @classmethod
    def checked(cls, epsilon: Any, num_steps: Any, step_size: Any, norm: Any) -> "Ascent":
        """Raises `ValueError` for an argument out of range."""
        if step_size is not None:
            step_size = checks.number(step_size, "step_size", minimum=0)
        return cls(
            checks.number(epsilon, "epsilon", minimum=0),
            checks.integer(num_steps, "num_steps", minimum=1),
            step_size,
            checks.one_of(norm, "norm", NORMS),
        )

    @property
    def length(self) -> float:
        """Length of a step."""
        if self.step_size is not None:
            return self.step_size
        return self.epsilon if self.num_steps == 1 else _REACH * self.epsilon / self.num_steps

    def climb(
        self,
        gradient_of: Callable[[Tensor], Tensor],
        start: Tensor,
        clip: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Climbs from `start`, and returns the last `delta`, within the ball.

        Args:
            gradient_of: Gradient of the loss at a `delta`.
            start: Where to start, `(rows, ...)`. Each row has a ball of its own.
            clip: Further bounds of `delta`, if any.
        """

        def step(_: Any, delta: Tensor) -> Tensor:
            gradient = gradient_of(delta)
            direction = ops.sign(gradient) if self.norm == "linf" else _of_rows(unit_rows, gradient)
            delta = self.project(delta + self.length * direction)
            return delta if clip is None else clip(delta)

        if self.num_steps == 1:
            return step(0, start)
        return ops.fori_loop(0, self.num_steps, step, start)

    def project(self, delta: Tensor) -> Tensor:
        """The nearest point of the ball."""
        if self.norm == "linf":
            return ops.clip(delta, -self.epsilon, self.epsilon)
        return _of_rows(self._shorten, delta)

    def _shorten(self, rows):
        length = ops.sqrt(ops.sum(ops.square(rows), axis=-1, keepdims=True))
        share = divide_or_zero(ops.full_like(length, self.epsilon), length)
        return rows * ops.where(length > self.epsilon, share, 1.0)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return dataclasses.asdict(self)


def _of_rows(function, x):
    """`function` of the rows of a tensor of any rank."""
    if len(x.shape) == 2:
        return function(x)
    return ops.reshape(function(ops.reshape(x, (ops.shape(x)[0], -1))), ops.shape(x))
