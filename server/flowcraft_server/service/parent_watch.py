"""A child process that ends with its parent, however that ends."""

import ctypes
import os
import select
import signal
import sys
import threading
from collections.abc import Callable

from loguru import logger

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, pipe: int, request_stop: Callable[[], None]) -> None:
    """Have this process asked to stop when its parent dies.

    On Linux the kernel sends SIGTERM; elsewhere a thread waits for the end of a pipe that only the parent holds open.

    Args:
        parent: process id of the parent; when it is no longer that, the parent has died already.
        pipe: descriptor of the pipe's reading end.
        request_stop: what SIGTERM does here.
    """
    if not _ask_kernel():
        threading.Thread(target=_wait_for_end, args=(pipe, request_stop), name="parent watch", daemon=True).start()
    elif os.getppid() != parent or _has_ended(pipe):  # before the kernel was asked; `parent` may be another's by then
        request_stop()


def _ask_kernel() -> bool:
    if sys.platform != "linux":
        return False
    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) == 0)
    except (OSError, AttributeError) as error:
        logger.debug("prctl is not available: {}", error)
        return False


def _has_ended(pipe: int) -> bool:
    """Whether the other end of the pipe is closed already."""
    watched = select.poll()
    watched.register(pipe, select.POLLIN)
    return any(events & select.POLLHUP for _, events in watched.poll(0))


def _wait_for_end(pipe: int, request_stop: Callable[[], None]) -> None:
    while os.read(pipe, 1):
        pass
    logger.warning("the parent process has ended, stopping")
    request_stop()
