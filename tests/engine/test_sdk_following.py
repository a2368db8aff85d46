"""Following, listing and waiting for many runs through the SDK, and what happens when clients or replies get lost."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from flowcraft_sdk import Client, ClientSettings, ConfigurationError, NodeContext, RunStatus, WaitTimeoutError
from flowcraft_sdk.protocol.keys import PROTOCOL_VERSION
from flowcraft_server.testing import TestEnvironment
from tests.blocking_client import BOTH, clients
from tests.engine.test_failures import graph
from tests.engine.test_sdk_runs import ECHO, Gate, echo

Make = Callable[..., TestEnvironment]
ClientOf = Callable[[TestEnvironment], Any]


@pytest.fixture(params=BOTH, ids=["sync", "async"])
def client_of(request: pytest.FixtureRequest) -> Iterator[ClientOf]:
    """A client of an environment: sync, then async."""
    yield from clients(request.param)


CHAIN = graph({"a": "echo", "b": "echo", "c": "echo"}, ["a b", "b c"])
KINDS = ["run_started", *["node_started", "node_completed"] * 3, "run_ended"]


def test_events_are_the_whole_story_while_it_happens_and_afterwards(environment: Make, client_of: ClientOf) -> None:
    env = environment(handlers={"echo": echo}, blueprints=CHAIN)
    run = client_of(env).start("g", {"value": 1})
    live = list(run.events(timeout=10))
    assert [event.type for event in live] == KINDS
    assert [int(event.id) for event in live] == list(range(1, len(KINDS) + 1))
    assert [event.at for event in live] == sorted(event.at for event in live)
    assert list(run.events()) == live
    assert list(run.events(follow=False)) == live
    for seen in (0, 3, len(KINDS)):
        assert list(run.events(after=str(seen))) == live[seen:]


def test_events_end_with_the_time_given(environment: Make, client_of: ClientOf) -> None:
    gate = Gate()
    env = environment(handlers={"gate": gate.handle}, blueprints=graph({"a": "gate"}))
    run = client_of(env).start("g")
    assert gate.begun.wait(60)
    begin = time.monotonic()
    seen = []
    with pytest.raises(WaitTimeoutError):
        for event in run.events(timeout=0.2):
            seen.append(event.type)
    assert seen == ["run_started", "node_started"]
    assert time.monotonic() - begin >= 0.2
    assert len(list(run.events(follow=False))) == 2
    gate.go.set()


def test_progress_and_events_of_a_handler_arrive_while_it_runs(environment: Make, client_of: ClientOf) -> None:
    gate = Gate()

    def reports(ctx: NodeContext) -> Any:
        ctx.progress(0.5, "half")
        ctx.emit("seen", {"n": 1})
        return gate.handle(ctx)

    env = environment(handlers={"reports": reports}, blueprints=graph({"a": "reports"}))
    run = client_of(env).start("g")
    seen = {}
    for event in run.events(timeout=10):
        seen[event.type] = event
        if event.type == "custom":
            gate.go.set()
    assert dict(seen["node_progress"].data) == {"fraction": 0.5, "message": "half"}
    assert dict(seen["custom"].data) == {"name": "seen", "data": {"n": 1}}
    assert run.describe().nodes["a"].status == "completed"


def test_a_description_shows_nodes_and_payloads_only_when_asked(environment: Make, client_of: ClientOf) -> None:
    gate = Gate()
    env = environment(
        handlers={"echo": echo, "gate": gate.handle},
        blueprints=graph({"a": "echo", "b": "gate", "c": "echo"}, ["a b", "b c"]),
    )
    run = client_of(env).start("g", {"value": 1}, tags=["vip"], memo={"of": "ann"}, run_timeout=60)
    assert gate.begun.wait(60)
    seen = run.describe()
    assert [node.status.value for node in seen.nodes.values()] == ["completed", "running", "pending"]
    assert (seen.progress.done, seen.progress.total) == (1, 3)
    assert (seen.tags, seen.memo, seen.ctx, seen.output) == (("vip",), {"of": "ann"}, None, None)
    assert seen.deadline is not None
    assert seen.deadline - seen.created_at == timedelta(minutes=1)
    full = run.describe(ctx=True, outputs=True)
    assert full.ctx == {"value": 1, "a": 1, "_outputs.a": 1, "_inputs.b": 1}
    assert (full.nodes["a"].output, full.output) == (1, None)
    gate.go.set()
    assert run.wait(timeout=60).output == {"value": 1, "a": 1, "b": "through", "c": 1}


def test_runs_are_yielded_as_they_end(environment: Make, client_of: ClientOf) -> None:
    gates = [Gate() for _ in range(4)]
    env = environment(
        handlers={"gate": lambda ctx: gates[ctx.context.get("n")].handle(ctx)}, blueprints=graph({"a": "gate"})
    )
    client = client_of(env)
    runs = [client.start("g", {"n": n}) for n in range(4)]
    order = []
    gates[2].go.set()
    for run in client.as_completed([*runs, runs[0]], timeout=10):
        order.append(run.run_id)
        nexts = {2: 0, 0: 3, 3: 1}
        number = next(n for n in range(4) if runs[n].run_id == run.run_id)
        if number in nexts:
            gates[nexts[number]].go.set()
    assert order == [runs[n].run_id for n in (2, 0, 3, 1)]
    assert {run.run_id for run in client.as_completed(runs)} == set(order)
    assert list(client.as_completed([])) == []


def test_waiting_for_many_runs_ends_in_time(environment: Make, client_of: ClientOf) -> None:
    gate = Gate()
    env = environment(
        handlers={"echo": echo, "gate": gate.handle}, blueprints=[ECHO, {**graph({"a": "gate"}), "id": "held"}]
    )
    client = client_of(env)
    held = client.start("held")
    done = client.start("g", {"value": 1})
    seen = []
    with pytest.raises(WaitTimeoutError) as caught:
        for run in client.as_completed([held, done], timeout=0.5):
            seen.append(run)
    assert seen == [done]
    assert (caught.value.run_id, caught.value.handle.run_id) == (held.run_id, held.run_id)
    gate.go.set()


def test_a_run_of_another_deployment_is_not_waited_for(environment: Make, client_of: ClientOf) -> None:
    env, other = environment(), environment()
    stranger = client_of(other).get_handle("r")
    with pytest.raises(ConfigurationError, match="run r belongs to"):
        list(client_of(env).as_completed([stranger]))


def test_listing_newest_first_page_by_page(environment: Make, client_of: ClientOf) -> None:
    env = environment(handlers={"echo": echo}, blueprints=[ECHO, {**ECHO, "id": "h"}], workers=0)
    client = client_of(env)
    started = [client.start("gh"[n % 2], {"value": n}, tags=["third"] if n % 3 == 0 else []).run_id for n in range(23)]
    cancelled = [started[n] for n in (4, 5, 6)]
    for run_id in cancelled:
        client.get_handle(run_id).cancel()

    def ids(**given: Any) -> list[str]:
        return [run.run_id for run in client.list_runs(**{"limit": None, **given})]

    everything = ids()
    assert sorted(everything) == sorted(started)
    moments = [run.created_at for run in client.list_runs(limit=None)]
    assert moments == sorted(moments, reverse=True)
    for page_size in (1, 2, 5, 23, 100):
        assert sorted(ids(page_size=page_size)) == sorted(started)
        assert sorted(ids(page_size=page_size, status=["queued", "cancelled"])) == sorted(started)
    assert len(ids(limit=7)) == 7
    assert ids(limit=0) == []
    assert sorted(ids(blueprint_id="h")) == sorted(started[1::2])
    assert sorted(ids(tag="third")) == sorted(started[::3])
    assert sorted(ids(tag="third", blueprint_id="h")) == sorted(started[3::6])
    assert sorted(ids(status=RunStatus.CANCELLED)) == sorted(cancelled)
    assert sorted(ids(status=RunStatus.CANCELLED, tag="third", page_size=1)) == [started[6]]
    assert ids(status=[]) == ids(tag="none") == ids(blueprint_id="none") == []
    middle = sorted(moments)[11]
    assert len(ids(started_after=middle)) + len(ids(started_before=middle)) == 23
    counts = [
        client.count_runs(),
        client.count_runs(status="cancelled"),
        client.count_runs(status=["cancelled", "queued"]),
    ]
    assert counts == [23, 3, 23]
    assert client.count_runs(tag="third", blueprint_id="h") == 4


def test_runs_that_start_while_listing_shift_nothing(environment: Make, client_of: ClientOf) -> None:
    env = environment(handlers={"echo": echo}, blueprints=ECHO, workers=0)
    client = client_of(env)
    before = {client.start("g", {"value": n}).run_id for n in range(10)}
    found = []
    for run in client.list_runs(limit=None, page_size=2):
        found.append(run.run_id)
        env.client.start("g", {"value": "new"})
    assert sorted(found) == sorted(before)


def test_a_subflows_run_is_listed_under_its_parent(environment: Make, client_of: ClientOf) -> None:
    child = {**ECHO, "id": "child"}
    parent = graph({"s": {"uses": "subflow", "params": {"blueprintId": "child"}}})
    env = environment(handlers={"echo": echo}, blueprints=[child, parent])
    client = client_of(env)
    run = client.start("g", {})
    snapshot = run.wait(timeout=60)
    assert len(snapshot.children) == 1
    assert [found.run_id for found in client.list_runs(parent=run.run_id)] == list(snapshot.children)
    assert client.get_handle(snapshot.children[0]).describe().parent_run_id == run.run_id
    assert snapshot.nodes["s"].child_run_id == snapshot.children[0]
    assert snapshot.child_nodes == {snapshot.children[0]: "s"} and snapshot.nodes["s"].items is None


def test_how_far_the_items_of_a_batch_are_and_which_child_run_is_of_which(
    environment: Make, client_of: ClientOf
) -> None:
    child = {"id": "child", "nodes": [{"id": "ask", "uses": "wait"}]}
    each = {"uses": "map", "inputs": "value", "params": {"call": "child", "inputs": {"value": "item"}, "maxLive": 2}}
    env = environment(handlers={"echo": echo}, blueprints=[child, graph({"each": each})])
    run = client_of(env).start("g", {"value": [1, 2, 3]})

    def counts() -> tuple[int, int, int]:
        items = run.describe().nodes["each"].items
        return (items.total, items.begun, items.done)

    asking = (
        event.run_id for event in run.events(children=True, timeout=20)
        if event.type == "node_waiting" and event.node_id == "ask"
    )  # fmt: skip
    first, second = next(asking), next(asking)
    assert counts() == (3, 2, 0)
    run.signal(f"{run.describe().child_nodes[first]}/ask", {})
    third = next(asking)
    assert counts() == (3, 3, 1)
    found = run.describe().child_nodes
    assert set(found) == {first, second, third} == set(run.describe().children)
    assert found[third] == "each[2]" and set(found.values()) == {"each[0]", "each[1]", "each[2]"}
    for child_id in (second, third):
        run.signal(f"{found[child_id]}/ask", {})
    assert run.wait(timeout=60).status == "completed"
    assert counts() == (3, 3, 3)
    assert run.describe().nodes["each"].child_run_id is None


def test_what_a_deployment_reports_about_itself(environment: Make, client_of: ClientOf) -> None:
    env = environment(
        handlers={"echo": echo}, blueprints={**CHAIN, "description": "Three.", "inputs": {"value": "any"}}
    )
    client = client_of(env)
    (blueprint,) = client.blueprints()
    assert (blueprint.id, blueprint.description, blueprint.node_count) == ("g", "Three.", 3)
    assert blueprint.inputs == {"value": {"type": "any"}}
    assert client.start("g", {"value": 1}, version=blueprint.version).result(timeout=60)["c"] == 1
    (worker,) = client.workers()
    assert worker.pid == os.getpid()
    info = client.ping()
    assert (info.namespace, info.protocol, info.blueprints, info.workers) == (env.namespace, PROTOCOL_VERSION, 1, 1)


class LossyProxy:
    """Passes bytes on to a socket, and once swallows the reply to a script call, breaking the connection instead."""

    def __init__(self, folder: Path, target: str, spoil: int = 1) -> None:
        self.path, self.target, self.spoil = str(folder / "p.sock"), target, spoil
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(near,), daemon=True).start()

    def _pass_on(self, near: socket.socket) -> None:
        with near, self._connected() as far:
            while data := near.recv(65536):
                far.sendall(data)
                reply = far.recv(65536)
                if b"EVAL" in data and b"NOSCRIPT" not in reply and self.spoil > 0:
                    self.spoil -= 1
                    return
                near.sendall(reply)

    def _connected(self) -> socket.socket:
        address = urlsplit(self.target)
        if address.scheme != "unix":  # FLOWCRAFT_TEST_REDIS_URL
            return socket.create_connection((address.hostname or "localhost", address.port or 6379))
        far = socket.socket(socket.AF_UNIX)
        far.connect(unquote(address.path))
        return far

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize("kind", BOTH, ids=["sync", "async"])
def test_a_lost_reply_starts_no_second_run_and_is_no_conflict(environment: Make, kind: Any, tmp_path: Path) -> None:
    env = environment(handlers={"echo": echo}, blueprints=ECHO)
    proxy = LossyProxy(tmp_path, env.url)
    with kind(f"unix://{proxy.path}", namespace=env.namespace) as client:
        run = client.start("g", {"value": 1}, run_id="once", on_conflict="raise")
        assert (run.attached, proxy.spoil) == (False, 0)
        proxy.spoil = 1
        assert client.start("g", {"value": 2}).attached is False
    assert env.client.count_runs() == 2
    assert env.client.get_handle("once").result(timeout=60)["a"] == 1
    proxy.close()


def test_a_client_killed_right_after_start_changes_nothing(environment: Make) -> None:
    env = environment(handlers={"echo": echo}, blueprints=CHAIN)
    program = (
        "import os, sys; from flowcraft_sdk import Client\n"
        "Client(sys.argv[1], namespace=sys.argv[2]).start('g', {'value': 1}, run_id='left'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, env.url, env.namespace], check=False).returncode == -9
    assert env.client.get_handle("left").result(timeout=60)["c"] == 1


def test_a_worker_that_dies_does_not_end_the_wait(environment: Make) -> None:
    gate = Gate()
    env = environment(handlers={"gate": gate.handle}, blueprints=graph({"a": "gate"}))
    with Client(env.url, namespace=env.namespace, settings=ClientSettings()) as client:
        run = client.start("g")
        assert gate.begun.wait(60)
        found: list[Any] = []
        waiter = threading.Thread(target=lambda: found.append(run.result(timeout=60)))
        waiter.start()
        env.kill_worker()
        gate.go.set()
        env.add_worker()
        env.clock.advance(timedelta(minutes=1), keep_leases=False)
        waiter.join(15)
        assert found == [{"a": "through"}]
