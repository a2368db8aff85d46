"""What Redis refuses for reasons that pass: it is full, read-only, loading. Each has a name and what to do about it."""

from dataclasses import dataclass

import redis


@dataclass(frozen=True, slots=True)
class Trouble:
    """A reason for which Redis refuses, until somebody or time mends it.

    Attributes:
        name: full, read-only, loading, cannot-save, too-few-replicas, busy or cluster.
        advice: what it means and what to do, one line.
    """

    name: str
    advice: str


_TROUBLES = {
    "OOM": Trouble(
        "full",
        "its memory is full (maxmemory): give it more, or lower `retention`; what runs goes on, nothing new is started",
    ),
    "READONLY": Trouble("read-only", "it is a read-only replica, as after a failover: connect to the primary"),
    "LOADING": Trouble("loading", "it is reading its data back after a start; that passes"),
    "MISCONF": Trouble(
        "cannot-save", "it cannot save to its disk and so accepts no writes: see its log, free its disk"
    ),
    "NOREPLICAS": Trouble("too-few-replicas", "fewer replicas follow it than its min-replicas-to-write asks for"),
    "MASTERDOWN": Trouble("read-only", "it is a replica that has lost its primary"),
    "BUSY": Trouble("busy", "another client's script keeps it busy; that passes, or needs SCRIPT KILL"),
    "TRYAGAIN": Trouble("cluster", "its cluster is being changed; that passes"),
    "CLUSTERDOWN": Trouble("cluster", "its cluster does not serve all slots"),
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


def trouble_of(error: BaseException) -> Trouble | None:
    """The trouble that an error of redis-py tells of, None if it is another kind of error."""
    for kind, code in _CLASSES:
        if isinstance(error, kind):
            return _TROUBLES[code]
    if isinstance(error, redis.exceptions.ResponseError):
        return _TROUBLES.get(str(error).partition(" ")[0])
    return None
