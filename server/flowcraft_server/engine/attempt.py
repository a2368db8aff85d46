"""One attempt at one node: a record of what it takes to run it, and the state that it is in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_server.blueprints.compiling.plan import Plan, PlanNode
from flowcraft_server.blueprints.node_config import RetryDelay
from flowcraft_server.config.handler import Handler
from flowcraft_server.engine.claims import Claim
from flowcraft_server.engine.failures import Failure
from flowcraft_server.engine.values import NodeValues

if TYPE_CHECKING:
    from flowcraft_server.engine.steps import AttemptSteps


class AttemptState(Enum):
    """Where an attempt stands. Changes are made by `worker.in_flight.InFlightAttempts`, under its lock."""

    RUNNING = auto()
    """This worker holds the lease, and no outcome was handed in."""

    FINISHED = auto()
    """An outcome was handed in; a second one is dropped."""

    LOST = auto()
    """The lease is another worker's; what the handler still returns is sent, refused by the script and counted."""


_RUNNING = AttemptState.RUNNING  # a member is looked up by Python's code


class Messages(Protocol):
    """Takes the messages that are sent to a node."""

    def notify(self) -> None:
        """A message was sent, or the handler is to stop. From any thread."""

    def receive(self, timeout: float | None) -> Any:
        """The next message, for a plain function."""

    async def receive_async(self, timeout: float | None) -> Any:
        """The next message, for a coroutine."""


class ParkedFor(Protocol):
    """What a node is parked for."""

    @property
    def name(self) -> str:
        """The provider and model whose limit it waits for."""

    @property
    def alarm(self) -> float:
        """Seconds after which it is run again in any case."""


class Lines(Protocol):
    """What the handler of an attempt has logged."""

    def add(self, record: Any) -> bool:
        """Add a line of loguru's; returns whether it is the first one that waits."""

    def take(self, *, last: bool = False) -> ScriptCall | None:
        """The call that keeps what waits; None if nothing does. `last`: the attempt has ended."""


class Span(Protocol):
    """A span of an attempt, for OpenTelemetry: see `observability.tracing.NodeSpan`."""

    traceparent: str
    trace_id: str

    def enter(self) -> Any:
        """From here on it is the current span of this thread or task."""

    def leave(self, token: Any) -> None:
        """It is so no longer."""

    def end(self, outcome: str, failure: tuple[str, str, str] | None = None) -> None:
        """End it."""


class ChildEnd(NamedTuple):
    """What this process has recorded last of a child run: the outcome of the node that completed it.

    Attributes:
        field: of the child's record, that holds the output.
    """

    plan_hash: str
    field: str
    output: bytes


@dataclass(slots=True)
class Attempt:
    """A claimed node with everything needed to run it and to record its outcome.

    Attributes:
        key: run id and instance.
        stopped: the handler should give up.
        stop_reason: why: cancel, fail, timeout (the run stops), node-timeout, lost (the lease is another's).
        state: whether an outcome may still be handed in.
        began: monotonic seconds at which its handler was called; 0.0 before.
        span: of the attempt, where tracing is on.
        deadline: monotonic seconds at which the node has taken too long.
        has_emitted: it has sent progress or events while it ran.
        events_queued, events_sent: how many of them, and how many of these have left.
        bytes_queued, bytes_sent: of these events.
        due: seconds after which the node falls due again, once the recorded outcome put it off.
        large: values over `limits.inlineValue`, and their bytes.
        failure: what it failed with.
        will_retry: it failed, and a further attempt follows.
        retry_delay: the pause before the next attempt, where the node takes it from data.
        last_progress: what an earlier attempt has reported last, as it is stored.
        messages: what takes the messages that are sent to the node, once its handler has asked for one.
        lines: what its handler has logged, once it has.
        text_stream: what it streams, once its handler has streamed a text.
        parked: what it is parked for, once it is; its handler is left then.
        steps: its steps, once its handler has asked for one.
        remembered: memories beside which its handler has laid a turn, which joins them once the node has completed.
        recalled: memories that its handler has read.
        child_runs: how many runs its handler has started.
        input_json: the input as wire JSON, where it is not made of the claim alone.
        former_child: of a node that starts a child run: `VERSION|SINCE|CHILD` to take over from, empty for none,
            None if that was not asked yet.
        child_end: of a node whose child run has completed, if this process recorded that, and the node came with the reply.
        on_failure: what is called if it fails.
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
    began: float = 0.0
    span: Span | None = None
    deadline: float | None = None
    due: float | None = None
    has_emitted: bool = False
    events_queued: int = 0
    events_sent: int = 0
    bytes_queued: int = 0
    bytes_sent: int = 0
    interrupt: Callable[[], None] | None = None
    large: tuple[tuple[str, int], ...] = ()
    failure: Failure | None = None
    will_retry: bool = False
    last_progress: bytes | None = None
    messages: "Messages | None" = None
    lines: "Lines | None" = None
    text_stream: object | None = None
    steps: "AttemptSteps | None" = None
    parked: "ParkedFor | None" = None
    remembered: tuple[str, ...] = ()
    recalled: tuple[str, ...] = ()
    child_runs: int = 0
    input_json: bytes | None = None
    retry_delay: RetryDelay | None = None
    former_child: str | None = None
    child_end: ChildEnd | None = None
    leftovers: Any = None
    on_failure: tuple[Callable[[], object], ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether its outcome was handed in, or is another worker's to hand in."""
        return self.state is not _RUNNING

    @property
    def outlives_stop(self) -> bool:
        """Whether a stop of its run is none for it: it closes the run, or records a completed child that is to be undone."""
        attached = self.claim.attached
        records = attached is not None and attached[::2] == ("child", "completed")
        return self.node.closing or (records and self.node.node.config.compensate is not None)

    @property
    def brings_another(self) -> bool:
        """Whether a node may become ready with it: its successor, the first of its child run, or the parent of its run."""
        node = self.node
        return node.direct_handoff or node.node.uses == "subflow" or ("~" in self.key[0] and not node.edges)

    def request_stop(self, reason: str) -> None:
        """Ask the handler to give up; the first reason counts."""
        if not self.stopped:
            self.stop_reason = reason
            self.stopped = True
            if self.interrupt is not None:
                self.interrupt()
            if self.messages is not None:
                self.messages.notify()
