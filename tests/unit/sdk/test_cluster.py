"""Redis Cluster without a server: slots, first keys, redirections, and what is asked again."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from flowcraft_sdk._transport.address import cluster_address
from flowcraft_sdk._transport.cluster import (
    MOST_REDIRECTIONS,
    SLOTS,
    ClusterDown,
    Pause,
    Place,
    Send,
    Topology,
    exchange,
    key_of,
    slot_of,
)

A: Place = ("a", 1)
B: Place = ("b", 2)
HALF = SLOTS // 2
WHOLE = [[0, HALF - 1, [b"a", 1, b"ida"], [b"c", 3, b"idc"]], [HALF, SLOTS - 1, [b"b", 2, b"idb"]]]
LOW, HIGH = "3", "foo"  # keys of a and of b


@pytest.mark.parametrize("key", ["", "foo", "{foo}bar", "a{foo}{bar}", "{}a", "{a", "a}b{c}", "é{ü}x", "x{y}"])
def test_slots_are_those_of_redis_py(key: str) -> None:
    assert slot_of(key) == slot_of(key.encode()) == key_slot(key.encode())


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("GET", "k"), "k"),
        (("EVALSHA", "abc", 2, b"k1", "k2", "x"), b"k1"),
        (("EVAL", "return 1", 0, "x"), None),
        (("TIME",), None),
        (("INFO", "server"), None),
        (("CONFIG GET", "maxmemory"), None),
        (("WAIT", 1, 100), None),
        (("BRPOP", "list", 1), "list"),
        (("MEMORY USAGE", "k", "SAMPLES", 0), "k"),
        (("SCAN", 0, "MATCH", "fc:{n.3}:ready:*", "COUNT", 5), "fc:{n.3}:ready:*"),
        (("SCAN", 0, "MATCH", "*", "COUNT", 5), None),
    ],
)
def test_the_first_key_of_a_command(words: tuple[Any, ...], key: object) -> None:
    assert key_of(words) == key


def test_the_keys_used_here_lie_on_two_nodes() -> None:
    assert slot_of(LOW) < HALF <= slot_of(HIGH)


def run(topology: Topology, commands: list[Sequence[Any]], answer: Callable[[Send], Any]) -> list[Any]:
    """Drive an exchange with made-up replies; an answer that is an exception is thrown."""
    steps = exchange(topology, commands)
    reply: Any = None
    while True:
        try:
            step = steps.throw(reply) if isinstance(reply, Exception) else steps.send(reply)
        except StopIteration as end:
            return list(end.value)
        reply = None if isinstance(step, Pause) else answer(step)


class Nodes:
    """Answers each command with the node that got it, unless something else is planned for it."""

    def __init__(self) -> None:
        self.sent: list[tuple[Place, list[tuple[Any, ...]]]] = []
        self.planned: dict[tuple[Place, str], list[Any]] = {}
        self.slots: Any = WHOLE
        self.dead: set[Place] = set()

    def plan(self, place: Place, key: str, *replies: Any) -> None:
        self.planned[place, key] = list(replies)

    def __call__(self, step: Send) -> Any:
        self.sent.append((step.place, [tuple(each) for each in step.commands]))
        if step.place in self.dead:
            return redis.exceptions.ConnectionError("it is dead")
        return [self._reply(step.place, each) for each in step.commands]

    def _reply(self, place: Place, words: Sequence[Any]) -> Any:
        if words[:2] == ("CLUSTER", "SLOTS"):
            return self.slots
        planned = self.planned.get((place, str(words[-1])))
        return planned.pop(0) if planned else f"{place[0]}:{words[-1]}"

    def places(self) -> list[str]:
        return [place[0] for place, commands in self.sent if commands[0][0] != "CLUSTER"]


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


@pytest.fixture
def topology() -> Topology:
    return Topology([A])


def test_commands_go_to_the_nodes_of_their_keys_and_replies_come_in_order(nodes: Nodes, topology: Topology) -> None:
    assert run(topology, [("GET", HIGH), ("GET", LOW), ("GET", HIGH)], nodes) == ["b:foo", "a:3", "b:foo"]
    assert [place for place, _ in nodes.sent] == [A, B, A]
    assert len(nodes.sent[1][1]) == 2, "what is for one node is one pipeline"
    run(topology, [("GET", HIGH)], nodes)
    assert nodes.sent[-1] == (B, [("GET", HIGH)]), "the topology is asked for once"


def test_a_command_without_a_key_follows_the_one_before_it(nodes: Nodes, topology: Topology) -> None:
    run(topology, [("SET", HIGH, 1), ("WAIT", 1, 10)], nodes)
    assert nodes.sent[-1] == (B, [("SET", HIGH, 1), ("WAIT", 1, 10)])
    run(topology, [("TIME",)], nodes)
    assert nodes.sent[-1] == (A, [("TIME",)])


def test_moved_is_followed_and_remembered(nodes: Nodes, topology: Topology) -> None:
    nodes.plan(A, LOW, redis.exceptions.MovedError(f"{slot_of(LOW)} b:2"))
    assert run(topology, [("GET", LOW), ("GET", HIGH)], nodes) == ["b:3", "b:foo"]
    nodes.slots = [[0, SLOTS - 1, [b"b", 2, b"idb"]]]
    assert run(topology, [("GET", LOW)], nodes) == ["b:3"]
    assert topology.node_of(slot_of(LOW)) == B
    assert nodes.sent[-2] == (B, [("CLUSTER", "SLOTS")]) or nodes.sent[-2][1] == [("CLUSTER", "SLOTS")], (
        "it is asked anew"
    )


def test_moved_without_a_host_means_the_host_that_was_asked(nodes: Nodes, topology: Topology) -> None:
    nodes.plan(A, LOW, redis.exceptions.MovedError(f"{slot_of(LOW)} :9"))
    assert run(topology, [("GET", LOW)], nodes) == ["a:3"]
    assert nodes.sent[-1][0] == ("a", 9)


def test_ask_is_followed_once_and_not_remembered(nodes: Nodes, topology: Topology) -> None:
    nodes.plan(A, LOW, redis.exceptions.AskError(f"{slot_of(LOW)} b:2"))
    nodes.planned[B, "ASKING"] = ["OK"]
    assert run(topology, [("GET", LOW)], nodes) == ["b:3"]
    assert nodes.sent[-1] == (B, [("ASKING",), ("GET", LOW)])
    run(topology, [("GET", LOW)], nodes)
    assert nodes.sent[-1] == (A, [("GET", LOW)])


def test_a_script_waits_for_a_slot_that_moves_and_never_runs_on_half_of_it(nodes: Nodes, topology: Topology) -> None:
    asked = [redis.exceptions.AskError(f"{slot_of(LOW)} b:2") for _ in range(3)]
    nodes.plan(A, "done", *asked, redis.exceptions.MovedError(f"{slot_of(LOW)} b:2"))
    call = ("EVALSHA", "abc", 1, LOW, "done")
    assert run(topology, [call], nodes) == ["b:done"]
    assert nodes.sent[1:] == [(A, [call])] * 4 + [(B, [call])], "it is announced to no node by ASKING"


def test_try_again_waits_and_sends_that_one_again(nodes: Nodes, topology: Topology) -> None:
    nodes.plan(A, LOW, redis.exceptions.TryAgainError("TRYAGAIN"), redis.exceptions.TryAgainError("TRYAGAIN"))
    assert run(topology, [("GET", LOW), ("GET", HIGH)], nodes) == ["a:3", "b:foo"]
    assert nodes.places() == ["a", "b", "a", "a"]


def test_a_transaction_goes_to_one_node_and_is_sent_again_as_a_whole(nodes: Nodes, topology: Topology) -> None:
    nodes.plan(A, LOW, redis.exceptions.MovedError(f"{slot_of(LOW)} b:2"))
    first, second = [("MULTI",), ("GET", LOW), ("TIME",), ("EXEC",)], [("MULTI",), ("GET", HIGH), ("EXEC",)]
    assert run(topology, [*first, *second], nodes)[1] == "b:3"
    assert nodes.sent[1:] == [(A, first), (B, second), (B, first)]


def test_a_transaction_waits_for_a_slot_that_moves(nodes: Nodes, topology: Topology) -> None:
    nodes.plan(A, LOW, redis.exceptions.AskError(f"{slot_of(LOW)} b:2"))
    commands = [("MULTI",), ("GET", LOW), ("EXEC",)]
    assert run(topology, commands, nodes)[1] == "a:3"
    assert nodes.sent[1:] == [(A, commands), (A, commands)]


@pytest.mark.parametrize("error", [redis.exceptions.ClusterDownError("down"), redis.exceptions.MasterDownError("down"), redis.exceptions.ReadOnlyError("a replica")])  # fmt: skip
def test_a_cluster_that_is_down_is_told_as_a_connection_that_broke(
    nodes: Nodes, topology: Topology, error: Exception
) -> None:
    nodes.plan(A, LOW, error)
    with pytest.raises(ClusterDown):
        run(topology, [("GET", LOW)], nodes)
    assert topology.is_stale and topology.places[0] != A, "the others are asked first"


def test_a_node_that_does_not_answer_is_asked_last(nodes: Nodes, topology: Topology) -> None:
    run(topology, [("GET", LOW)], nodes)
    nodes.dead = {A}
    with pytest.raises(redis.exceptions.ConnectionError):
        run(topology, [("GET", LOW)], nodes)
    nodes.slots = [[0, SLOTS - 1, [b"b", 2, b"idb"]]]
    assert run(topology, [("GET", LOW)], nodes) == ["b:3"]
    assert nodes.sent[-2] == (B, [("CLUSTER", "SLOTS")])


def test_nodes_that_contradict_each_other_end_the_call(nodes: Nodes, topology: Topology) -> None:
    slot = slot_of(LOW)
    nodes.plan(A, LOW, *[redis.exceptions.MovedError(f"{slot} b:2") for _ in range(MOST_REDIRECTIONS)])
    nodes.plan(B, LOW, *[redis.exceptions.MovedError(f"{slot} a:1") for _ in range(MOST_REDIRECTIONS)])
    with pytest.raises(ClusterDown, match="redirected 16 times"):
        run(topology, [("GET", LOW)], nodes)


def test_slots_that_no_node_serves(nodes: Nodes, topology: Topology) -> None:
    nodes.slots = WHOLE[:1]
    assert run(topology, [("GET", LOW)], nodes) == ["a:3"]
    with pytest.raises(ClusterDown, match="no node serves the slot of 'foo'"):
        run(topology, [("GET", HIGH)], nodes)
    nodes.slots = []
    with pytest.raises(ClusterDown, match="in no cluster yet"):
        run(topology, [("GET", HIGH)], nodes)


def test_a_server_that_is_in_no_cluster_is_told(nodes: Nodes, topology: Topology) -> None:
    nodes.slots = redis.exceptions.ResponseError("ERR This instance has cluster support disabled")
    with pytest.raises(redis.exceptions.DataError, match="in no cluster; its address is redis://"):
        run(topology, [("GET", HIGH)], nodes)


def test_other_errors_are_replies(nodes: Nodes, topology: Topology) -> None:
    wrong = redis.exceptions.ResponseError("WRONGTYPE")
    nodes.plan(A, LOW, wrong)
    assert run(topology, [("GET", LOW), ("GET", HIGH)], nodes) == [wrong, "b:foo"]


def test_what_a_cluster_address_says() -> None:
    found = cluster_address("rediss+cluster://u:p%40@a,[::1]:7?socket_timeout=2&ssl_cert_reqs=none")
    assert found is not None
    assert (found.seeds, found.tls) == ((("a", 6379), ("::1", 7)), True)
    assert found.options == {"username": "u", "password": "p@", "socket_timeout": 2.0, "ssl_cert_reqs": "none"}
    assert cluster_address("redis://h") is None
