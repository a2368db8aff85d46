"""The settings of a worker."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from flowcraft_sdk.protocol.scripts import Keep
from flowcraft_sdk.records import Budget
from flowcraft_server.config.mcp_section import McpServerSection
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.retry import ExecutionDefaults

DAY_MS = 86_400_000


def new_worker_id() -> str:
    """Short, as it stands in every started event."""
    return "w" + secrets.token_hex(3)


@dataclass(frozen=True)
class Retention:
    """How long ended runs are kept, what is reached first; None for no limit.

    Attributes:
        keep: for each class of runs.
        bytes: how much of Redis' memory all ended runs together may take.
        tombstone_age_ms: how long it is remembered that a run was removed.
        tombstone_count: for how many runs.
    """

    keep: tuple[Keep, ...] = (
        Keep("completed", 7 * DAY_MS, 10_000),
        Keep("failed", 30 * DAY_MS, 10_000),
        Keep("cancelled", 7 * DAY_MS, 10_000),
    )
    bytes: int | None = 256 * 1024 * 1024
    tombstone_age_ms: int = 30 * DAY_MS
    tombstone_count: int = 100_000


@dataclass(frozen=True)
class LineCapture:
    """How much of what handlers log is kept with their runs.

    Attributes:
        level: the lowest level that is kept; `none` for nothing.
        lines: how many lines of an attempt.
        bytes: how many bytes of an attempt.
        run_bytes: how many bytes of a run.
        names: patterns of the names of fields whose values are masked.
    """

    level: str = "info"
    lines: int = 100
    bytes: int = 16 * 1024
    run_bytes: int = 1024 * 1024
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of one worker. Times are in seconds.

    Attributes:
        queues: Names of the queues that it serves, the first one first.
        threads: How many plain functions run at once.
        async_concurrency: How many coroutines run at once.
        lease: How long a claim holds without renewal.
        heartbeat: How often leases are renewed; less than half of `lease`.
        cancel_grace: How long the siblings of a failed node, and nodes of a run that timed out, may take to stop.
        max_crashes: After how many crashes a node goes to the dead letters.
        max_value: Bytes that one stored value may have.
        inline_value: Bytes above which a stored value is worth a line in the log.
        max_depth: How deep subflows may nest.
        max_nodes: How many dynamic nodes a run may have.
        missing_handler_timeout: How long a node waits for a worker that has its handler.
        abandoned_threads: How many threads and loops may be lost to code whose node has ended, before the process is replaced.
        suspects: Whether nodes that may have ended a worker are run `here`, when the worker holds nothing else, `elsewhere`, in
            a process of their own, or are the `only` ones that this worker runs.
        owns_process: Whether the process is the worker's alone, which puts back what handlers change of it.
        defaults: Settings of nodes that have none of their own.
        retention: How long ended runs are kept.
        capture: How much of what handlers log is kept.
        mcp: MCP servers of agents, by name.
        secrets: Texts to be masked in what is recorded of failures.
        tag_budgets: What model calls of runs with a tag may use on a day.
        partitions: How many partitions the deployment has.
        deployment: `host:file` of the deployment that the worker belongs to, so that it can be seen which ones serve a name.
        worker_id: Id of the worker, short, as each started event has it.
        routed: Called with each attempt that completed and the decisions for its edges (`t` for a taken one), for tests that
            look at which edges are taken.
    """

    queues: tuple[str, ...] = ("default",)
    threads: int = 4
    async_concurrency: int = 1000
    lease: float = 10.0
    heartbeat: float = 3.0
    cancel_grace: float = 30.0
    max_crashes: int = 3
    max_value: int = 16 * 1024 * 1024
    inline_value: int = 64 * 1024
    max_depth: int = 16
    max_nodes: int = 10_000
    missing_handler_timeout: float = 30.0
    abandoned_threads: int = 8
    suspects: Literal["here", "elsewhere", "only"] = "here"
    owns_process: bool = False
    defaults: ExecutionDefaults = field(default_factory=ExecutionDefaults)
    retention: Retention = field(default_factory=Retention)
    capture: LineCapture = field(default_factory=LineCapture)
    mcp: Mapping[str, McpServerSection] = field(default_factory=dict)
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    tag_budgets: Mapping[str, Budget] = field(default_factory=dict)
    partitions: int = 1
    deployment: str = ""
    worker_id: str = field(default_factory=new_worker_id)
    routed: Callable[[Attempt, str], None] | None = field(default=None, repr=False)

    @property
    def lease_ms(self) -> int:
        """The lease in ms."""
        return int(self.lease * 1000)
