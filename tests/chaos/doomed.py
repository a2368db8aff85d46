"""A worker process that kills itself at a chosen script call.

`python -m tests.chaos.doomed URL NAMESPACE PARTITIONS LEASE WHEN SCRIPT INSTANCE NUMBER`.
WHEN is `before` (the call is never sent) or `after` (Redis has applied it, and the process dies before it receives that).
SCRIPT is the name of a script, or `claim of` for any reply that brings the node INSTANCE; an empty INSTANCE is any.
NUMBER counts the calls that match.
"""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

from loguru import logger

from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_server.store.link import StoreLink
from flowcraft_server.testing.handlers import as_runnable
from flowcraft_server.worker import worker as worker_module
from flowcraft_server.worker.settings import WorkerSettings
from tests.chaos.handlers import HANDLERS

CLAIM_OF = "claim of"


@dataclass(frozen=True)
class Point:
    """Where to die."""

    when: str
    script: str
    instance_id: str = ""
    number: int = 1

    def __str__(self) -> str:
        number = f" #{self.number}" if self.number > 1 else ""
        return f"{self.when} {self.script} {self.instance_id}".strip() + number

    def arguments(self) -> list[str]:
        """For the command line."""
        return [str(part) for part in astuple(self)]

    def is_call(self, call: ScriptCall) -> bool:
        """Whether a call is the one meant; a renewal without nodes renews nothing."""
        if call.script.name != self.script or (self.script == "renew" and len(call.args) < 3):
            return False
        return not self.instance_id or self.instance_id in (*(call.about or ()), *call.args)

    def is_reply(self, call: ScriptCall, reply: Any) -> bool:
        """Whether a reply is the one meant."""
        if self.script != CLAIM_OF:
            return self.is_call(call)
        if not isinstance(reply, list):
            return False
        claims = (
            reply
            if call.script.name in ("claim", "claim_suspects")
            else [reply[2]]
            if len(reply) > 2 and reply[2]
            else []
        )
        return any(claim[1].decode() == self.instance_id for claim in claims)


def doomed_link(point: Point) -> type[StoreLink]:
    """A link that ends the process at a point."""
    left = point.number

    def met(found: bool) -> None:
        nonlocal left
        left -= found
        if found and left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    class DoomedLink(StoreLink):
        """Each call goes out alone, so that those behind the point are not sent."""

        def send(self, calls: Sequence[ScriptCall]) -> list[Any]:
            replies = []
            for call in calls:
                met(point.when == "before" and point.is_call(call))
                replies += super().send([call])
                met(point.when == "after" and point.is_reply(call, replies[-1]))
            return replies

    return DoomedLink


def main(
    url: str, namespace: str, partitions: str, lease: str, when: str, script: str, instance_id: str, number: str
) -> None:
    """Serve until the point is reached."""
    logger.remove()
    worker_module.StoreLink = doomed_link(Point(when, script, instance_id, int(number)))  # type: ignore[misc]
    handlers = {name: as_runnable(name, function) for name, function in HANDLERS.items()}
    settings = WorkerSettings(threads=3, lease=float(lease), heartbeat=float(lease) * 0.3, partitions=int(partitions))
    worker = worker_module.Worker(url, namespace, handlers, settings)
    worker.start()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
