"""Records the steps of attempts in their runs, together with what else the worker commits."""

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import redis
from loguru import logger

from flowcraft_sdk.node import NodeCancelled
from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.script_call import ScriptCall, messages
from flowcraft_sdk.protocol.step_script import record_step, write_entry
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.step_store import StepWrite
from flowcraft_server.observability.redaction import Redactor
from flowcraft_server.store.link import StoreLink
from flowcraft_server.worker.commit_batcher import CommitBatcher, GaveUp

NOT_RECORDED = "the worker has stopped before a step was recorded"
LOOK_PAUSE = 0.5
"""Seconds after which a function that waits for a record looks whether the worker has stopped meanwhile."""


class RunStepStore:
    """Keeps the steps of attempts in Redis. Thread-safe.

    Args:
        redactor: masks secrets in what the history shows of them.
        stopping: set when the worker sends nothing any more.
    """

    def __init__(
        self,
        link: StoreLink,
        partitions: Partitions,
        commit_batcher: CommitBatcher,
        redactor: Redactor,
        stopping: threading.Event,
    ) -> None:
        self._link = link
        self._partitions = partitions
        self._commit_batcher = commit_batcher
        self._redactor = redactor
        self._stopping = stopping
        self._pid = os.getpid()
        # One entry for each function that waits: a single one is quicker if it sends itself, several if they are sent together.
        self._waiting: list[None] = []

    def read(self, attempt: Attempt) -> Mapping[bytes, bytes]:
        """The records of an attempt's node, by place."""
        claim = attempt.claim
        return self._link.read_hash(self._partitions.for_run(claim.run_id).steps(claim.run_id, claim.instance_id))

    def read_value(self, attempt: Attempt, place: str) -> bytes | None:
        """What a step has given whose record does not hold it."""
        claim = attempt.claim
        key = self._partitions.for_run(claim.run_id).step_values(claim.run_id, claim.instance_id)
        return self._link.read_fields(key, [place])[0]

    def record(self, attempt: Attempt, write: StepWrite) -> bytes:
        """Record a step, and wait until it is; returns the script's code.

        Raises:
            NodeCancelled: the worker stops, and it is not known whether the step is recorded.
            redis.exceptions.ResponseError: Redis refused it.
        """
        call = self._call(attempt, write)
        if os.getpid() != self._pid:
            return _code(self._send_from_fork(call))
        done, replies = threading.Event(), []

        def on_reply(reply: Any) -> None:
            replies.append(reply)
            done.set()

        self._waiting.append(None)
        try:
            if len(self._waiting) == 1 and self._may_send(attempt):
                self._send(call, on_reply, done)
            else:
                self._commit_batcher.put(call, on_reply)
            while not done.wait(LOOK_PAUSE):
                if self._stopping.is_set():
                    raise NodeCancelled(NOT_RECORDED)
        finally:
            self._waiting.pop()
        return _code(replies[0])

    @staticmethod
    def _may_send(attempt: Attempt) -> bool:
        """Whether the caller's thread may send: it has a connection of its own, and nothing of the node is to go before."""
        return attempt.steps is not None and attempt.steps.is_home and not attempt.has_emitted

    def _send(self, call: ScriptCall, on_reply: Callable[[Any], None], done: threading.Event) -> None:
        """Send a call from this thread, along with what others have finished; one of them may be quicker, and sends it."""
        finished = self._commit_batcher.finished
        self._commit_batcher.add(call, on_reply)
        try:
            while finished and not done.is_set():
                self._commit_batcher.flush()
        except GaveUp:
            raise NodeCancelled(NOT_RECORDED) from None

    async def arecord(self, attempt: Attempt, write: StepWrite) -> bytes:
        """The same for a coroutine."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def on_reply(reply: Any) -> None:
            try:
                loop.call_soon_threadsafe(_resolve, future, reply)
            except RuntimeError:  # the loop is closed, and its coroutines with it
                return

        self._commit_batcher.put(self._call(attempt, write), on_reply)
        return _code(await future)

    def warn(self, attempt: Attempt, what: str) -> None:
        """Log something about the steps of an attempt."""
        logger.bind(run=attempt.claim.run_id, node=attempt.claim.instance_id).warning("{}", what)

    def note_failure(self, attempt: Attempt, write: StepWrite) -> None:
        """Record that a step has failed. It goes out before the node's outcome."""
        call = self._call(attempt, write)
        if os.getpid() != self._pid:
            self._send_from_fork(call)
            return
        attempt.has_emitted = True  # so that the outcome follows on the same lane
        self._commit_batcher.put(call, lambda _reply: None)

    def _call(self, attempt: Attempt, write: StepWrite) -> ScriptCall:
        claim, entry = attempt.claim, write.entry
        shown: dict[str, Any] = {
            "name": entry.name,
            "kind": entry.kind,
            "seconds": entry.took_ms / 1000,
            "tries": entry.tries,
        }
        if entry.error is None:
            shown["bytes"] = entry.size
        else:
            shown["error"] = {"type": entry.error[0], "message": entry.error[1]}
        if entry.details:
            shown["details"] = entry.details
        node = claim.instance_id + ("#" + ".".join(map(str, claim.iterations)) if claim.iterations else "")
        return record_step(
            self._partitions.for_run(claim.run_id),
            run_id=claim.run_id,
            instance_id=claim.instance_id,
            fencing_token=claim.fencing_token,
            place=entry.place,
            state="d" if entry.error is None else "f",
            record=write_entry(entry),
            value=write.large,
            event=node.encode() + b"|" + self._redactor.clean_bytes(wire.dumps(shown)),
            within=write.within,
            within_bytes=write.within_bytes,
        )

    def _send_from_fork(self, call: ScriptCall) -> Any:
        """Send a call from a process that a handler has forked: the threads and connections are its parent's."""
        (message,) = messages([call])
        client: Any = self._link.redis

        def send() -> Any:
            try:
                return client.execute_command("EVALSHA", message.script.sha, *message.words)
            except redis.exceptions.NoScriptError:
                return client.execute_command("EVAL", message.script.source, *message.words)

        return self._link.read_with_retry(send)[0]


def _code(reply: Any) -> bytes:
    if isinstance(reply, Exception):
        raise reply
    return bytes(reply[0])


def _resolve(future: "asyncio.Future[Any]", reply: Any) -> None:
    if not future.done():
        future.set_result(reply)
