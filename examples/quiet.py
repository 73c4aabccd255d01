"""Keeps TensorFlow's start-up lines off the terminal: import this before Keras.

They come from C++, whatever TF_CPP_MIN_LOG_LEVEL says, when Keras loads TensorFlow. Where that is
installed, Keras loads it on other backends too, to set its seed. Errors are shown as ever.
"""

import contextlib
import importlib.abc
import importlib.machinery
import os
import re
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
CHATTER = re.compile(rb"^(WARNING: All log messages before|[IW]\d{4} ).*\n?", re.MULTILINE)


class Quietly(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as Python does, and has it loaded without its chatter."""

    def find_spec(self, name, path=None, target=None):
        """The usual specification of the module, with another way to run it."""
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None:
            load = spec.loader.exec_module

            def load_quietly(module):
                with without_chatter():
                    load(module)

            spec.loader.exec_module = load_quietly
        return spec


@contextlib.contextmanager
def without_chatter():
    """Holds back what is written to the standard error, from C++ too, and shows what matters."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            os.write(2, CHATTER.sub(b"", caught.read()))


if "tensorflow" not in sys.modules:
    sys.meta_path.insert(0, Quietly())
