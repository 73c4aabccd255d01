"""Seeded random calls of every loss: finite, or refused with a reason; alike on all backends."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_lpl import engines
from tests.fuzz import compare, run
from tests.fuzz.cases import LOSSES, MISTAKES, Batch, Setting
from tests.fuzz.run import run_setting

COMPILED = range(0, compare.SETTINGS, 9)
# Where every operation is compiled first, those only; `make fuzz` calls all of them.
EAGER = COMPILED if keras.backend.backend() == "jax" else range(compare.SETTINGS)

# Older versions of Keras, 3.12 is one, have a gradient of NaN on PyTorch where they divide by 0: by
# the weight of a batch that has none.
DIVIDES_BY_ZERO = np.isnan(
    engines.value_and_gradient(
        lambda x: ops.divide_no_nan(ops.sum(x), ops.zeros(())), np.ones(2, "float32")
    )[1]
).any()
of_new_keras = pytest.mark.xfail(bool(DIVIDES_BY_ZERO), reason="Keras divides by 0")


@pytest.fixture(scope="module")
def eager():
    return compare.of_test(sorted({*EAGER, *COMPILED}))


@of_new_keras
def test_finite_in_finite_out_or_refused(eager):
    faults, values = eager
    assert not faults, "\n".join(faults)
    assert len(values) == len({*EAGER, *COMPILED}) * compare.DRAWS
    refused = sum(not numbers for numbers in values.values())
    assert 0.05 < refused / len(values) < 0.3


@of_new_keras
def test_all_backends_agree(eager):
    faults = compare.differences(json.loads(compare.VALUES.read_text()), eager[1])
    assert not faults, "\n".join(faults) + "\nIf it is meant: python -m tests.fuzz --write"


@pytest.mark.skipif(not engines.compiles(), reason="nothing is compiled")
@pytest.mark.parametrize("number", COMPILED)
def test_compiled_code_agrees(number, eager):
    results = list(run_setting(number, compare.DRAWS, compiled=True))
    assert not any(fault for _, fault, _ in results), results
    values = {name: numbers for name, _, numbers in results}
    alike = {name: numbers for name, numbers in eager[1].items() if numbers}
    faults = compare.differences(alike, values)
    assert not faults, "\n".join(faults)


def test_all_losses_and_mistakes_are_among_the_cases():
    settings = [Setting(number) for number in range(compare.SETTINGS)]
    assert {setting.name for setting in settings} == set(LOSSES)
    batches = [setting.batch(draw) for setting in settings for draw in range(compare.DRAWS)]
    assert {batch.mistake for batch in batches} == {None, *MISTAKES}


def test_a_fault_would_be_found():
    batch = Batch(np.zeros(1), np.zeros((1, 2)), None, None)
    wrong = Batch(np.zeros(1), np.zeros((1, 2)), None, "label")
    assert run._fault_of_numbers(batch, [np.inf, 0.0])
    assert run._fault_of_numbers(wrong, [0.0, 0.0])
    assert run._fault_of_error(batch, ValueError("Received: 1"))
    assert run._fault_of_error(wrong, ValueError("no"))
    assert run._fault_of_error(wrong, TypeError("Received: 1"))
    assert not run._fault_of_error(wrong, ValueError("`y_true`. Received: 1"))
    exact = next(n for n in range(99) if Setting(n).logits_dtype == "float32")
    name = f"0-{exact}-0"
    assert compare.differences({name: [1.0, 1.0]}, {name: [1.01, 1.0]})
    assert compare.differences({name: [1.0, 1.0]}, {name: []})
    assert not compare.differences({name: [1.0, 1.0]}, {name: [1.0001, 1.0]})
    half = f"0-{next(n for n in range(99) if Setting(n).logits_dtype == 'float16')}-0"
    assert not compare.differences({half: [1.0, 1.0]}, {half: [1.001, 1.0]})
    assert compare.differences({half: [1.0, 1.0]}, {half: [1.005, 1.0]})
