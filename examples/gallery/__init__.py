"""The pictures of the gallery: `python -m examples.gallery` draws them all."""

from examples import quiet  # noqa: F401, before Keras
