"""`flowcraft watch`: a tree on a terminal, lines in a pipe, the exit code of the run in both."""

import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from flowcraft_sdk import NodeContext
from flowcraft_server.cli.client import main
from flowcraft_server.cli.run_tree_view import WatchedRuns, tree_of
from flowcraft_server.testing import TestEnvironment

Flowcraft = Callable[..., Result]
GO_ON = threading.Event()
BLUEPRINTS = {
    "trip": (
        "nodes:\n  each: {uses: map, inputs: names, params: {uses: item}}\n  sub: {call: inner, needs: [each]}\n"
        "  last: {uses: fine, needs: [sub]}\n"
    ),
    "inner": "nodes:\n  ask: {uses: wait}\n  done: {uses: fine, needs: [ask]}\n",
    "fails": "nodes:\n  boom: {uses: fail, config: {maxRetries: 2}}\n",
    "many": "nodes:\n" + "".join(f"  n{number}: {{uses: fine}}\n" for number in range(40)),
}


def item(ctx: NodeContext) -> str:
    if ctx.item == 2:
        ctx.progress(0.25, "on \x1b[31mits way")
        GO_ON.wait(20)
    return str(ctx.input)


def fail(_ctx: NodeContext) -> None:
    raise ValueError("no stock")


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    handlers: dict[str, Any] = {"item": item, "fine": lambda ctx: "ok", "fail": fail}
    with TestEnvironment(blueprints=BLUEPRINTS, handlers=handlers) as env:
        yield env


@pytest.fixture
def flowcraft(env: TestEnvironment) -> Flowcraft:
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["--url", env.url, "--namespace", env.namespace, *arguments])

    return call


def drawn(env: TestEnvironment, watched: WatchedRuns, rows: int = 1000) -> str:
    for event in env.client.get_handle(watched.top).events(follow=False, children=True):
        watched.note(event)
    waiting, watched.runs = [watched.top], {}
    while waiting:
        run_id = waiting.pop()
        watched.runs[run_id] = env.client.get_handle(run_id).describe()
        waiting += watched.runs[run_id].children
    console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(tree_of(watched, env.clock.now(), rows))
    return console.export_text()


def test_a_tree_has_nodes_items_progress_and_child_runs(env: TestEnvironment) -> None:
    GO_ON.clear()
    handle = env.client.start("trip", {"names": ["a", "b", "c", "d"]}, run_id="trip-1")
    for event in handle.events(timeout=20):  # until all items but one have completed
        if event.node_id == "each[3]" and event.type == "node_completed":
            break
    while handle.describe().nodes["each[2]"].progress is None:  # it is reported beside the node, and takes a moment
        time.sleep(0.01)
    watched = WatchedRuns("trip-1")
    shown = drawn(env, watched)
    assert "● trip trip-1  running, 0/3 nodes" in shown
    assert "━━━━━━━━━╌╌╌ 3/4" in shown
    assert "● [2]" in shown
    assert "━━━╌╌╌╌╌╌╌╌╌ 25%" in shown
    assert "· last" in shown
    GO_ON.set()
    handle.wait_for("waiting", timeout=60)
    shown = drawn(env, watched)
    assert "━━━━━━━━━━━━ 4/4" in shown
    assert "◔ inner trip-1~1  waiting, 0/2 nodes" in shown
    assert "waits for a signal" in shown
    handle.signal("sub/ask")
    handle.wait(timeout=60)
    assert "✓ inner trip-1~1  completed, 2/2 nodes" in drawn(env, watched)


def test_a_tree_that_is_too_high_counts_nodes_in_which_nothing_happens(env: TestEnvironment) -> None:
    env.client.start("many", run_id="many-1").wait(timeout=60)
    watched = WatchedRuns("many-1")
    assert len(drawn(env, watched).splitlines()) == 41
    assert "40 completed" in drawn(env, watched, rows=20)


def test_in_a_pipe_it_prints_lines_and_ends_with_the_code_of_the_run(
    flowcraft: Flowcraft, env: TestEnvironment
) -> None:
    env.client.start("fails", run_id="fails-1").wait(timeout=60)
    result = flowcraft("watch", "fails-1")
    assert result.exit_code == 1
    assert [line.split()[1] for line in result.stdout.splitlines()] == ["(run)", *["boom"] * 4, "(run)"]
    assert result.stderr == "run fails-1 failed: node 'boom': ValueError: no stock\n"
    events = [json.loads(line) for line in flowcraft("watch", "fails-1", "--json").stdout.splitlines()]
    assert (events[-1]["type"], events[-1]["run_id"]) == ("run_ended", "fails-1")
    env.client.start("many", run_id="many-2")
    assert flowcraft("watch", "many-2").exit_code == 0
    assert flowcraft("watch", "nope").exit_code == 3
    env.client.start("inner", run_id="inner-1")
    assert flowcraft("watch", "inner-1", "--timeout", "50ms").exit_code == 4
    env.client.get_handle("inner-1").cancel()


def test_on_a_terminal_it_draws_the_tree(env: TestEnvironment) -> None:
    env.client.start("fails", run_id="fails-2").wait(timeout=60)
    ours, theirs = pty.openpty()
    arguments = ["--url", env.url, "--namespace", env.namespace, "watch", "fails-2"]
    program = subprocess.Popen(
        [sys.executable, "-m", "flowcraft_server.cli.client", *arguments],
        stdout=theirs, stderr=subprocess.PIPE, env={**os.environ, "TERM": "xterm", "COLUMNS": "90", "LINES": "30"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # the program has ended
        pass
    os.close(ours)
    assert program.stderr is not None
    printed = program.stderr.read().decode()
    assert (program.wait(20), "no stock" in printed) == (1, True)
    assert "✗" in shown.decode()
    assert "boom" in shown.decode()
    assert "attempt 2" in shown.decode()
