"""What handlers import: the context they get, and what they may return and raise."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from flowcraft_sdk.node.language_model import AsyncLanguageModel as AsyncLanguageModel
from flowcraft_sdk.node.language_model import LanguageModel as LanguageModel
from flowcraft_sdk.node.steps import AsyncStepCalls as AsyncStepCalls
from flowcraft_sdk.node.steps import StepCalls as StepCalls
from flowcraft_sdk.node.streaming import StreamsText as StreamsText


@dataclass(frozen=True, slots=True)
class DynamicNode:
    """A node that a handler adds to its run.

    Attributes:
        id: Letters, digits, `_` and `-`; no other node of the run may have it.
        uses: Name of its handler, or of a built-in one such as `subflow`.
        params: Settings for the handler.
        inputs: Where its input comes from: a path, or paths by name; None for the output of the node that adds it.
        config: As in a blueprint: `maxRetries`, `retryDelay`, `timeout`, `queue`, ...
    """

    id: str
    uses: str
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: str | Mapping[str, str] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeResult:
    """An output together with the action that chooses the outgoing edges.

    Attributes:
        output: The node's output.
        action: The action; None for the edges without one.
        dynamic_nodes: Nodes to run now; the edges fire when all of them have ended. A mapping with the same keys does as well.
    """

    output: Any = None
    action: str | None = None
    dynamic_nodes: Sequence[DynamicNode | Mapping[str, Any]] = ()


class NonRetryableError(Exception):
    """Raised by a handler whose failure no further attempt can mend.

    Args:
        message: What went wrong, recorded with the run.
        details: JSON value recorded beside it.
    """

    def __init__(self, message: str, *, details: Any = None) -> None:
        super().__init__(message)
        self.details = details


class NodeCancelled(Exception):
    """Raised by `ctx.check_cancelled()` when the handler is to stop. Let it through."""


@dataclass(frozen=True, slots=True)
class ReportedProgress:
    """What an attempt has reported with `ctx.progress`.

    Attributes:
        fraction: From 0 to 1; None if it was not known.
        message: The text that came with it.
    """

    fraction: float | None
    message: str = ""


class RunContext(ABC):
    """The run's context. Writes become visible to other nodes when this one completes."""

    @abstractmethod
    def get(self, key: str, default: Any = None) -> Any:
        """Read a key.

        Args:
            key: The key.
            default: What to return if it is not there.

        Returns:
            Its value, or `default`.
        """

    @abstractmethod
    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Read several keys in one round trip.

        Args:
            keys: The keys.

        Returns:
            The values of those that are there.
        """

    @abstractmethod
    def has(self, key: str) -> bool:
        """Look whether a key is there; null is a value.

        Args:
            key: The key.

        Returns:
            True if it is.
        """

    @abstractmethod
    def set(self, key: str, value: Any) -> None:
        """Write a key.

        Args:
            key: The key.
            value: A JSON value.

        Raises:
            SerializationError: The value cannot be stored.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete a key.

        Args:
            key: The key.
        """


class AsyncRunContext(ABC):
    """The run's context. Writes become visible to other nodes when this one completes."""

    @abstractmethod
    async def get(self, key: str, default: Any = None) -> Any:
        """Read a key.

        Args:
            key: The key.
            default: What to return if it is not there.

        Returns:
            Its value, or `default`.
        """

    @abstractmethod
    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Read several keys in one round trip.

        Args:
            keys: The keys.

        Returns:
            The values of those that are there.
        """

    @abstractmethod
    async def has(self, key: str) -> bool:
        """Look whether a key is there; null is a value.

        Args:
            key: The key.

        Returns:
            True if it is.
        """

    @abstractmethod
    async def set(self, key: str, value: Any) -> None:
        """Write a key.

        Args:
            key: The key.
            value: A JSON value.

        Raises:
            SerializationError: The value cannot be stored.
        """

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Delete a key.

        Args:
            key: The key.
        """


class BaseNodeContext(StreamsText):
    """What the contexts of plain functions and coroutines have in common.

    Attributes:
        input: The node's resolved input.
        params: The node's `params`.
        run_id: Id of the run.
        node_id: Id of the node.
        blueprint_id: Id of the blueprint.
        attempt: 1 for the first attempt; grows with each failed one.
        item: Index of the item in a batch, None outside of one.
        fencing_token: Grows with each take-over of the node.
        logger: Logs with run and node on each line.
        resources: What the deployment's `lifespan` has yielded in this process; None without one.
    """

    input: Any
    params: Mapping[str, Any]
    run_id: str
    node_id: str
    blueprint_id: str
    attempt: int
    item: int | None
    fencing_token: int
    logger: Any
    resources: Any

    @property
    def last_progress(self) -> ReportedProgress | None:
        """What an earlier attempt at this node in this round has reported last; None if none has. Where to go on from."""
        raise AttributeError("a node context comes from the engine")

    @property
    def actions(self) -> tuple[str, ...]:
        """The actions that the node's edges take, in their order. Empty for an item of a batch."""
        raise AttributeError("a node context comes from the engine")

    @property
    def iteration(self) -> int:
        """Number of the round in the innermost loop, from 0."""
        raise AttributeError("a node context comes from the engine")

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this node in this iteration: a key for calls to other services."""
        raise AttributeError("a node context comes from the engine")

    @property
    def cancelled(self) -> bool:
        """Whether the handler is to stop."""
        raise AttributeError("a node context comes from the engine")

    def check_cancelled(self) -> None:
        """Raise if the handler is to stop.

        Raises:
            NodeCancelled: The run is cancelled, or the attempt has timed out or lost its lease.
        """
        raise AttributeError("a node context comes from the engine")

    def progress(self, fraction: float | None, message: str = "") -> None:
        """Report progress, which `describe` and the events of the run show.

        Args:
            fraction: From 0 to 1; None if it is not known.
            message: A short text.

        Raises:
            ValueError: The fraction is not between 0 and 1.
        """
        raise AttributeError("a node context comes from the engine")

    def emit(self, name: str, data: Any = None) -> None:
        """Add an event of your own to the run's history.

        Args:
            name: Name of the event.
            data: A JSON value, 64 KiB at most.

        Raises:
            ValueError: The name has a `|`.
            SerializationError: The data cannot be stored.
        """
        raise AttributeError("a node context comes from the engine")


class NodeContext(StepCalls, BaseNodeContext):
    """The `ctx` of a handler that is a plain function.

    Attributes:
        context: The run's context.
        llm: The deployment's language model.
    """

    context: RunContext
    llm: LanguageModel

    def start_child(
        self,
        blueprint_id: str,
        ctx: Any = None,
        *,
        key: str | None = None,
        tags: Iterable[str] = (),
        run_timeout: float | timedelta | str | None = None,
        on_parent_cancel: Literal["cancel", "abandon"] = "cancel",
    ) -> str:
        """Start a run below this one, and do not wait for it. It is started once, however often the node is run.

        The run is stopped with this one, and has its deadline and priority; whether it fails concerns this one in no way. To wait
        for a run, return a `DynamicNode` that uses `subflow`.

        Args:
            blueprint_id: Id of the blueprint.
            ctx: Its start context.
            key: Distinguishes it from others that the node starts; by default the number of the call in the attempt.
            tags: Short texts to find it by.
            run_timeout: Seconds that it may take, a timedelta, or a text such as `30s`.
            on_parent_cancel: "abandon" lets it go on when this run is cancelled, fails or times out; it inherits no deadline.

        Returns:
            The id of the run.

        Raises:
            BlueprintNotFoundError: There is no such blueprint.
            InvalidInputError: The context does not fit the blueprint's `inputs`.
            RunConflictError: Another run was started by this key: of another blueprint, or with another context.
        """
        raise AttributeError("a node context comes from the engine")

    def webhook_key(self, node_id: str) -> str:
        """Make the key of a `webhook` node of this run, to hand its URL out before it waits: `/webhooks/KEY` at the HTTP API.

        It is the same for every attempt. Any program that has it may answer the node, once.

        Args:
            node_id: Id of the node.

        Returns:
            The key.

        Raises:
            ValueError: There is no such node, or it is in a loop that this node is not in.
        """
        raise AttributeError("a node context comes from the engine")

    def receive(self, timeout: float | timedelta | str | None = None) -> Any:
        """Take the next message that was sent to the node with `handle.send`; wait for it if none is there.

        A message counts as taken once the next one is asked for, or the node completes; until then a further attempt gets it
        again.

        Args:
            timeout: Seconds to wait, a timedelta, or a text such as `30s`; 0 to look once; None for no limit but the node's.

        Returns:
            The message.

        Raises:
            TimeoutError: None came in time.
            NodeCancelled: The handler is to stop.
        """
        raise AttributeError("a node context comes from the engine")


class AsyncNodeContext(AsyncStepCalls, BaseNodeContext):
    """The `ctx` of a handler that is a coroutine function.

    Attributes:
        context: The run's context, awaited.
        llm: The deployment's language model, awaited.
    """

    context: AsyncRunContext
    llm: AsyncLanguageModel

    async def start_child(
        self,
        blueprint_id: str,
        ctx: Any = None,
        *,
        key: str | None = None,
        tags: Iterable[str] = (),
        run_timeout: float | timedelta | str | None = None,
        on_parent_cancel: Literal["cancel", "abandon"] = "cancel",
    ) -> str:
        """Start a run below this one, and do not wait for it. It is started once, however often the node is run.

        The run is stopped with this one, and has its deadline and priority; whether it fails concerns this one in no way. To wait
        for a run, return a `DynamicNode` that uses `subflow`.

        Args:
            blueprint_id: Id of the blueprint.
            ctx: Its start context.
            key: Distinguishes it from others that the node starts; by default the number of the call in the attempt.
            tags: Short texts to find it by.
            run_timeout: Seconds that it may take, a timedelta, or a text such as `30s`.
            on_parent_cancel: "abandon" lets it go on when this run is cancelled, fails or times out; it inherits no deadline.

        Returns:
            The id of the run.

        Raises:
            BlueprintNotFoundError: There is no such blueprint.
            InvalidInputError: The context does not fit the blueprint's `inputs`.
            RunConflictError: Another run was started by this key: of another blueprint, or with another context.
        """
        raise AttributeError("a node context comes from the engine")

    async def run_child(
        self,
        blueprint_id: str,
        ctx: Any = None,
        *,
        key: str | None = None,
        tags: Iterable[str] = (),
        run_timeout: float | timedelta | str | None = None,
        on_parent_cancel: Literal["cancel", "abandon"] = "cancel",
    ) -> Any:
        """Start a run below this one as `start_child` does, and wait for its result.

        A further attempt, by whichever worker, finds the same run and is answered with its result, or with the same failure.
        For coroutines alone: a function would hold its thread, which the child may need. There, return a `DynamicNode` that
        uses `subflow`.

        Args:
            blueprint_id: Id of the blueprint.
            ctx: Its start context.
            key: Distinguishes it from others that the node starts; by default the number of the call in the attempt.
            tags: Short texts to find it by.
            run_timeout: Seconds that it may take, a timedelta, or a text such as `30s`.
            on_parent_cancel: "abandon" lets it go on when this run is cancelled, fails or times out; it inherits no deadline.

        Returns:
            The result of the run.

        Raises:
            RunFailedError: It failed; RunCancelledError and RunTimedOutError are the like.
            BlueprintNotFoundError: There is no such blueprint.
            InvalidInputError: The context does not fit the blueprint's `inputs`.
            RunConflictError: Another run was started by this key: of another blueprint, or with another context.
        """
        raise AttributeError("a node context comes from the engine")

    async def webhook_key(self, node_id: str) -> str:
        """Make the key of a `webhook` node of this run, to hand its URL out before it waits: `/webhooks/KEY` at the HTTP API.

        It is the same for every attempt. Any program that has it may answer the node, once.

        Args:
            node_id: Id of the node.

        Returns:
            The key.

        Raises:
            ValueError: There is no such node, or it is in a loop that this node is not in.
        """
        raise AttributeError("a node context comes from the engine")

    async def receive(self, timeout: float | timedelta | str | None = None) -> Any:
        """Take the next message that was sent to the node with `handle.send`; wait for it if none is there.

        A message counts as taken once the next one is asked for, or the node completes; until then a further attempt gets it
        again.

        Args:
            timeout: Seconds to wait, a timedelta, or a text such as `30s`; 0 to look once; None for no limit but the node's.

        Returns:
            The message.

        Raises:
            TimeoutError: None came in time.
            NodeCancelled: The handler is to stop.
        """
        raise AttributeError("a node context comes from the engine")
