"""A lock on a file that ends with the process that holds it."""

import contextlib
import os

try:
    import fcntl
except ImportError:  # on Windows, where two processes are not kept apart
    fcntl = None


@contextlib.contextmanager
def locked(path, waits=None):
    """Holds the lock of a file, which is made if need be. Waits while another process holds it.

    The operating system lets go of the lock when the process ends, however it ends. The file stays,
    and means nothing by itself.

    Args:
        path: Of the file.
        waits: Called with the id of the process that holds the lock, before the wait.
    """
    with open(path, "a+") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waits is not None:
                    file.seek(0)
                    waits(file.read())
                fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
