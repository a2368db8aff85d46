"""Processes that run nothing but suspects of a lost worker: started while there are some, replaced when they die of one."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.store.link import StoreLink
from flowcraft_server.worker.background.lost_workers import alone_in
from flowcraft_server.worker.execution_record import SilenceWatch, create_record, read_record
from flowcraft_server.worker.settings import new_worker_id

from .child_processes import StopSignals, have_ended_well

MOST_PROCESSES = 2
"""Processes that are started as soon as there are suspects."""

MOST_BESIDE_LONG_NODES = 8
"""Processes at most: suspects that take hours must not keep others waiting."""

LONGEST_WAIT = 2.0
"""Seconds after which suspects that wait get a further process."""

LOOK_PAUSE = 0.5
"""Seconds between two looks for suspects."""

LINGER = 3.0
"""Seconds without suspects after which the processes end."""

LEASES_AT_ONCE = 200
STOP_SECONDS = 10.0


def give_up_worker(link: StoreLink, partitions: Partitions, worker: str, max_crashes: int, record: int | None) -> int:
    """Give up the nodes of a worker whose process has ended; returns how many there were.

    Args:
        record: descriptor of what it executed; None if that is not known.
    """
    executed = None if record is None else read_record(record)
    lost = 0
    alone = alone_in(link, partitions, [worker]) if partitions.count > 1 else {}
    for keys in partitions.all:
        first = 0
        while first >= 0:
            evidence = (
                None
                if executed is None
                else [
                    (run, instance_id, fencing_token)
                    for run, instance_id, fencing_token in executed
                    if partitions.for_run(run) is keys
                ]
            )
            call = scripts.lose_worker(
                keys,
                worker=worker,
                first=first,
                count=LEASES_AT_ONCE,
                max_crashes=max_crashes,
                executed=evidence,
                alone=worker in alone.get(keys, ()),
            )
            first, found = (int(part) for part in link.call(call))
            lost += found
    if lost:
        what = ", ".join(f"run {run} node {instance_id}" for run, instance_id, _ in executed or ())
        logger.warning("worker {} was lost with {} nodes{}", worker, lost, f"; it executed {what}" if what else "")
    return lost


@dataclass
class _Child:
    worker: str
    record: int
    process: subprocess.Popen[bytes]
    silence: SilenceWatch


class IsolationProcesses:
    """A component that starts, replaces and ends them.

    Args:
        url: of Redis.
        queues: whose suspects are run.
        max_crashes: after how many crashes alone a node is given up.
        command: the program and its arguments; worker id, descriptor of the record and of the parent's pipe follow.
        environ: their environment.
        max_silence: seconds after which a process that does not report any more is killed.
    """

    def __init__(
        self,
        url: str,
        partitions: Partitions,
        queues: Sequence[str],
        max_crashes: int,
        command: Sequence[str],
        environ: Mapping[str, str],
        max_silence: float,
    ) -> None:
        self._max_silence = max_silence
        self._link = StoreLink(url)
        self._partitions = partitions
        self._queues = tuple(queues)
        self._max_crashes = max_crashes
        self._command = list(command)
        self._environ = dict(environ)
        self._children: list[_Child] = []
        self._pipe, self._held_open = os.pipe()
        self._next_look = 0.0
        self._last_seen = 0.0
        self._waiting_since: float | None = None
        self._stop_signals = StopSignals()

    def start(self) -> None:
        """Nothing is started before there are suspects."""

    def health(self) -> Sequence[str]:
        """Start processes while there are suspects, replace those that died of one. It logs that by itself."""
        try:
            for child in list(self._children):
                if child.process.poll() is not None:
                    self._bury(child)
                elif child.silence.is_frozen():
                    logger.error(
                        "process {} has not been seen for {:g} s: killing it", child.process.pid, self._max_silence
                    )
                    child.process.kill()
            now = clock()
            if now >= self._next_look:
                self._next_look = now + LOOK_PAUSE
                self._look(now)
        except Exception as error:  # what is served must not end for it; their leases run out in any case
            logger.debug("suspects cannot be looked after: {}", error)
        return ()

    def drain(self, deadline: float) -> bool:
        """Ask the processes to finish what they run; past the deadline, to hand it back. See `Component`."""
        return self._stop_signals.request_drain(self._processes(), deadline)

    def stop(self) -> bool:
        """End the processes, and kill those that do not end; returns whether each of them had finished what it ran."""
        processes = self._processes()
        self._stop_signals.end(processes, STOP_SECONDS)
        for child in self._children:
            os.close(child.record)
        self._children.clear()
        os.close(self._pipe)
        os.close(self._held_open)
        self._link.close()
        return have_ended_well(processes)

    def _processes(self) -> list[subprocess.Popen[bytes]]:
        return [child.process for child in self._children]

    def _look(self, now: float) -> None:
        pipe = self._link.redis.pipeline(transaction=False)
        for keys in self._partitions.all:
            for queue in self._queues:
                pipe.zcard(keys.suspects(queue))
        suspects = sum(pipe.execute())
        if suspects:
            self._last_seen = now
            self._waiting_since = self._waiting_since or now
            while len(self._children) < min(MOST_PROCESSES, suspects):
                self._start()
                self._waiting_since = now
            if now - self._waiting_since > LONGEST_WAIT and len(self._children) < MOST_BESIDE_LONG_NODES:
                self._start()
                self._waiting_since = now
            return
        self._waiting_since = None
        if self._children and now - self._last_seen > LINGER:
            for child in self._children:
                child.process.send_signal(signal.SIGTERM)  # what it still runs it finishes

    def _start(self) -> None:
        worker, record = new_worker_id(), create_record()
        process = subprocess.Popen(
            [*self._command, "--worker-id", worker, "--executing", str(record), "--parent-pipe", str(self._pipe)],
            env=self._environ,
            pass_fds=(self._pipe, record),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        logger.info("process {} runs suspects of lost workers apart", process.pid)
        self._children.append(_Child(worker, record, process, SilenceWatch(record, self._max_silence)))

    def _bury(self, child: _Child) -> None:
        self._children.remove(child)
        try:
            give_up_worker(self._link, self._partitions, child.worker, self._max_crashes, child.record)
        finally:
            os.close(child.record)
        self._next_look = 0.0
