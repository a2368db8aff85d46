"""Limits of concurrent runs: per deployment, blueprint and key; they queue, reject or cancel the previous run."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flowcraft_sdk import RunLimitError, RunStatus
from flowcraft_server.blueprints.run_limits import RunLimits
from flowcraft_server.cli.client import main
from flowcraft_server.store.publish import publish_settings
from flowcraft_server.testing import TestEnvironment


def blueprint(name: str, limits: str, uses: str = "hold") -> str:
    return f"id: {name}\nlimits: {limits}\nnodes: {{a: {{uses: {uses}}}}}\n"


WAIT = """
id: {name}
limits: {limits}
nodes:
  a: {{uses: wait}}
"""

BLUEPRINTS = {
    "two": WAIT.format(name="two", limits="{concurrentRuns: 2}"),
    "one-per-key": WAIT.format(name="one-per-key", limits="{concurrentRunsPerKey: 1}"),
    "both": WAIT.format(name="both", limits="{concurrentRuns: 2, concurrentRunsPerKey: 1}"),
    "refusing": WAIT.format(name="refusing", limits="{concurrentRuns: 1, overflow: reject}"),
    "latest": WAIT.format(name="latest", limits="{concurrentRunsPerKey: 1, overflow: cancelPrevious}"),
    "free": "id: free\nnodes: {a: {uses: wait}}\n",
    "quick": "id: quick\nlimits: {concurrentRuns: 1}\nnodes: {a: {uses: count}}\n",
    "parent": "id: parent\nlimits: {concurrentRuns: 1}\nnodes: {a: {call: quick}}\n",
    "fails": "id: fails\nlimits: {concurrentRunsPerKey: 1}\nnodes: {first: {uses: count}, second: {uses: fail-once, needs: [first]}}\n",
}
RUNS: list[str] = []
FAILED: set[str] = set()


def count(ctx: Any) -> int:
    RUNS.append(ctx.run_id)
    return len(RUNS)


def fail_once(ctx: Any) -> str:
    if not FAILED:
        FAILED.add(ctx.run_id)
        raise ValueError("no")
    return "done"


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    handlers = {"count": count, "fail-once": fail_once}
    with TestEnvironment(blueprints=list(BLUEPRINTS.values()), handlers=handlers) as environment:
        yield environment


def test_runs_beyond_the_limit_wait_in_order_until_others_have_ended(env: TestEnvironment) -> None:
    handles = [env.client.start("two", run_id=f"two-{n}") for n in range(5)]
    for handle in handles[:2]:
        assert handle.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    assert [handle.status() for handle in handles[2:]] == [RunStatus.QUEUED] * 3
    ends = [lambda h: h.signal("a"), lambda h: h.cancel(), lambda h: h.cancel(grace=0)]
    for n, end in enumerate(ends):
        end(handles[n])
        handles[n].wait(timeout=10)
        assert handles[n + 2].wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
        for later in handles[n + 3 :]:
            assert later.status() is RunStatus.QUEUED
    for handle in handles[3:]:
        handle.signal("a")
        handle.wait(timeout=60)
    assert_nothing_is_left(env)


def test_keys_do_not_hold_each_other_up(env: TestEnvironment) -> None:
    first, second, other = (
        env.client.start("one-per-key", run_id=f"keyed-{n}", key=key) for n, key in enumerate(("a|1", "a|1", "b"))
    )
    without = env.client.start("one-per-key", run_id="keyless")
    for handle in (first, other, without):
        assert handle.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    found = second.describe()
    assert (found.status, found.key) == (RunStatus.QUEUED, "a|1")
    expected = "at most 1 concurrent run of blueprint 'one-per-key' with key 'a|1', now keyed-0"
    eventually(lambda: second.describe().blocked_by == expected)
    listed = {run.run_id: run for run in env.client.list_runs(blueprint_id="one-per-key")}
    assert listed["keyed-1"].blocked_by == "a limit of concurrent runs"
    assert listed["keyed-0"].blocked_by is None
    first.cancel()
    assert second.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    assert second.describe().blocked_by is None
    for handle in (second, other, without):
        handle.cancel()
        handle.wait(timeout=60)
    assert_nothing_is_left(env)


def test_a_key_that_waits_for_itself_does_not_hold_up_the_others(env: TestEnvironment) -> None:
    names = ("a", "a", "a", "b", "c")
    handles = [env.client.start("both", run_id=f"both-{n}", key=key) for n, key in enumerate(names)]
    for n in (0, 3):
        assert handles[n].wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    handles[3].cancel()
    assert handles[4].wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    for n in (0, 1, 2):
        assert handles[n].wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
        handles[n].cancel()
    handles[4].cancel()
    for handle in handles:
        handle.wait(timeout=60)
    assert_nothing_is_left(env)


def test_a_run_that_is_refused_leaves_no_trace(env: TestEnvironment) -> None:
    first = env.client.start("refusing", run_id="refusing-1")
    assert first.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    with pytest.raises(RunLimitError) as refused:
        env.client.start("refusing", run_id="refusing-2", tags=["x"], run_timeout=60)
    assert refused.value.running == ("refusing-1",)
    assert "at most 1 concurrent run of blueprint 'refusing'" in str(refused.value)
    assert [run.run_id for run in env.client.list_runs(blueprint_id="refusing")] == ["refusing-1"]
    assert env.client.start("refusing", run_id="refusing-1").attached
    first.cancel()
    first.wait(timeout=60)
    eventually(lambda: not env.link.redis.exists(env.keys.places))
    second = env.client.start("refusing", run_id="refusing-2")
    assert second.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    second.cancel()
    second.wait(timeout=10)
    assert_nothing_is_left(env)


def test_the_latest_run_of_a_key_cancels_those_before_it(env: TestEnvironment) -> None:
    first = env.client.start("latest", run_id="latest-1", key="k")
    assert first.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    other = env.client.start("latest", run_id="latest-other", key="other")
    second = env.client.start("latest", run_id="latest-2", key="k")
    assert first.wait(timeout=60).cancel.reason == "run latest-2 takes its place"  # type: ignore[union-attr]
    assert second.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    assert other.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    for handle in (second, other):
        handle.cancel()
        handle.wait(timeout=60)
    assert_nothing_is_left(env)


def test_runs_that_never_begin_give_their_place_in_the_line_up(env: TestEnvironment) -> None:
    handles = [env.client.start("one-per-key", run_id=f"line-{n}", key="k", run_timeout=60) for n in range(4)]
    assert handles[0].wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    assert handles[1].cancel()
    assert handles[1].wait(timeout=10).status is RunStatus.CANCELLED
    env.clock.advance(61)
    assert [handle.wait(timeout=60).status for handle in (handles[0], *handles[2:])] == [RunStatus.TIMED_OUT] * 3
    last = env.client.start("one-per-key", run_id="line-last", key="k", delay=5)
    env.clock.advance(6)
    assert last.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    last.cancel()
    assert_nothing_is_left(env)


def test_child_runs_do_not_count_and_many_quick_runs_come_through(env: TestEnvironment) -> None:
    RUNS.clear()
    handles = [env.client.start("parent", run_id=f"parent-{n}") for n in range(6)]
    for handle in handles:
        assert handle.wait(timeout=60).status is RunStatus.COMPLETED
    assert [run_id.partition("~")[0] for run_id in RUNS] == [handle.run_id for handle in handles]
    assert_nothing_is_left(env)


def test_a_rerun_counts_like_a_start_and_keeps_the_key(env: TestEnvironment) -> None:
    FAILED.clear()
    failed = env.client.start("fails", run_id="rerun-1", key="k")
    assert failed.wait(timeout=60).status is RunStatus.FAILED
    again = failed.rerun(from_node="second", run_id="rerun-2")
    assert again.wait(timeout=10).status is RunStatus.COMPLETED
    assert again.describe().key == "k"
    assert failed.rerun(run_id="rerun-3").wait(timeout=10).status is RunStatus.COMPLETED
    assert_nothing_is_left(env)


def test_places_of_lost_records_and_of_removed_limits_come_back(env: TestEnvironment) -> None:
    first = env.client.start("two", run_id="lost-1")
    assert first.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    env.client.start("two", run_id="lost-2").wait_for(RunStatus.WAITING, timeout=60)
    third = env.client.start("two", run_id="lost-3")
    keys = env.partitions.for_run("lost-1")
    env.link.redis.delete(keys.run("lost-1"))
    eventually(lambda: third.describe().blocked_by != "a limit of concurrent runs")
    env.clock.advance(20)
    assert third.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    fourth = env.client.start("two", run_id="lost-4")
    eventually(lambda: "lost-2" in str(fourth.describe().blocked_by))
    env.publish("id: two\nnodes: {a: {uses: wait}}\n")
    env.clock.advance(2)
    assert fourth.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    for run_id in ("lost-2", "lost-3", "lost-4"):
        env.client.get_handle(run_id).cancel()
    env.publish(BLUEPRINTS["two"])
    env.client.admin.examine(fix=True)
    assert_nothing_is_left(env)


def test_runs_begin_whose_limit_was_removed_before_they_were_counted(env: TestEnvironment) -> None:
    home = env.partitions.home
    env.kill_worker()
    waits = env.client.start("two", run_id="uncounted")
    rules = env.link.redis.hgetall(home.run_limits)
    env.link.redis.delete(home.run_limits)  # as when no blueprint has limits any more
    env.add_worker()
    try:
        assert waits.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    finally:
        env.link.redis.hset(home.run_limits, mapping=rules)
        waits.cancel()
    assert_nothing_is_left(env)


def test_a_foreign_key_holds_up_the_runs_that_it_concerns_alone(env: TestEnvironment) -> None:
    line = env.partitions.home.line("one-per-key|bad")
    env.link.redis.set(line, "of something else")
    bad = env.client.start("one-per-key", run_id="foreign-1", key="bad")
    good = [env.client.start("one-per-key", run_id=f"foreign-good-{n}", key="good") for n in range(2)]
    assert good[0].wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    good[0].cancel()
    assert good[1].wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    good[1].cancel()
    assert bad.status() is RunStatus.QUEUED
    env.link.redis.delete(line)
    env.clock.advance(11)
    assert bad.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    env.link.redis.set(line, "again")
    bad.cancel()
    other = env.client.start("one-per-key", run_id="foreign-other", key="good")
    assert other.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    other.cancel()
    env.link.redis.delete(line)
    env.clock.advance(11)
    env.client.admin.examine(fix=True)
    assert_nothing_is_left(env)


def test_a_limit_of_the_deployment_counts_runs_of_all_blueprints(env: TestEnvironment) -> None:
    def lay_down(limits: RunLimits | None) -> None:
        publish_settings(
            env.link.redis, env.partitions, history=True, max_events=10_000, cancel_grace_ms=1000, run_limits=limits
        )

    lay_down(RunLimits(concurrent_runs=1))
    try:
        first = env.client.start("free", run_id="all-1")
        assert first.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
        second = env.client.start("two", run_id="all-2")
        eventually(lambda: second.describe().blocked_by == "at most 1 concurrent run, now all-1")
        first.cancel()
        assert second.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
        second.cancel()
    finally:
        lay_down(None)
    assert_nothing_is_left(env)


def test_what_a_lost_worker_was_about_another_one_does(env: TestEnvironment) -> None:
    handles = [env.client.start("two", run_id=f"worker-{n}") for n in range(4)]
    for handle in handles[:2]:
        assert handle.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    env.kill_worker()
    handles[0].cancel()
    handles[1].cancel()
    env.add_worker()
    for handle in handles[2:]:
        assert handle.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
        handle.cancel()
    assert_nothing_is_left(env)


def test_no_more_than_the_limit_go_on_under_many_starts(env: TestEnvironment) -> None:
    RUNS.clear()
    threads = [threading.Thread(target=lambda n=n: env.client.start("quick", run_id=f"many-{n}")) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(20):
        env.client.get_handle(f"many-{n}").result(timeout=60)
    assert len(RUNS) == len(set(RUNS)) == 20
    assert_nothing_is_left(env)


def test_an_environment_is_not_idle_while_a_run_is_to_begin(env: TestEnvironment) -> None:
    for number in range(20):
        run = env.client.start("quick", run_id=f"idle-{number}")
        env.run_until_idle()
        assert run.done()


def test_cases_of_blueprints_are_not_held_up_by_limits(tmp_path: Path) -> None:
    cases = "[{name: one, expect: {status: waiting}}, {name: two, expect: {status: waiting}}]"
    (tmp_path / "waits.yaml").write_text(
        f"limits: {{concurrentRuns: 1}}\nnodes: {{a: {{uses: wait}}}}\ntests: {cases}\n"
    )
    done = CliRunner().invoke(main, ["test", str(tmp_path / "waits.yaml")], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def eventually(condition: Any) -> None:
    """Wait for what the workers are about to do."""
    tries = threading.Event()
    for _ in range(1000):
        if condition():
            return
        tries.wait(0.01)
    raise AssertionError("it never came to that")


def assert_nothing_is_left(env: TestEnvironment) -> None:
    """Nothing is counted when no run goes on."""
    left = ("places", "admitted", "unplaced", "left", "line:", "running:", "blocked:")
    found: list[bytes] = []

    def none_is_there() -> bool:
        found[:] = [
            name
            for name in env.link.redis.scan_iter(match=f"fc:{{{env.namespace}.*", count=1000)
            if name.partition(b"}:")[2].decode().startswith(left)
        ]
        return not found

    try:
        eventually(none_is_there)
    except AssertionError:
        raise AssertionError(found) from None
    assert env.client.admin.examine() == []
