"""The examples of pixels, tokens and one logit, made small."""

import numpy as np
import pytest

pytest.importorskip("rich", reason="the examples show their tables with it")

import segmentation
import token_tagging

import keras_lpl


def test_segmentation(capsys):
    results = segmentation.main(["--images", "6", "--epochs", "1", "--seeds", "1"])
    assert list(results)[:2] == ["cross-entropy", "logit adjustment"]
    for runs in results.values():
        assert runs.shape == (1, 2, 3)
        assert np.all((runs >= 0) & (runs <= 1))
        assert np.all(runs[:, 1] <= runs[:, 0])  # IoU is never above recall
    assert "small disc" in capsys.readouterr().out


def test_unlabelled_pixels_are_not_counted():
    _, masks = segmentation.draw_images(6, seed=0)
    assert set(np.unique(masks)) == {0, 1, 2, segmentation.UNLABELLED}
    right = np.eye(3)[np.where(masks == segmentation.UNLABELLED, 0, masks)]
    assert np.all(np.stack(segmentation.recall_and_iou(masks, right)) == 1)


def test_losses_leave_out_unlabelled_pixels():
    _, masks = segmentation.draw_images(3, seed=0)
    logits = np.random.default_rng(0).normal(size=(*masks.shape, 3)).astype("float32")
    other = logits.copy()
    other[masks == segmentation.UNLABELLED] = 9.0
    for name, loss in segmentation.losses(np.array([90, 9, 1])).items():
        value = float(loss(masks.astype("int32"), logits))
        assert float(loss(masks.astype("int32"), other)) == pytest.approx(value, rel=1e-5), name


def test_token_tagging(capsys):
    results = token_tagging.main(["--sentences", "300", "--epochs", "1", "--seeds", "1"])
    assert list(results) == ["cross-entropy", "logit adjustment", "LA+LPL"]
    assert all(runs.shape == (1, 2) for runs in results.values())
    assert "precision" in capsys.readouterr().out


def test_padding_is_left_out():
    words, tags = token_tagging.write_sentences(32, seed=0)
    assert not tags[words == 0].any()
    assert (tags == 2).sum() > 0
    model = token_tagging.network()
    spoilt = np.where(words == 0, 2, tags)
    for name, loss in token_tagging.losses(np.array([80, 18, 2])).items():
        model.compile("sgd", loss=loss)
        value = model.evaluate(words, tags, verbose=0)
        assert model.evaluate(words, spoilt, verbose=0) == pytest.approx(value, rel=1e-5), name


def test_binary_table(capsys):
    pytest.importorskip("sklearn")
    import binary_table

    arguments = ["--rows", "600", "--positives", "0.1", "--epochs", "1", "--seeds", "1"]
    results = binary_table.main(arguments)
    assert list(results)[:2] == ["cross-entropy", "cross-entropy, threshold chosen"]
    assert len(results) == 8
    assert all(runs.shape == (1, 3) for runs in results.values())
    assert "F1" in capsys.readouterr().out


def test_threshold_with_the_largest_f1():
    pytest.importorskip("sklearn")
    import binary_table

    labels, logits = np.array([0, 0, 1, 0, 1, 1]), np.array([-2.0, -1.0, 0.5, 0.7, 1.0, 2.0])
    threshold = keras_lpl.metrics.choose_threshold(labels, logits)
    tried = [binary_table.scores(labels, logits, t)[2] for t in (-3, -1.5, 0, 0.6, 0.8, 1.5)]
    assert binary_table.scores(labels, logits, threshold)[2] == max(tried)
