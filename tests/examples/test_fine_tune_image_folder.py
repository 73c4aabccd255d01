"""Fine-tuning on a folder of images: what is read, what each phase trains, what is left behind."""

import csv
import importlib
import json

import keras
import numpy as np
import pytest

pytest.importorskip("PIL", reason="the images are files")
pytest.importorskip("rich", reason="the examples show their tables with it")
pytest.importorskip("tensorflow", reason="Keras reads folders by tf.data")

import fine_tune_image_folder as example
import folders
from PIL import Image as image

import keras_lpl

COUNTS = {"dark": 12, "grey": 25, "light": 5, "one": 1}


def save_images(root, counts, seed=0):
    """Grey and coloured images of many sizes; the most frequent class is not the first one."""
    rng = np.random.default_rng(seed)
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            size = rng.integers(20, 50, 2)
            shape = (*size, 3) if index % 2 else tuple(size)
            pixels = rng.integers(0, 60, shape) + 60 * label
            suffix = "png" if index % 3 else "JPG"
            image.fromarray(pixels.astype("uint8")).save(root / name / f"{index}.{suffix}")


@pytest.fixture
def folder(tmp_path):
    save_images(tmp_path / "shades", COUNTS)
    return tmp_path / "shades"


@pytest.fixture
def backbone(tmp_path):
    """A network of someone's, which ends in the classes of another task."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(4, 5, strides=4, name="conv")(x)
    x = keras.layers.BatchNormalization(name="norm", momentum=0.5)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(10, name="other_task")(x)
    keras.Model(inputs, outputs).save(tmp_path / "backbone.keras")
    return tmp_path / "backbone.keras"


def arguments(folder, backbone, out, *more):
    options = ["--backbone", backbone, "--size", 32, "--epochs", 1, 2, "--out", out, *more]
    return [str(each) for each in (folder, *options)]


def values(model):
    return {variable.path: np.array(variable) for variable in model.variables}


def changed(before, after, part):
    return {p for p in before if part in p.split("/") and (before[p] != after[p]).any()}


def test_from_a_folder_to_a_report(folder, backbone, monkeypatch, tmp_path, capsys):
    seen, compile_model = [], example.compile_model

    def watched(model, learning_rate, class_counts, loss):
        seen.append((learning_rate, class_counts.tolist(), values(model), model))
        compile_model(model, learning_rate, class_counts, loss)

    monkeypatch.setattr(example, "compile_model", watched)
    out = tmp_path / "out"
    example.main(arguments(folder, backbone, out))
    (first_rate, counts, start, model), (second_rate, _, middle, _) = seen
    end = values(model)

    # A fifth of each class is held out, nothing of the class of one image.
    assert counts == [10, 20, 4, 1]
    assert second_rate == pytest.approx(0.01 * first_rate)
    assert len(changed(start, middle, "logits")) == 2
    assert not changed(start, middle, "conv"), "the backbone rests in phase 1"
    assert changed(middle, end, "conv")
    assert not changed(start, end, "norm"), "averages of other images are better than of few"
    assert not any("other_task" in path for path in end)

    shown = capsys.readouterr().out
    assert "One image only, trained on and not tested: one" in shown
    assert "4 classes, 35 images to train on (1 to 20 of a class), 8 to test on" in shown
    lines = [line for line in shown.splitlines() if line.startswith("epoch ")]
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]

    # The classes of the last epoch's accuracy are those of the report.
    report = json.loads((out / "report.json").read_text())
    assert f"balanced accuracy {100 * report['balanced accuracy']:.1f}" in lines[-1]
    assert report["samples"] == 8
    rows = list(csv.DictReader((out / "classes.csv").open()))
    assert [(r["class"], r["train"], r["test"]) for r in rows] == [
        ("dark", "10", "2"),
        ("grey", "20", "5"),
        ("light", "4", "1"),
        ("one", "1", "0"),
    ]
    for name in ("confusion", "classes", "reliability"):
        assert image.open(out / f"{name}.png").size[0] > 300

    # The model takes images as they are, and loads without a loss of this package.
    names = json.loads((out / "classes.json").read_text())
    assert names == list(COUNTS)
    restored = keras.saving.load_model(out / "model.keras")
    assert not isinstance(restored, keras_lpl.LPLModel)
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(
        restored.predict(pixels, verbose=0), model.predict(pixels, verbose=0), rtol=1e-5
    )


def test_a_folder_of_test_images(folder, backbone, tmp_path, capsys):
    save_images(tmp_path / "elsewhere", {"dark": 3, "light": 2}, seed=1)
    more = ["--test", tmp_path / "elsewhere", "--loss", "cross-entropy"]
    example.main(arguments(folder, backbone, tmp_path / "out", *more))
    assert "43 images to train on (1 to 25 of a class), 5 to test on" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out" / "classes.csv").open()))
    assert [row["test"] for row in rows] == ["3", "0", "2", "0"]


def test_a_folder_of_train_and_test(folder, tmp_path):
    folder.rename(tmp_path / "train")
    save_images(tmp_path / "test", {"grey": 2})
    options = example.parse([str(tmp_path)])
    with pytest.raises(SystemExit, match="Two classes or more are needed"):
        example.read_folder(options)
    save_images(tmp_path / "test" / "more", {"x": 1})
    (tmp_path / "test" / "more").rename(tmp_path / "test" / "light")
    train, test, names = example.read_folder(options)
    assert (len(train[0]), len(test[0]), names) == (43, 3, list(COUNTS))
    assert test[1].tolist() == [1, 1, 2]


FAMILIES = sorted(
    {
        make.__module__: name
        for name, make in vars(keras.applications).items()
        if name[0].isupper() and callable(make)
    }.values()
)


@pytest.mark.parametrize("name", FAMILIES)
def test_preprocessing_is_that_of_the_network(name):
    assert len(FAMILIES) > 10
    make = getattr(keras.applications, name)
    images = np.random.default_rng(0).uniform(0, 255, (2, 5, 4, 3)).astype("float32")
    expected = importlib.import_module(make.__module__).preprocess_input(images.copy())
    layer = example.preprocessing(make)
    assert not layer.trainable_weights
    np.testing.assert_allclose(layer(images), expected, rtol=1e-4, atol=1e-3)


def test_a_network_of_keras_applications():
    model, backbone = example.build("MobileNetV3Small", None, 32, 4)
    assert model.output_shape == (None, 4)
    assert backbone.name.lower().startswith("mobilenetv3")
    assert "preprocessing" in [layer.name for layer in model.layers]


# --- Faults, in one line each ---------------------------------------------------------------


def no_folder(root):
    return root / "nowhere"


def a_file(root):
    (root / "file.txt").write_text("x")
    return root / "file.txt"


def loose_images(root):
    image.new("RGB", (9, 9)).save(root / "1.png")
    return root


def nothing(root):
    return root


def an_empty_class(root):
    save_images(root, {"a": 2, "b": 1})
    (root / "b" / "0.JPG").rename(root / "b" / "0.webp")
    return root


def one_class(root):
    save_images(root, {"a": 2})
    return root


def no_image(root):
    save_images(root, {"a": 2, "b": 2})
    (root / "b" / "1.png").write_text("no image")
    return root


FAULTS = {
    no_folder: r"A folder with a folder for each class is needed: .*nowhere is not there\.",
    a_file: r"file\.txt is a file\.",
    loose_images: r"Sort the images into a folder for each class: .* has 1 images and no folders",
    nothing: r"has no folders\.",
    an_empty_class: r"Every class needs images \(\.bmp, .*None in .*: b\.",
    one_class: r"Two classes or more are needed: .* has one, a\.",
    no_image: r"An image cannot be read; repair or remove it: .*1\.png",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_faults_of_a_folder(fault, tmp_path):
    with pytest.raises(SystemExit, match=FAULTS[fault]) as caught:
        example.main([str(fault(tmp_path)), "--weights", "none"])
    assert "\n" not in str(caught.value)


def test_an_image_that_breaks_off_is_named(folder, backbone, tmp_path):
    path = folder / "grey" / "3.JPG"
    image.effect_noise((400, 400), 90).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(SystemExit, match=r"breaks off in the middle.*grey.3\.JPG"):
        example.main(arguments(folder, backbone, tmp_path / "out"))


@pytest.mark.parametrize("name", ["ResNet51", "resnet", "nowhere.keras"])
def test_a_backbone_that_is_not_there(folder, name):
    with pytest.raises(SystemExit, match=r"ResNet50V2.*\.keras file|No backbone can be made") as e:
        example.main([str(folder), "--backbone", name])
    assert "\n" not in str(e.value)


def test_a_size_that_is_too_small(folder):
    with pytest.raises(SystemExit, match=r"The backbone cannot be built: .*32"):
        example.main([str(folder), "--weights", "none", "--size", "16"])


def test_classes_that_are_only_tested(folder, tmp_path):
    save_images(tmp_path / "elsewhere", {"dark": 1, "new": 1})
    with pytest.raises(SystemExit, match=r"has classes that .* does not: new"):
        example.main([str(folder), "--test", str(tmp_path / "elsewhere")])


def test_a_split_has_every_class_in_both_parts(rng):
    labels = rng.permutation(np.repeat(range(5), [1, 2, 3, 10, 100]))
    train, test = folders.split(labels, 0.2, seed=0)
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert np.bincount(labels[test], minlength=5).tolist() == [0, 1, 1, 2, 20]
    other = folders.split(labels, 0.2, seed=1)[1]
    assert set(other) != set(test)
    assert np.bincount(labels[folders.split(labels, 0.9, seed=0)[0]]).min() == 1
