"""What `keras_lpl.data.pipeline` does to images: augmentation and normalisation."""

import warnings

import numpy as np
import pytest

from keras_lpl.data import channel_statistics, pipeline
from tests.data.test_tf_data import OFF, coded_images, epoch

tf = pytest.importorskip("tensorflow")


# --- Augmentation ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize("flip", [True, False])
def test_augmentation_is_a_crop_of_the_padded_image(mode, flip):
    x, y = coded_images(144)
    padding = 2
    padded = np.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)], mode=mode)
    dataset = pipeline(x, y, 5, training=True, padding=padding, padding_mode=mode, flip=flip, **OFF)
    seen = set()
    for image, label in zip(*epoch(dataset), strict=True):
        number = int(image[..., 0].max())
        assert label == y[number]
        choices = {}
        for top in range(2 * padding + 1):
            for left in range(2 * padding + 1):
                crop = padded[number, top : top + 6, left : left + 5]
                choices[top, left, False] = crop
                choices[top, left, True] = crop[:, ::-1]
        found = [key for key, crop in choices.items() if np.array_equal(crop, image)]
        assert found
        # Some mirrored crops look like others; the rest tell which was drawn.
        assert mode == "reflect" or len(found) == 1
        if len(found) == 1:
            seen.update(found)
    tops, lefts, flips = zip(*seen, strict=True)
    assert set(tops) == set(range(5))
    assert set(lefts) == set(range(5)) or mode == "reflect"
    assert set(flips) == ({False, True} if flip else {False})


def test_augmentation_is_drawn_for_each_image_evenly():
    count, pad = 4000, 1
    x, y = coded_images(1, 4, 4)
    x, y = np.repeat(x, count, axis=0), np.repeat(y, count)
    out, _ = epoch(pipeline(x, y, 500, training=True, padding=pad, **OFF))
    # 3 rows, 3 columns, 2 orientations.
    _, times = np.unique(out.reshape(count, -1), axis=0, return_counts=True)
    assert len(times) == 18
    # Binomial with p = 1/18: a standard deviation is 14.5.
    assert (abs(times - count / 18) < 5 * 14.5).all()


def test_flip_alone():
    x, y = coded_images()
    out, _ = epoch(pipeline(x, y, 5, training=True, padding=0, **OFF))
    flipped = 0
    for image in out:
        plain = x[int(image[0, 0, 0])]
        assert np.array_equal(image, plain) or np.array_equal(image, plain[:, ::-1])
        flipped += np.array_equal(image, plain[:, ::-1])
    assert 0 < flipped < 12


# --- Normalisation --------------------------------------------------------------------------


def test_channel_statistics(rng):
    x = rng.integers(0, 256, (300, 3, 4, 3)).astype("uint8")
    mean, std = channel_statistics(x)
    assert mean.dtype == std.dtype == "float32"
    np.testing.assert_allclose(mean, x.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, x.std(axis=(0, 1, 2)), rtol=1e-6)


def test_channel_statistics_of_a_small_spread():
    x = 1e4 + np.array([0.0, 0.01] * 500).reshape(-1, 1)
    np.testing.assert_allclose(channel_statistics(x)[1], 0.005, rtol=1e-4)


def test_normalisation_by_given_and_by_own_statistics(rng):
    x = rng.integers(0, 256, (40, 3, 3, 3)).astype("uint8")
    y = np.zeros(40)
    mean, std = x.mean(axis=(0, 1, 2)), x.std(axis=(0, 1, 2))
    out, _ = epoch(pipeline(x, y, 16, training=False, mean=mean, std=std))
    np.testing.assert_allclose(out, (x - mean) / std, rtol=1e-4, atol=1e-5)
    own, _ = epoch(pipeline(x, y, 16, training=True, padding=0, flip=False))
    np.testing.assert_allclose(own.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(own.std(axis=(0, 1, 2)), 1, atol=1e-5)


def test_padding_is_black_after_normalisation():
    x, y = coded_images(40)
    mean, std = np.array([5.0, 3.0]), np.array([2.0, 4.0])
    out, _ = epoch(pipeline(x, y, 40, training=True, mean=mean, std=std))
    padded = out[..., 1].min()
    np.testing.assert_allclose(padded, -3.0 / 4.0, rtol=1e-6)


def test_a_channel_without_contrast_becomes_zero():
    x, y = np.full((4, 8, 8, 1), 7.0), np.zeros(4)
    out, _ = epoch(pipeline(x, y, 2, training=True, padding=0))
    np.testing.assert_array_equal(out, 0)


def test_test_images_by_their_own_statistics_are_warned_of():
    x, y = coded_images()
    with pytest.warns(UserWarning, match=r"training=False.*`mean` and `std` of the training im"):
        pipeline(x, y, 4, training=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline(x, y, 4, training=False, **OFF)
        pipeline(x.reshape(12, -1), y, 4, training=False)
        pipeline(x, y, 4, training=True)
