"""Several worker processes, each a program of its own: started, started again when they die, stopped with this one."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loguru import logger

from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.worker.execution_record import SilenceWatch, create_record, read_heartbeats
from flowcraft_server.worker.settings import new_worker_id

from .child_processes import StopSignals, have_ended_well

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STEADY = 60.0
"""Seconds after which a process that dies is no longer taken to be failing from its start."""

KILL_AFTER = 10.0
"""Seconds of a stop after which a process that does not end is killed."""

MAX_SILENCE = 30.0

MAX_START = 60.0
"""Seconds within which a process that is to take another one's place has begun to work."""


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

    @property
    def works(self) -> bool:
        """Whether its worker has started: it has read the files, imported the handlers and reached Redis."""
        return self.record is not None and read_heartbeats(self.record) > 0


@dataclass
class _Leaving:
    """A process that finishes what it runs, and is not started again."""

    child: _Child
    signals: StopSignals
    deadline: float


class Replacement:
    """All processes are to be replaced by fresh ones, one after the other.

    Attributes:
        done: set once it is over.
        replaced: how many were.
        error: why the others were not; '' if all were.
    """

    def __init__(self, count: int) -> None:
        self.done = threading.Event()
        self.count = count
        self.replaced = 0
        self.error = ""
        self.fresh: _Child | None = None
        self.old: list[_Child] = []

    def end(self, error: str = "") -> None:
        """It is over."""
        self.error = error
        self.done.set()


class Supervisor:
    """A component that keeps a number of processes running, and replaces them by fresh ones where that is asked for.

    Args:
        command: the program and its arguments; worker id, descriptor of the record of what it executes, and the number of a
            pipe that ends with this process follow them.
        count: how many.
        environ: their environment.
        give_up: called for a worker whose process has ended by itself, with that descriptor; returns how many nodes it held.
        max_silence: seconds after which a process that does not report any more is killed, and started again.
        drain_timeout: seconds that a process whose place another one takes has to finish what it runs.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        environ: Mapping[str, str],
        give_up: Callable[[str, int | None], int] = lambda _worker, _record: 0,
        max_silence: float = MAX_SILENCE,
        drain_timeout: float = 25.0,
    ) -> None:
        self._max_silence = max_silence
        self._drain_timeout = drain_timeout
        self._give_up = give_up
        self._command = list(command)
        self._environ = dict(environ)
        self._children = [_Child(number) for number in range(1, count + 1)]
        self._leaving: list[_Leaving] = []
        self._replacement: Replacement | None = None
        self._asked: deque[Replacement | str] = deque()
        self._stop_signals = StopSignals()
        self._pipe, self._held_open = os.pipe()

    @property
    def workers(self) -> list[str]:
        """Ids of the workers whose processes are kept running."""
        return [child.worker for child in list(self._children) if child.worker]

    def replace_all(self) -> Replacement:
        """Have each process replaced: a fresh one starts and works before an old one drains. From any thread.

        If a fresh one does not come to work, the old ones that are left stay.
        """
        replacement = Replacement(len(self._children))
        self._asked.append(replacement)
        return replacement

    def drain_worker(self, worker: str) -> None:
        """Have one process finish what it runs and end; none takes its place. From any thread."""
        self._asked.append(worker)

    def has_left(self, worker: str) -> bool:
        """Whether the process of a worker that was to be drained has ended."""
        there = [*self._children, *(leaving.child for leaving in self._leaving)]
        return worker not in self._asked and all(child.worker != worker for child in there)

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
        while self._asked and (self._replacement is None or isinstance(self._asked[0], str)):
            asked = self._asked.popleft()
            if isinstance(asked, str):
                self._drain_one(asked)
            else:
                self._begin_replacement(asked)
        for child in self._children:
            self._look_after(child)
        if self._replacement is not None:
            self._go_on_replacing(self._replacement)
        self._leaving = [leaving for leaving in self._leaving if not self._has_left(leaving)]
        return ()

    def _drain_one(self, worker: str) -> None:
        for child in self._children:
            if child.worker == worker:
                self._children = [each for each in self._children if each is not child]
                self._let_go(child)

    def _begin_replacement(self, replacement: Replacement) -> None:
        replacement.old = list(self._children)
        self._replacement = replacement

    def _go_on_replacing(self, replacement: Replacement) -> None:
        """A step of it: start a fresh process, or look whether it works; the old one whose place it takes is let go then."""
        fresh = replacement.fresh
        # Those that were drained or have died meanwhile need no replacement, or have had a fresh start.
        replacement.old = [child for child in replacement.old if child in self._children]
        if fresh is None:
            if not replacement.old:
                self._replacement = None
                replacement.end()
                return
            replacement.fresh = fresh = _Child(replacement.old[0].number)
            self._start(fresh)
        elif fresh.works:
            old = replacement.old.pop(0) if replacement.old else None
            self._children = [fresh if child is old else child for child in self._children]
            if old is None:
                self._let_go(fresh)
            else:
                self._let_go(old)
                replacement.replaced += 1
            replacement.fresh = None
        elif fresh.process is not None and (
            (code := fresh.process.poll()) is not None or clock() - fresh.started > MAX_START
        ):
            if code is None:
                fresh.process.kill()
                fresh.process.wait()
            self._forget_record(fresh)
            why = f"has not begun to work within {MAX_START:g} s" if code is None else _end_of(code)
            self._replacement = None
            replacement.end(
                f"a fresh process {why}; see its log above. The processes that were not replaced keep working"
            )

    def _let_go(self, child: _Child) -> None:
        leaving = _Leaving(child, StopSignals(), clock() + self._drain_timeout)
        if not self._has_left(leaving):
            self._leaving.append(leaving)

    def _has_left(self, leaving: _Leaving) -> bool:
        process = leaving.child.process
        if process is None:
            return True
        if process.poll() is None:
            leaving.signals.request_drain([process], leaving.deadline)
            if clock() < leaving.deadline + KILL_AFTER:
                return False
            logger.error("process {} does not end, killing it", process.pid)
            process.kill()
            process.wait()
        if have_ended_well([process]):
            self._forget_record(leaving.child)
        else:
            self._give_up_nodes(leaving.child)
        return True

    def _forget_record(self, child: _Child) -> None:
        if child.record is not None:
            os.close(child.record)
        child.record = child.silence = None

    def drain(self, deadline: float) -> bool:
        """Ask the processes to finish what they run; past the deadline, to hand it back. See `Component`."""
        leaving = [each.child.process for each in self._leaving if each.child.process is not None]
        # They have been asked: asked once more, they would hand back what they run.
        processes = self._processes() if clock() >= deadline else [p for p in self._processes() if p not in leaving]
        ended = self._stop_signals.request_drain(processes, deadline)
        return ended and all(process.poll() is not None for process in leaving)

    def stop(self) -> bool:
        """End the processes, and kill those that do not end; returns whether all of them had finished what they ran."""
        processes = self._processes()
        for process in self._stop_signals.end(processes, KILL_AFTER):
            logger.error("process {} does not end, killing it", process.pid)
        os.close(self._pipe)
        os.close(self._held_open)
        if self._replacement is not None:
            self._replacement.end("the server is stopping")
        return have_ended_well(processes)

    def _processes(self) -> list[subprocess.Popen[bytes]]:
        fresh = self._replacement.fresh if self._replacement is not None else None
        children = [*self._children, *(leaving.child for leaving in self._leaving), *([fresh] if fresh else [])]
        return [child.process for child in children if child.process is not None]

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
            self._forget_record(child)

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
