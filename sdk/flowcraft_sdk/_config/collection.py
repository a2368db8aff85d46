"""Reading without garbage collection."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Put off garbage collection while a file is read or checked.

    It would go through all that was read again and again, and nothing of it is garbage: with many nodes that takes as long as
    the reading. Counted references are freed as ever.
    """
    if not gc.isenabled():  # another thread does the same, and will end it
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            # All that was read counts as old from here on. Else the next object that is made would have it gone through
            # once more; what a process has frozen for good stays as it is.
            gc.freeze()
            gc.unfreeze()
        gc.enable()
