"""Perturbations apply in the order of the list, each to what the one before has made."""

import types

import numpy as np
import pytest
from keras import ops

import keras_lpl
from keras_lpl.core.context import context_scope
from keras_lpl.perturbations import ISDA, LDAM, LPL, Context, LogitAdjustment
from tests import reference, reference_perturbations
from tests.contract import COUNTS, assert_close, batch
from tests.losses.perturbation_cases import covariance_of, kernel_of

KERNEL, COVARIANCE = kernel_of(COUNTS), covariance_of(COUNTS, diagonal=True)


def la(labels, logits):
    return np.asarray(logits, "float64") + np.log(np.array(COUNTS) / sum(COUNTS))


def lpl(labels, logits):
    direction = reference.split_by_frequency(COUNTS, 0.4)
    steps = reference.num_steps(reference.bound_by_frequency(COUNTS, 0.4, 0.1, 1.0), 0.1)
    return reference.perturb_logits(labels, logits, direction, steps, 0.1)


def isda(labels, logits):
    return reference_perturbations.isda(labels, logits, KERNEL, COVARIANCE, strength=0.5)


def ldam(labels, logits):
    return reference_perturbations.ldam(labels, logits, COUNTS, max_margin=0.5, scale=3.0)


MINE = {
    la: lambda: LogitAdjustment(COUNTS),
    lpl: lambda: LPL(COUNTS, None, 0.4, 0.1, 1.0, 0.1, bound="ratio"),
    isda: lambda: ISDA(0.5, schedule=None, covariance="diagonal"),
    ldam: lambda: LDAM(COUNTS, scale=3.0),
}


@pytest.mark.parametrize(
    "order",
    [(la, lpl), (isda, lpl), (ldam, lpl), (lpl, ldam), (la, isda), (la, isda, lpl)],
    ids=lambda order: "+".join(part.__name__ for part in order),
)
def test_order_is_that_of_the_list(order):
    labels, logits = batch(1)
    loss = keras_lpl.PerturbedCrossentropy([MINE[part]() for part in order])
    moments = types.SimpleNamespace(covariance=COVARIANCE)
    context = Context(
        kernel=ops.convert_to_tensor(KERNEL),
        statistics={"diagonal_moments": moments},
    )
    expected = logits
    for part in order:
        expected = part(labels, expected)
    with context_scope(context, features=ops.ones((len(labels), 1))):
        assert_close(ops.convert_to_numpy(loss.perturb(labels, logits)), expected)


def test_the_order_matters():
    labels, logits = batch(1)
    assert not np.allclose(ldam(labels, lpl(labels, logits)), lpl(labels, ldam(labels, logits)))
