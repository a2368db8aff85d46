"""Stop signals: the first asks to finish what runs, the second to hand it back at once."""

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from flowcraft_server.observability.descriptor_identity import identity

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

STRAY_SIGNALS = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that a handler's alarm, profiler or call of `kill` sends, and that would end the process with all its nodes."""


WITHOUT_PIPE = 0.05
"""Seconds between two looks for stop requests once the pipe is gone."""


class StopRequests:
    """How often a stop was asked for.

    A pipe and not `threading.Event`, whose lock a signal handler may find held by the very thread it interrupts.
    """

    def __init__(self) -> None:
        self._count = 0
        self._restart = False
        self._reload = False
        self._reading, self._writing = os.pipe()
        self._pipe = identity(self._reading), identity(self._writing)
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    @property
    def drain(self) -> bool:
        """Whether to take nothing more and to finish what runs."""
        return self._count >= 1

    @property
    def now(self) -> bool:
        """Whether to hand back at once what runs."""
        return self._count >= 2

    def request(self) -> None:
        """Ask for a stop, or ask again. May be called from a signal handler and from any thread."""
        self._count += 1
        if self._has_pipe():
            with suppress(BlockingIOError):  # the pipe is full of requests
                os.write(self._writing, b"!")

    @property
    def restart(self) -> bool:
        """Whether the program is to begin anew once it has stopped: no signal has asked it to end."""
        return self._restart

    def request_restart(self) -> None:
        """Ask for a stop, after which the program begins anew, unless a signal asks it to end. From any thread."""
        self._restart = True
        self.request()

    def take_reload(self) -> bool:
        """Whether a SIGHUP has asked for a reload since the last call."""
        asked, self._reload = self._reload, False
        return asked

    def wait(self, seconds: float) -> bool:
        """Sleep until another stop is asked for, `seconds` at most; returns whether one ever was."""
        if self._has_pipe() and not self._is_readable(seconds):
            return self.drain
        if self._has_pipe():
            os.read(self._reading, 4096)
        else:  # a handler has closed it: this process is about to be replaced
            time.sleep(min(seconds, WITHOUT_PIPE))
        return self.drain

    def _is_readable(self, seconds: float) -> bool:
        requests = select.poll()  # `select` takes no descriptor above 1,023
        requests.register(self._reading, select.POLLIN)
        return bool(requests.poll(max(0.0, seconds) * 1000))

    @contextmanager
    def on_signals(self, *, reload: bool = False) -> Iterator["StopRequests"]:
        """Take SIGTERM, SIGINT and SIGHUP for requests within this block, and drop stray signals. Only in the main thread.

        A signal that is ignored, as SIGHUP is under nohup, stays so; a stray one that something handles, as well.

        Args:
            reload: SIGHUP asks for a reload, see `take_reload`, and not for a stop.
        """
        handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._on_signal) for number in handled}
        if reload and signal.SIGHUP in before:
            signal.signal(signal.SIGHUP, self._on_hangup)
        stray = [number for number in STRAY_SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
        # Not SIG_IGN, which programs that handlers start would inherit.
        before |= {number: signal.signal(number, _drop) for number in stray}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def close(self) -> None:
        """Give the pipe back. Nothing may be asked or waited for afterwards."""
        if self._has_pipe():
            os.close(self._reading)
            os.close(self._writing)

    def _has_pipe(self) -> bool:
        return (identity(self._reading), identity(self._writing)) == self._pipe

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._restart = False
        self.request()

    def _on_hangup(self, _number: int, _frame: FrameType | None) -> None:
        self._reload = True


def _drop(_number: int, _frame: FrameType | None) -> None:
    """A stray signal."""
