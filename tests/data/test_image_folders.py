"""`data.load` of a folder of images."""

import sys

import numpy as np
import pytest

from keras_lpl.data import class_counts, load


def save_images(root, counts, size=(5, 4), mode="RGB", suffix="png"):
    image = pytest.importorskip("PIL.Image")
    for part in ("train", "test"):
        for name, count in counts.items():
            folder = root / part / name
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                shape = size if mode == "L" else (*size, 3)
                pixels = np.full(shape, ord(name[0]) + i, "uint8")
                image.fromarray(pixels).save(folder / f"{i:02d}.{suffix}")


def test_image_folder(tmp_path):
    save_images(tmp_path, {"cat": 3, "ant": 2})
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / ".cache").mkdir()
    (x_train, y_train), (x_test, y_test) = load(tmp_path)
    assert x_train.shape == x_test.shape == (5, 5, 4, 3)
    assert x_train.dtype == "uint8"
    assert y_train.dtype == "int64"
    assert y_train.tolist() == y_test.tolist() == [0, 0, 1, 1, 1]  # sorted: ant, cat
    assert x_train[:, 0, 0, 0].tolist() == [97, 98, 99, 100, 101]


def test_image_folder_long_tailed_and_relative(tmp_path):
    save_images(tmp_path / "set", {"a": 4, "b": 4}, suffix="JPG")
    (x_train, y_train), (_, y_test) = load("set", imbalance_factor=4, data_dir=str(tmp_path))
    assert class_counts(y_train).tolist() == [4, 1]
    assert len(x_train) == 5
    assert len(y_test) == 8


def test_grey_images(tmp_path):
    save_images(tmp_path, {"a": 2, "b": 1}, mode="L")
    assert load(tmp_path)[0][0].shape == (3, 5, 4, 1)


def test_grey_among_coloured_images(tmp_path):
    save_images(tmp_path, {"a": 1}, mode="L")
    save_images(tmp_path, {"b": 1})
    x_train = load(tmp_path)[0][0]
    assert x_train.shape == (2, 5, 4, 3)
    assert (x_train[0] == 97).all()


def test_images_of_two_sizes(tmp_path):
    save_images(tmp_path, {"a": 1})
    save_images(tmp_path, {"b": 1}, size=(5, 5))
    with pytest.raises(ValueError, match=r"same size; resize.*\(5, 5\) .*b.00\.png.*\(5, 4\) in "):
        load(tmp_path)


def test_folder_without_a_part(tmp_path):
    save_images(tmp_path, {"a": 1})
    (tmp_path / "test").rename(tmp_path / "validation")
    with pytest.raises(ValueError, match=r"`test/CLASS/IMAGE`.*Received: a folder without 'test'"):
        load(tmp_path)


def test_folder_without_images(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "test").mkdir()
    with pytest.raises(ValueError, match=r"no images; .*\.png.*Received: .*train"):
        load(tmp_path)


def test_parts_with_different_classes(tmp_path):
    save_images(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "test" / "b" / "00.png").unlink()
    with pytest.raises(ValueError, match=r"same classes.*only one of them has images of b"):
        load(tmp_path)


def test_folder_without_pillow(tmp_path, monkeypatch):
    save_images(tmp_path, {"a": 1})
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"needs pillow: pip install pillow\."):
        load(tmp_path)


@pytest.mark.parametrize("linked", ["image", "class", "part"])
def test_links_out_of_a_folder(tmp_path, linked):
    save_images(tmp_path / "elsewhere", {"a": 3, "b": 2})
    save_images(tmp_path / "set", {"a": 2, "b": 2})
    expected = load(tmp_path / "set")[0][1].tolist()
    place = {"image": "train/a/99.png", "class": "train/c", "part": "train"}[linked]
    target = {"image": "train/a/00.png", "class": "train/a", "part": "train"}[linked]
    link = tmp_path / "set" / place
    if linked == "part":
        link.rename(tmp_path / "old")
    if linked == "class":
        save_images(tmp_path / "set", {"a": 2, "b": 2})
        (tmp_path / "set" / "test" / "c").mkdir()
        (tmp_path / "set" / "test" / "c" / "0.png").symlink_to(
            tmp_path / "set" / "test" / "a" / "00.png"  # a link that stays inside
        )
    link.symlink_to(tmp_path / "elsewhere" / target)
    message = rf"leads out of it.*`follow_links=True`.*set/{place}'.*elsewhere/{target}'"
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "set")
    labels = load(tmp_path / "set", follow_links=True)[0][1].tolist()
    more = {"image": [0, 0, 0, 1, 1], "class": [*expected, 2, 2, 2], "part": [0, 0, 0, 1, 1]}
    assert labels == more[linked]


def test_links_inside_a_folder_and_to_it(tmp_path):
    save_images(tmp_path / "set", {"a": 2, "b": 2})
    (tmp_path / "set" / "train" / "a" / "02.png").symlink_to("01.png")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    for name in ("set", "link"):
        assert load(tmp_path / name)[0][1].tolist() == [0, 0, 0, 1, 1]


def test_a_link_to_nothing(tmp_path):
    save_images(tmp_path, {"a": 1})
    (tmp_path / "train" / "a" / "01.png").symlink_to("02.png")
    with pytest.raises(ValueError, match=r"cannot be read.*Received: .*01\.png"):
        load(tmp_path)


def test_a_damaged_image(tmp_path):
    save_images(tmp_path, {"a": 2}, size=(40, 40))
    path = tmp_path / "train" / "a" / "01.png"
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"text", b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"cannot be read. Repair or remove it.*01\.png"):
            load(tmp_path)
