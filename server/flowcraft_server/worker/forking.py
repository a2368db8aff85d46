"""Forks of a worker process that handlers make: they may do what they were forked for, and never become workers."""

import os

_parent = True


def _is_child_now() -> None:
    global _parent
    _parent = False


os.register_at_fork(after_in_child=_is_child_now)


def end_fork() -> None:
    """End this process if it is a fork of a worker: called where a handler's code returns to the worker's own.

    Nothing is flushed or closed: buffers and connections are the worker's.
    """
    if not _parent:
        os._exit(0)
