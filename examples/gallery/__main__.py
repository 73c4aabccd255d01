"""Draws the gallery, in a minute or two on a CPU.

python -m examples.gallery
python -m examples.gallery decision_boundaries margins --out my_pictures
"""

import argparse
import time
from pathlib import Path

from examples.gallery import decision_boundaries, loss_variation, margins, reliability

PICTURES = {
    "decision_boundaries": decision_boundaries.draw,
    "two_moons": decision_boundaries.draw_pair,
    "loss_variation": loss_variation.draw,
    "margins": margins.draw,
    "reliability": reliability.draw,
}


def main(arguments=None):
    """Draws the pictures that are asked for, each into a PNG file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "pictures", nargs="*", metavar="PICTURE", help=f"{', '.join(PICTURES)} (default: all)"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/gallery"))
    parser.add_argument(
        "--seeds", type=int, default=3, help="trainings of each method (default: 3)"
    )
    parser.add_argument("--epochs", type=int, default=80, help="of each training (default: 80)")
    options = parser.parse_args(arguments)
    unknown = set(options.pictures) - set(PICTURES)
    if unknown:
        parser.error(f"there is no picture {', '.join(unknown)}: take {', '.join(PICTURES)}")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.pictures or PICTURES:
        start = time.perf_counter()
        figure = PICTURES[name](options.seeds, options.epochs)
        figure.savefig(options.out / f"{name}.png", dpi=120)
        print(f"{options.out / name}.png, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
