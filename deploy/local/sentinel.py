"""A primary, its replica and Sentinels on loopback."""

from pathlib import Path
from typing import Any, Self

import redis

from .servers import Servers, free_port, wait_until

DOWN_AFTER = 500

REPLICA_SECONDS = 60.0
"""Sentinel asks a replica how it is every ten seconds."""

SERVICE = "main"


class SentinelDeployment(Servers):
    """Use as a context manager.

    Args:
        folder: for data and configuration.
        password: of primary and replica, "" for none.
        sentinels: how many Sentinels; more than half of them must agree on a failover.
        down_after: milliseconds after which Sentinel takes the primary for down. On a busy machine a short time also removes
            primaries that are only slow, in favour of a replica that may not have caught up.
    """

    def __init__(self, folder: Path, password: str = "", sentinels: int = 1, down_after: int = DOWN_AFTER) -> None:
        super().__init__(folder, password)
        self._down_after = down_after
        self.ports_of_data = [free_port(), free_port()]
        self.sentinel_ports = [free_port() for _ in range(sentinels)]

    @property
    def url(self) -> str:
        """The address that clients and servers use. Its first Sentinel does not exist."""
        user = f":{self.password}@" if self.password else ""
        places = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        return f"redis+sentinel://{user}127.0.0.1:1,{places}/{SERVICE}/0"

    @property
    def primary(self) -> int:
        """Port of the primary, as Sentinel has it."""
        with self._sentinel() as sentinel:
            return int(sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def __enter__(self) -> Self:
        first, second = self.ports_of_data
        self.start(first)
        self.start(second, "--replicaof", "127.0.0.1", str(first))
        password = f"sentinel auth-pass {SERVICE} {self.password}\n" if self.password else ""
        for port in self.sentinel_ports:
            own = self.folder / str(port)
            own.mkdir()
            config = own / "sentinel.conf"
            config.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {own}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {first} {len(self.sentinel_ports) // 2 + 1}\n{password}"
                f"sentinel down-after-milliseconds {SERVICE} {self._down_after}\nsentinel failover-timeout {SERVICE} 5000\n"
            )
            self.run(port, str(config), "--sentinel")
        self.wait_for_replica()
        return self

    def wait_for_replica(self) -> None:
        """Wait until Sentinel knows a replica that is in sync."""
        wait_until(self._has_replica, "no replica is in sync", REPLICA_SECONDS)

    def fail_over(self) -> int:
        """Kill the primary and wait for the next one; returns the port of the one that was killed."""
        killed = self.primary
        self.kill(killed)
        wait_until(lambda: self.primary != killed, "Sentinel has chosen no other primary")
        return killed

    def start_again(self, port: int) -> None:
        """Start a server that was killed, as a replica of the primary, and wait until it is in sync."""
        self.start(port, "--replicaof", "127.0.0.1", str(self.primary))
        # What Sentinel knows of it may be from before it was killed.
        wait_until(self._is_followed, "no replica follows the primary", REPLICA_SECONDS)
        self.wait_for_replica()

    def _is_followed(self) -> bool:
        with self.connect(self.primary) as client:
            role: Any = client.execute_command("ROLE")
        return bool(role[0] == "master" and role[2])

    def _has_replica(self) -> bool:
        with self._sentinel() as sentinel:
            replicas = sentinel.execute_command("SENTINEL", "REPLICAS", SERVICE)
        fields = [
            each if isinstance(each, dict) else dict(zip(each[::2], each[1::2], strict=True)) for each in replicas
        ]
        return any(each.get("master-link-status") == "ok" and "s_down" not in str(each["flags"]) for each in fields)

    def _sentinel(self) -> "redis.Redis":
        return redis.Redis(port=self.sentinel_ports[0], decode_responses=True)
