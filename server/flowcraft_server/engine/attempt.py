"""One attempt at one node: a record of what it takes to run it, and the state that it is in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from flowcraft_server.blueprints.compiling.plan import Plan, PlanNode
from flowcraft_server.config.handler import Handler
from flowcraft_server.engine.claims import Claim
from flowcraft_server.engine.failures import Failure
from flowcraft_server.engine.values import NodeValues


class AttemptState(Enum):
    """Where an attempt stands. Changes are made by `worker.in_flight.InFlightAttempts`, under its lock."""

    RUNNING = auto()
    """This worker holds the lease, and no outcome was handed in."""

    FINISHED = auto()
    """An outcome was handed in; a second one is dropped."""

    LOST = auto()
    """The lease is another worker's; what the handler still returns is sent, refused by the script and counted."""


@dataclass(slots=True)
class Attempt:
    """A claimed node with everything needed to run it and to record its outcome.

    Attributes:
        key: run id and instance.
        stopped: the handler should give up.
        stop_reason: why: cancel, fail, timeout (the run stops), node-timeout, lost (the lease is another's).
        state: whether an outcome may still be handed in.
        deadline: monotonic seconds at which the node has taken too long.
        has_emitted: it has sent progress or events while it ran.
        events_queued, events_sent: how many of them, and how many of these have left.
        bytes_queued, bytes_sent: of these events.
        due: seconds after which the node falls due again, once the recorded outcome put it off.
        large: values over `limits.inlineValue`, and their bytes.
        failure: what it failed with.
        will_retry: it failed, and a further attempt follows.
        input_json: the input as wire JSON, where it is not made of the claim alone.
        leftovers: what the handler returned or raised, kept until its outcome is on its way: it may have destructors.
    """

    claim: Claim
    key: tuple[str, str]
    plan: Plan
    node: PlanNode
    values: NodeValues
    handler: Handler | None
    input: Any
    params: Mapping[str, Any]
    timeout: float | None
    state: AttemptState = AttemptState.RUNNING
    stopped: bool = False
    stop_reason: str = ""
    deadline: float | None = None
    due: float | None = None
    has_emitted: bool = False
    events_queued: int = 0
    events_sent: int = 0
    bytes_queued: int = 0
    bytes_sent: int = 0
    interrupt: Callable[[], None] | None = None
    large: list[tuple[str, int]] = field(default_factory=list)
    failure: Failure | None = None
    will_retry: bool = False
    input_json: bytes | None = None
    leftovers: list[Any] = field(default_factory=list)

    @property
    def has_ended(self) -> bool:
        """Whether its outcome was handed in, or is another worker's to hand in."""
        return self.state is not AttemptState.RUNNING

    def request_stop(self, reason: str) -> None:
        """Ask the handler to give up; the first reason counts."""
        if not self.stopped:
            self.stop_reason = reason
            self.stopped = True
            if self.interrupt is not None:
                self.interrupt()
