"""When a start and a result count as kept: `redis.durability` of the deployment.

`async`: once Redis has answered. `fsync`: once it is on the disk of the primary. `replicas:N`: once N replicas have it;
`replica` in a file stands for `replicas:1`.
What is asked is whether a mark is kept that is written now: everything that was written before it is kept then, too,
by whichever client.
"""

from typing import TYPE_CHECKING

from flowcraft_sdk._operations.effects import Batch, Command, Operation, command
from flowcraft_sdk.errors import NotDurableError

if TYPE_CHECKING:
    from flowcraft_sdk._operations.deployment import Deployment

ASYNC = "async"
FSYNC = "fsync"
REPLICA = "replica"
ONE_REPLICA = "replicas:1"
"""What `replica` stands for; what is published is this, which all clients know."""


def waiting_command(level: str, ms: int) -> Command:
    """The command that waits, on the connection that wrote, until it is kept: `fsync` or `replicas:N`."""
    if level == FSYNC:
        return command("WAITAOF", 1, 0, ms)
    return command("WAIT", int(level.partition(":")[2]), ms)


def is_kept(level: str, reply: object) -> bool:
    """Whether the reply to the waiting command says so."""
    if level == FSYNC:
        return isinstance(reply, list | tuple) and int(reply[0]) >= 1
    return isinstance(reply, int) and reply >= int(level.partition(":")[2])


def confirm(deployment: "Deployment", run_id: str, what: str, ended: str | None = None) -> Operation[None]:
    """Wait until all that was written so far is kept as the deployment wants it, and see that the run is among it.

    A replica may have taken over since the run was written: it would confirm the mark, and not have the run.

    Args:
        what: of the run is to be kept, for the message.
        ended: the run's end that is to be kept, as its record has it; None if only its start is.

    Raises:
        NotDurableError: it is not, within `deployment.ack_timeout` seconds.
    """
    level = deployment.durability
    if level is None:
        raw = yield command("HGET", deployment.keys.settings, "durability")
        level = ASYNC if raw is None else raw.decode() if isinstance(raw, bytes) else str(raw)
        deployment.durability = level
    if level == ASYNC:
        return
    wait = waiting_command(level, int(deployment.ack_timeout * 1000))
    partitions = deployment.partitions
    keys = deployment.keys if partitions is None else partitions.for_run(run_id)  # on the node that has the run
    record, tombstone = command("HMGET", keys.run(run_id), "cr", "en"), command("ZSCORE", keys.gone, run_id)
    _, (created, end), gone, reply = yield Batch((command("SET", keys.synced, run_id), record, tombstone, wait))
    kept = created is not None and (ended is None or _text(end) == ended)
    if not kept and gone is None:
        raise NotDurableError(
            f"{what} of run {run_id} was lost when a replica took over from its primary (redis.durability: {level}); "
            "the call may be repeated",
            operation=what,
            maybe_applied=True,
        )
    if not is_kept(level, reply):
        raise NotDurableError(
            f"{what} of run {run_id} is recorded, but Redis did not confirm within {deployment.ack_timeout:g} s that it is kept "
            f"(redis.durability: {level}); the call may be repeated",
            operation=what,
            maybe_applied=True,
        )


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
