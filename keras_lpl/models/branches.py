"""Splits a network into two branches (Zhou et al., 2020), and finds the two again."""

import dataclasses
import re
from typing import Any

import keras

from keras_lpl.core.masks import mask_of
from keras_lpl.methods.bbn import BranchMixing
from keras_lpl.models.head import find_head, symbolic_tensors

_ONE_OUTPUT = "BBN trains models of one output, its logits. Received: outputs: "
# The residual blocks of `keras_lpl.networks`.
_BLOCK = re.compile(r"stage\d+_block\d+_")


@dataclasses.dataclass(frozen=True)
class Branches:
    """The parts of a network of two branches. A plain object, so that Keras does not track them.

    Attributes:
        conventional: From inputs to features.
        rebalancing: The same, in the other branch.
        mixed: Symbolic, what the two come together to.
    """

    conventional: Any
    rebalancing: Any
    mixed: Any


def find_branches(model: Any) -> Branches:
    """The branches of a functional model.

    Raises:
        ValueError: unless there is exactly one `BranchMixing` among its layers, without a mask.
    """
    found = [layer for layer in model.layers if isinstance(layer, BranchMixing)]
    if len(found) != 1:
        raise ValueError(
            "`BBNModel` is built of two branches that meet in one `keras_lpl.layers.BranchMixing`; "
            "`BBNModel.from_model(network)` makes them of a network that has one. "
            f"Received: {len(found)} such layers in {model.name!r}"
        )
    if len(model.outputs) != 1:
        raise ValueError(_ONE_OUTPUT + str(len(model.outputs)))
    inputs, _ = symbolic_tensors(model)
    conventional, rebalancing = found[0].input
    if any(mask_of(each) is not None for each in found[0].input):
        raise ValueError(
            "The branches of a `BBNModel` see different samples, whose masks differ. Leave Keras's "
            "masks out (`mask_zero=False`), and pass `sample_weight` of 0 for steps that do not "
            f"count. Received: a mask in front of {found[0].name!r}"
        )
    return Branches(
        keras.Model(inputs, conventional), keras.Model(inputs, rebalancing), found[0].output
    )


def with_two_branches(network: Any, split_after: str | None, copy_weights: bool) -> keras.Model:
    """A network whose last part is there twice, in front of a new last layer on both.

    Args:
        network: A model that ends in a linear layer. The conventional branch is its own layers.
        split_after: Name of the last layer that both branches share.
        copy_weights: Whether the re-balancing branch begins with the weights of the other one,
            instead of new ones.
    """
    inputs, output = symbolic_tensors(network)
    network = keras.Model(inputs, output, name=network.name)
    if len(network.outputs) != 1:
        raise ValueError(_ONE_OUTPUT + str(len(network.outputs)))
    head = find_head(network, network.outputs[0]).layer
    nodes = _nodes_of(network.outputs[0])
    (features,) = nodes[head.name].input_tensors
    split = _split_of(nodes, split_after)
    branch, rebalancing = _branches(
        split, features, f"split_after={split_after!r}, before {head.name!r}"
    )
    if copy_weights:
        rebalancing.set_weights(branch.get_weights())
    mixed = BranchMixing(name="mixing")([features, rebalancing(split)])
    logits = type(head).from_config(head.get_config())(mixed)
    dtype = network.outputs[0].dtype
    if logits.dtype != dtype:
        logits = keras.layers.Activation("linear", dtype=dtype)(logits)
    return keras.Model(inputs, logits, name=network.name)


def _nodes_of(output):
    """By the name of a layer, its call that led to `output`, from the first layer on.

    A layer's own `output` may be that of another call: `Sequential.add` calls all layers anew.
    """
    nodes, waiting = {}, [output]
    while waiting:
        layer, index, _ = waiting.pop()._keras_history
        if layer.name not in nodes:
            nodes[layer.name] = layer._inbound_nodes[index]
            waiting += nodes[layer.name].input_tensors
    return dict(reversed(nodes.items()))


def _branches(split, features, received):
    """Two models from the tensor that both branches read to the features: its own and a new one."""
    branch: Any = None
    rebalancing: Any = None
    try:
        if split is not features:
            branch = keras.Model(split, features)
            rebalancing = keras.models.clone_model(branch, clone_function=_renamed)
    except (ValueError, KeyError) as error:  # KeyError: Keras 3.12 finds it out as it clones
        raise ValueError(
            "A branch must read the layer it splits after, and nothing else: no connection may "
            "lead around it, such as a mask of `mask_zero=True`, and it must lie before the last "
            f"layer. Received: {received}"
        ) from error
    if branch is None or not branch.trainable_variables:
        raise ValueError(
            "Between the layer that the branches split after and the last layer there must be "
            f"weights, or the branches would be the same. Received: {received}"
        )
    branch.name = rebalancing.name = "rebalancing"
    return branch, rebalancing


def _renamed(layer):
    """A layer of the same kind, under another name."""
    config = {**layer.get_config(), "name": f"{layer.name}_rebalancing"}
    return type(layer).from_config(config)


def _split_of(nodes, split_after):
    """The tensor that both branches read."""
    last = list(nodes)[-8:]
    if split_after is not None:
        if split_after not in nodes:
            raise ValueError(
                "`split_after` must be the name of a layer, the last one that both branches share; "
                f"the model's last ones are {last}. Received: split_after={split_after!r}"
            )
        return nodes[split_after].outputs[0]
    blocks = [found.group() for found in map(_BLOCK.match, nodes) if found]
    if not blocks:
        raise ValueError(
            "Name the last layer that both branches share: `split_after=`. Without, the branches "
            "are the last residual block of a network of `keras_lpl.networks`. "
            f"Received: a network whose last layers are {last}"
        )
    last_block = max(blocks, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    block = [node for name, node in nodes.items() if name.startswith(last_block)]
    inside = {id(tensor) for node in block for tensor in node.outputs}
    entering = [t for node in block for t in node.input_tensors if id(t) not in inside]
    return entering[0]
