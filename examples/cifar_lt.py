"""Long-tailed CIFAR with one method, on any backend: resumable, results as JSON.

    python examples/cifar_lt.py --data cifar10 --imbalance 100 --method LPL --delta-epsilon 5
    python examples/cifar_lt.py --data cifar10.npz --method "LA+LPL" --epochs 30 --depth 8

`--data` is `cifar10` or `cifar100` (downloaded by TensorFlow Datasets), the path of an `.npz` file
with x_train, y_train, x_test, y_test, or a folder of images. The recipe is that of LDAM-DRW (Cao et
al., 2019), its milestones scaled to the number of epochs: SGD with momentum, learning rate 0.1
after a warm-up, x0.01 after 80% and x0.0001 after 90% of the epochs, L2 decay 2e-4, crop and flip.
For the rows of the paper's tables there is `reproduce.py`.

Stopped, a run goes on after its last whole epoch when it is started again with the same arguments.
A run that is finished is not repeated.
"""

import argparse
from pathlib import Path

import quiet  # noqa: F401, before Keras

from methods import METHODS, named
from reproduction import augmentation, configs, training


def config_of(options):
    """The description of the run, as in `reproduction/configs.py`."""
    names = ("threshold", "delta_epsilon", "step_size", "head_scale")
    given = {name: getattr(options, name) for name in names}
    return {
        "data": {"name": options.data, "imbalance": options.imbalance},
        "network": {"name": "resnet", "depth": options.depth},
        "method": options.method,
        "lpl": {name: value for name, value in given.items() if value is not None},
        "tau": options.tau,
        "training": {
            "epochs": options.epochs,
            "batch_size": options.batch_size,
            "learning_rate": 0.1,
            "warm_up": round(options.epochs / 40),
            "milestones": [0.8, 0.9],
            "factors": [0.01, 0.0001],
            "weight_decay": 2e-4,
            "augmentation": options.augmentation,
            "precision": options.precision,
        },
        "seed": options.seed,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", help="where TensorFlow Datasets keeps its files")
    parser.add_argument("--imbalance", type=float, default=100, help="most over least frequent")
    parser.add_argument(
        "--method", type=named(METHODS), choices=METHODS, default="LPL", metavar="METHOD"
    )
    parser.add_argument("--depth", type=int, default=32, help="of the ResNet: 8, 14, 20, 32 ...")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--augmentation", choices=augmentation.NAMES, default="standard")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="float32", help="or mixed_bfloat16")
    parser.add_argument("--threshold", type=float, help="LPL: end of the head")
    parser.add_argument("--delta-epsilon", type=float, help="LPL: how far to push")
    parser.add_argument("--step-size", type=float)
    parser.add_argument("--head-scale", type=float, default=0.6)
    parser.add_argument("--tau", type=float, default=1.0, help="logit adjustment: how much")
    parser.add_argument("--out", type=Path, default=Path("results/cifar_lt"))
    options = parser.parse_args()
    config = config_of(options)

    def report(epoch, logs):
        print(
            f"epoch {epoch}/{options.epochs}  loss {logs['loss']:.3f}  "
            f"accuracy {logs['accuracy']:.3f}  {logs['seconds']:.1f} s, "
            f"{logs['seconds'] * (options.epochs - epoch) / 60:.1f} min left",
            flush=True,
        )

    def waits(process):
        print(f"Process {process} makes this run already; waiting for it to end.", flush=True)

    result = training.run(config, options.out, options.data_dir, report, waits)
    file = configs.result_file(config, options.out)
    print(f"balanced error {100 * result['balanced_error']:.2f}%, in {file}")


if __name__ == "__main__":
    main()
