"""Registers the classes of this package for saving."""

from collections.abc import Callable
from typing import TypeVar

import keras

Class = TypeVar("Class", bound=type)


def register(cls: Class, name: str | None = None) -> Class:
    """Registers a class under `keras_lpl>` and its own name, or the one given."""
    return keras.saving.register_keras_serializable(package="keras_lpl", name=name)(cls)


def register_as(name: str) -> Callable[[Class], Class]:
    """Decorator that registers a class under another name, as files saved earlier have it."""
    return lambda cls: register(cls, name)
