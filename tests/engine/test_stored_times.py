"""Times in Redis that no clock shows, written by another release or a foreign hand: no reader fails, and none hides the rest."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta, timezone
from typing import Any

import pytest
from click.testing import CliRunner

from flowcraft_sdk import RunBrokenError, RunExpiredError, RunNotFoundError
from flowcraft_sdk.protocol.run_record import EARLIEST, LATEST, moment
from flowcraft_server.cli.client import main
from flowcraft_server.testing import TestEnvironment

Make = Callable[..., TestEnvironment]
TIMES = ["1e15", "-1e15", "1e18", "1e300", "-1e300", "inf", "-inf", "253402300799000", "-62135596800000"]
GRAPHS: dict[str, Any] = {"one": {"id": "one", "nodes": [{"id": "a", "uses": "do"}], "edges": []}}


@pytest.fixture
def env(environment: Make) -> Any:
    """Without workers; what the tests write is removed in the end."""
    made = environment(workers=0, handlers={"do": lambda ctx: 1}, blueprints=GRAPHS)
    yield made
    made.link.redis.unlink(*made.link.redis.scan_iter(match=made.keys.base + "*", count=1000))


@pytest.fixture(params=["America/New_York", "Asia/Tokyo"])
def _zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


def fields(value: str) -> dict[str, dict[str, str]]:
    """By run id the fields of one record each."""
    return {
        "created": {"cr": value},
        "started": {"sr": value},
        "ended": {"en": value},
        "deadline": {"dl": value},
        "running": {"n:a": f"L|1|1|0|{value}|w"},
        "waiting": {"n:a": f"W|1|1|0|{value}|signal"},
        "failed": {"n:a": f"F|1|1|0|{value}|{value}", "f:a": f'{{"at": {value}, "type": "x", "message": "m"}}'},
        "cancelled": {"cx": f'{{"reason": "x", "at": {value}, "grace": {value}}}'},
    }


@pytest.mark.usefixtures("_zone")
@pytest.mark.parametrize("value", TIMES)
def test_no_reader_fails(env: TestEnvironment, value: str) -> None:
    stored = fields(value)
    for run_id, damage in stored.items():
        env.client.start("one", {}, run_id=run_id, run_timeout=60)
        env.link.redis.hset(env.keys.run(run_id), mapping=damage)
        env.link.redis.execute_command("ZADD", env.keys.dead, value, f"{run_id}|a")
    for run_id in stored:
        handle = env.client.get_handle(run_id)
        for read in (handle.status, handle.describe, lambda handle=handle: list(handle.events(follow=False))):
            try:
                read()
            except RunBrokenError as error:  # the reader learns which run it is
                assert run_id in str(error)
        for words in (["status", run_id], ["show", run_id], ["show", run_id, "--json"]):
            assert command(env, *words) in (0, 2)
        env.client.admin.examine(run_id)
    assert {run.run_id for run in env.client.list_runs()} == set(stored)
    assert {letter.run_id for letter in env.client.admin.dead_letters()} == set(stored)
    env.client.admin.examine()
    for words in (["list"], ["list", "--json"], ["dlq", "list"], ["dlq", "list", "--json"]):
        assert command(env, *words) == 0
    assert command(env, "doctor") in (0, 1)


def command(env: TestEnvironment, *words: str) -> int:
    return CliRunner().invoke(main, ["--url", env.url, "--namespace", env.namespace, *words]).exit_code


@pytest.mark.parametrize("score", ["inf", "-inf", "1e300", "-1e300", "1.5", "-1.5"])
def test_pages_of_runs_go_on_behind_any_score(env: TestEnvironment, score: str) -> None:
    index = env.keys.index_status("queued")
    for number in range(5):
        env.client.start("one", {}, run_id=f"r{number}")
        env.link.redis.execute_command("ZADD", index, score, f"r{number}")
    env.client.start("one", {}, run_id="later")
    found = [run.run_id for run in env.client.list_runs(page_size=2)]
    assert sorted(found) == ["later", "r0", "r1", "r2", "r3", "r4"]
    assert env.client.count_runs(status="queued", blueprint_id="one") == 6


@pytest.mark.parametrize("deadline", ["inf", "-inf", "nan", "1e300", "soon"])
def test_a_letter_of_a_run_with_such_a_deadline_is_replayed_or_its_run_is_named(
    env: TestEnvironment, deadline: str
) -> None:
    env.client.start("one", {}, run_id="r", run_timeout=60)
    redis, key = env.link.redis, env.keys.run("r")
    env.client.get_handle("r").cancel(grace=0)
    redis.hset(key, mapping={"dl": deadline, "dead": "a"})
    redis.zadd(env.keys.dead, {"r|a": 1})
    if deadline == "1e300":
        replayed = env.client.admin.replay("r").describe()
        assert replayed.deadline is not None and replayed.deadline.year < 2200
    else:
        with pytest.raises(RunBrokenError, match="r"):
            env.client.admin.replay("r")


@pytest.mark.parametrize("score", ["inf", "-inf", "1e300", "-1e300", "-1"])
def test_tombstones(env: TestEnvironment, score: str) -> None:
    env.link.redis.execute_command("ZADD", env.keys.gone, score, "r")
    with pytest.raises((RunExpiredError, RunNotFoundError)):
        env.client.get_handle("r").status()


@pytest.mark.parametrize("ms", [*TIMES, "nan"])
def test_a_moment_can_be_shown_in_every_zone(ms: str) -> None:
    found = moment(ms)
    assert EARLIEST <= found <= LATEST
    for hours in range(-23, 24):
        assert found.astimezone(timezone(timedelta(hours=hours)))
