"""Redis Cluster: which node serves which key, and what a redirection asks for. No I/O.

redis-py's own cluster client is not used: it sends calls again by itself, and the callers here must know how often a call was
sent. Each node is reached by an ordinary client of redis-py, and the rules of redirections stand here once for all of them.
"""

import threading
from binascii import crc_hqx
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

SLOTS = 16_384
SCRIPT_CALLS = ("EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO")
MOST_REDIRECTIONS = 16
"""Of one call. A slot that moves redirects a call twice at most; more means that the nodes disagree."""

Place = tuple[str, int]
"""Host and port of a node."""

CLUSTER_PAUSE = 0.05
"""Seconds before a call is sent again that met a slot half moved."""

KEYLESS = frozenset(
    (
        "ACL",
        "CLIENT",
        "CLUSTER",
        "COMMAND",
        "CONFIG",
        "DBSIZE",
        "DISCARD",
        "EXEC",
        "FLUSHALL",
        "FLUSHDB",
        "FUNCTION",
        "INFO",
    )
    + (
        "LASTSAVE",
        "LATENCY",
        "MEMORY",
        "MULTI",
        "PING",
        "PUBLISH",
        "PUBSUB",
        "ROLE",
        "SCAN",
        "SCRIPT",
        "SLOWLOG",
        "TIME",
    )
    + ("WAIT", "WAITAOF")
)
"""Commands without a key, of those that are sent here."""

EVERYWHERE = frozenset(("FLUSHALL", "FLUSHDB", "SCRIPT LOAD", "SCRIPT FLUSH", "CONFIG SET", "CONFIG RESETSTAT"))
"""Commands that are for all primaries; the reply is that of the last one."""


@dataclass(frozen=True)
class ClusterAddress:
    """What a `redis+cluster://` address says.

    Attributes:
        seeds: host and port of nodes to begin with; the others are learned from them.
        options: of connections to each node, as redis-py takes them.
        tls: whether they are encrypted.
    """

    seeds: tuple[Place, ...]
    options: Mapping[str, Any]
    tls: bool


def slot_of(key: str | bytes) -> int:
    """The slot of a key: CRC16 of what stands in its first braces, else of all of it."""
    raw = key.encode() if isinstance(key, str) else key
    begin = raw.find(b"{")
    if begin >= 0:
        end = raw.find(b"}", begin + 1)
        if end > begin + 1:
            raw = raw[begin + 1 : end]
    return crc_hqx(raw, 0) % SLOTS


def key_of(words: Sequence[Any]) -> str | bytes | None:
    """The first key of a command, None for one without. Of a SCAN in one partition its pattern: it goes to the node of that."""
    name, *args = words
    name = str(name).upper()
    if name in SCRIPT_CALLS:
        found = args[2] if int(args[1]) else None
        return found if isinstance(found, str | bytes) else None
    if name == "SCAN" and len(args) > 2 and args[1] == "MATCH" and "{" in str(args[2]):
        return str(args[2])
    if name != "MEMORY USAGE" and name.partition(" ")[0] in KEYLESS:
        return None
    found = args[0] if args else None
    return found if isinstance(found, str | bytes) else None


class ClusterDown(redis.exceptions.ConnectionError):
    """The cluster does not serve this key for now: a failover or a resharding is under way. A later attempt may succeed."""


@dataclass(frozen=True)
class Redirection:
    """Where a call is to be sent again.

    Attributes:
        place: the node; None for the one that serves the slot then.
        asking: whether only this call goes there, announced by ASKING.
    """

    place: Place | None
    asking: bool = False


def redirection_of(reply: Any, asked: Place) -> Redirection | None:
    """What a reply says about where its call belongs; None for any other reply.

    Args:
        asked: the node that replied.

    Raises:
        ClusterDown: no node serves the slot for now.
    """
    if not isinstance(reply, redis.exceptions.ResponseError | redis.exceptions.ReadOnlyError):
        return None
    if isinstance(reply, redis.exceptions.AskError):  # MovedError is one, too
        moved = isinstance(reply, redis.exceptions.MovedError)
        return Redirection((reply.host or asked[0], reply.port), asking=not moved)
    if isinstance(reply, redis.exceptions.TryAgainError):
        return Redirection(None)
    if isinstance(reply, redis.exceptions.ClusterDownError | redis.exceptions.MasterDownError):
        raise ClusterDown(str(reply)) from reply
    if isinstance(reply, redis.exceptions.ReadOnlyError):
        raise ClusterDown("the node has become a replica") from reply
    return None


class Topology:
    """Which node serves which slot, as far as is known. Thread-safe.

    Args:
        seeds: nodes to ask first.
    """

    def __init__(self, seeds: Sequence[Place]) -> None:
        self._seeds = list(seeds)
        self._lock = threading.Lock()
        self._served: list[Place | None] = [None] * SLOTS
        self._primaries: list[Place] = []
        self._others: list[Place] = []
        self._alone: list[Place] = []
        self._suspects: set[Place] = set()
        self._stale = True

    @property
    def is_stale(self) -> bool:
        """Whether it is to be asked for before the next call."""
        return self._stale

    def node_of(self, slot: int) -> Place | None:
        """The node that serves a slot, None if that is not known."""
        return self._served[slot]

    @property
    def primaries(self) -> list[Place]:
        """Nodes that serve slots."""
        return list(self._primaries)

    @property
    def missing_slots(self) -> int:
        """How many slots no node serves."""
        return self._served.count(None)

    @property
    def without_replica(self) -> list[Place]:
        """Nodes that serve slots which are lost with them."""
        return list(self._alone)

    @property
    def places(self) -> list[Place]:
        """All nodes that are known, those first that can be expected to answer."""
        with self._lock:
            known = list(dict.fromkeys([*self._primaries, *self._others, *self._seeds]))
            return [place for place in known if place not in self._suspects] + [
                place for place in known if place in self._suspects
            ]

    def learn(self, slots: Sequence[Any], asked: Place) -> None:
        """Take the reply to CLUSTER SLOTS for what holds now.

        Args:
            asked: the node that replied.

        Raises:
            ClusterDown: it serves no slot yet.
        """
        served: list[Place | None] = [None] * SLOTS
        primaries: list[Place] = []
        others: list[Place] = []
        alone: list[Place] = []
        for begin, end, primary, *replicas in slots:
            place = _place(primary, asked)
            primaries.append(place)
            others += [_place(replica, asked) for replica in replicas]
            alone += [] if replicas else [place]
            served[int(begin) : int(end) + 1] = [place] * (int(end) - int(begin) + 1)
        if not primaries:
            raise ClusterDown(f"the node at {asked[0]}:{asked[1]} serves no slots: it is in no cluster yet")
        with self._lock:
            self._served, self._primaries = served, list(dict.fromkeys(primaries))
            self._alone = list(dict.fromkeys(alone))
            self._others = [place for place in dict.fromkeys(others) if place not in primaries]
            self._suspects.clear()
            self._stale = False

    def move(self, slot: int, place: Place) -> None:
        """Note that a slot is served elsewhere now; what else has moved is asked for before the next call."""
        with self._lock:
            self._served[slot] = place
            if place not in self._primaries:
                self._primaries.append(place)
            self._stale = True

    def forget(self) -> None:
        """Note that what is known may be out of date."""
        self._stale = True

    def suspect(self, place: Place) -> None:
        """Note that a node does not answer, or not as the one that serves its slots."""
        with self._lock:
            self._suspects.add(place)
            self._stale = True


def _place(node: Sequence[Any], asked: Place) -> Place:
    host = node[0].decode() if isinstance(node[0], bytes) else node[0]
    return (host if host and host != "?" else asked[0], int(node[1]))


@dataclass(frozen=True)
class Send:
    """Send commands to a node as one pipeline; the answer is the list of their replies, errors among them."""

    place: Place
    commands: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


Exchange = Generator[Send | Pause, Any, list[Any]]


@dataclass(frozen=True)
class _Unit:
    """Commands that one node gets together: one with a key and those without a key behind it, or MULTI to EXEC.

    Attributes:
        indices: of the commands.
        key: the first key of them; None if none has one.
        whole: it needs all keys of its slot on one node: a transaction, or a script, which reads keys that it does not name.
    """

    indices: range
    key: str | bytes | None
    whole: bool

    def announced(self, commands: Sequence[Sequence[Any]], asking: bool) -> list[Sequence[Any]]:
        """Its commands as they are sent."""
        return [word for index in self.indices for word in ([("ASKING",)] if asking else []) + [commands[index]]]


def exchange(topology: Topology, commands: Sequence[Sequence[Any]]) -> Exchange:
    """Send commands to the nodes that serve their keys, and follow redirections; returns the replies in order, errors among them.

    A command without a key goes along with the one before it: WAIT follows the write that it waits for. What stands from MULTI
    to EXEC goes to one node.

    Raises:
        redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError: a node does not answer. Whether the commands
            for it were applied is unknown, and those for other nodes may have been.
        ClusterDown: no node serves one of the keys for now.
    """
    replies: list[Any] = [None] * len(commands)
    pending = [(unit, Redirection(None)) for unit in _units(commands)]
    for _ in range(MOST_REDIRECTIONS):
        # Not between a redirection and the call that follows it: another node may not know yet what has moved.
        if topology.is_stale and any(redirection.place is None for _, redirection in pending):
            yield from _learn(topology)
        again: list[tuple[_Unit, Redirection]] = []
        for place, group in _grouped(topology, pending).items():
            words = [word for unit, asking in group for word in unit.announced(commands, asking)]
            try:
                answers = iter((yield Send(place, words)))
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError):
                topology.suspect(place)
                raise
            for unit, asking in group:
                for index in unit.indices:
                    if asking:
                        next(answers)
                    replies[index] = next(answers)
                redirection = _followed(topology, unit, replies, place)
                if redirection is not None:
                    again.append((unit, redirection))
        if not again:
            return replies
        if any(redirection.place is None for _, redirection in again):
            yield Pause(CLUSTER_PAUSE)
        pending = again
    raise ClusterDown(f"a call was redirected {MOST_REDIRECTIONS} times")


def _units(commands: Sequence[Sequence[Any]]) -> Iterator[_Unit]:
    begin, key, open_transaction, whole = 0, None, False, False
    for index, words in enumerate(commands):
        name, own_key = str(words[0]).upper(), key_of(words)
        begins = not open_transaction and (own_key is not None or name == "MULTI")
        if begins and index > begin:
            yield _Unit(range(begin, index), key, whole)
        if begins:
            begin, key, whole = index, None, name == "MULTI" or name in SCRIPT_CALLS
        key = own_key if key is None else key
        open_transaction = name == "MULTI" or (open_transaction and name != "EXEC")
    yield _Unit(range(begin, len(commands)), key, whole)


def _grouped(topology: Topology, pending: Sequence[tuple[_Unit, Redirection]]) -> dict[Place, list[tuple[_Unit, bool]]]:
    groups: dict[Place, list[tuple[_Unit, bool]]] = {}
    for unit, redirection in pending:
        place = redirection.place
        if place is None:
            place = topology.primaries[0] if unit.key is None else topology.node_of(slot_of(unit.key))
        if place is None:
            topology.forget()
            raise ClusterDown(f"no node serves the slot of {unit.key!r}")
        groups.setdefault(place, []).append((unit, redirection.asking))
    return groups


def _followed(topology: Topology, unit: _Unit, replies: Sequence[Any], asked: Place) -> Redirection | None:
    try:
        found = (redirection_of(replies[index], asked) for index in unit.indices)
        redirection = next((each for each in found if each is not None), None)
    except ClusterDown:
        topology.suspect(asked)
        raise
    if redirection is not None and redirection.asking and unit.whole:
        # Half of the slot's keys are on each node: a script would take a run that has not arrived yet for one that is gone.
        return Redirection(None)  # it waits until the slot has moved
    if redirection is not None and redirection.place is not None and not redirection.asking and unit.key is not None:
        topology.move(slot_of(unit.key), redirection.place)
    return redirection


def _learn(topology: Topology) -> Generator[Send, Any, None]:
    """Ask nodes which serves what, until one answers."""
    failure: Exception = ClusterDown("no node is known")
    for place in topology.places:
        try:
            (reply,) = yield Send(place, [("CLUSTER", "SLOTS")])
            if isinstance(reply, Exception):
                raise reply
            topology.learn(reply, place)
            return
        except redis.exceptions.AuthenticationError:
            raise
        except (redis.exceptions.RedisError, OSError) as error:
            failure = error
    if "cluster support disabled" in str(failure):
        raise redis.exceptions.DataError("the server is in no cluster; its address is redis://host:port/0") from failure
    raise failure
