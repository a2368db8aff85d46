"""Everything a caller hands in has a bound, reported by a typed error; one more than allowed never reaches Redis."""

import inspect
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from flowcraft_sdk import (
    BackendUnavailableError,
    Client,
    ClientSettings,
    ConfigurationError,
    FlowcraftError,
    Handle,
)
from flowcraft_sdk._client.admin import Admin
from flowcraft_sdk.protocol import bounds
from flowcraft_sdk.protocol.run_record import EARLIEST, LATEST, moment
from tests.blocking_client import BlockingClient

NOWHERE = "redis://127.0.0.1:1/0"
QUICK = ClientSettings(retries=0, connect_timeout=0.2, socket_timeout=0.2, max_outage=0.0)


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest) -> Any:
    """A client whose Redis does not answer: what passes its checks fails with that."""
    if request.param == "sync":
        with Client(NOWHERE, settings=QUICK) as client:
            yield client
    else:
        with BlockingClient(NOWHERE, settings=QUICK) as client:
            yield client


def text(length: int) -> str:
    return "x" * length


def start(**options: Any) -> Callable[[Any], Any]:
    return lambda client: client.start("b", **options)


AT_BOUND: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "tags": (start(tags=[text(n + 1) for n in range(100)]), start(tags=[f"t{n}" for n in range(101)])),
    "tag": (start(tags=[text(200)]), start(tags=[text(201)])),
    "memo": (start(memo={"m": text(bounds.MOST_MEMO_BYTES - 8)}), start(memo={"m": text(bounds.MOST_MEMO_BYTES - 7)})),
    "blueprint": (lambda c: c.start(text(200)), lambda c: c.start(text(201))),
    "version": (start(version=text(200)), start(version=text(201))),
    "run id": (start(run_id=text(200)), start(run_id=text(201))),
    "keys": (lambda c: c.start("b", dict.fromkeys(map(str, range(10_000)))), lambda c: c.start("b", dict.fromkeys(map(str, range(10_001))))),
    "key": (lambda c: c.start("b", {text(1_000): 1}), lambda c: c.start("b", {text(1_001): 1})),
    "run key": (start(key=text(200)), start(key=text(201))),
    "delay": (start(delay=bounds.LONGEST_SPAN), start(delay=bounds.LONGEST_SPAN + 1)),
    "run_timeout": (start(run_timeout=timedelta(seconds=bounds.LONGEST_SPAN)), start(run_timeout=timedelta.max)),
    "start_at": (start(start_at=datetime(2100, 1, 1, tzinfo=UTC)), start(start_at=datetime(9999, 1, 1, tzinfo=UTC))),
    "reason": (lambda c: c.get_handle("r").cancel(text(1_000)), lambda c: c.get_handle("r").cancel(text(1_001))),
    "grace": (lambda c: c.get_handle("r").cancel(grace=bounds.LONGEST_SPAN), lambda c: c.get_handle("r").cancel(grace=math.inf)),
    "action": (lambda c: c.get_handle("r").signal("n", action=text(200)), lambda c: c.get_handle("r").signal("n", action=text(201))),
    "signal id": (lambda c: c.get_handle("r").signal("n", signal_id=text(200)), lambda c: c.get_handle("r").signal("n", signal_id=text(201))),
    "path": (lambda c: c.get_handle("r").signal(text(2_000)), lambda c: c.get_handle("r").signal(text(2_001))),
    "payload": (lambda c: c.get_handle("r").signal("n", text(1_000)), lambda c: c.get_handle("r").signal("n", text(17 * 1024 * 1024))),
    "handle": (lambda c: c.get_handle("r~1~2").status(), lambda c: c.get_handle(text(2_001)).status()),
    "listed blueprint": (lambda c: list(c.list_runs(blueprint_id=text(200))), lambda c: list(c.list_runs(blueprint_id=text(201)))),
    "listed tag": (lambda c: list(c.list_runs(tag=text(200))), lambda c: list(c.list_runs(tag=text(201)))),
    "listed parent": (lambda c: list(c.list_runs(parent=text(2_000))), lambda c: list(c.list_runs(parent=text(2_001)))),
    "page": (lambda c: list(c.list_runs(page_size=10_000)), lambda c: list(c.list_runs(page_size=10_001))),
    "counted blueprint": (lambda c: c.count_runs(blueprint_id=text(200)), lambda c: c.count_runs(blueprint_id=text(201))),
    "counted tag": (lambda c: c.count_runs(tag=text(200)), lambda c: c.count_runs(tag=text(201))),
    "event id": (lambda c: list(c.get_handle("r").events(after="9" * 15)), lambda c: list(c.get_handle("r").events(after="9" * 16))),
    "letters": (lambda c: admin(c).dead_letters(limit=bounds.MOST_DEAD_LETTERS), lambda c: admin(c).dead_letters(limit=bounds.MOST_DEAD_LETTERS + 1)),
    "replayed": (lambda c: admin(c).replay(text(2_000)), lambda c: admin(c).replay(text(2_001))),
    "dropped": (lambda c: admin(c).delete_dead_letters(text(2_000)), lambda c: admin(c).delete_dead_letters(text(2_001))),
    "dropped node": (lambda c: admin(c).delete_dead_letters("r", text(2_000)), lambda c: admin(c).delete_dead_letters("r", text(2_001))),
    "memory": (lambda c: admin(c).memory(text(1_000)), lambda c: admin(c).memory(text(1_001))),
    "memory deleted": (lambda c: admin(c).delete_memory(text(1_000)), lambda c: admin(c).delete_memory(text(1_001))),
    "memories": (lambda c: admin(c).memories(limit=1_000), lambda c: admin(c).memories(limit=1_001)),
    "rerun from": (lambda c: c.get_handle("r").rerun(text(2_000)), lambda c: c.get_handle("r").rerun(text(2_001))),
    "rerun id": (lambda c: c.get_handle("r").rerun(run_id=text(200)), lambda c: c.get_handle("r").rerun(run_id=text(201))),
    "bulk tag": (lambda c: admin(c).preview_runs("cancel", tag=text(200)), lambda c: admin(c).preview_runs("cancel", tag=text(201))),
    "examined": (lambda c: admin(c).examine(text(2_000)), lambda c: admin(c).examine(text(2_001))),
}  # fmt: skip


@pytest.mark.parametrize("name", list(AT_BOUND))
def test_at_the_bound_and_one_over(client: Any, name: str) -> None:
    within, over = AT_BOUND[name]
    with pytest.raises(BackendUnavailableError):
        within(client)
    with pytest.raises(FlowcraftError) as refused:
        over(client)
    assert not isinstance(refused.value, BackendUnavailableError)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "value",
    [math.inf, -math.inf, math.nan, 1e15, 1e18, 1e300, -1, -0.001, True, "5", "5 s x", b"5", [5], timedelta.max],
)
@pytest.mark.parametrize("name", ["delay", "run_timeout"])
def test_spans_that_are_none(client: Any, name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        client.start("b", **{name: value})
    with pytest.raises(ConfigurationError, match="timeout"):
        client.get_handle("r").result(timeout=value)


@pytest.mark.parametrize("value", [None, 5, "", "a|b", "a\nb", b"r", ["r"]])
def test_handles_of_no_run(client: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="run"):
        client.get_handle(value)


@pytest.mark.parametrize("value", ["abc", b"abc", 5, [5], [""], ["a\x1b"]])
def test_tags_that_are_none(client: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="tag"):
        client.start("b", tags=value)


@pytest.mark.parametrize("year", [1, 1900, 2200, 9999])
def test_a_start_is_at_most_100_years_off_in_either_direction(client: Any, year: int) -> None:
    with pytest.raises(ConfigurationError, match="start_at is at most 100 years off"):
        client.start("b", start_at=datetime(year, 6, 1, tzinfo=UTC))


@pytest.mark.parametrize("value", ["2026-01-01", 5, datetime(2026, 1, 1)])
def test_moments_that_are_none(client: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="start_at"):
        client.start("b", start_at=value)
    with pytest.raises(ConfigurationError, match="started_after"):
        list(client.list_runs(started_after=value))


@pytest.mark.parametrize("value", ["5", 1.5, True, -1, math.nan, [5]])
def test_counts_that_are_none(client: Any, value: Any) -> None:
    for asked in (
        lambda: list(client.list_runs(limit=value)),
        lambda: list(client.list_runs(page_size=value)),
        lambda: admin(client).dead_letters(limit=value),
    ):
        with pytest.raises(ConfigurationError, match="whole number"):
            asked()


def test_a_page_of_nothing_is_refused_and_a_limit_of_nothing_asks_for_nothing(client: Any) -> None:
    with pytest.raises(ConfigurationError, match="page_size"):
        list(client.list_runs(page_size=0))
    assert list(client.list_runs(limit=0)) == []
    assert admin(client).dead_letters(limit=0) == []


@pytest.mark.parametrize("value", [5, b"t", ["t"], ""])
@pytest.mark.parametrize("name", ["blueprint_id", "tag", "parent"])
def test_filters_that_are_none(client: Any, name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError):
        list(client.list_runs(**{name: value}))


@pytest.mark.parametrize("value", [5, [5], "nope", ["nope"] * 10_000, "x" * 10_000])
def test_states_that_are_none(client: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="a status is one of") as refused:
        list(client.list_runs(status=value))
    assert len(str(refused.value)) < 400
    with pytest.raises(ConfigurationError, match="a status is one of"):
        client.get_handle("r").wait_for(*(value if isinstance(value, list) else [value]))


@pytest.mark.parametrize("value", ["-1", "x" * 5_000, "", 5, b"5", "9" * 5_000])
def test_event_ids_that_are_none(client: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="after is the id of an event") as refused:
        list(client.get_handle("r").events(after=value))
    assert len(str(refused.value)) < 400


def test_options_are_shown_cut() -> None:
    with Client(NOWHERE, settings=QUICK) as client, pytest.raises(ConfigurationError) as refused:
        client.start("b", on_conflict="x" * 10_000)  # type: ignore[call-overload]
    assert len(str(refused.value)) < 400


HALF = "\ud800"
"""Half a character: a text of Python's that has no bytes."""


@pytest.mark.parametrize(
    "asked",
    [
        lambda c: c.start(HALF),
        lambda c: c.start("b", version=HALF),
        lambda c: c.get_handle("r").cancel(HALF),
        lambda c: c.get_handle("r").signal(HALF),
        lambda c: c.get_handle("r").signal("n", action=HALF),
        lambda c: c.get_handle("r").signal("n", signal_id=HALF),
        lambda c: list(c.list_runs(tag=HALF)),
        lambda c: c.count_runs(blueprint_id=HALF),
        lambda c: admin(c).delete_dead_letters("r", HALF),
        lambda c: admin(c).examine(HALF),
    ],
)
def test_texts_without_bytes_are_refused_before_redis_is_asked(client: Any, asked: Callable[[Any], Any]) -> None:
    with pytest.raises(ConfigurationError):
        asked(client)


@pytest.mark.parametrize("ms", ["1e15", "1e18", "1e300", "-1e15", "-1e300", 2**63])
def test_times_that_no_clock_shows(ms: Any) -> None:
    """A record of another release, or of a foreign hand, may hold one: nothing fails that shows it."""
    assert moment(ms) in (EARLIEST, LATEST)


def admin(client: Any) -> Any:
    """The admin part, whose methods can be called like a plain client's."""
    if isinstance(client, Client):
        return client.admin
    asked = client.client.admin

    def blocking(name: str) -> Callable[..., Any]:
        return lambda *words, **options: client.runner.run(getattr(asked, name)(*words, **options))

    def streamed(name: str) -> Callable[..., Any]:
        return lambda *words, **options: client.runner.run(collected(getattr(asked, name)(*words, **options)))

    iterators = ("cancel_runs", "rerun_runs", "delete_runs", "backup", "restore")
    return SimpleNamespace(
        **{
            name: streamed(name) if name in iterators else blocking(name)
            for name in dir(asked)
            if not name.startswith("_")
        }
    )


async def collected(items: Any) -> list[Any]:
    return [item async for item in items]


ASKED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "Client.start": ("start a run", lambda c: c.start("b")),
    "Client.execute": ("start a run", lambda c: c.execute("b")),
    "Client.list_runs": ("list runs", lambda c: list(c.list_runs())),
    "Client.count_runs": ("count runs", lambda c: c.count_runs()),
    "Client.blueprints": ("list blueprints", lambda c: c.blueprints()),
    "Client.workers": ("list workers", lambda c: c.workers()),
    "Client.ping": ("reach the deployment", lambda c: c.ping()),
    "Client.as_completed": ("wait for runs", lambda c: list(c.as_completed([c.get_handle("r")]))),
    "Handle.status": ("read the run's status", lambda c: c.get_handle("r").status()),
    "Handle.done": ("read the run's status", lambda c: c.get_handle("r").done()),
    "Handle.result": ("read the run's result", lambda c: c.get_handle("r").result()),
    "Handle.wait": ("wait for the run", lambda c: c.get_handle("r").wait()),
    "Handle.wait_for": ("wait for the run", lambda c: c.get_handle("r").wait_for("completed")),
    "Handle.describe": ("describe the run", lambda c: c.get_handle("r").describe()),
    "Handle.cancel": ("cancel the run", lambda c: c.get_handle("r").cancel()),
    "Handle.rerun": ("do the run again", lambda c: c.get_handle("r").rerun()),
    "Handle.delete": ("delete the run", lambda c: c.get_handle("r").delete()),
    "Handle.signal": ("signal the run", lambda c: c.get_handle("r").signal("n")),
    "Handle.stream": ("follow what the node streams", lambda c: list(c.get_handle("r").stream("a"))),
    "Handle.events": ("read the run's events", lambda c: list(c.get_handle("r").events())),
    "Admin.backup": ("read a backup", lambda c: list(admin(c).backup())),
    "Admin.restore": ("restore the backup", lambda c: list(admin(c).restore([]))),
    "Handle.logs": ("read what the run has logged", lambda c: list(c.get_handle("r").logs())),
    "Handle.last_event_id": ("read the run's events", lambda c: c.get_handle("r").last_event_id()),
    "Handle.attempts": ("read the run's attempts", lambda c: c.get_handle("r").attempts()),
    "Admin.queues": ("list queues", lambda c: admin(c).queues()),
    "Admin.metrics": ("read the figures of the deployment", lambda c: admin(c).metrics()),
    "Admin.limits": ("list limits", lambda c: admin(c).limits()),
    "Admin.pause_queue": ("change the queue", lambda c: admin(c).pause_queue("q")),
    "Admin.resume_queue": ("change the queue", lambda c: admin(c).resume_queue("q")),
    "Admin.dead_letters": ("list dead letters", lambda c: admin(c).dead_letters()),
    "Admin.replay": ("replay the run", lambda c: admin(c).replay("r")),
    "Admin.delete_dead_letters": ("delete dead letters", lambda c: admin(c).delete_dead_letters("r")),
    "Admin.memories": ("list memories", lambda c: admin(c).memories()),
    "Admin.memory": ("read the memory", lambda c: admin(c).memory("m/k")),
    "Admin.delete_memory": ("delete the memory", lambda c: admin(c).delete_memory("m/k")),
    "Admin.preview_runs": ("count runs", lambda c: admin(c).preview_runs("delete")),
    "Admin.cancel_runs": ("cancel runs", lambda c: list(admin(c).cancel_runs())),
    "Admin.rerun_runs": ("do runs again", lambda c: list(admin(c).rerun_runs())),
    "Admin.delete_runs": ("delete runs", lambda c: list(admin(c).delete_runs())),
    "Client.list_runs_page": ("list runs", lambda c: c.list_runs_page()),
    "Client.waiting": ("list nodes that wait", lambda c: c.waiting()),
    "Client.stats": ("read the figures of the deployment", lambda c: c.stats()),
    "Client.usage": ("read what model calls have used", lambda c: c.usage()),
    "Client.blueprint_versions": ("list versions of the blueprint", lambda c: c.blueprint_versions("b")),
    "Client.blueprint": ("read the blueprint", lambda c: c.blueprint("b")),
    "Handle.send": ("send the message", lambda c: c.get_handle("r").send("n", 1)),
    "Admin.drain": ("drain servers", lambda c: admin(c).drain()),
    "Admin.servers": ("list servers", lambda c: admin(c).servers()),
    "Admin.reload": ("have servers reload", lambda c: admin(c).reload()),
    "Admin.examine": ("examine runs", lambda c: admin(c).examine()),
}
WITHOUT_REDIS = {"Client.close", "Client.from_config", "Client.get_handle"}


@pytest.mark.parametrize("name", list(ASKED))
def test_a_message_names_what_was_asked_for_and_no_command(client: Any, name: str) -> None:
    asked, call = ASKED[name]
    with pytest.raises(BackendUnavailableError) as raised:
        call(client)
    message = str(raised.value)
    assert message.startswith(f"cannot {asked}: Redis at redis://127.0.0.1:1/0 does not answer")
    assert not any(word.isupper() and len(word) > 3 for word in message.replace(":", " ").split())


def test_every_public_call_is_asked_for() -> None:
    public = {
        f"{kind.__name__}.{name}"
        for kind in (Client, Handle, Admin)
        for name in dir(kind)
        if not name.startswith("_") and inspect.isroutine(getattr(kind, name))
    }
    assert public - WITHOUT_REDIS == set(ASKED)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("5m", 300.0),
        ("1h30m", 5_400.0),
        ("500ms", 0.5),
        (" 2 s ", 2.0),
        (7, 7.0),
        (timedelta(minutes=1), 60.0),
        (None, None),
    ],
)
def test_a_span_is_a_number_a_timedelta_or_a_text(given: Any, seconds: float | None) -> None:
    assert bounds.check_span(given, "delay") == seconds


@pytest.mark.parametrize("given", ["", "5", "5 minutes", "-5s", "200000d", "s", "1e3s", [], True, b"5s"])
def test_what_is_no_span(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^delay"):
        bounds.check_span(given, "delay")
