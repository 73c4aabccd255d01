"""The pictures of the gallery: `python -m examples.gallery` draws them all."""
