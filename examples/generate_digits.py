"""Generated digits: CGAN, ACGAN and infoGAN learn them, and a classifier says which it sees.

    python examples/generate_digits.py

Trains each generator on the handwritten digits, about half a minute, and generates images of every
class. A classifier that was trained on real digits names them. Ends in a table, a picture, and a
JSON file in `results/generators`.
"""

import argparse
import time
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
import numpy as np
from common import digits_network, environment
from reporting import markdown_table, mean_and_spread, write_json
from reproduction import generators

import keras_lpl

PER_CLASS, SHOWN = 50, 8


def trained_classifier(x, y):
    keras.utils.set_random_seed(0)
    model = digits_network()
    model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=40, verbose=0)
    return model


def accuracy(model, x, y):
    return float(np.mean(model.predict(x, verbose=0).argmax(axis=1) == y))


def run(kind, seed, epochs, data, classifier):
    """Trains one generator. Returns what goes into the results, and images to show."""
    start = time.perf_counter()
    x, y = generators.generated(
        kind, *data, size=10 * PER_CLASS, epochs=epochs, seed=seed, width=16
    )
    result = {
        "kind": kind,
        "seed": seed,
        "named_as_asked": accuracy(classifier, x, y),
        "seconds": time.perf_counter() - start,
    }
    return result, x[: 10 * SHOWN]


def draw(images, path):
    """A panel a kind: a column a class, and a row a sample."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(images), figsize=(9, 2.8), layout="constrained")
    for panel, (kind, x) in zip(panels, images.items(), strict=True):
        # A dark pixel around each, as the images have none.
        padded = np.pad(x[..., 0].reshape(SHOWN, 10, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
        panel.imshow(padded.transpose(0, 2, 1, 3).reshape(SHOWN * 10, 100), cmap="gray")
        panel.set_title(kind)
        panel.axis("off")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kinds", nargs="+", default=generators.KINDS, choices=generators.KINDS)
    parser.add_argument("--seeds", type=int, default=3, help="generators of each kind (default: 3)")
    parser.add_argument("--epochs", type=int, default=40, help="of each generator (default: 40)")
    parser.add_argument("--out", type=Path, default=Path("results/generators"))
    options = parser.parse_args()
    data, test = keras_lpl.data.load("digits")
    classifier = trained_classifier(*data)
    of_real = accuracy(classifier, *test)
    print(f"The classifier names {of_real:.1%} of the real test images right.")

    runs, images = [], {}
    for kind in options.kinds:
        for seed in range(options.seeds):
            result, shown = run(kind, seed, options.epochs, data, classifier)
            runs.append(result)
            images.setdefault(kind, shown)
            keras.utils.clear_session()
    lines = []
    for kind in options.kinds:
        own = [each for each in runs if each["kind"] == kind]
        seconds = sum(each["seconds"] for each in own) / len(own)
        named = mean_and_spread([each["named_as_asked"] for each in own])
        lines.append([kind, named, f"{seconds:.0f}"])
    print(markdown_table(["generator", "named as asked, %", "seconds"], lines))
    content = {"epochs": options.epochs, "accuracy_of_classifier": of_real}
    path = options.out / f"{keras.config.backend()}.json"
    write_json(path, {**content, "environment": environment(), "rows": runs})
    draw(images, options.out / "digits.png")
    print(f"Results and picture: {options.out}/")


if __name__ == "__main__":
    main()
