"""Server processes on loopback, each with a folder of its own."""

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from flowcraft_server.store.binary import find_server

START_SECONDS = 20.0
LOOK_PAUSE = 0.05
BUS_OFFSET = 10_000
"""Between the port of a cluster's node and the port of its bus."""


class Servers:
    """Starts and ends server processes. Use as a context manager.

    Args:
        folder: for data, configuration and logs; it must exist.
        password: of all servers, "" for none.
    """

    def __init__(self, folder: Path, password: str = "") -> None:
        self.folder = folder
        self.password = password
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._processes.clear()

    def start(self, port: int, *options: str) -> None:
        """Start a server that keeps its data on disk, and wait until it answers.

        Raises:
            TimeoutError: it does not answer in time.
        """
        own = self.folder / str(port)
        own.mkdir(exist_ok=True)
        secret = ["--requirepass", self.password, "--masterauth", self.password] if self.password else []
        self.run(
            port, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(own), "--appendonly", "yes", "--save", "",
            "--repl-diskless-sync-delay", "0", *secret, *options,
        )  # fmt: skip

    def run(self, port: int, *arguments: str) -> None:
        """Run the program with these arguments, and wait until it answers at a port.

        Raises:
            TimeoutError: it does not answer in time.
        """
        with (self.folder / f"{port}.log").open("ab") as log:
            self._processes[port] = subprocess.Popen([str(find_server()), *arguments], stdout=log, stderr=log)
        wait_until(lambda: self._answers(port), f"the server at port {port} does not answer")

    def kill(self, port: int) -> None:
        """Kill a server, as a machine that is lost does."""
        process = self._processes.pop(port)
        process.kill()
        process.wait()

    @property
    def ports(self) -> list[int]:
        """Ports of the servers that were started and not killed."""
        return list(self._processes)

    def connect(self, port: int) -> "redis.Redis":
        """A client of one server."""
        return redis.Redis(port=port, password=self.password or None, decode_responses=True, socket_timeout=5)

    def _answers(self, port: int) -> bool:
        try:
            with redis.Redis(port=port, password=self.password or None) as probe:
                return bool(probe.ping())
        except redis.exceptions.AuthenticationError:  # Sentinel has no password
            return True
        except redis.exceptions.RedisError:
            return False


def free_port(beside: int = 0) -> int:
    """A port that nothing listens at.

    Args:
        beside: a distance at which another port must be free, too.
    """
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if not beside:
            return port
        if port + beside > 65_535:
            continue
        with socket.socket() as other:
            try:
                other.bind(("127.0.0.1", port + beside))
            except OSError:
                continue
        return port


def wait_until(condition: Callable[[], bool], failure: str, seconds: float = START_SECONDS) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: with `failure`, when it does not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(failure)
        time.sleep(LOOK_PAUSE)
