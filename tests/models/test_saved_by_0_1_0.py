"""Models saved by version 0.1.0 load, predict what they predicted, and train on.

The files were made on PyTorch, with small models, by version 0.1.0; `facts.json` holds what those
models predicted and the loss of the step that came next.
"""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_lpl

# Keras does not promise that an older version reads what a newer one wrote.
pytestmark = pytest.mark.skipif(
    tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15), reason="written by Keras 3.15"
)
FOLDER = Path(__file__).parent / "saved_by_0_1_0"
FACTS = json.loads((FOLDER / "facts.json").read_text())


@pytest.mark.parametrize("name", ["lpl_confidence", "isda", "ldam", "adjusted"])
def test_predicts_as_it_did(name):
    model = keras.saving.load_model(FOLDER / f"{name}.keras")
    x = np.array(FACTS["inputs"], "float32")
    predictions = keras.ops.convert_to_numpy(model(x, training=False))
    np.testing.assert_allclose(predictions, FACTS[name]["predictions"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["lpl_confidence", "isda"])
def test_trains_on_as_it_would_have(name):
    model = keras.saving.load_model(FOLDER / f"{name}.keras")
    assert isinstance(model, keras_lpl.LPLModel)
    if keras.config.backend() != "torch":
        # Keras saves PyTorch's optimizers as those of PyTorch. The loss comes before their step.
        model.compile("adam", loss=model.loss)
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    y = np.repeat(np.arange(5), (30, 20, 8, 4, 2))
    history = model.fit(x, y, batch_size=64, epochs=1, shuffle=False, verbose=0).history
    np.testing.assert_allclose(history["loss"], FACTS[name]["next_loss"], rtol=1e-5)
