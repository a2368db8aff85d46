"""The servers that benchmarks run on: started by them, without persistence, on a port of the loopback, and ended by them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from flowcraft_server.store.binary import find_server

SPIN = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
"""A program that takes what nobody else wants of a processor, which so never sleeps."""


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        url: its address.
        pid: its process.
        name: what it is, with its version.
    """

    url: str
    pid: int
    name: str

    @property
    def port(self) -> int:
        """The port of the loopback."""
        return int(self.url.rpartition(":")[2].partition("/")[0])


def binaries() -> list[str]:
    """`redis-server` if the machine has one, then the Valkey that the embedded store starts."""
    found = shutil.which("redis-server")
    return [*([found] if found else []), str(find_server())]


@contextmanager
def server(binary: str | None = None) -> Iterator[Server]:
    """A server of our own.

    Args:
        binary: which; the first of `binaries` if not given.
    """
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        child = subprocess.Popen([binary or binaries()[0], *options], stdout=subprocess.DEVNULL)
        try:
            client = redis.Redis(port=port)
            _wait_for(client)
            info = client.info("server")
            client.close()
            name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
            yield Server(f"redis://127.0.0.1:{port}/0", child.pid, name)
        finally:
            child.terminate()
            child.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(client: Any) -> None:
    for _ in range(200):
        try:
            client.ping()
            return
        except redis.exceptions.ConnectionError:
            time.sleep(0.02)
    raise TimeoutError("the server does not answer")


@contextmanager
def processors(awake: bool) -> Iterator[str]:
    """The state that all of a measurement share: what waits on round trips may run twice as fast while nothing sleeps.

    Args:
        awake: keep every processor awake with a program of idle priority.

    Yields:
        What is to be shown of it.
    """
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(os.cpu_count() or 1)] if awake else []
    try:
        yield "processors kept awake" if awake else "processors may sleep"
    finally:
        for child in spinning:
            child.send_signal(signal.SIGKILL)
            child.wait()
