"""Everything a caller hands in has a bound, told by a typed error; one more than allowed never reaches Redis."""

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
    bounds,
)
from flowcraft_sdk.protocol.run_record import EARLIEST, LATEST, moment
from tests.blocking_client import BlockingClient

NOWHERE = "redis://127.0.0.1:1/0"
QUICK = ClientSettings(retries=0, connect_timeout=0.2, socket_timeout=0.2, outage=0.0)


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
    "value", [math.inf, -math.inf, math.nan, 1e15, 1e18, 1e300, -1, -0.001, True, "5", "5s", b"5", [5], timedelta.max]
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


@pytest.mark.parametrize("value", ["2026-01-01", 5, datetime(2026, 1, 1)])
def test_moments_that_are_none(client: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="start_at"):
        client.start("b", start_at=value)
    with pytest.raises(ConfigurationError, match="started_after"):
        list(client.list_runs(started_after=value))


@pytest.mark.parametrize("ms", ["1e15", "1e18", "1e300", "-1e15", "-1e300", 2**63])
def test_times_that_no_clock_shows(ms: Any) -> None:
    """A record of another release, or of a foreign hand, may hold one: nothing fails that shows it."""
    assert moment(ms) in (EARLIEST, LATEST)


def operator(client: Any) -> Any:
    """The operator, whose methods can be called like a plain client's."""
    if isinstance(client, Client):
        return client.operator
    asked = client.client.operator

    def blocking(name: str) -> Callable[..., Any]:
        return lambda *words: client.runner.run(getattr(asked, name)(*words))

    return SimpleNamespace(**{name: blocking(name) for name in ("dead_letters", "replay", "drop", "examine")})


ASKED: dict[str, Callable[[Any], Any]] = {
    "start a run": lambda c: c.start("b"),
    "list runs": lambda c: list(c.list_runs()),
    "count runs": lambda c: c.count_runs(),
    "list blueprints": lambda c: c.blueprints(),
    "list workers": lambda c: c.workers(),
    "reach the deployment": lambda c: c.ping(),
    "read the run's status": lambda c: c.get_handle("r").status(),
    "read the run's result": lambda c: c.get_handle("r").result(),
    "wait for the run": lambda c: c.get_handle("r").wait(),
    "describe the run": lambda c: c.get_handle("r").describe(),
    "cancel the run": lambda c: c.get_handle("r").cancel(),
    "signal the run": lambda c: c.get_handle("r").signal("n"),
    "read the run's events": lambda c: list(c.get_handle("r").events()),
    "wait for runs": lambda c: list(c.as_completed([c.get_handle("r")])),
    "list dead letters": lambda c: operator(c).dead_letters(),
    "replay the run": lambda c: operator(c).replay("r"),
    "drop dead letters": lambda c: operator(c).drop("r"),
    "examine runs": lambda c: operator(c).examine(),
}


@pytest.mark.parametrize("asked", list(ASKED))
def test_a_message_names_what_was_asked_for_and_no_command(client: Any, asked: str) -> None:
    with pytest.raises(BackendUnavailableError) as raised:
        ASKED[asked](client)
    said = str(raised.value)
    assert said.startswith(f"cannot {asked}: Redis at redis://127.0.0.1:1/0 does not answer")
    assert not any(word.isupper() and len(word) > 3 for word in said.replace(":", " ").split())
