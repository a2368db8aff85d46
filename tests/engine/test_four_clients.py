"""One set of scenarios for the four clients: over Redis and over HTTP, sync and async. Each must find the same."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from loguru import logger

from flowcraft_sdk import (
    FAILED,
    BlueprintNotFoundError,
    ChildAbandonedEvent,
    Client,
    ConfigurationError,
    DeadLetterNotFoundError,
    FlowcraftError,
    HttpClient,
    InvalidInputError,
    MemoryNotFoundError,
    NodeContext,
    NodeNotFoundError,
    NotReceivingError,
    NotWaitingError,
    ParentStoppedEvent,
    RerunRefusedError,
    RunCancelledError,
    RunConflictError,
    RunExpiredError,
    RunFailedError,
    RunNotFoundError,
    RunStateError,
    RunStatus,
    ScheduleNotFoundError,
    SerializationError,
    StreamEnded,
    StreamStarted,
    StreamText,
    UnexpectedReplyError,
    Usage,
    WaitTimeoutError,
)
from flowcraft_sdk.protocol import memory_scripts, scripts
from flowcraft_server.testing import TestEnvironment
from tests.api_server import serving
from tests.blocking_client import BlockingClient, BlockingHttpClient

BLUEPRINTS = {
    "echo": "inputs: {value: any}\nnodes:\n  say: {uses: echo, inputs: value}\n",
    "typed": "inputs: {text: string}\nnodes:\n  say: {uses: echo, inputs: text}\n",
    "flaky": "nodes:\n  first: {uses: echo, inputs: a}\n  second: {uses: flaky, inputs: b, needs: first}\n",
    "approval": (
        "nodes:\n  ask: {uses: wait, params: {prompt: Approve?, actions: ['yes', 'no'],"
        " schema: {type: object, properties: {by: {type: string}}, required: [by]}}}\n"
        "  done: {uses: echo, inputs: ask}\n  stop: {uses: echo, inputs: ask}\n"
        "edges: ['ask -[yes]-> done', 'ask -[no]-> stop']\n"
    ),
    "parent": "nodes:\n  sub: {uses: subflow, params: {blueprintId: approval}}\n",
    "mail": "nodes:\n  open: {uses: open}\n",
}
KINDS: dict[str, Callable[..., Any]] = {
    "sync": Client, "async": BlockingClient, "http": HttpClient, "async-http": BlockingHttpClient,
}  # fmt: skip


def flaky(ctx: NodeContext) -> Any:
    ctx.logger.info("trying")
    if ctx.input == "bad":
        raise ValueError("no such customer")
    ctx.emit("tried", {"price": Decimal("1.10")})
    return ctx.input


def open_mail(ctx: NodeContext) -> Any:
    ctx.stream_text("waiting ")
    ctx.stream_text("for mail", part="second")
    return ctx.receive(timeout=30)


HANDLERS = {"echo": lambda ctx: ctx.input, "flaky": flaky, "open": open_mail}


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints=BLUEPRINTS, handlers=HANDLERS, check=False) as env:
        yield env


@pytest.fixture(scope="module")
def address(env: TestEnvironment) -> Iterator[str]:
    with serving(env) as address:
        yield address


@pytest.fixture(scope="module", params=KINDS)
def client(request: pytest.FixtureRequest, env: TestEnvironment, address: str) -> Iterator[Any]:
    kind = KINDS[request.param]
    over_http = request.param.endswith("http")
    with kind(address) if over_http else kind(env.url, namespace=env.namespace) as client:
        client.kind_name = request.param
        yield client


def name(client: Any, scenario: str) -> str:
    """An id that the other clients do not use."""
    return f"{scenario}-{client.kind_name}"


def test_a_run_below_another_goes_on_when_that_is_cancelled(client: Any) -> None:
    above = client.start("approval", run_id=name(client, "above"))
    below = client.start("approval", parent=above, on_parent_cancel="abandon")
    assert above.cancel("enough", grace=0)
    found = below.describe()
    assert (found.on_parent_cancel, found.abandoned.cause, found.status.is_terminal) == ("abandon", "cancelled", False)
    assert above.describe().abandoned_children == (below.run_id,)
    (left,) = [event for event in above.events(follow=False) if isinstance(event, ChildAbandonedEvent)]
    (stopped,) = [event for event in below.events(follow=False) if isinstance(event, ParentStoppedEvent)]
    assert (left.child_run_id, stopped.cause) == (below.run_id, "cancelled")
    assert below.cancel(grace=0)


def error_of(call: Callable[[], Any]) -> tuple[type, dict[str, Any]]:
    """What a call raises: its class and its attributes, without what differs from run to run."""
    with pytest.raises(FlowcraftError) as caught:
        found = call()
        if hasattr(found, "__next__"):
            list(found)
    left_out = ("handle", "existing", "waited", "snapshot", "run_id", "ended_at")
    return type(caught.value), {key: value for key, value in vars(caught.value).items() if key not in left_out}


def test_values_come_back_as_they_were(client: Any) -> None:
    value = {
        "price": Decimal("1.10"), "at": datetime(2026, 1, 2, tzinfo=UTC), "span": timedelta(days=1), "raw": b"\x00\xff",
        "$odd": {"$decimal": "x"}, "big": 2**70, "text": "ä\u2028\U0001f600", "none": None, "data": {"$date": "no date"},
    }  # fmt: skip
    run = client.start("echo", {"value": value}, run_id=name(client, "values"), tags=["t"], memo={"by": Decimal("2.5")})
    assert run.attached is False
    assert run.result(timeout=60)["say"] == value
    snapshot = run.describe(ctx=True, outputs=True)
    assert (snapshot.ctx["value"], snapshot.nodes["say"].output, snapshot.memo) == (
        value,
        value,
        {"by": Decimal("2.5")},
    )
    assert (snapshot.status, snapshot.tags, snapshot.progress.done) == (RunStatus.COMPLETED, ("t",), 1)
    assert run.wait(timeout=60).output["say"] == value
    again = client.start("echo", {"value": value}, run_id=run.run_id)
    assert (again.attached, again == run, again.done(), again.status()) == (True, True, True, RunStatus.COMPLETED)
    assert client.execute("echo", {"value": [1]}, timeout=60) == {"say": [1], "value": [1]}
    assert client.start("echo", {"value": 5}).result(timeout=60)["say"] == 5


def test_errors_of_starting(client: Any) -> None:
    assert error_of(lambda: client.start("ech")) == (
        BlueprintNotFoundError,
        {"blueprint_id": "ech", "version": None, "known": ("echo",), "published": tuple(sorted(BLUEPRINTS))},
    )
    kind, attributes = error_of(lambda: client.start("typed", {"text": 3}))
    assert kind is InvalidInputError
    assert [(each["loc"], each["type"]) for each in attributes["errors"]] == [(("text",), "misfit")]
    assert error_of(lambda: client.start("echo", {"value": object()}))[0] is SerializationError
    assert error_of(lambda: client.start("echo", {"value": {"a": [object()]}}))[1]["path"] == "ctx.value.a[0]"
    for wrong in ({"run_id": "a b"}, {"delay": -1}, {"tags": "x"}, {"priority": "urgent"}, {"on_conflict": "x"}):
        assert error_of(lambda wrong=wrong: client.start("echo", {"value": 1}, **wrong))[0] is ConfigurationError
    taken = name(client, "taken")
    client.start("echo", {"value": 1}, run_id=taken)
    for options, reason in (
        ({"ctx": {"value": 2}}, "different_input"),
        ({"on_conflict": "raise", "ctx": {"value": 1}}, "exists"),
    ):
        with pytest.raises(RunConflictError) as caught:
            client.start("echo", run_id=taken, **options)
        assert (caught.value.reason, caught.value.run_id) == (reason, taken)
        assert caught.value.existing.run_id == taken
    later = client.start("echo", {"value": 1}, delay="1h", priority="high", run_timeout=timedelta(hours=3))
    assert (later.status(), later.cancel("no longer")) == (RunStatus.SCHEDULED, True)
    child = client.start("echo", {"value": 1}, parent=taken)
    assert child.result(timeout=60)["say"] == 1


def test_what_a_node_streams_is_followed(client: Any) -> None:
    run = client.start("mail", run_id=name(client, "streams"))
    items = run.stream("open", timeout=20)
    found = [next(items) for _ in range(3)]
    assert [(type(item), getattr(item, "text", None), getattr(item, "part", None)) for item in found] == [
        (StreamStarted, None, None), (StreamText, "waiting ", ""), (StreamText, "for mail", "second"),
    ]  # fmt: skip
    assert error_of(lambda: run.stream("open", after=found[1].id, timeout=0))[0] is WaitTimeoutError
    assert error_of(lambda: run.stream("nope"))[0] is NodeNotFoundError
    assert error_of(lambda: run.stream("open", after="7"))[0] is ConfigurationError
    run.send("open", "hello")
    ended = list(items)
    assert [(type(item), item.status) for item in ended] == [(StreamEnded, "completed")]
    assert list(run.stream("open", timeout=20)) == [*found, *ended]
    assert list(run.stream("open", after=found[1].id, timeout=20)) == [found[2], *ended]
    assert list(run.stream("open", after=ended[0].id, timeout=20)) == ended


def test_a_run_is_waited_for_answered_and_followed(client: Any) -> None:
    run = client.start("parent", run_id=name(client, "waits"))
    assert run.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    assert error_of(lambda: run.result(timeout=0)) == (WaitTimeoutError, {"status": "waiting", "live_workers": 1})
    assert error_of(lambda: run.events(timeout=0))[0] is WaitTimeoutError
    assert error_of(lambda: client.as_completed([run], timeout=0))[0] is WaitTimeoutError
    point = next(each for each in run.describe().waiting if each.kind == "signal")
    assert (point.node_id, point.prompt, point.actions) == ("sub/ask", "Approve?", ["yes", "no"])
    assert any(each.run_id == point.run_id for each in client.waiting().items)
    assert error_of(lambda: run.signal("sub/ask", {"by": 1}, action="maybe"))[0] is InvalidInputError
    assert error_of(lambda: run.signal("sub/none", {})) == (
        NotWaitingError, {"status": "waiting", "node_id": "sub/none", "waiting": ("sub/ask",)},
    )  # fmt: skip
    assert error_of(lambda: run.send("nope", 1)) == (
        NotReceivingError, {"status": "waiting", "node_id": "nope", "reason": "unknown"},
    )  # fmt: skip
    assert error_of(run.delete)[0] is RunStateError
    assert run.signal(None, {"by": "ada"}, action="yes", signal_id="mail-1") == "sub/ask"
    assert run.signal("sub/ask", {"by": "ada"}, action="yes", signal_id="mail-1") == "sub/ask"
    assert [handle.run_id for handle in client.as_completed([run], timeout=20)] == [run.run_id]
    events = list(run.events(timeout=20))
    assert [event.type for event in events][-1] == "run_ended"
    assert [event.id for event in run.events(follow=False)] == [event.id for event in events]
    assert list(run.events(after=events[-1].id, timeout=20)) == []
    assert run.last_event_id() == events[-1].id
    assert [type(event) for event in events] == [type(event) for event in run.events(follow=False)]
    tree = list(run.events(children=True, timeout=20))
    assert [(each.run_id, each.id, each.data) for each in tree if each.run_id == run.run_id] == [
        (each.run_id, each.id, each.data) for each in events
    ]
    assert {each.run_id for each in tree} == {run.run_id, f"{run.run_id}~1"}
    assert [each.id for each in run.events(children=True, follow=False)] == [each.id for each in tree]
    assert error_of(lambda: run.events(after="x"))[0] is ConfigurationError
    kind, attributes = error_of(lambda: run.signal("sub/ask", {}))
    assert (kind, attributes) == (RunStateError, {"status": "completed"})


@pytest.fixture
def lines_are_kept() -> Iterator[None]:
    """Loguru makes no lines where another test has left it without a sink."""
    sink = logger.add(lambda _: None)
    yield
    logger.remove(sink)


def test_events_are_followed_while_they_happen(client: Any) -> None:
    run = client.start("mail", run_id=name(client, "mail"))
    assert run.wait_for(RunStatus.RUNNING, timeout=60) is RunStatus.RUNNING
    seen: list[str] = []
    for event in run.events(timeout=30):
        seen.append(event.type)
        if event.type == "node_started":
            assert run.send("open", {"price": Decimal("3.5")}, message_id="m") == "open"
    assert seen[-2:] == ["node_completed", "run_ended"]
    assert run.result(timeout=60)["open"] == {"price": Decimal("3.5")}


def test_failures_cancellations_and_reruns(client: Any, lines_are_kept: None) -> None:
    run = client.start("flaky", {"a": 1, "b": "bad"}, run_id=name(client, "fails"))
    with pytest.raises(RunFailedError, match="no such customer") as caught:
        run.result(timeout=20)
    assert "ValueError: no such customer" in str(caught.value.__cause__)
    assert (caught.value.failure.node_id, caught.value.snapshot.status) == ("second", RunStatus.FAILED)
    assert (
        [line.message for line in run.logs()]
        == [line.message for line in run.logs(follow=True, timeout=20)]
        == ["trying"]
    )
    assert [line.node_id for line in run.logs("first")] == []
    attempts = run.attempts()
    assert [(each.node_id, each.status) for each in attempts] == [("first", "completed"), ("second", "failed")]
    again = run.rerun(FAILED, ctx_patch={"b": Decimal("7")}, run_id=name(client, "again"))
    assert again.result(timeout=60)["second"] == Decimal("7")
    assert [event.data["data"]["price"] for event in again.events(follow=False) if event.type == "custom"] == [
        Decimal("1.10")
    ]
    assert (again.describe().forked_from, again.describe().nodes["first"].taken_over) == (run.run_id, True)
    assert run.rerun(FAILED, ctx_patch={"b": Decimal("7")}, run_id=name(client, "again")).attached
    assert error_of(lambda: run.rerun("nope"))[0] is RerunRefusedError
    assert error_of(lambda: again.rerun(FAILED))[0] is RunStateError
    with pytest.raises(RunConflictError) as conflict:
        run.rerun(run_id=name(client, "again"), on_conflict="raise")
    assert conflict.value.existing.run_id == again.run_id
    waits = client.start("approval", run_id=name(client, "cancel"))
    assert waits.cancel("changed my mind", grace=0) is True
    with pytest.raises(RunCancelledError) as cancelled:
        waits.result(timeout=20)
    assert cancelled.value.reason == "changed my mind"
    assert (waits.cancel(), waits.delete()) == (False, True)
    assert error_of(waits.status) == (RunExpiredError, {"status": "cancelled"})
    assert error_of(client.get_handle("never").describe) == (RunNotFoundError, {})
    for call in (
        client.get_handle("never").cancel,
        client.get_handle("never").rerun,
        client.get_handle("never").events,
    ):
        assert error_of(call) == (RunNotFoundError, {})


def test_lists_and_counts(client: Any) -> None:
    tag = name(client, "listed")
    started = [client.start("echo", {"value": n}, tags=[tag]).run_id for n in range(5)]
    ended = sorted(
        handle.run_id for handle in client.as_completed([client.get_handle(each) for each in started], timeout=20)
    )
    assert ended == sorted(started)

    def ids(**wanted: Any) -> list[str]:
        return [run.run_id for run in client.list_runs(tag=tag, **wanted)]

    assert sorted(ids()) == sorted(ids(page_size=2, limit=None)) == sorted(started)
    assert (len(ids(limit=3, page_size=2)), ids(limit=0), ids(status=[]), ids(blueprint_id="typed")) == (3, [], [], [])
    assert len(ids(status=["completed", "failed"], started_after=datetime.now(UTC) - timedelta(days=400))) == 5
    assert ids(started_before=datetime.now(UTC) - timedelta(days=400)) == []
    counts = (
        client.count_runs(tag=tag),
        client.count_runs(tag=tag, status=RunStatus.FAILED),
        client.count_runs(status=[]),
    )
    assert counts == (5, 0, 0)
    page = client.list_runs_page(tag=tag, limit=2)
    rest = client.list_runs_page(tag=tag, limit=100, cursor=page.next_cursor)
    assert sorted(run.run_id for run in (*page.items, *rest.items)) == sorted(started)
    assert [run.run_id for run in client.list_runs_page(search=started[0]).items] == started[:1]
    assert error_of(lambda: client.list_runs(page_size=0))[0] is ConfigurationError
    assert error_of(lambda: client.list_runs(status="odd"))[0] is ConfigurationError
    assert error_of(lambda: client.list_runs(started_after=datetime(2026, 1, 1)))[0] is ConfigurationError
    assert error_of(lambda: client.list_runs_page(cursor="odd"))[0] is ConfigurationError


def test_the_deployment(client: Any, env: TestEnvironment) -> None:
    info = client.ping()
    assert (info.namespace, info.blueprints, info.workers) == (env.namespace, len(BLUEPRINTS), 1)
    assert [each.id for each in client.blueprints()] == sorted(BLUEPRINTS)
    details = client.blueprint("typed")
    assert (details.current, details.inputs) == (True, {"text": {"type": "string"}})
    assert [(each.version, each.current) for each in client.blueprint_versions("typed")] == [(details.version, True)]
    assert client.blueprint("typed", version=details.version) == details
    assert error_of(lambda: client.blueprint("typed", version="0"))[1]["version"] == "0"
    assert error_of(lambda: client.blueprint_versions("none"))[0] is BlueprintNotFoundError
    assert [each.concurrency for each in client.workers()] == [4]
    assert (client.stats("2h").step, client.stats().workers) == (60.0, 1)
    assert error_of(lambda: client.stats("1s"))[0] is ConfigurationError


@pytest.fixture(scope="module")
def called(env: TestEnvironment) -> None:
    """A model call is counted."""
    run_id = env.client.start("approval", run_id="calls-a-model", tags=["calls"]).run_id
    keys = env.partitions.for_run(run_id)
    counted = scripts.record_usage(
        keys, run_id=run_id, node_id="ask", created_ms=int(env.link.redis.hget(keys.run(run_id), "cr")), call_id="abcdefgh",
        model="m", input_tokens=100, cached_tokens=20, output_tokens=10, nano_usd=250_000_000, ms=1500,
    )  # fmt: skip
    assert env.link.call(counted) == 1


@pytest.mark.usefixtures("called")
def test_what_model_calls_have_used(client: Any) -> None:
    rows = client.usage(days=2)  # two, as it may be midnight
    used = Usage(calls=1, input_tokens=100, cached_tokens=20, output_tokens=10, usd=0.25, seconds=1.5)
    assert {row.usage for row in rows} == {used}
    assert len({row.day for row in rows}) == 1
    assert [(row.kind, row.name) for row in rows] == [
        ("all", ""), ("blueprint", "approval"), ("tag", "calls"), ("model", "m"),
    ]  # fmt: skip
    for days in (0, 41, True, "7"):
        assert error_of(lambda days=days: client.usage(days))[0] is ConfigurationError  # type: ignore[misc]


def test_administration(client: Any) -> None:
    admin = client.admin
    assert admin.pause_queue("slow").paused_since is not None
    assert [each.name for each in admin.queues()] == ["default", "slow"]
    assert admin.resume_queue("slow").paused_since is None
    assert (admin.limits(), admin.dead_letters(), admin.examine(), admin.servers()) == ([], [], [], [])
    assert error_of(lambda: admin.replay("never"))[0] is RunNotFoundError
    assert error_of(lambda: admin.delete_dead_letters("never")) == (DeadLetterNotFoundError, {"node_id": None})
    assert error_of(admin.reload)[0] is error_of(admin.drain)[0]
    assert client.schedules.list() == []
    for call in (client.schedules.get, client.schedules.pause, client.schedules.trigger, client.schedules.delete):
        assert error_of(lambda call=call: call("none")) == (ScheduleNotFoundError, {"schedule_id": "none"})
    tag = name(client, "bulk")
    started = {client.start("approval", tags=[tag]).run_id for _ in range(3)}
    preview = admin.preview_runs("cancel", tag=tag)
    assert (preview.count, set(preview.first)) == (3, started)
    assert admin.preview_runs("cancel", tag=tag, limit=2).count == 2
    assert {(each.run_id, each.done) for each in admin.cancel_runs(tag=tag, reason="all")} == {
        (each, True) for each in started
    }
    reruns = list(admin.rerun_runs(tag=tag, status="cancelled"))
    assert all(each.done and each.new_run_id for each in reruns) and len(reruns) == 3
    for each in admin.cancel_runs(tag=tag):
        client.get_handle(each.run_id).wait(timeout=20)
    assert len([each for each in admin.delete_runs(tag=tag) if each.done]) == 6
    assert error_of(lambda: admin.delete_runs(tag=tag, status="running"))[0] is ConfigurationError


def test_without_a_state_a_wait_is_for_the_end(client: Client) -> None:
    handle = client.start("approval")
    handle.wait_for(RunStatus.WAITING, timeout=30)
    with pytest.raises(WaitTimeoutError):
        handle.wait_for(timeout=0.2)
    handle.signal(None, {"by": "ada"}, action="yes")
    assert handle.wait_for(timeout=30) is RunStatus.COMPLETED
    assert handle.wait_for(RunStatus.WAITING, timeout=30) is RunStatus.COMPLETED  # the end ends every wait


@pytest.mark.parametrize("behind", ["/api", "/api/v1/runs", "/ui"])
def test_what_the_address_of_the_api_is(address: str, behind: str) -> None:
    expected = r"It is that of the server, http://HOST:PORT or https://HOST, without the /api/v1"
    with HttpClient(address + behind) as client, pytest.raises(UnexpectedReplyError, match=expected):
        client.start("echo", {"value": 1})
    with HttpClient(f"{address}/api/v1/") as client:
        assert client.execute("echo", {"value": 1}, timeout=30)["say"] == 1


def test_memories(client: Any, env: TestEnvironment) -> None:
    memory_id = f"{name(client, 'desk:clerk')}/../a b?%2F\u00e4#x"
    writer, keys = memory_scripts.Writer("never", "a", "1:5#"), env.partitions.for_memory(memory_id)
    parts: list[dict[str, Any]] = [
        {"part_kind": "user-prompt", "content": "Who?"}, {"part_kind": "tool-call", "tool_name": "t", "args": {"n": 1}},
        {"part_kind": "tool-return", "tool_name": "t", "content": None}, {"part_kind": "text", "content": "Ada"}, {"part_kind": "new"},
    ]  # fmt: skip
    turn = json.dumps([{"parts": parts}]).encode()
    bounds = memory_scripts.Bounds(10, 10_000, 60_000)._asdict()
    env.link.call(scripts.remember(keys, memory_id=memory_id, writer=str(writer), messages=3, turn=turn, **bounds))
    env.link.call(scripts.settle_memory(keys, memory_id=memory_id, decisions=[(str(writer), True)]))
    admin = client.admin
    found = admin.memory(memory_id)
    assert [(each.role, each.tool, each.text) for each in found.conversation] == [
        ("user", "", "Who?"), ("call", "t", '{"n": 1}'), ("result", "t", ""), ("agent", "", "Ada"),
    ]  # fmt: skip
    assert (found.id, found.turns, found.messages, found.bytes) == (memory_id, 1, 3, len(turn))
    assert (found.expires_at - found.written_at).total_seconds() == 60
    (listed,) = [each for each in admin.memories() if each.id == memory_id]
    assert listed.model_dump() == found.model_dump(exclude={"conversation"})
    assert admin.memories(limit=0) == []
    admin.delete_memory(memory_id)
    assert error_of(lambda: admin.delete_memory(memory_id)) == (MemoryNotFoundError, {"memory_id": memory_id})
    assert error_of(lambda: admin.memory("none/k")) == (MemoryNotFoundError, {"memory_id": "none/k"})


def test_threads_share_a_client(env: TestEnvironment, address: str) -> None:
    results: list[Any] = []
    with HttpClient(address) as client:
        threads = [
            threading.Thread(target=lambda n=n: results.append(client.execute("echo", {"value": n}, timeout=60)["say"]))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == list(range(8))
