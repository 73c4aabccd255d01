"""A PyTorch `DataLoader` and a transform in PyTorch, trained with LPL in Keras.

    pip install ".[torch,examples]"
    KERAS_BACKEND=torch python examples/torch_dataloader.py

`fit` and `class_counts` take a `DataLoader` as it is. On the torch backend its batches stay torch
tensors all the way; the other backends take the loader, too, if torch is installed. Shown are the
loss and the balanced accuracy on the test set after each epoch, and the accuracy of digits with
many, a medium number of, and few training images at the end.

`class_counts(loader)` reads the loader to its end and counts what it shows. Where a sampler draws
rare classes more often, that is not how rare they are: count the labels themselves then.
"""

import argparse
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
import torch
from common import digits_network, measure, write_results
from reporting import print_table

import keras_lpl

IMBALANCE_FACTOR = 50


class Images(torch.utils.data.Dataset):
    """Images and labels; for training, each image is moved by up to a pixel."""

    def __init__(self, x, y, moves):
        self.x, self.y, self.moves = torch.as_tensor(x), torch.as_tensor(y), moves

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        image = self.x[index]
        if self.moves:
            image = torch.nn.functional.pad(image, (0, 0, 1, 1, 1, 1))
            top, left = torch.randint(3, (2,)).tolist()
            image = image[top : top + 8, left : left + 8]
        return image, self.y[index]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=60, help="(default: 60)")
    parser.add_argument("--batch-size", type=int, default=64, help="(default: 64)")
    parser.add_argument("--workers", type=int, default=0, help="of the loader (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("results/torch_dataloader"))
    options = parser.parse_args()

    train, test = keras_lpl.data.load("digits", imbalance_factor=IMBALANCE_FACTOR)
    keras.utils.set_random_seed(0)  # PyTorch's, too: of the order of images and of their moves
    train_loader = torch.utils.data.DataLoader(
        Images(*train, moves=True),
        batch_size=options.batch_size,
        shuffle=True,
        num_workers=options.workers,
    )
    test_loader = torch.utils.data.DataLoader(Images(*test, moves=False), batch_size=400)

    class_counts = keras_lpl.data.class_counts(train_loader)
    print(f"Training images by class: {class_counts.tolist()}")
    model = keras_lpl.LPLModel.from_model(digits_network())
    model.compile(
        keras.optimizers.Adam(2e-3),
        loss=keras_lpl.LPLLoss(class_counts),
        metrics=[keras_lpl.metrics.BalancedAccuracy()],
    )
    model.fit(
        train_loader,
        validation_data=test_loader,
        epochs=options.epochs,
        shuffle=False,  # the loader does it
        verbose=2,
    )

    run = measure(model.predict(test_loader, verbose=0), test[1], class_counts)
    backend = keras.config.backend()
    print_table([{"method": "LPL", **run}], f"Digits from a DataLoader, {backend}")
    write_results(options.out / f"{backend}.json", [run])


if __name__ == "__main__":
    main()
