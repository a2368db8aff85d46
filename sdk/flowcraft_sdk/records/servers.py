"""What clients return of server processes: frozen records."""

from datetime import datetime

from flowcraft_sdk.records.base import Record


class ServerProcess(Record):
    """A `flowcraft-server` that runs: `dev`, `run` or `worker`.

    Attributes:
        id: Id of the process; a new one at each start.
        host: Name of its machine.
        pid: Id of its process there.
        deployment: Its file, as `host:path`.
        command: `dev`, `run` or `worker`.
        state: `serving`, or `draining` once it takes no work any more.
        workers: Ids of its workers.
        mistakes: What is wrong with its files since they were last read; what was before is still in use.
        last_seen: When it last renewed its record.
    """

    id: str
    host: str = ""
    pid: int = 0
    deployment: str = ""
    command: str = ""
    state: str = "serving"
    workers: tuple[str, ...] = ()
    mistakes: tuple[str, ...] = ()
    last_seen: datetime


class ServerAnswer(Record):
    """What a server process did that was asked to reload or to drain.

    Attributes:
        server: The process.
        done: Whether it is through with it.
        ok: Whether all went well.
        lines: What it did, for people.
    """

    server: ServerProcess
    done: bool
    ok: bool
    lines: tuple[str, ...] = ()


class ServerInfo(Record):
    """What `ping` found.

    Attributes:
        namespace: The deployment's name.
        protocol: Version of the protocol that the deployment speaks.
        redis_version: Version of Redis or Valkey.
        blueprints: How many blueprints are published.
        workers: How many workers are alive.
    """

    namespace: str
    protocol: str
    redis_version: str
    blueprints: int
    workers: int
