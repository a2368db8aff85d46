"""A primary, its replica and a Sentinel on loopback, for tests of failover."""

import socket
import subprocess
import time
from pathlib import Path

import redis

from flowcraft_server.store.binary import find_server

DOWN_AFTER = 500
"""Milliseconds after which Sentinel takes the primary for down."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class SentinelDeployment:
    """Use as a context manager.

    Args:
        folder: for data and configuration.
        password: of primary and replica, "" for none.
    """

    def __init__(self, folder: Path, password: str = "") -> None:
        self.folder = folder
        self.password = password
        self.ports = [free_port(), free_port()]
        self.sentinel_port = free_port()
        self._servers: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """The address that clients and servers use."""
        user = f":{self.password}@" if self.password else ""
        return f"redis+sentinel://{user}127.0.0.1:1,127.0.0.1:{self.sentinel_port}/main/0"

    @property
    def primary(self) -> int:
        """Port of the primary, as Sentinel has it."""
        with redis.Redis(port=self.sentinel_port, decode_responses=True) as sentinel:
            return int(sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")[1])

    def __enter__(self) -> "SentinelDeployment":
        first, second = self.ports
        self.start(first)
        self.start(second, "--replicaof", "127.0.0.1", str(first))
        password = f"sentinel auth-pass main {self.password}\n" if self.password else ""
        config = self.folder / "sentinel.conf"
        config.write_text(
            f"port {self.sentinel_port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor main 127.0.0.1 {first} 1\n{password}"
            f"sentinel down-after-milliseconds main {DOWN_AFTER}\nsentinel failover-timeout main 5000\n"
        )
        self._run(self.sentinel_port, str(config), "--sentinel")
        self.wait_for_replica()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._servers.values():
            process.kill()
            process.wait()

    def start(self, port: int, *options: str) -> None:
        """Start a server."""
        own = self.folder / str(port)
        own.mkdir(exist_ok=True)
        secret = ["--requirepass", self.password, "--masterauth", self.password] if self.password else []
        self._run(
            port, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(own), "--appendonly", "yes", "--save", "",
            "--repl-diskless-sync-delay", "0", *secret, *options,
        )  # fmt: skip

    def kill(self, port: int) -> None:
        """Kill a server, as a machine that is lost does."""
        process = self._servers.pop(port)
        process.kill()
        process.wait()

    def wait_for_replica(self) -> None:
        """Wait until Sentinel knows a replica that is in sync."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with redis.Redis(port=self.sentinel_port, decode_responses=True) as sentinel:
                replicas = sentinel.execute_command("SENTINEL", "REPLICAS", "main")
                fields = [
                    each if isinstance(each, dict) else dict(zip(each[::2], each[1::2], strict=True))
                    for each in replicas
                ]
                if any(
                    each.get("master-link-status") == "ok" and "s_down" not in str(each["flags"]) for each in fields
                ):
                    return
            time.sleep(0.05)
        raise TimeoutError("no replica is in sync")

    def fail_over(self) -> int:
        """Kill the primary and wait for the next one; returns the port of the one that was killed."""
        killed = self.primary
        self.kill(killed)
        deadline = time.monotonic() + 20
        while self.primary == killed:
            if time.monotonic() > deadline:
                raise TimeoutError("Sentinel has chosen no other primary")
            time.sleep(0.05)
        return killed

    def _run(self, port: int, *arguments: str) -> None:
        log = (self.folder / f"{port}.log").open("wb")
        self._servers[port] = subprocess.Popen([str(find_server()), *arguments], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with redis.Redis(port=port, password=self.password or None) as probe:
                    probe.ping()
                return
            except redis.exceptions.AuthenticationError:  # the Sentinel has no password
                return
            except redis.exceptions.RedisError:
                time.sleep(0.02)
        raise TimeoutError((self.folder / f"{port}.log").read_text()[-2000:])
