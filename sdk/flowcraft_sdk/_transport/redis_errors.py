"""What Redis refuses for reasons that pass: it is full, read-only, loading. Each has a name and what to do about it."""

from dataclasses import dataclass

import redis


@dataclass(frozen=True, slots=True)
class RedisCondition:
    """A reason for which Redis refuses, until it is changed or passes.

    Attributes:
        name: full, read-only, loading, cannot-save, too-few-replicas, busy or cluster.
        advice: what it means and what to do, one line.
    """

    name: str
    advice: str


_CONDITIONS = {
    "OOM": RedisCondition(
        "full",
        "its memory is full (maxmemory): give it more, or lower `retention`; what runs goes on, nothing new is started",
    ),
    "READONLY": RedisCondition("read-only", "it is a read-only replica, as after a failover: connect to the primary"),
    "LOADING": RedisCondition("loading", "it is reading its data back after a start; that passes"),
    "MISCONF": RedisCondition(
        "cannot-save", "it cannot save to its disk and so accepts no writes: see its log, free its disk"
    ),
    "NOREPLICAS": RedisCondition(
        "too-few-replicas", "fewer replicas follow it than its min-replicas-to-write asks for"
    ),
    "MASTERDOWN": RedisCondition("read-only", "it is a replica that has lost its primary"),
    "BUSY": RedisCondition("busy", "another client's script keeps it busy; that passes, or needs SCRIPT KILL"),
    "TRYAGAIN": RedisCondition("cluster", "its cluster is being changed; that passes"),
    "CLUSTERDOWN": RedisCondition("cluster", "its cluster does not serve all slots"),
}

# redis-py takes the code off the text of some of its errors.
_CLASSES = (
    (redis.exceptions.OutOfMemoryError, "OOM"),
    (redis.exceptions.ReadOnlyError, "READONLY"),
    (redis.exceptions.BusyLoadingError, "LOADING"),
    (redis.exceptions.MasterDownError, "MASTERDOWN"),
    (redis.exceptions.TryAgainError, "TRYAGAIN"),
    (redis.exceptions.ClusterDownError, "CLUSTERDOWN"),
)


def condition_of(error: BaseException) -> RedisCondition | None:
    """The condition that an error of redis-py reports, None if it is another kind of error."""
    for kind, code in _CLASSES:
        if isinstance(error, kind):
            return _CONDITIONS[code]
    if isinstance(error, redis.exceptions.ResponseError):
        return _CONDITIONS.get(str(error).partition(" ")[0])
    return None
