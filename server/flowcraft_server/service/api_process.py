"""The process of the HTTP API: started, started again when it ends, stopped with this one."""

import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence

from loguru import logger

from flowcraft_sdk.protocol.clock import clock

from .child_processes import StopSignals, have_ended_well
from .listening import CannotListen, listen
from .supervisor import FIRST_PAUSE, KILL_AFTER, LONGEST_PAUSE, STEADY

OPEN_PAUSE = 0.05
LISTEN_PAUSE = 5.0
"""Seconds between two attempts to listen on an address that is in use."""


class ApiProcess:
    """A component that keeps the process of the HTTP API running.

    It listens itself and hands the socket on: while the process starts again, connections wait and are not refused.

    Args:
        host: what to listen on.
        port: 0 for any that is free.
        command: the program and its arguments; the numbers of the socket and of a pipe that ends with this process follow.
        environ: its environment.
    """

    def __init__(self, host: str, port: int, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._address = host, port
        self._command = list(command)
        self._environ = dict(environ)
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe, self._held_open = os.pipe()
        self._started = 0.0
        self._failures = 0
        self._next_attempt = 0.0
        self._stop_signals = StopSignals()

    @property
    def listening(self) -> socket.socket | None:
        """What it listens on; None if that is in use by another program."""
        return self._socket

    def open(self, seconds: float = 0.0) -> str:
        """Begin to listen; returns what keeps it from that, '' for nothing.

        Args:
            seconds: for which it is tried, as the process before this one may be about to end.
        """
        until = clock() + seconds
        while True:
            try:
                self._socket = listen(*self._address)
            except CannotListen as error:
                if clock() < until:
                    time.sleep(OPEN_PAUSE)
                    continue
                self._next_attempt = clock() + LISTEN_PAUSE
                return str(error)
            return ""

    def start(self) -> None:
        """Start the process."""
        if self._socket is not None:
            self._start()

    def health(self) -> Sequence[str]:
        """Start the process again if it has ended, and try again to listen. It logs the former by itself."""
        now = clock()
        if self._process is not None and self._process.poll() is not None:
            lived, code = now - self._started, self._process.returncode
            self._failures = 0 if lived > STEADY else self._failures + 1
            pause = min(FIRST_PAUSE * 2 ** max(0, self._failures - 1), LONGEST_PAUSE)
            logger.error("the HTTP API ended with {} after {:.0f} s; starting it again in {:g} s", code, lived, pause)
            self._process, self._next_attempt = None, now + pause
        if self._process is None and now >= self._next_attempt:
            if self._socket is None and self.open():
                return ()
            self._start()
        return ()

    def drain(self, deadline: float) -> bool:
        """Have it answer what waits, and end. See `Component`."""
        return self._stop_signals.request_drain(self._processes(), deadline)

    def stop(self) -> bool:
        """End the process, and kill it if it does not end; returns whether it had answered all."""
        processes = self._processes()
        for process in self._stop_signals.end(processes, KILL_AFTER):
            logger.error("process {} does not end, killing it", process.pid)
        os.close(self._pipe)
        os.close(self._held_open)
        if self._socket is not None:
            self._socket.close()
        return have_ended_well(processes)

    def _processes(self) -> list[subprocess.Popen[bytes]]:
        return [] if self._process is None else [self._process]

    def _start(self) -> None:
        assert self._socket is not None
        descriptor = self._socket.fileno()
        self._process = subprocess.Popen(
            [*self._command, "--socket", str(descriptor), "--parent-pipe", str(self._pipe)],
            env=self._environ,
            pass_fds=(self._pipe, descriptor),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C goes to the whole foreground group; it is passed on once
        )
        self._started = clock()
        logger.info("the HTTP API is process {}", self._process.pid)
