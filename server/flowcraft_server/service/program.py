"""This program in place of itself."""

import os
import sys
from contextlib import suppress

REPLACED_WORKER = "FLOWCRAFT_REPLACED_WORKER"
"""Variable by which a program that took its own place knows the worker that it was before."""


def restart_this_program(worker_id: str) -> None:
    """Run the same command anew in this very process: same id, same output, nothing of its threads and memory.

    What its threads hold ends with them, and an embedded store keeps running: the fresh program attaches to it.

    Args:
        worker_id: of the worker whose nodes the fresh program gives up.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # a handler may have closed it
            stream.flush()
    for number in range(3):  # or the first files that the fresh program opens would take their places
        if not _is_inherited(number):
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, number, inheritable=True)
    environment = {**os.environ, REPLACED_WORKER: worker_id}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 - there is no shell on purpose


def _is_inherited(number: int) -> bool:
    """Whether the fresh program finds it open; a file of a handler in the place of a closed one is not."""
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


def replaced_worker() -> str:
    """The id of the worker that this very process ran before it was replaced, "" if there is none. Asked once."""
    return os.environ.pop(REPLACED_WORKER, "")
