"""Optional dependencies, imported where they are used."""

import importlib
from types import ModuleType


def import_optional(module: str, package: str, purpose: str) -> ModuleType:
    """Imports `module`, or says how to install it.

    Args:
        module: Dotted name to import, e.g. `"PIL.Image"`.
        package: Name of the distribution, e.g. `"pillow"`.
        purpose: What needs it, the subject of the error's sentence.

    Returns:
        The module.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        # The cause stays attached: a package that is there but broken looks the same from here.
        raise ImportError(
            f"{purpose} needs {package}: pip install {package}. All that `keras_lpl.data` can use "
            f'comes with "keras-lpl[data]". Received: {error}'
        ) from error
