"""Names of every key in Redis. All keys of a partition share one hash tag, so one script reaches them in Cluster too.

What a key is stands in front of the id that it belongs to, and the id comes last, so that no id spells the key of another one:
an id may hold `:`. Where a second name follows, `|` stands between, which run ids cannot hold.
"""

from dataclasses import dataclass, field

PROTOCOL_VERSION = "2"
"""Changes with the names of keys and with what they hold: a client and a server of two versions refuse each other."""

DEFAULT_NAMESPACE = "flowcraft"


_HASHES = (
    "run logs batch draft plan worker limits limit broken plans blueprints publishers settings stats server requests answers "
    "schedule counting minutes hours totals work steps values usage pace "
    "run_limits places memory reply_sizes"
)
_SORTED_SETS = (
    "calls underway parked parking ready limited slots idx ended gone leases timers dead workers servers schedules "
    "line running blocked waited_for admitted unplaced left memories replies"
)
_TYPES = {
    **dict.fromkeys(_HASHES.split(), "hash"),
    **dict.fromkeys(_SORTED_SETS.split(), "zset"),
    **dict.fromkeys(("events", "q"), "list"),
    "stream": "stream",
    "streams": "set",
    **dict.fromkeys(("lost", "synced", "protocol", "clock", "claiming", "reply"), "string"),
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

    def logs(self, run_id: str) -> str:
        """Hash with the lines that nodes of a run have logged."""
        return f"{self.base}logs:{run_id}"

    def batch(self, run_id: str, owner: str) -> str:
        """Hash with the items and results of a batch, by the node that scatters it."""
        return f"{self.base}batch:{run_id}|{owner}"

    def stream(self, run_id: str, instance_id: str) -> str:
        """Stream with the text that a node's latest execution has streamed, and the channel that is notified of more; expires."""
        return f"{self.base}stream:{run_id}|{instance_id}"

    def streams(self, run_id: str) -> str:
        """Set of the instances of a run that have streamed; expires."""
        return f"{self.base}streams:{run_id}"

    def steps(self, run_id: str, instance_id: str) -> str:
        """Hash with the recorded steps of a node, by their places."""
        return f"{self.base}steps:{run_id}|{instance_id}"

    def step_values(self, run_id: str, instance_id: str) -> str:
        """Hash with what these have given, where it is large."""
        return f"{self.base}values:{run_id}|{instance_id}"

    def memory(self, memory_id: str) -> str:
        """Hash with a conversation that agents keep between runs; expires by itself."""
        return f"{self.base}memory:{memory_id}"

    @property
    def memories(self) -> str:
        """Sorted set of the ids of conversations, by when they expire."""
        return self.base + "memories"

    def draft(self, token: str) -> str:
        """Hash with what a run is to begin with that does another one again; expires by itself."""
        return f"{self.base}draft:{token}"

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

    def limited(self, limit: str) -> str:
        """Sorted set of the ready nodes that wait for a limit, by the time since when."""
        return f"{self.base}limited:{limit}"

    def slots(self, limit: str) -> str:
        """Sorted set of the nodes that a limit has admitted and that have not left: see limits.lua."""
        return f"{self.base}slots:{limit}"

    def limit(self, limit: str) -> str:
        """Hash with the state of a limit."""
        return f"{self.base}limit:{limit}"

    @property
    def limits(self) -> str:
        """Hash of the limits that the deployment has laid down, by name."""
        return self.base + "limits"

    def calls(self, name: str) -> str:
        """Sorted set of model calls that wait for a limit over all processes, by their turns."""
        return f"{self.base}calls:{name}"

    def underway(self, name: str) -> str:
        """Sorted set of model calls that are under way, by when their process counts as gone."""
        return f"{self.base}underway:{name}"

    def parked(self, name: str) -> str:
        """Sorted set of the nodes that are parked until there is room for their model calls, by their turns."""
        return f"{self.base}parked:{name}"

    @property
    def parking(self) -> str:
        """Sorted set of the limits of model calls that nodes are parked for, by when a worker has looked at each last."""
        return self.base + "parking"

    def reply(self, digest: str) -> str:
        """A model's reply in the cache, by the digest of its request; expires."""
        return f"{self.base}reply:{digest}"

    @property
    def replies(self) -> str:
        """Sorted set of these digests, by when the replies expire; expires with the last one."""
        return self.base + "replies"

    @property
    def reply_sizes(self) -> str:
        """Hash with the bytes of each reply, and of all; expires with the last one."""
        return self.base + "reply_sizes"

    def pace(self, name: str) -> str:
        """Hash with the state of a limit of model calls."""
        return f"{self.base}pace:{name}"

    def usage(self, day: int) -> str:
        """Hash with the sums of a day's model calls, by the day's number since 1970; expires by itself."""
        return f"{self.base}usage:{day}"

    @property
    def usage_total(self) -> str:
        """Hash with the sums of the model calls of all time."""
        return self.base + "usage:total"

    @property
    def run_limits(self) -> str:
        """Hash of how many runs there may be at once, as the deployment has laid it down: see places.lua."""
        return self.base + "run_limits"

    @property
    def places(self) -> str:
        """Hash of the runs that hold a place, or wait for one, among the concurrent runs; in the first partition."""
        return self.base + "places"

    def line(self, group: str) -> str:
        """Sorted set of the runs of a group that wait for a place, by their creation."""
        return f"{self.base}line:{group}"

    def running(self, limit: str) -> str:
        """Sorted set of the runs that hold a place, by a limit that they count against."""
        return f"{self.base}running:{limit}"

    @property
    def waited_for(self) -> str:
        """Sorted set of the limits of concurrent runs that runs wait for, by when they are to be looked at."""
        return self.base + "waited_for"

    @property
    def admitted(self) -> str:
        """Sorted set of the runs that were given a place and have not begun yet."""
        return self.base + "admitted"

    @property
    def unplaced(self) -> str:
        """Sorted set of the runs of this partition that have no place yet, by when one is to be asked for."""
        return self.base + "unplaced"

    @property
    def left(self) -> str:
        """Sorted set of the runs of this partition that have ended and whose place has not been given back yet."""
        return self.base + "left"

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
    def claiming(self) -> str:
        """What all claims of the partition heed, as JSON: `{"paused": {queue: since in ms}, "levels": 1 with priorities}`."""
        return self.base + "claiming"

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
    def messages(self) -> str:
        """Channel of `run|instance`: a message was sent to the node."""
        return self.base + "messages"

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

    @property
    def servers(self) -> str:
        """Sorted set of the ids of server processes, by when they were last seen."""
        return self.base + "servers"

    def server(self, server_id: str) -> str:
        """Hash that describes a server process; expires by itself."""
        return f"{self.base}server:{server_id}"

    def requests(self, server_id: str) -> str:
        """Hash of what a server process is asked to do: request id -> JSON; expires by itself."""
        return f"{self.base}requests:{server_id}"

    def answers(self, request_id: str) -> str:
        """Hash of the answers to a request: server id -> JSON; expires by itself."""
        return f"{self.base}answers:{request_id}"

    def suspects(self, queue: str) -> str:
        """Sorted set of the nodes of a queue that are suspected of having ended their worker, by the time since when."""
        return f"{self.base}ready:{queue}!"

    def lost(self, worker_id: str) -> str:
        """Mark of a worker that was lost while it held several nodes; expires by itself."""
        return f"{self.base}lost:{worker_id}"

    @property
    def schedules(self) -> str:
        """Sorted set of schedule ids, by when each is to be looked at next."""
        return self.base + "schedules"

    def schedule(self, schedule_id: str) -> str:
        """Hash with a schedule: its definition and its state."""
        return f"{self.base}schedule:{schedule_id}"

    @property
    def settings(self) -> str:
        """Hash of the deployment's settings that scripts need."""
        return self.base + "settings"

    @property
    def stats(self) -> str:
        """Hash of counters."""
        return self.base + "stats"

    @property
    def counting(self) -> str:
        """Hash of the runs that have ended lately: `MINUTE CLASS BLUEPRINT` to how many; see notify.lua."""
        return self.base + "counting"

    def minutes(self, hour: int) -> str:
        """Hash of the runs that ended in an hour (since the epoch): `MINUTE BLUEPRINT` to counts; expires by itself."""
        return f"{self.base}minutes:{hour}"

    def hours(self, day: int) -> str:
        """Hash of the runs that ended on a day (since the epoch): `HOUR BLUEPRINT` to counts; expires by itself."""
        return f"{self.base}hours:{day}"

    @property
    def totals(self) -> str:
        """Hash of all runs that have ended: blueprint to counts."""
        return self.base + "totals"

    @property
    def work(self) -> str:
        """Hash of what handlers have done: `WHAT DETAIL HANDLER` to how often, see `work_counts`."""
        return self.base + "work"

    @property
    def synced(self) -> str:
        """A mark that is written before it is asked whether everything up to it is kept."""
        return self.base + "synced"

    @property
    def protocol(self) -> str:
        """The version of this protocol that the deployment speaks."""
        return self.base + "protocol"
