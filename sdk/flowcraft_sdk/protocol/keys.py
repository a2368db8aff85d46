"""Names of every key in Redis. All keys of a partition share one hash tag, so one script reaches them in Cluster too.

What a key is stands in front of the id that it belongs to, and the id comes last, so that no id spells the key of another one:
an id may hold `:`. Where a second name follows, `|` stands between, which run ids cannot hold.
"""

from dataclasses import dataclass, field

PROTOCOL_VERSION = "2"
"""Changes with the names of keys and with what they hold: a client and a server of two versions refuse each other."""

DEFAULT_NAMESPACE = "flowcraft"


_TYPES = {
    **dict.fromkeys(
        ("run", "batch", "plan", "worker", "broken", "plans", "blueprints", "publishers", "settings", "stats"), "hash"
    ),
    **dict.fromkeys(("ready", "idx", "ended", "gone", "leases", "timers", "dead", "workers"), "zset"),
    **dict.fromkeys(("events", "q"), "list"),
    **dict.fromkeys(("lost", "synced", "protocol", "clock"), "string"),
}


def type_of_key(key: str) -> str | None:
    """The type that a key of ours has in Redis, as its command `TYPE` says it; None if it is no key of ours."""
    _, bracket, name = key.partition("}:")
    return _TYPES.get(name.partition(":")[0]) if bracket and key.startswith("fc:{") else None


@dataclass(frozen=True)
class Keys:
    """Key names of one partition of a namespace.

    Args:
        namespace: the deployment's `name`; many may share one Redis.
        partition: number of the partition; fixed for the life of a run.
        notified: whether workers are notified of ready nodes, as with several partitions; else they sleep on a list.

    Attributes:
        script_keys: KEYS of every script: the clock, and with several partitions the channel `wake_channel`.
    """

    namespace: str = DEFAULT_NAMESPACE
    partition: int = 0
    notified: bool = False
    base: str = field(init=False)
    clock: str = field(init=False)
    script_keys: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        base = f"fc:{{{self.namespace}.{self.partition}}}:"
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "clock", base + "clock")
        object.__setattr__(self, "script_keys", (self.clock, self.wake_channel) if self.notified else (self.clock,))

    def run(self, run_id: str) -> str:
        """Hash with everything small of a run."""
        return f"{self.base}run:{run_id}"

    def events(self, run_id: str) -> str:
        """List with the history of a run."""
        return f"{self.base}events:{run_id}"

    def batch(self, run_id: str, owner: str) -> str:
        """Hash with the items and results of a batch, by the node that scatters it."""
        return f"{self.base}batch:{run_id}|{owner}"

    def channel(self, run_id: str) -> str:
        """Channel with a message for each change of the run."""
        return f"{self.base}run:{run_id}"

    def end_channel(self, run_id: str) -> str:
        """Channel with one message: the end of the run."""
        return f"{self.base}end:{run_id}"

    @property
    def inbox_prefix(self) -> str:
        """Prefix of the channels on which clients receive the ends of runs that they have started."""
        return self.base + "inbox:"

    def plan(self, plan_hash: str) -> str:
        """Hash with a compiled plan."""
        return f"{self.base}plan:{plan_hash}"

    def ready(self, queue: str) -> str:
        """Sorted set of the nodes that are ready, by the time since when."""
        return f"{self.base}ready:{queue}"

    def wake(self, queue: str) -> str:
        """Huey's list: wake-up messages for sleeping workers."""
        return f"{self.base}q:{queue}"

    @property
    def wake_channel(self) -> str:
        """Channel of `COUNT QUEUE`: nodes have become ready in a queue that was empty. For workers at home in the partition."""
        return self.base + "wake"

    @property
    def help_channel(self) -> str:
        """Channel of `COUNT QUEUE`: nodes wait in a queue longer than they should. For all workers."""
        return self.base + "help"

    def worker(self, worker_id: str) -> str:
        """Hash that describes a live worker."""
        return f"{self.base}worker:{worker_id}"

    def index_status(self, status: str) -> str:
        """Sorted set of run ids in a status, by creation time."""
        return f"{self.base}idx:st:{status}"

    def index_blueprint(self, blueprint_id: str) -> str:
        """Sorted set of run ids of a blueprint, by creation time."""
        return f"{self.base}idx:bp:{blueprint_id}"

    def index_tag(self, tag: str) -> str:
        """Sorted set of run ids with a tag, by creation time."""
        return f"{self.base}idx:tag:{tag}"

    @property
    def broken(self) -> str:
        """Hash of what could not be read and was set aside: `PLACE ENTRY` to `since in ms|problem`."""
        return f"{self.base}broken"

    def ended(self, kind: str) -> str:
        """Sorted set of the ended root runs, by when they ended: completed, failed or cancelled ones."""
        return f"{self.base}ended:{kind}"

    @property
    def gone(self) -> str:
        """Sorted set of the runs that retention removed: the tombstones."""
        return self.base + "gone"

    @property
    def plans(self) -> str:
        """Hash: plan -> how many runs use it."""
        return self.base + "plans"

    @property
    def blueprints(self) -> str:
        """Hash: blueprint id -> hash of its current plan."""
        return self.base + "blueprints"

    @property
    def publishers(self) -> str:
        """Hash: blueprint id -> the publisher of its current plan, and when, as JSON."""
        return self.base + "publishers"

    @property
    def control(self) -> str:
        """Channel of stop notices to workers: `run|why`."""
        return self.base + "control"

    @property
    def leases(self) -> str:
        """Sorted set of running nodes, by the time at which their worker is taken for dead."""
        return self.base + "leases"

    @property
    def timers(self) -> str:
        """Sorted set of retries, sleeps, deadlines and grace periods, by due time."""
        return self.base + "timers"

    @property
    def dead(self) -> str:
        """Sorted set of nodes that killed their worker too often."""
        return self.base + "dead"

    @property
    def workers(self) -> str:
        """Sorted set of worker ids, by when they were last seen."""
        return self.base + "workers"

    def suspects(self, queue: str) -> str:
        """Sorted set of the nodes of a queue that are suspected of having ended their worker, by the time since when."""
        return f"{self.base}ready:{queue}!"

    def lost(self, worker_id: str) -> str:
        """Mark of a worker that was lost while it held several nodes; expires by itself."""
        return f"{self.base}lost:{worker_id}"

    @property
    def settings(self) -> str:
        """Hash of the deployment's settings that scripts need."""
        return self.base + "settings"

    @property
    def stats(self) -> str:
        """Hash of counters."""
        return self.base + "stats"

    @property
    def synced(self) -> str:
        """A mark that is written before it is asked whether everything up to it is kept."""
        return self.base + "synced"

    @property
    def protocol(self) -> str:
        """The version of this protocol that the deployment speaks."""
        return self.base + "protocol"
