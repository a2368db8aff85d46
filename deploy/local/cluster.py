"""A Redis or Valkey Cluster on loopback: primaries with one replica each."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .servers import BUS_OFFSET, Servers, free_port, wait_until

SLOTS = 16_384
NODE_TIMEOUT = 1_000
"""Milliseconds after which nodes take another one for lost. A failover begins then and takes about as long again."""

KEYS_AT_ONCE = 100
MIGRATE_TIMEOUT = 5_000


@dataclass(frozen=True)
class Node:
    """A node as the others know it."""

    id: str
    port: int
    flags: frozenset[str]
    slots: tuple[tuple[int, int], ...]

    @property
    def is_primary(self) -> bool:
        """Whether it serves slots, or may."""
        return "master" in self.flags and not self.flags & {"fail", "fail?"}


class LocalCluster(Servers):
    """Use as a context manager.

    Args:
        folder: for data and configuration.
        password: of all nodes, "" for none.
        primaries: how many; each has `replicas`.
        replicas: of each primary.
    """

    def __init__(self, folder: Path, password: str = "", primaries: int = 3, replicas: int = 1) -> None:
        super().__init__(folder, password)
        self._primaries = primaries
        self._replicas = replicas
        self._all: list[int] = []

    @property
    def url(self) -> str:
        """The address that clients and servers use: all nodes."""
        user = f":{self.password}@" if self.password else ""
        return f"redis+cluster://{user}" + ",".join(f"127.0.0.1:{port}" for port in self._all)

    def __enter__(self) -> Self:
        ports = self._all = [free_port(BUS_OFFSET) for _ in range(self._primaries * (1 + self._replicas))]
        for port in ports:
            self.start(port)
        first, *others = ports
        with self.connect(first) as client:
            for port in others:
                client.execute_command("CLUSTER MEET", "127.0.0.1", port)
        for number, port in enumerate(ports[: self._primaries]):
            begin, end = (SLOTS * position // self._primaries for position in (number, number + 1))
            with self.connect(port) as client:
                client.execute_command("CLUSTER ADDSLOTS", *range(begin, end))
        wait_until(self._all_are_known, "the nodes do not know each other")
        ids = {node.port: node.id for node in self.nodes()}
        for number, port in enumerate(ports[self._primaries :]):
            with self.connect(port) as client:
                client.execute_command("CLUSTER REPLICATE", ids[ports[number % self._primaries]])
        self.wait_until_whole()
        return self

    def start(self, port: int, *options: str) -> None:
        """Start a node, or start it again after it was killed."""
        super().start(
            port, "--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT),
            "--cluster-config-file", "nodes.conf", "--cluster-replica-validity-factor", "0", *options,
        )  # fmt: skip

    def nodes(self, seen_from: int | None = None) -> list[Node]:
        """The nodes, as one of them knows them.

        Args:
            seen_from: its port, by default of one that runs.
        """
        with self.connect(seen_from or self.ports[0]) as client:
            found: Any = client.execute_command("CLUSTER NODES")
        lines = found.splitlines() if isinstance(found, str) else [_line(place, each) for place, each in found.items()]
        return [_node(line) for line in lines if line]

    def primary_of(self, slot: int) -> int:
        """Port of the node that serves a slot."""
        return next(
            node.port
            for node in self.nodes()
            if node.is_primary and any(begin <= slot <= end for begin, end in node.slots)
        )

    def wait_until_whole(self) -> None:
        """Wait until all slots are served, every node that runs knows so, and each primary has a replica in sync."""
        wait_until(self._is_whole, "the cluster does not become whole")

    def fail_over(self, port: int) -> None:
        """Kill a primary and wait until its replica has taken its slots."""
        (slot, _), *_ = next(node.slots for node in self.nodes() if node.port == port)
        self.kill(port)
        wait_until(lambda: self._served_elsewhere(slot, port), f"no replica stands in for the node at port {port}")

    def move_slots(self, slots: Iterable[int], target: int) -> None:
        """Move slots with their keys to another primary, as resharding does.

        Args:
            target: its port.
        """
        primaries = [node for node in self.nodes() if node.is_primary]
        (receiving,) = [node for node in primaries if node.port == target]
        for slot in slots:
            (giving,) = [node for node in primaries if any(begin <= slot <= end for begin, end in node.slots)]
            if giving.port != target:
                self._move_slot(slot, giving, receiving, primaries)

    def _move_slot(self, slot: int, giving: Node, receiving: Node, primaries: Iterable[Node]) -> None:
        with self.connect(giving.port) as source, self.connect(receiving.port) as target:
            target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", giving.id)
            source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", receiving.id)
            secret = ["AUTH", self.password] if self.password else []
            while keys := source.execute_command("CLUSTER GETKEYSINSLOT", slot, KEYS_AT_ONCE):
                source.execute_command(
                    "MIGRATE", "127.0.0.1", receiving.port, "", 0, MIGRATE_TIMEOUT, *secret, "KEYS", *keys
                )
        # The receiving node first: until it knows, the giving one would send clients to it and it would send them back.
        for port in (receiving.port, giving.port, *(node.port for node in primaries)):
            with self.connect(port) as client:
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", receiving.id)

    def _served_elsewhere(self, slot: int, killed: int) -> bool:
        try:
            return self.primary_of(slot) != killed
        except StopIteration:
            return False

    def _all_are_known(self) -> bool:
        return all(len(self.nodes(port)) == len(self._all) for port in self.ports)

    def _is_whole(self) -> bool:
        for port in self.ports:
            nodes = self.nodes(port)
            served = sum(end - begin + 1 for node in nodes if node.is_primary for begin, end in node.slots)
            if served != SLOTS or not self._is_settled(port):
                return False
        return True

    def _is_settled(self, port: int) -> bool:
        with self.connect(port) as client:
            state: Any = client.execute_command("CLUSTER INFO")
            role: Any = client.execute_command("ROLE")
        ok = state.get("cluster_state") == "ok" if isinstance(state, dict) else "cluster_state:ok" in state
        if role[0] in ("slave", "replica"):
            return ok and role[3] == "connected"
        return ok


def _line(place: str, about: dict[str, Any]) -> str:
    """A line of CLUSTER NODES from what redis-py makes of it."""
    slots = " ".join("-".join(each) for each in about["slots"])
    return f"{about['node_id']} {place} {about['flags']} - 0 0 0 connected {slots}"


def _node(line: str) -> Node:
    name, place, flags, _primary, _ping, _pong, _epoch, _link, *slots = line.split()
    ranges = [each.partition("-") for each in slots if not each.startswith("[")]
    return Node(
        name,
        int(place.partition("@")[0].rpartition(":")[2]),
        frozenset(flags.split(",")),
        tuple((int(begin), int(end or begin)) for begin, _, end in ranges),
    )
