"""This program in place of itself."""

import os
import sys


def restart_this_program() -> None:
    """Run the same command anew in this very process: same id, same output, nothing of its threads and memory.

    What its threads hold ends with them, and an embedded store keeps running: the fresh program attaches to it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - there is no shell on purpose
