"""Operations as plain generators: what they ask, and what they make of the answers. No Redis is needed."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from flowcraft_sdk._operations import list_runs, runs, wait
from flowcraft_sdk._operations import start as starting
from flowcraft_sdk._operations.deployment import Deployment
from flowcraft_sdk._operations.effects import (
    Batch,
    Command,
    Effect,
    ReleaseNotification,
    ReserveNotification,
    Subscribe,
    WaitForNotification,
    Yield,
)
from flowcraft_sdk.errors import (
    BackendUnavailableError,
    BlueprintNotFoundError,
    ConfigurationError,
    InvalidInputError,
    ProtocolMismatchError,
    RunConflictError,
    RunNotFoundError,
    SerializationError,
    WaitTimeoutError,
)
from flowcraft_sdk.protocol.keys import PROTOCOL_VERSION, Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_sdk.records import RunStatus

KEYS = Keys("t")
DOC = json.dumps({"id": "b", "nodes": [], "edges": [], "inputs": {"post": {"type": "string"}}}).encode()
HANDLE = SimpleNamespace(just_started=False, notification_token=None)
Answer = Callable[[Effect], Any]


def deployment(**more: Any) -> Deployment:
    known = {"durability": "async", "partitions": Partitions("t"), **more}
    return Deployment(KEYS, max_outage=known.pop("max_outage", 60.0), max_value=1000, **known)


def drive(operation: Any, answer: Answer) -> tuple[Any, list[Any], list[Effect]]:
    """Run an operation on answers: its value, what it emitted, what it asked. An exception among them is thrown in."""
    emitted, asked = [], []
    try:
        step = next(operation)
        while True:
            if isinstance(step, Yield):
                emitted.append(step.item)
                step = operation.send(None)
                continue
            asked.append(step)
            found = answer(step)
            step = operation.throw(found) if isinstance(found, Exception) else operation.send(found)
    except StopIteration as end:
        return end.value, emitted, asked


def server(
    reply: list[Any],
    *,
    doc: bytes | None = DOC,
    protocol: bytes | None = PROTOCOL_VERSION.encode(),
    published: bytes | None = b"h1",
    token: str = "",
) -> Answer:
    """Answers of a deployment whose `start` script replies so, to a client whose inbox gives such a token."""

    def answer(step: Effect) -> Any:
        if isinstance(step, ScriptCall):
            return reply
        if isinstance(step, Batch):
            return [answer(part) for part in step.commands]
        if isinstance(step, ReserveNotification | ReleaseNotification):
            return token if isinstance(step, ReserveNotification) else None
        assert isinstance(step, Command)
        if step.name == "HGET" and step.args[0] == KEYS.blueprints:
            return published
        return {"GET": protocol if step.args[:1] == (KEYS.protocol,) else b"5000", "HGET": doc, "TIME": (100, 7000),
                "HKEYS": [b"moderation", b"blog"]}[step.name]  # fmt: skip

    return answer


def start(
    answer: Answer, ctx: Any = None, target: Deployment | None = None, **options: Any
) -> tuple[Any, list[Effect]]:
    operation = starting.start(target or deployment(), "b", {"post": "p"} if ctx is None else ctx, "r1", options)  # type: ignore[arg-type]
    value, _, asked = drive(operation, answer)
    return value, asked


def call(asked: list[Effect]) -> ScriptCall:
    return next(step for step in reversed(asked) if isinstance(step, ScriptCall))


def test_a_start_sends_the_context_key_by_key_and_a_token_of_its_own() -> None:
    value, asked = start(server([b"started", b"h1"]), {"post": "p", "n": 1})
    assert value == ""
    args = call(asked).args
    assert args[1:5] == ("r1", "b", "", args[4])
    assert args[5:11] == ("attach", "", "", "", "", "")
    assert args[12:] == ("", "h1", "", "", "", "", "", "", "post", b'"p"', "n", b"1")
    tokens = {call(start(server([b"started", b"h1"]))[1]).args[0] for _ in range(20)}
    assert len(tokens) == 20


def test_the_second_start_reads_nothing() -> None:
    target = deployment()
    assert len(start(server([b"started", b"h1"]), target=target)[1]) == 5
    again = start(server([b"attached", b"running", b"h1"]), target=target)
    assert again[0] is None
    assert [type(step) for step in again[1]] == [ReserveNotification, ScriptCall]


def test_a_start_names_the_inbox_that_is_to_be_notified_of_the_end() -> None:
    position, asked = start(server([b"started", b"h1"], token="box@m"))
    assert (position, call(asked).args[0]) == ("m", "box@m")
    position, asked = start(server([b"attached", b"running", b"h1"], token="box@m"))
    assert position is None
    assert asked[-1] == ReleaseNotification("m"), "that run names another inbox, or none"


def test_a_start_that_fails_is_not_expected_to_end() -> None:
    dismissed: list[Effect] = []

    def away(step: Effect) -> Any:
        if isinstance(step, ScriptCall):
            return BackendUnavailableError("away")
        dismissed.extend([step] if isinstance(step, ReleaseNotification) else [])
        return server([], token="box@m")(step)

    with pytest.raises(BackendUnavailableError):
        start(away)
    assert dismissed == [ReleaseNotification("m")]


def test_a_plan_published_since_is_looked_at_and_the_start_sent_again() -> None:
    target = deployment()
    start(server([b"started", b"h1"]), target=target)
    calls: list[ScriptCall] = []

    def changed(step: Effect) -> Any:
        if not isinstance(step, ScriptCall):
            return server([])(step)
        calls.append(step)
        return [b"other-plan", b"h2"] if len(calls) == 1 else [b"started", b"h2"]

    _, asked = start(changed, target=target)
    assert [type(step) for step in asked] == [ReserveNotification, ScriptCall, Command, ScriptCall]
    assert [call.args[13] for call in calls] == ["h1", "h2"]
    assert calls[0].args[0] == calls[1].args[0], "one start, one token"


def test_options_reach_the_script() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    memo = {"of": "ann"}
    given: dict[str, Any] = {
        "start_at": moment,
        "run_timeout": timedelta(seconds=2),
        "tags": ["b", "a", "b"],
        "memo": memo,
        "version": "h0",
        "parent": "r0",
    }
    args = call(start(server([b"started", b"h0"]), **given, on_conflict="raise")[1]).args
    assert args[3] == "h0"
    assert args[5:11] == ("raise", int(moment.timestamp() * 1000), 2000, '["a", "b"]', b'{"of":"ann"}', "r0")


def test_a_delay_counts_from_the_deployments_clock() -> None:
    args = call(start(server([b"started", b"h1"]), delay=1.5)[1]).args
    assert args[6] == 100_000 + 7 + 5000 + 1500
    assert call(start(server([b"started", b"h1"]), delay=0)[1]).args[6] == ""


@pytest.mark.parametrize(
    ("reply", "error", "shown"),
    [
        ([b"no-version"], BlueprintNotFoundError, "no blueprint 'b' in version h9 is published"),
        ([b"no-parent"], RunNotFoundError, "no run r0 to be the parent"),
        ([b"too-deep"], ConfigurationError, "run r0 is nested too deep"),
        ([b"conflict", b"exists", b"b"], RunConflictError, "run r1 exists already"),
        ([b"conflict", b"different_input", b"b"], RunConflictError, "run r1 exists with another context"),
        (["conflict", "different_blueprint", "x"], RunConflictError, "run r1 exists for another blueprint or version"),
    ],
)
def test_a_refusal_of_the_script_is_an_error_of_its_own(reply: list[Any], error: type[Exception], shown: str) -> None:
    with pytest.raises(error, match=shown):
        start(server(reply), version="h9", parent="r0")


def test_an_unknown_blueprint_names_near_ones() -> None:
    operation = starting.start(deployment(), "moderaton", {}, "r1", {})
    with pytest.raises(BlueprintNotFoundError) as caught:
        drive(operation, server([], published=None))
    assert caught.value.known == ("moderation",)


def test_another_protocol_is_refused_before_anything_is_sent() -> None:
    for operation in (starting.start(deployment(), "b", {}, "r1", {}),):
        with pytest.raises(
            ProtocolMismatchError, match=f"this SDK speaks protocol {PROTOCOL_VERSION}, the deployment 1"
        ):
            drive(operation, server([], protocol=b"1"))


@pytest.mark.parametrize(
    ("options", "error", "shown"),
    [
        ({"on_conflict": "replace"}, ConfigurationError, "on_conflict is 'attach' or 'raise', got 'replace'"),
        ({"delay": 1, "start_at": datetime(2026, 1, 1, tzinfo=UTC)}, ConfigurationError, "delay or start_at, not both"),
        ({"start_at": datetime(2026, 1, 1)}, ConfigurationError, "without a time zone"),
        ({"delay": -1}, ValueError, "delay is a span of time"),
        ({"run_timeout": -1}, ValueError, "run_timeout is a span of time"),
        ({"memo": {"a": object()}}, SerializationError, "memo.a: "),
        ({"memo": {"a": "x" * 70_000}}, SerializationError, "memo: 70008 bytes are over the limit"),
        ({"tags": [""]}, ConfigurationError, "a tag is a text"),
        ({"ctx": {}}, InvalidInputError, "post: is missing"),
        ({"ctx": {"post": "x" * 2000}}, SerializationError, "ctx.post: 2002 bytes are over the limit of 1000"),
    ],
)
def test_a_mistake_is_reported_before_a_run_is_recorded(
    options: dict[str, Any], error: type[Exception], shown: str
) -> None:
    def answer(step: Effect) -> Any:
        assert not isinstance(step, ScriptCall)
        return server([])(step)

    with pytest.raises(error, match=shown):
        start(answer, **options)


def test_a_cancel_without_grace_takes_the_servers_default() -> None:
    def answer(stored: bytes | None) -> Answer:
        return lambda step: [1, b"cancelled"] if isinstance(step, ScriptCall) else stored

    for stored, sent in ((b"1234", 1234), (None, 30_000)):
        value, _, asked = drive(runs.cancel(deployment(), "r1", "why", None), answer(stored))
        assert value is True
        assert call(asked).args == ("r1", "why", sent)
    assert drive(runs.cancel(deployment(), "r1", "", 0.5), lambda step: [0, b"completed"])[0] is False
    with pytest.raises(RunNotFoundError):
        drive(
            runs.cancel(deployment(), "r1", "", 0),
            lambda step: [b"missing"] if isinstance(step, ScriptCall) else None,
        )


def test_a_wait_subscribes_then_reads_then_sleeps() -> None:
    states = iter([b"running", [b"running", b"1"], [b"completed", b"1"]])

    def answer(step: Effect) -> Any:
        if isinstance(step, Command):
            return next(states)
        return {KEYS.end_channel("r1"): "completed"} if isinstance(step, WaitForNotification) else None

    value, _, asked = drive(wait.wait_for(deployment(), "r1", frozenset(), None, HANDLE), answer)
    assert value is RunStatus.COMPLETED
    kinds = [type(step) for step in asked]
    assert kinds == [Command, Subscribe, Command, WaitForNotification, Command], (
        "the notification names no run: it is read"
    )
    assert asked[1] == Subscribe((KEYS.end_channel("r1"),), 5.0)


def test_a_run_that_was_just_started_is_listened_to_before_anybody_looks() -> None:
    states = iter([[b"running", b"1"], [b"failed", b"1"]])

    def answer(step: Effect) -> Any:
        if isinstance(step, Subscribe):
            return False
        return {KEYS.end_channel("r1"): "failed"} if isinstance(step, WaitForNotification) else next(states)

    just_started = SimpleNamespace(just_started=True, notification_token="m")
    value, _, asked = drive(wait.wait_for(deployment(), "r1", frozenset(), None, just_started), answer)
    assert value is RunStatus.FAILED
    assert [type(step) for step in asked] == [Subscribe, Command, WaitForNotification, Command]
    ended = [b"completed", b"1"]
    _, _, asked = drive(wait.wait_for(deployment(), "r1", frozenset(), 0, just_started), lambda step: ended)
    assert [type(step) for step in asked] == [Command], "without time to wait nobody subscribes"


def test_a_run_whose_end_the_inbox_is_notified_of_is_not_looked_at() -> None:
    pending = iter([{KEYS.end_channel("r1"): "failed"}])

    def answer(step: Effect) -> Any:
        return (
            next(pending, {})
            if isinstance(step, WaitForNotification)
            else True
            if isinstance(step, Subscribe)
            else b"running"
        )

    just_started = SimpleNamespace(just_started=True, notification_token="m")
    value, _, asked = drive(wait.wait_for(deployment(), "r1", frozenset(), None, just_started), answer)
    assert value is RunStatus.FAILED
    assert asked[0] == Subscribe((KEYS.end_channel("r1"),), 5.0, notification_token="m")
    assert [type(step) for step in asked[1:]] == [WaitForNotification]
    ended = iter([[b"running", b"1"], [b"running", b"1"], [b"completed", b"1"]])

    def nothing_received(step: Effect) -> Any:
        return {} if isinstance(step, WaitForNotification) else True if isinstance(step, Subscribe) else next(ended)

    value, _, asked = drive(wait.wait_for(deployment(), "r1", frozenset(), None, just_started), nothing_received)
    assert value is RunStatus.COMPLETED
    kinds = [type(step) for step in asked]
    assert kinds == [
        Subscribe,
        WaitForNotification,
        Command,
        WaitForNotification,
        Command,
        WaitForNotification,
        Command,
    ], "a notice that was lost is made up for"


def test_a_record_that_comes_with_the_notice_is_not_read() -> None:
    fields = {
        "bp": "b",
        "plan": "h1",
        "st": "completed",
        "cr": "1",
        "c:text": json.dumps('wörter "in" {}'),
        "o:a": "null",
    }
    shown = "completed " + json.dumps([part for pair in fields.items() for part in pair])

    def answer(step: Effect) -> Any:
        if isinstance(step, WaitForNotification):
            return {KEYS.end_channel("r1"): shown}
        if isinstance(step, Subscribe):
            return False
        if isinstance(step, Command) and step.name == "HMGET":
            return [b"running", b"1"]
        return DOC if isinstance(step, Command) and step.args[1] == "doc" else b"running"

    for waits, found in (wait.result, lambda value: value), (wait.wait, lambda value: value.output):
        value, _, asked = drive(waits(deployment(), "r1", None, HANDLE), answer)
        assert found(value) == {"text": 'wörter "in" {}', "a": None}
        assert [step.name for step in asked if isinstance(step, Command)] == ["HGET", "HMGET", "HGET"]


def test_an_ended_run_needs_no_subscription() -> None:
    _, _, asked = drive(wait.wait_for(deployment(), "r1", frozenset(), None, HANDLE), lambda step: b"failed")
    assert [type(step) for step in asked] == [Command]
    own = SimpleNamespace(just_started=False, notification_token="m")
    _, _, asked = drive(wait.wait_for(deployment(), "r1", frozenset(), None, own), lambda step: b"failed")
    assert asked[1:] == [ReleaseNotification("m")]


def test_a_look_without_waiting_needs_none_either() -> None:
    def answer(step: Effect) -> Any:
        if isinstance(step, Batch):
            return [(1, 0), None]
        return {"ZCOUNT": 2, "HMGET": [b"waiting", b"1"]}.get(getattr(step, "name", ""), b"waiting")

    with pytest.raises(WaitTimeoutError, match=r"run r1 is waiting after 0.0 s; it goes on") as caught:
        drive(wait.wait_for(deployment(), "r1", frozenset(), 0, HANDLE), answer)
    assert (caught.value.status, caught.value.handle, caught.value.live_workers) == ("waiting", HANDLE, 2)


def test_a_wait_bears_an_outage_once_it_has_seen_the_run() -> None:
    away = BackendUnavailableError("gone")
    answers = iter([b"running", away, away, [b"completed", b"1"]])
    value, _, asked = drive(
        wait.wait_for(deployment(), "r1", frozenset(), None, HANDLE),
        lambda step: next(answers) if isinstance(step, Command) else {},
    )
    assert value is RunStatus.COMPLETED
    assert [type(step) for step in asked] == [
        Command,
        Subscribe,
        Command,
        WaitForNotification,
        Command,
        WaitForNotification,
        Command,
    ]
    with pytest.raises(BackendUnavailableError):
        drive(wait.wait_for(deployment(), "r1", frozenset(), None, HANDLE), lambda step: away)


def test_an_outage_that_lasts_ends_the_wait_and_one_beyond_the_timeout_counts_as_that() -> None:
    away = BackendUnavailableError("gone")
    first = iter([b"running"])

    def answer(step: Effect) -> Any:
        return next(first, away) if isinstance(step, Command | Batch) else {}

    with pytest.raises(BackendUnavailableError):
        drive(wait.wait_for(deployment(max_outage=0.0), "r1", frozenset(), None, HANDLE), answer)
    first = iter([b"running"])
    with pytest.raises(WaitTimeoutError) as caught:
        drive(wait.wait_for(deployment(), "r1", frozenset(), 0.05, HANDLE), answer)
    assert (caught.value.status, caught.value.live_workers) == ("running", None)


def test_events_are_numbered_by_what_was_trimmed_in_the_same_moment() -> None:
    entries = [f"c|{n}|n{n}|" for n in range(10)]  # ids 1 to 10

    def answer(trimmed: int) -> Answer:
        def reply(step: Effect) -> Any:
            assert isinstance(step, Batch)
            assert step.atomic
            first, last = step.commands[1].args[1:]
            return [
                [b"completed", b"0", str(trimmed).encode()],
                [e.encode() for e in entries[trimmed:][first : last + 1]],
            ]

        return reply

    def ids(trimmed: int, after: str | None) -> list[str]:
        return [
            event.id for event in drive(wait.events(deployment(), "r1", after, True, None, None), answer(trimmed))[1]
        ]

    assert ids(0, None) == [str(n) for n in range(1, 11)]
    assert ids(0, "7") == ids(4, "7") == ["8", "9", "10"]
    assert ids(4, None) == ["4", "5", "6", "7", "8", "9", "10"]
    assert drive(wait.events(deployment(), "r1", "1", True, None, None), answer(4))[1][0].data == {"count": 3}
    with pytest.raises(ValueError, match="after is the id of an event, got '-3'"):
        drive(wait.events(deployment(), "r1", "-3", True, None, None), answer(0))


def test_a_status_that_there_is_not_is_refused() -> None:
    several: Any = iter(["failed", RunStatus.CANCELLED])
    assert list_runs.checked_statuses(several) == frozenset({RunStatus.FAILED, RunStatus.CANCELLED})
    wrong: Any = "finished"
    with pytest.raises(ConfigurationError, match=r"a status is one of scheduled, .*, got 'finished'"):
        list_runs.checked_statuses(wrong)


def test_events_that_happen_before_the_subscription_begins_are_read_at_once() -> None:
    """A reader that has seen all there was would else sleep until the next change, or for half a minute."""
    happened: list[bytes] = []

    def answer(step: Effect) -> Any:
        if isinstance(step, Subscribe):
            happened.append(b"E|5||completed")
            return True
        assert not isinstance(step, WaitForNotification), "it sleeps on what has happened"
        assert isinstance(step, Batch)
        return [[b"completed" if happened else b"running", b"1000", None], list(happened)]

    events = drive(wait.events(deployment(), "r1", "4", True, None, HANDLE), answer)[1]
    assert [event.type for event in events] == ["run_ended"]
