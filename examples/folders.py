"""Folders of images as people have them: listed, checked, and split class by class.

A fault of the folder is a `SystemExit` of one line, which names the folder and what to do.
"""

import os
import shutil
from pathlib import Path

import numpy as np

# What `keras.utils.image_dataset_from_directory` reads.
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


def list_images(folder):
    """Paths and labels of a folder of `CLASS/IMAGE`: `(paths, labels, class_names)`."""
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "is not there"
        raise SystemExit(f"A folder with a folder for each class is needed: {folder} {what}.")
    places = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    files = [_files(place) for place in places]
    if not places:
        loose = len([p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES])
        what = f"has {loose} images and no folders" if loose else "has no folders"
        raise SystemExit(f"Sort the images into a folder for each class: {folder} {what}.")
    empty = [place.name for place, found in zip(places, files, strict=True) if not found]
    if empty:
        raise SystemExit(
            f"Every class needs images ({', '.join(SUFFIXES)}); remove the folder or fill it. "
            f"None in {folder}: {', '.join(empty[:5])}{', ...' if len(empty) > 5 else ''}."
        )
    if len(places) < 2:
        raise SystemExit(f"Two classes or more are needed: {folder} has one, {places[0].name}.")
    labels = np.repeat(np.arange(len(places)), [len(found) for found in files])
    return [p for found in files for p in found], labels, [place.name for place in places]


def _files(place):
    found = (p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(p for p in found if not p.name.startswith("."))


def check_images(paths):
    """Opens every image far enough to see that it is one."""
    from PIL import Image

    for path in paths:
        try:
            with Image.open(path) as image:
                image.verify()
        except (OSError, SyntaxError, ValueError) as error:
            raise SystemExit(
                f"An image cannot be read; repair or remove it: {path} ({error})"
            ) from None


def find_broken(paths):
    """The first image that breaks off, which its first bytes do not show; or None."""
    from PIL import Image

    for path in paths:
        try:
            with Image.open(path) as image:
                image.load()
        except (OSError, SyntaxError, ValueError):
            return path
    return None


def split(labels, share, seed):
    """Indices of a training and a test part with the same share of every class.

    A class of two samples or more has at least one in each part; of a class of one sample, it is in
    the training part.
    """
    rng = np.random.default_rng(seed)
    test = []
    for label in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels == label))
        size = min(max(1, round(share * len(mine))), len(mine) - 1)
        test.extend(mine[:size])
    test = np.sort(np.asarray(test, dtype="int64"))
    return np.setdiff1d(np.arange(len(labels)), test), test


def link(paths, labels, class_names, folder):
    """Makes `folder/CLASS/IMAGE` of links to images, in their order.

    `image_dataset_from_directory` splits by chance, so that a rare class may lie in one part alone.
    A class without images here has a folder all the same, as it numbers the classes by the folders.
    """
    for name in class_names:
        (Path(folder) / name).mkdir(parents=True)
    for index, (path, label) in enumerate(zip(paths, labels, strict=True)):
        new = Path(folder) / class_names[label] / f"{index:08d}{path.suffix.lower()}"
        try:
            os.symlink(path.resolve(), new)
        except OSError:  # Windows allows links to some people only
            shutil.copyfile(path, new)
