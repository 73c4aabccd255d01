"""Losses that are perturbations with a name take the same arguments, with the same defaults."""

import inspect

import pytest

import keras_lpl

PRESETS = {
    "ALA": ("ALALoss", "ALA"),
    "AdversarialFeatures": ("AdversarialFeatureLoss", "AdversarialFeatures"),
    "GCL": ("GCLLoss", "GCL"),
    "LDAM": ("LDAMLoss", "LDAM"),
    "LPL": ("LPLLoss", "LPL"),
    "VS": ("VSLoss", "VS"),
    "ISDA": ("ISDALoss", "ISDA"),
    "L-Softmax": ("LargeMarginLoss", "LargeMargin"),
    "Seesaw": ("SeesawLoss", "Seesaw"),
    "logit adjustment": ("LogitAdjustmentLoss", "LogitAdjustment"),
}
OF_EVERY_LOSS = {"from_logits", "multi_label", "ignore_class", "reduction", "name", "dtype"}


def arguments(cls):
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "self"}


@pytest.mark.on_one_backend
@pytest.mark.parametrize(("loss", "perturbation"), PRESETS.values(), ids=PRESETS)
def test_defaults_are_those_of_the_perturbation(loss, perturbation):
    of_loss = arguments(getattr(keras_lpl, loss))
    expected = arguments(getattr(keras_lpl.perturbations, perturbation))
    assert set(of_loss) >= OF_EVERY_LOSS
    own = {name: value for name, value in of_loss.items() if name not in OF_EVERY_LOSS}
    own.pop("logit_adjustment", None)  # another perturbation, put before
    assert own == expected
