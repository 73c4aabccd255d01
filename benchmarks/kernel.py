"""LPL in C (`lpl.c`), as a floor for what the frameworks can do."""

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).parent / "lpl.c"


def compiled():
    """The C function, made for this processor; None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="keras-lpl-"))
    library = folder / "lpl.so"
    options = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, SOURCE, "-o", library, "-lm"], check=True)
    function = ctypes.CDLL(str(library)).lpl
    shutil.rmtree(folder)  # loaded, it is not needed any more
    function.restype = ctypes.c_float
    integers = np.ctypeslib.ndpointer(np.int32, flags="C")
    floats = np.ctypeslib.ndpointer(np.float32, flags="C")
    sizes = [ctypes.c_int, ctypes.c_int]
    function.argtypes = [*sizes, integers, floats, floats, integers, ctypes.c_float, floats]
    return function


def value_and_gradient(labels, logits, direction, num_steps, step_size):
    """A function without arguments that returns the mean loss and its gradient; None without a C
    compiler."""
    function = compiled()
    if function is None:
        return None
    arrays = (
        np.ascontiguousarray(labels, "int32"),
        np.ascontiguousarray(logits, "float32"),
        np.ascontiguousarray(direction, "float32"),
        np.ascontiguousarray(num_steps, "int32"),
    )
    gradient = np.empty_like(arrays[1])
    return lambda: (function(*logits.shape, *arrays, step_size, gradient), gradient)
