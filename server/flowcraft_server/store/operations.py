"""Runs operations of the SDK over the engine's connection, so that server and clients do the same thing in the same way."""

from typing import Any, TypeVar

from flowcraft_sdk._operations.effects import Batch, Command, Operation
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_server.store.link import StoreLink

T = TypeVar("T")


def run_operation(link: StoreLink, operation: Operation[T]) -> T:
    """Run an operation that neither waits nor subscribes, and return its value.

    Raises:
        StoreUnavailable: Redis does not answer.
        redis.exceptions.ResponseError: Redis refused something.
    """
    answer: Any = None
    try:
        while True:
            try:
                step = operation.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if isinstance(step, ScriptCall):
                answer = link.call(step)
            elif isinstance(step, Command):
                answer = link.read_all([(step.name, *step.args)])[0]
            else:
                assert isinstance(step, Batch)
                read = link.read_each if step.bearing else link.read_all
                answer = read([(part.name, *part.args) for part in step.commands])
    finally:
        operation.close()
