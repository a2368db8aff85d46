"""The small operations: the state of a run, cancelling it, the state of the deployment."""

from flowcraft_sdk._operations.deployment import (
    WORKER_FRESH,
    Deployment,
    Seconds,
    check_protocol,
    keys_of,
    partitions_of,
    server_ms,
    text,
)
from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk._operations.tombstones import missing
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.bounds import (
    LONGEST_REASON,
    check_span,
    check_text,
)
from flowcraft_sdk.records import RunStatus, ServerInfo

DEFAULT_GRACE = 30.0


def status(deployment: Deployment, run_id: str) -> Operation[RunStatus]:
    """A run's state; one small read."""
    keys = yield from keys_of(deployment, run_id)
    raw = yield command("HGET", keys.run(run_id), "st")
    if raw is None:
        yield from missing(keys.gone, run_id)
    return RunStatus(text(raw))


def state_and_creation(deployment: Deployment, run_id: str) -> Operation[tuple[RunStatus, str | None]]:
    """A run's state, and when it was created, as its record has it: which differs for another run with the same id."""
    keys = yield from keys_of(deployment, run_id)
    state, created = yield command("HMGET", keys.run(run_id), "st", "cr")
    if state is None:
        yield from missing(keys.gone, run_id)
    return RunStatus(text(state)), created if created is None else text(created)


def done(deployment: Deployment, run_id: str) -> Operation[bool]:
    """Whether a run has ended."""
    return (yield from status(deployment, run_id)).is_terminal


def cancel(deployment: Deployment, run_id: str, reason: str, grace: Seconds | None) -> Operation[bool]:
    """Ask a run to stop; False if it had ended."""
    span = check_span(grace, "grace")
    check_text(reason, "reason", LONGEST_REASON, least=0)
    if span is None:
        raw = yield command("HGET", deployment.keys.settings, "cancelGrace")
        grace_ms = int(raw) if raw is not None else int(DEFAULT_GRACE * 1000)
    else:
        grace_ms = int(span * 1000)
    keys = yield from keys_of(deployment, run_id)
    reply = yield scripts.cancel(keys, run_id=run_id, reason=reason, grace_ms=grace_ms)
    if reply[0] == b"missing" or reply[0] == "missing":
        yield from missing(keys.gone, run_id)
    return int(reply[0]) == 1


def ping(deployment: Deployment) -> Operation[ServerInfo]:
    """Check that Redis answers and that both sides speak the same protocol."""
    keys = deployment.keys
    spoken, info, blueprints = yield Batch(
        (command("GET", keys.protocol), command("INFO", "server"), command("HLEN", keys.blueprints))
    )
    check_protocol(deployment, spoken)
    yield from partitions_of(deployment)
    workers = yield from live_workers(deployment)
    return ServerInfo(
        namespace=keys.namespace,
        protocol=text(spoken) if spoken is not None else "",
        redis_version=str(info.get("redis_version", "")),
        blueprints=blueprints,
        workers=workers,
    )


def live_workers(deployment: Deployment) -> Operation[int]:
    """How many workers were seen lately."""
    since = (yield from server_ms(deployment)) - int(WORKER_FRESH * 1000)
    count: int = yield command("ZCOUNT", deployment.keys.workers, since, "+inf")
    return count
