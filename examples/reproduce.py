"""The tables and figures of the LPL paper, a row or all of it, on any backend.

    python examples/reproduce.py --list
    python examples/reproduce.py --table 4 --scale smoke
    python examples/reproduce.py --table 3 --rows LPL,LA+LPL --seeds 3 --scale full --search
    python examples/reproduce.py --figure 5 --scale small

The scale says how much is trained:

    smoke   digits and two epochs, seconds: shows that everything runs
    tiny    real data, ResNet-8 and 12 epochs: a minute or two a run on two cores
    small   real data, a smaller network and a shorter training: hours on two cores
    full    as in the paper's comparison: for a GPU

Each run writes one JSON file to `--out`, and the table is made from these files. The same command
goes on where an earlier one stopped, inside a run at its last whole epoch. If a run fails, that is
reported and the others go on. Runs end with this command, however it ends. If two commands use one
folder, each run is made by one of them, and the other waits for it.

`--data` is a folder with `cifar10.npz` and `cifar100.npz` (x_train, y_train, x_test, y_test), or
where TensorFlow Datasets keeps what it downloads.
"""

from reproduction.command import main

if __name__ == "__main__":
    main(__doc__)
