"""Several worker processes, each a program of its own: started, started again when they die, stopped with this one."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loguru import logger

from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.worker.execution_record import SilenceWatch, create_record
from flowcraft_server.worker.settings import new_worker_id

from .child_processes import StopSignals, have_ended_well

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STEADY = 60.0
"""Seconds after which a process that dies is no longer taken to be failing from its start."""

KILL_AFTER = 10.0
"""Seconds of a stop after which a process that does not end is killed."""

MAX_SILENCE = 30.0


@dataclass
class _Child:
    number: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    restart_at: float = 0.0
    worker: str = ""
    record: int | None = None
    silence: SilenceWatch | None = None


class Supervisor:
    """A component that keeps a number of processes running.

    Args:
        command: the program and its arguments; worker id, descriptor of the record of what it executes, and the number of a
            pipe that ends with this process follow them.
        count: how many.
        environ: their environment.
        give_up: called for a worker whose process has ended by itself, with that descriptor; returns how many nodes it held.
        max_silence: seconds after which a process that does not report any more is killed, and started again.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        environ: Mapping[str, str],
        give_up: Callable[[str, int | None], int] = lambda _worker, _record: 0,
        max_silence: float = MAX_SILENCE,
    ) -> None:
        self._max_silence = max_silence
        self._give_up = give_up
        self._command = list(command)
        self._environ = dict(environ)
        self._children = [_Child(number) for number in range(1, count + 1)]
        self._stop_signals = StopSignals()
        self._pipe, self._held_open = os.pipe()

    @property
    def pids(self) -> list[int]:
        """Process ids of the processes that run."""
        return [process.pid for process in self._processes() if process.poll() is None]

    def start(self) -> None:
        """Start the processes."""
        for child in self._children:
            self._start(child)

    def health(self) -> Sequence[str]:
        """Start processes again that have ended, and kill those that do not report any more. It logs that by itself."""
        for child in self._children:
            self._look_after(child)
        return ()

    def drain(self, deadline: float) -> bool:
        """Ask the processes to finish what they run; past the deadline, to hand it back. See `Component`."""
        return self._stop_signals.request_drain(self._processes(), deadline)

    def stop(self) -> bool:
        """End the processes, and kill those that do not end; returns whether all of them had finished what they ran."""
        processes = self._processes()
        for process in self._stop_signals.end(processes, KILL_AFTER):
            logger.error("process {} does not end, killing it", process.pid)
        os.close(self._pipe)
        os.close(self._held_open)
        return have_ended_well(processes)

    def _processes(self) -> list[subprocess.Popen[bytes]]:
        return [child.process for child in self._children if child.process is not None]

    def _look_after(self, child: _Child) -> None:
        now = clock()
        if child.process is not None:
            code = child.process.poll()
            if code is None:
                if child.silence is not None and child.silence.is_frozen():
                    logger.error(
                        "worker {} (process {}) has not been seen for {:g} s: killing it",
                        child.number, child.process.pid, self._max_silence,
                    )  # fmt: skip
                    child.process.kill()
                return
            lived = now - child.started
            # A node that it held may have ended it, and runs apart from now on: that is no reason to wait.
            held = self._give_up_nodes(child)
            child.failures = 0 if lived > STEADY or held else child.failures + 1
            pause = 0.0 if held else min(FIRST_PAUSE * 2 ** max(0, child.failures - 1), LONGEST_PAUSE)
            logger.error(
                "worker {} {} after {:.0f} s; starting it again in {:g} s", child.number, _end_of(code), lived, pause
            )
            child.process, child.restart_at = None, now + pause
        if now >= child.restart_at:
            self._start(child)

    def _give_up_nodes(self, child: _Child) -> int:
        try:
            return self._give_up(child.worker, child.record)
        except Exception as error:  # its leases run out in any case
            logger.warning("the nodes of worker {} cannot be given up at once: {}", child.worker, error)
            return 0
        finally:
            if child.record is not None:
                os.close(child.record)
            child.record = child.silence = None

    def _start(self, child: _Child) -> None:
        child.worker, child.record = new_worker_id(), create_record()
        child.silence = SilenceWatch(child.record, self._max_silence)
        child.process = subprocess.Popen(
            [
                *self._command,
                "--worker-id",
                child.worker,
                "--executing",
                str(child.record),
                "--parent-pipe",
                str(self._pipe),
            ],
            env=self._environ,
            pass_fds=(self._pipe, child.record),
            stdin=subprocess.DEVNULL,
            # Ctrl-C goes to the whole foreground group: here it goes to us, and we pass it on once.
            start_new_session=True,
        )
        child.started = clock()
        logger.info("worker {} is process {}", child.number, child.process.pid)


def child_command(*arguments: str) -> list[str]:
    """The command line of this very program, as installed, with other arguments."""
    return [sys.executable, "-m", "flowcraft_server.cli.server", *arguments]


def _end_of(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
