"""What model calls have used by day is read over all partitions: by clients, the command, the overview and the metrics."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient

from flowcraft_sdk import AsyncClient, Usage, UsageOfDay
from flowcraft_sdk._operations import usage as reading
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.usage_sums import total
from flowcraft_server.api.app import create_app
from flowcraft_server.api.metrics import families
from flowcraft_server.api.options import ApiOptions
from flowcraft_server.cli.client import main
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.ui.pages import add_pages

DAY = 86_400
MOST_COUNTED = 100
"""Models, and blueprints, that have counters of their own."""

LONG = "a-tag-of-which-each-letter-counts-" * 5
ONE = Usage(calls=1, input_tokens=100, cached_tokens=20, output_tokens=10, usd=0.25, seconds=1.5)


def times(count: int) -> Usage:
    return Usage(**{name: value * count for name, value in ONE.model_dump().items()})


def call(env: TestEnvironment, run_id: str, model: str, *, priced: bool = True) -> None:
    """Count a call of a run."""
    keys = env.partitions.for_run(run_id)
    counted = scripts.record_usage(
        keys, run_id=run_id, node_id="a", created_ms=int(env.link.redis.hget(keys.run(run_id), "cr")),
        call_id="abcdefgh", model=model, input_tokens=100, cached_tokens=20, output_tokens=10,
        nano_usd=250_000_000 if priced else None, ms=1500,
    )  # fmt: skip
    assert env.link.call(counted) == 1


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    """Twelve calls in all partitions a day ago, one without a known price today: at six in the morning, so that no day ends."""
    blueprints = {"ask": "nodes: {a: {uses: wait}}", "other": "nodes: {a: {uses: wait}}"}
    with TestEnvironment(blueprints=blueprints, partitions=16, workers=0) as env:
        now = env.clock.now()
        env.clock.advance(DAY - (now.hour * 3600 + now.minute * 60 + now.second) + 6 * 3600)
        assert (env.client.usage(), env.client.stats().used_today, env.client.admin.metrics().usage) == ([], None, ())
        for number in range(12):
            run = env.client.start(
                "ask" if number < 8 else "other", run_id=f"run-{number}", tags=[LONG, f"t{number % 2}"]
            )
            call(env, run.run_id, "large" if number < 4 else "small")
        env.clock.advance(DAY)
        call(env, env.client.start("ask", run_id="today").run_id, "new", priced=False)
        yield env


def sums(rows: list[UsageOfDay], day: Any) -> dict[str, Usage]:
    return {f"{row.kind} {row.name}".strip(): row.usage for row in rows if row.day == day}


def test_sums_are_those_of_all_partitions_by_day(env: TestEnvironment) -> None:
    assert len({env.partitions.for_run(f"run-{number}").base for number in range(12)}) > 1
    today = env.clock.now().date()
    rows = env.client.usage(2)
    unpriced = ONE.model_copy(update={"usd": 0.0, "unpriced_calls": 1})
    assert sums(rows, today) == dict.fromkeys(("all", "blueprint ask", "model new"), unpriced)
    assert sums(rows, today - timedelta(days=1)) == {
        "all": times(12), "blueprint ask": times(8), "blueprint other": times(4), "model small": times(8),
        "model large": times(4), f"tag {LONG}": times(12), "tag t0": times(6), "tag t1": times(6),
    }  # fmt: skip
    assert [row.day for row in rows] == sorted((row.day for row in rows), reverse=True)
    assert env.client.usage() == [row for row in rows if row.day == today]
    assert sum(row.usage.calls for row in env.client.usage(40) if row.kind == "all") == 13
    assert env.client.stats().used_today == unpriced


def run(env: TestEnvironment, *args: str) -> Any:
    return CliRunner().invoke(main, ["--url", env.url, "--namespace", env.namespace, "usage", *args])


def test_the_command_prints_a_table_of_80_columns(env: TestEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowcraft_server.cli.terminal.PIPE_WIDTH", 80)
    today = env.clock.now().date().isoformat()
    printed = run(env).output.splitlines()
    assert [line.split() for line in printed] == [
        ["day", "calls", "input", "cached", "output", "cost"], [today, "1", "100", "20", "10", "$0.00?"],
    ]  # fmt: skip
    lines = run(env, "--days", "2", "--by", "blueprint").output.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["ask", "9", "900", "180", "90", "$2.00?"], ["other", "4", "400", "80", "40", "$1.00"],
        ["all", "calls", "13", "1,300", "260", "130", "$3.00?"],
    ]  # fmt: skip
    tags = run(env, "--days", "2", "--by", "tag").output
    assert max(map(len, tags.splitlines())) <= 80
    assert LONG in "".join(line.split()[0] for line in tags.splitlines())
    assert '"kind": "model"' in (found := run(env, "--by", "model", "--json").output)
    assert '"blueprint"' not in found
    wrong = run(env, "--days", "41")
    assert wrong.exit_code == 2
    assert "1<=x<=40" in wrong.output


def test_the_overview_has_the_cost_of_today_where_there_is_one(env: TestEnvironment) -> None:
    for namespace, shown in ((env.namespace, True), (f"{env.namespace}-empty", False)):
        app = create_app(AsyncClient(env.url, namespace=namespace), ApiOptions(namespace=namespace))
        add_pages(app)
        with TestClient(app, base_url="http://localhost") as api:
            page = api.get("/").text
            assert ("Model cost today" in page, "1 call, 1 without a price" in page) == (shown, shown)
            assert (api.get("/api/v1/usage?days=2").json() != []) is shown
            assert api.get("/api/v1/usage?days=41").status_code == 422


def test_metrics_of_today_are_gauges(env: TestEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    found = env.client.admin.metrics()
    assert [(row.kind, row.name) for row in found.usage] == [("all", ""), ("blueprint", "ask"), ("model", "new")]
    usage = tuple(
        UsageOfDay(day=found.usage[0].day, kind=kind, name=name, usage=times(count))
        for kind, name, count in (("all", "", 9), ("model", "m", 5), ("model", "n", 3), ("blueprint", "b", 9))
    )
    monkeypatch.setattr("flowcraft_server.api.metrics.MOST_LABELS", 1)
    made = {
        (sample.name, *sample.labels.values()): (family.type, sample.value)
        for family in families(found.model_copy(update={"usage": usage}))
        for sample in family.samples
    }
    assert {key[1:]: value for key, value in made.items() if key[0] == "flowcraft_model_calls_today"} == {
        ("m",): ("gauge", 5), ("(others)",): ("gauge", 4),
    }  # fmt: skip
    assert made["flowcraft_model_tokens_today", "m", "input"] == ("gauge", 500)
    assert made["flowcraft_model_cost_dollars_today", "(others)"] == ("gauge", 1.0)
    assert made["flowcraft_blueprint_model_cost_dollars_today", "b"] == ("gauge", 2.25)
    assert ("flowcraft_blueprint_model_calls_today", "(others)") not in made


def counters(env: TestEnvironment) -> dict[tuple[str, ...], float]:
    """The counters of model calls, by their names and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(env.client.admin.metrics())
        for sample in family.samples
        if family.type == "counter" and "model" in family.name
    }


@pytest.fixture
def two_parts() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints={"ask": "nodes: {a: {uses: wait}}"}, partitions=2, workers=0) as env:
        yield env


def test_counters_of_all_time_only_grow_and_have_so_many_names(two_parts: TestEnvironment) -> None:
    env = two_parts
    run = env.client.start("ask", {}, run_id="counted")
    keys = env.partitions.for_run(run.run_id)

    def count(model: str, call: int) -> None:
        created = int(env.link.redis.hget(keys.run(run.run_id), "cr"))
        for _ in range(2):  # sent twice, it counts once
            env.link.call(
                scripts.record_usage(
                    keys, run_id=run.run_id, node_id="n", created_ms=created, call_id=f"{call:08d}", model=model,
                    input_tokens=100, cached_tokens=20, output_tokens=10, nano_usd=250_000_000, ms=5,
                )
            )  # fmt: skip

    before = counters(env)
    for number in range(MOST_COUNTED + 5):
        count(f"counted-{number:03}", number)
    after = counters(env)
    env.clock.advance(DAY)
    count("counted-000", 900)
    count("counted-104", 901)
    later = counters(env)
    for one, other in ((before, after), (after, later)):
        assert all(other[name] >= value for name, value in one.items())
    name = "flowcraft_model_calls_total"
    assert (after[name, "counted-000"], later[name, "counted-000"]) == (1, 2)
    assert (name, "counted-104") not in later
    assert later[name, "(others)"] == after[name, "(others)"] + 1
    assert len([key for key in later if key[0] == name]) <= (MOST_COUNTED + 1) * len(env.partitions.all)
    assert later["flowcraft_model_tokens_total", "counted-000", "input"] == 200
    assert later["flowcraft_model_cost_dollars_total", "counted-000"] == 0.5
    total_of = sum(value for key, value in later.items() if key[0] == name)
    assert total_of == sum(value for key, value in later.items() if key[0] == "flowcraft_blueprint_model_calls_total")
    run.cancel(grace=0)


def test_names_are_bounded_and_what_is_no_sum_is_left_out(
    env: TestEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_NAMES", 1)
    yesterday = env.clock.now().date() - timedelta(days=1)
    found = sums(env.client.usage(2), yesterday)
    assert set(found) == {"all", "blueprint ask", "model small", f"tag {LONG}", "rest"}
    assert found["rest"] == total([times(4), times(4), times(12)])
    tags = run(env, "--days", "2", "--by", "tag")
    assert "those that cost the least are not listed" in tags.output
    assert ["(others)", "4", "400", "80", "40", "$1.00"] in [
        line.split() for line in run(env, "--days", "2", "--by", "blueprint").output.splitlines()
    ]
    monkeypatch.undo()
    one, other = env.partitions.all[:2]
    later = int(env.clock.now().timestamp()) // DAY + 1
    env.link.redis.hset(one.usage(later), mapping={"*": "no sum", "m|x": "1|2|3|4|5|6|7"})
    env.link.redis.set(other.usage(later), "something else")
    try:
        env.clock.advance(DAY)
        assert [(row.kind, row.name, row.usage.calls) for row in env.client.usage()] == [("model", "x", 1)]
        assert env.client.stats().used_today is None
        assert [row.name for row in env.client.admin.metrics().usage] == ["x"]
        assert run(env).exit_code == 0
    finally:
        env.link.redis.delete(one.usage(later), other.usage(later))
