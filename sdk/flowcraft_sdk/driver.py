"""The sync driver: the only place where the sync client does I/O."""

from contextlib import nullcontext
from typing import Any, TypeVar

import redis

from flowcraft_sdk.connection import ClientSettings, sync_client, translated
from flowcraft_sdk.listener import Ear, ListenerHub
from flowcraft_sdk.protocol.scripts import ScriptCall
from flowcraft_sdk.steps import Command, Doze, Operation

T = TypeVar("T")


class SyncDriver:
    """Drives operations over redis-py. Thread-safe; connects on first use."""

    def __init__(self, url: str, settings: ClientSettings, client: Any = None) -> None:
        self.url = url
        self._own = client is None
        self.redis = client if client is not None else sync_client(url, settings)
        self.hub = ListenerHub(lambda: sync_client(url, settings))

    def run(self, operation: Operation[T], *, channel: str | None = None) -> T:
        """Run an operation to its end; with a channel, listen to it from before the first step."""
        with self.hub.listen(channel) if channel is not None else nullcontext() as ear:
            try:
                step = next(operation)
                while True:
                    step = operation.send(self._take(step, ear))
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            finally:
                operation.close()

    def _take(self, step: Command | ScriptCall | Doze, ear: Ear | None) -> Any:
        if isinstance(step, Doze):
            assert ear is not None
            return ear.doze(step.seconds)
        name = step.name if isinstance(step, Command) else step.script.name
        try:
            if isinstance(step, Command):
                return self.redis.execute_command(step.name, *step.args)
            return self._script(step)
        except (redis.exceptions.RedisError, OSError) as error:
            raise translated(error, name, self.url, isinstance(step, ScriptCall)) from error

    def _script(self, call: ScriptCall) -> Any:
        try:
            return self.redis.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
        except redis.exceptions.NoScriptError:
            return self.redis.eval(call.script.source, len(call.keys), *call.keys, *call.args)

    def close(self) -> None:
        """Close all connections."""
        self.hub.close()
        if self._own:
            self.redis.close()
