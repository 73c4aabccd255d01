"""Perturbations that examples define keep the laws of those in the package."""

import methods
import pytest

import keras_lpl

CASES = {
    "LogarithmicLPL": lambda counts: methods.LogarithmicLPL(counts, bound="ratio"),
    "of the head": lambda counts: methods.OneSidedLogitAdjustment(counts, side="head"),
    "of the tail": lambda counts: methods.OneSidedLogitAdjustment(counts, side="tail"),
}


@pytest.mark.parametrize("case", CASES)
def test_keeps_the_laws(case):
    keras_lpl.testing.check_perturbation(CASES[case])
