"""Two or more processes train one `LPLModel` with PyTorch's `DistributedDataParallel`.

    pip install ".[torch,examples]"
    KERAS_BACKEND=torch torchrun --nproc-per-node 2 examples/distributed_torch.py
    KERAS_BACKEND=torch torchrun --nproc-per-node 2 examples/distributed_torch.py --fit

Each process has a part of each batch; LPL and the running confidences are of the whole batch, so
the processes keep the same weights and statistics, and rank 0 saves them for all. The first form is
Keras's guide to PyTorch: DDP around the model, and a loop of your own. Keras's `fit` calls the
model itself, not DDP, and so averages no gradients: `--fit` does that with a hook on each weight.
"""

import argparse
import os
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
import torch
from common import digits_network
from torch import distributed
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import keras_lpl


def train(model, loader, epochs):
    """Keras's guide: the model inside of DDP, a loop of one's own, an optimizer of PyTorch."""
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam([v.value for v in model.trainable_variables], lr=2e-3)
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)  # another order
        for x, y in loader:
            optimizer.zero_grad()
            with model.training_step():
                loss = model.compute_loss(x, y, parallel(x, training=True))
            loss.backward()
            optimizer.step()


def fit(model, loader, epochs):
    """Keras's `fit`, with the mean of the gradients over the processes."""

    def mean(gradient):
        distributed.all_reduce(gradient)
        return gradient / distributed.get_world_size()

    for variable in model.trainable_variables:
        variable.value.register_hook(mean)
    shuffle = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: loader.sampler.set_epoch(epoch)
    )
    model.fit(loader, epochs=epochs, shuffle=False, verbose=0, callbacks=[shuffle])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=30, help="(default: 30)")
    parser.add_argument("--batch-size", type=int, default=64, help="of all processes (default: 64)")
    parser.add_argument("--fit", action="store_true", help="train with Keras's `fit`")
    parser.add_argument("--out", type=Path, default=Path("results/distributed/torch.keras"))
    options = parser.parse_args()

    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if gpus else "gloo")
    rank, processes = distributed.get_rank(), distributed.get_world_size()

    (x, y), test = keras_lpl.data.load("digits", imbalance_factor=50)
    keras.utils.set_random_seed(0)  # the same weights everywhere
    data = TensorDataset(torch.as_tensor(x), torch.as_tensor(y))
    loader = DataLoader(data, options.batch_size // processes, sampler=DistributedSampler(data))

    model = keras_lpl.LPLModel.from_model(digits_network())
    loss = keras_lpl.LPLLoss(class_counts=keras_lpl.data.class_counts(y))
    model.compile(
        keras.optimizers.Adam(2e-3), loss=loss, metrics=[keras_lpl.metrics.BalancedAccuracy()]
    )
    (fit if options.fit else train)(model, loader, options.epochs)

    if rank == 0:  # an evaluation waits for nobody
        result = model.evaluate(*test, verbose=0, return_dict=True)
        print(f"{processes} processes: balanced accuracy {result['balanced_accuracy']:.3f}")
        options.out.parent.mkdir(parents=True, exist_ok=True)
        model.save(options.out)
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
