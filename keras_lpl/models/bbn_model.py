"""`BBNModel`: an `LPLModel` of two branches that learn from samples of their own.

One training step, on a batch of pairs:

    x = [x_c, x_r]              uniformly drawn samples, then as many of the reversed sampler
    a = 1 - (t / T)^2           the share of the conventional branch
    z = W' [a f_c, (1 - a) f_r] features of `x_c` and `x_r`, each from its branch
    L = a L(y_c, z) + (1 - a) L(y_r, z)
"""

import inspect
from typing import Any

import keras
from keras import ops

from keras_lpl import engines
from keras_lpl.core.registry import register
from keras_lpl.core.typing import Tensor
from keras_lpl.methods.bbn import checked_mixing, conventional_share, mix_features
from keras_lpl.models.branches import find_branches, with_two_branches
from keras_lpl.models.lpl_model import LPLModel


@register
class BBNModel(LPLModel):
    """An `LPLModel` with a second branch for rare classes (BBN; Zhou et al., CVPR 2020).

    The conventional branch learns from samples as they come, the re-balancing branch from samples
    drawn the more often the rarer their class. The last layer reads both, and training shifts from
    the first to the second. Prediction and evaluation give each a half.

    It trains with any loss, on data whose batches are pairs:
    `keras_lpl.data.ArrayDataset(x, y, batch_size, sampling="paired")`, or `pipeline` with the same.
    Data of your own says so by an attribute, `dataset.is_paired = True`: the first half of a
    batch's rows is for the conventional branch, the second for the other.

    The share moves with every step; the authors' code moves it once an epoch. That code also
    doubles the mixed features; here they are as in the paper.

    Args:
        inputs: Input tensors, as in `keras.Model`.
        outputs: Logits, as in `LPLModel`; made of one `keras_lpl.layers.BranchMixing`.
        mixing: Share of the conventional branch over training: `"parabolic"` (1 - p^2, where p is
            the share of training that is done), `"linear"` (1 - p), `"cosine"` (cos(p pi / 2)), or
            a number within [0, 1] that stays.

    Raises:
        ValueError: for a `mixing` that is none of these, or a model without branches. When trained,
            for data whose batches are no pairs, or on several replicas.

    Example:

    >>> x, y = np.random.normal(size=(24, 4)), np.repeat([0, 1, 2], [18, 4, 2])
    >>> network = keras.Sequential([keras.Input((4,))])
    >>> for name in ("shared", "own"):
    ...     network.add(keras.layers.Dense(8, "relu", name=name))
    >>> network.add(keras.layers.Dense(3))
    >>> model = keras_lpl.models.BBNModel.from_model(network, split_after="shared")
    >>> model.compile("sgd", loss=keras_lpl.PerturbedCrossentropy([]))
    >>> train = keras_lpl.data.ArrayDataset(x, y, batch_size=8, sampling="paired")
    >>> history = model.fit(train, shuffle=False, verbose=0)
    """

    # Keras takes a model for a functional one at load only if the constructor reads like this.
    def __init__(self, *args: Any, mixing: str | float = "parabolic", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mixing = checked_mixing(mixing)
        self._branches = find_branches(self)
        self._tail: Any = None

    @classmethod
    def from_model(
        cls,
        model: keras.Model,
        *,
        split_after: str | None = None,
        copy_weights: bool = False,
        **kwargs: Any,
    ) -> "BBNModel":
        """Makes two branches of a network that has one.

        Its last part, from the layer `split_after` to the features, is the conventional branch; a
        copy of it with weights of its own is the re-balancing one. A new last layer of the same
        kind reads both.

        Args:
            model: As for `LPLModel.from_model`; it ends in a layer such as `Dense(classes)`.
            split_after: Name of the last layer that both branches share. By default, for a network
                of `keras_lpl.networks`, the branches are the last residual block, as in the paper.
            copy_weights: Whether both branches begin with the same weights, for a network that is
                pretrained. The paper's begin with weights of their own.
            **kwargs: Passed on to the constructor, e.g. `mixing`.

        Returns:
            A `BBNModel`.

        Raises:
            ValueError: if there is no such layer, another connection leads around it, or no weights
                lie between it and the last layer.
        """
        kwargs.setdefault("name", model.name)
        return super().from_model(with_two_branches(model, split_after, copy_weights), **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Config of the model."""
        return {**super().get_config(), "mixing": self.mixing}

    # --- Training ------------------------------------------------------------------------------

    def _follows_schedule(self) -> bool:
        """True where the share of the branches changes over training."""
        return isinstance(self.mixing, str)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Configures training, as `keras.Model.compile`."""
        super().compile(*args, **kwargs)
        # An input of a Keras model cannot be an output, too.
        features = [
            plan.head.features
            for plan in self._plan.outputs
            if plan.head is not None and plan.head.features is not self._branches.mixed
        ]
        self._tail = _Untracked(keras.Model(self._branches.mixed, [*self.outputs, *features]))

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Trains the model, as `keras.Model.fit`, on data whose batches are pairs."""
        call = inspect.signature(keras.Model.fit).bind(self, *args, **kwargs)
        data = call.arguments.get("x")
        if not getattr(data, "is_paired", False):
            raise ValueError(
                "`BBNModel` trains on pairs of batches, `keras_lpl.data.ArrayDataset(x, y, "
                'batch_size, sampling="paired")` or `pipeline(..., sampling="paired")`. Data of '
                "your own that holds pairs says so: `dataset.is_paired = True`. "
                f"Received: x of type {type(data).__name__}"
            )
        return super().fit(*args, **kwargs)

    def train_step(self, *args: Any) -> Any:
        """Keras's training step: `(data)` on TensorFlow and PyTorch, `(state, data)` on JAX."""
        replicas = engines.num_replicas()
        if replicas > 1:
            raise ValueError(
                "`BBNModel` splits a batch of pairs in the middle, and replicas have a part of it "
                f"each. Train it on one device. Received: {replicas} replicas"
            )
        return super().train_step(*args)

    def share(self) -> Tensor:
        """Share of the conventional branch in the next training step, a scalar."""
        progress = self.statistics.get("progress").value if self._follows_schedule() else 0.0
        return conventional_share(progress, self.mixing)

    def call(self, inputs: Any, training: Any = None, mask: Any = None, **kwargs: Any) -> Any:
        """Logits: of each input, or in a training step of each pair."""
        if not self._is_in_step():
            return super().call(inputs, training=training, mask=mask, **kwargs)
        mixed = mix_features(
            self._branches.conventional.call(_first_half(inputs), training=training),
            self._branches.rebalancing.call(_second_half(inputs), training=training),
            self.share(),
        )
        results = keras.tree.flatten(self._tail.model.call(mixed, training=training))
        outputs = self._keep_features(results if len(results) > 1 else [*results, mixed])
        return keras.tree.pack_sequence_as(getattr(self, "_outputs_struct", self.outputs), outputs)

    def _loss_of(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Tensor:
        """The loss of both samples of each pair, by the share of its branch."""
        if not (training and self._is_in_step()):
            return super()._loss_of(x, y, y_pred, sample_weight, training)
        share = self.share()
        conventional, rebalancing = (
            super(BBNModel, self)._loss_of(half(x), half(y), y_pred, half(sample_weight), training)
            for half in (_first_half, _second_half)
        )
        share = ops.cast(share, conventional.dtype)
        return share * conventional + (1 - share) * rebalancing

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Metrics; in training those of the conventional branch's samples."""
        if self._is_in_step():
            x, y, sample_weight = _first_half(x), _first_half(y), _first_half(sample_weight)
        return super().compute_metrics(x, y, y_pred, sample_weight)


class _Untracked:
    """Holds a model over layers that the model which keeps it has as well."""

    def __init__(self, model):
        self.model = model


# The halves are copies: TensorFlow takes the memory of a slice for its own and computes in it, and
# that memory may be the array that the user's generator keeps.


def _first_half(value):
    return _map(lambda rows: engines.take_rows(rows, ops.arange(_half(rows))), value)


def _second_half(value):
    return _map(
        lambda rows: engines.take_rows(rows, ops.arange(_half(rows), ops.shape(rows)[0])), value
    )


def _map(function, value):
    return keras.tree.map_structure(lambda x: None if x is None else function(x), value)


def _half(rows):
    size = rows.shape[0]
    if size is None:
        size = ops.shape(rows)[0]
    elif size % 2:
        raise ValueError(
            "A batch of pairs has an even number of rows: those of the conventional branch, then "
            f"as many of the re-balancing one. Received: {size} rows"
        )
    return size // 2
