"""A backup has all that runs are, and restores it into another deployment: of any number of partitions, overwriting nothing, running nothing."""

import asyncio
import json
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from loguru import logger

from flowcraft_sdk import FAILED, AsyncClient, ConfigurationError, MemoryInfo, NodeContext, NodeStatus, RunStatus
from flowcraft_sdk.protocol import backup_format
from flowcraft_sdk.protocol.backup_format import BackupError, entries_of
from flowcraft_sdk.protocol.memory_scripts import Bounds, Writer, remember, settle_memory
from flowcraft_sdk.protocol.plan_digest import plan_digest
from flowcraft_server.cli.client import main
from flowcraft_server.cli.client_backup import _lines
from flowcraft_server.testing import TestEnvironment, broken_invariants
from tests.engine.leaks import leaked_keys

CALLS: list[str] = []
GO_ON, STARTED = threading.Event(), threading.Event()
BLUEPRINTS = {
    "order": (
        "inputs: {name: string}\nnodes:\n  charge: {uses: note, inputs: name}\n  ask: {uses: wait, needs: [charge]}\n"
        "  ship: {uses: note, inputs: name, needs: [ask]}\n"
    ),
    "each": "nodes:\n  each: {uses: map, inputs: names, params: {uses: item}}\n  done: {uses: note, inputs: each, needs: [each]}\n",
    "outer": "nodes:\n  first: {uses: note, inputs: x}\n  sub: {call: order, inputs: {name: x}, needs: [first]}\n",
    "hold": "nodes:\n  first: {uses: note, inputs: x}\n  slow: {uses: slow, needs: [first]}\n  last: {uses: note, inputs: x, needs: [slow]}\n",
    "fails": "nodes:\n  boom: {uses: boom}\n",
}
SCHEDULES = {"nightly": {"blueprint": "order", "cron": "0 3 * * *", "input": {"name": "Ada"}}}


def note(ctx: NodeContext) -> Any:
    CALLS.append(f"{ctx.run_id}:{ctx.node_id}")
    ctx.logger.info("noted {}", ctx.node_id)
    return {"of": ctx.input, "text": "\u00e4\U0001f600\x00"}


def item(ctx: NodeContext) -> Any:
    CALLS.append(f"{ctx.run_id}:{ctx.item}")
    if ctx.input == "bad":
        raise ValueError("no such name")
    return ctx.input


def slow(ctx: NodeContext) -> str:
    CALLS.append(f"{ctx.run_id}:slow")
    if ctx.run_id == "slow":
        STARTED.set()
        GO_ON.wait(600)  # it runs until the tests of this file are over
    return "slow"


def boom(_ctx: NodeContext) -> None:
    raise ValueError("boom")


HANDLERS: dict[str, Any] = {"note": note, "item": item, "slow": slow, "boom": boom}
COUNTS = {"plans": 0, "blueprints": 0, "schedules": 0, "runs": 0}
MEMORY = "desk:clerk/ada"


@pytest.fixture(scope="module", autouse=True)
def lines_are_logged() -> Iterator[None]:
    sink = logger.add(lambda _: None)  # other tests leave loguru without a place to write to
    yield
    logger.remove(sink)


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    """A deployment with runs in every state."""
    GO_ON.clear()
    STARTED.clear()
    with TestEnvironment(blueprints=BLUEPRINTS, handlers=HANDLERS, schedules=SCHEDULES) as env:
        client = env.client
        client.start("each", {"names": ["a", "b"]}, run_id="done", tags=["a", "b"], memo={"by": "x"}).wait(timeout=60)
        client.start("fails", {}, run_id="failed").wait(timeout=60)
        client.start("each", {"names": ["a", "bad", "c"]}, run_id="batch").wait(timeout=60)
        client.start("outer", {"x": "Ada"}, run_id="parent").wait_for("waiting", timeout=60)
        client.start("order", {"name": "Ada"}, run_id="asks").wait_for("waiting", timeout=60)
        client.start("order", {"name": "Ada"}, run_id="later", delay=3600)
        keys, writer = env.partitions.for_memory(MEMORY), Writer("done", "each", "1:1#")
        for number in range(3):
            turn = json.dumps(
                [{"kind": "request", "parts": [{"part_kind": "user-prompt", "content": f"{number}\u00e4"}]}]
            ).encode()
            bounds = Bounds(2, 1_000, 10_000_000)._asdict()
            one = writer._replace(mark=f"{number}:1#")
            env.link.call(remember(keys, memory_id=MEMORY, writer=str(one), messages=1, turn=turn, **bounds))
            if number < 2:
                env.link.call(settle_memory(keys, memory_id=MEMORY, decisions=[(str(one), True)]))
        slow = client.start("hold", {"x": 1}, run_id="slow")
        assert STARTED.wait(60)  # the event `node_started` is written before the handler's first line
        yield env
        GO_ON.set()
        slow.wait(timeout=20)


@pytest.fixture(scope="module")
def lines(env: TestEnvironment) -> list[str]:
    return list(env.client.admin.backup())


def restored(lines: list[str], **options: Any) -> TestEnvironment:
    other = TestEnvironment(blueprints={"fails": BLUEPRINTS["fails"]}, handlers=HANDLERS, **options).__enter__()
    other.outcome = {(item.kind, item.id): item for item in other.client.admin.restore(lines)}  # type: ignore[attr-defined]
    return other


@pytest.mark.parametrize("partitions", [1, 16])
def test_ended_runs_are_what_they_were(env: TestEnvironment, lines: list[str], partitions: int) -> None:
    before = len(CALLS)
    other = restored(lines, partitions=partitions)
    try:
        for run_id in ("done", "failed", "batch"):
            ours, theirs = env.client.get_handle(run_id), other.client.get_handle(run_id)
            assert theirs.describe(ctx=True, outputs=True) == ours.describe(ctx=True, outputs=True)
            assert list(theirs.events()) == list(ours.events())
            assert list(theirs.logs()) == list(ours.logs())
        assert [run.run_id for run in other.client.list_runs(tag="b")] == ["done"]
        assert other.client.get_handle("done").result(timeout=0) == env.client.get_handle("done").result(timeout=0)
        assert [run.run_id for run in other.client.list_runs(parent="parent")] == ["parent~1"]
        assert {info.id for info in other.client.blueprints()} == set(BLUEPRINTS)
        assert len(CALLS) == before
        # A further restore changes nothing; a run that is done again runs what had not finished, and no more.
        again = list(other.client.admin.restore(lines))
        assert {item.outcome for item in again} == {"there"}
        made = other.client.get_handle("batch").rerun(FAILED, ctx_patch={}, run_id="batch-2")
        made.wait(timeout=60)
        assert CALLS[before:] == ["batch-2:1"]
        assert (leaked_keys(other), broken_invariants(other)) == ([], [])
        other.client.get_handle("done").delete()
        assert other.client.start("order", {"name": "new"}, run_id="new").wait_for("waiting", timeout=60)
        other.client.get_handle("new").cancel()
    finally:
        other.__exit__(None, None, None)


def test_runs_under_way_are_cancelled_and_continue_only_when_asked(lines: list[str]) -> None:
    before = len(CALLS)
    other = restored(lines)
    try:
        outcome = other.outcome  # type: ignore[attr-defined]
        assert outcome["run", "slow"].detail == "was running, is cancelled"
        for run_id in ("slow", "asks", "later", "parent", "parent~1"):
            snapshot = other.client.get_handle(run_id).describe()
            assert snapshot.status is RunStatus.CANCELLED
            assert snapshot.cancel is not None
            assert "restored from a backup" in snapshot.cancel.reason
        nodes = other.client.get_handle("slow").describe().nodes
        states = {name: node.status for name, node in nodes.items()}
        assert (states["first"], states["slow"]) == (NodeStatus.COMPLETED, NodeStatus.CANCELLED)
        assert [event.type for event in other.client.get_handle("slow").events()][-3:] == [
            "cancel_requested", "node_cancelled", "run_ended",
        ]  # fmt: skip
        other.run_until_idle()
        assert len(CALLS) == before
        other.client.get_handle("slow").rerun(FAILED, run_id="slow-2").wait(timeout=20)
        assert CALLS[before:] == ["slow-2:slow", "slow-2:last"]
        asks = other.client.get_handle("parent").rerun(FAILED, run_id="parent-2")
        asks.wait_for("waiting", timeout=60)
        assert asks.signal("sub/ask") == "sub/ask"
        asks.wait(timeout=20)
        assert [call for call in CALLS if "parent-2" in call] == [
            "parent-2~1:ship"
        ]  # what had finished is not run again
        assert (leaked_keys(other), broken_invariants(other)) == ([], [])
    finally:
        other.__exit__(None, None, None)


@pytest.mark.parametrize("partitions", [1, 16])
def test_memories_are_what_they_were_without_what_was_not_settled(lines: list[str], partitions: int) -> None:
    other = restored(lines, partitions=partitions)
    try:
        memory = other.client.admin.memory(MEMORY)
        assert [each.text for each in memory.conversation] == ["0\u00e4", "1\u00e4"]
        assert (memory.turns, memory.messages) == (2, 2) and other.client.admin.memories() == [
            MemoryInfo(**memory.model_dump(exclude={"conversation"}))
        ]
        assert (leaked_keys(other), broken_invariants(other)) == ([], [])
        (line,) = [line for line in lines if line.startswith('{"memory"')]
        fields = json.loads(line)["fields"]
        for changed in ({"first": "x"}, {"next": "9"}, {"next": "1"}, {"t:1": "?"}, {"more": "1"}, {"next": "9" * 20}):
            body = [
                json.dumps({"memory": "a/b", "fields": {**fields, **changed}}),
                json.dumps({"complete": COUNTS | {"memories": 1}}),
            ]
            with pytest.raises(BackupError, match="line 2: memory 'a/b': its fields are none that a server writes"):
                list(other.client.admin.restore([lines[0], *body]))
        assert len(other.client.admin.memories()) == 1
    finally:
        other.__exit__(None, None, None)


def test_schedules_come_paused_and_blueprints_stay_what_they_are(env: TestEnvironment, lines: list[str]) -> None:
    other = restored(lines)
    try:
        outcome = other.outcome  # type: ignore[attr-defined]
        assert (outcome["schedule", "nightly"].outcome, outcome["schedule", "nightly"].detail) == ("restored", "paused")
        schedule = other.client.schedules.get("nightly")
        assert schedule.paused
        assert schedule.blueprint_id == "order"
        assert outcome["blueprint", "fails"].outcome == "there"
        assert outcome["blueprint", "order"].outcome == "restored"
    finally:
        other.__exit__(None, None, None)


def test_both_clients_write_and_read_it(env: TestEnvironment, lines: list[str]) -> None:
    async def read() -> list[str]:
        async with AsyncClient(env.url, namespace=env.namespace) as client:
            return [line async for line in client.admin.backup()]

    assert [line for line in asyncio.run(read()) if '"flowcraft"' not in line[:13]] == lines[1:]
    with TestEnvironment(blueprints={}, workers=0) as other:

        async def write() -> list[Any]:
            async with AsyncClient(other.url, namespace=other.namespace) as client:
                return [item async for item in client.admin.restore(lines)]

        assert sum(item.kind == "run" for item in asyncio.run(write())) == 8


def test_large_runs_take_many_lines(lines: list[str]) -> None:
    with TestEnvironment(blueprints={"order": BLUEPRINTS["order"]}, handlers=HANDLERS) as env:
        big = {f"key-{number}": "x" * 100_000 for number in range(30)}
        env.client.start("order", {"name": "big", **big}, run_id="big").wait_for("waiting", timeout=60)
        env.client.get_handle("big").cancel()
        own = list(env.client.admin.backup())
        assert max(map(len, own)) < 800_000
        expected = env.client.get_handle("big").describe(ctx=True)
        with TestEnvironment(blueprints={}, workers=0) as other:
            assert [item.id for item in other.client.admin.restore(own) if item.kind == "run"] == ["big"]
            assert other.client.get_handle("big").describe(ctx=True) == expected


BROKEN = {
    "empty": (lambda lines: [], "line 1: expected the first line of a backup, got an empty file"),
    "no json": (lambda lines: ["{", *lines[1:]], "line 1: expected a JSON object"),
    "no backup": (lambda lines: ['{"a": 1}'], "line 1: expected the first line of a backup"),
    "newer": (lambda lines: [lines[0].replace('"format":1', '"format":2'), *lines[1:]], "line 1: its format is 2, this version reads 1"),
    "protocol": (lambda lines: [lines[0].replace('"protocol":"2"', '"protocol":"1"'), *lines[1:]], "line 1: its runs are those of protocol '1'"),
    "cut off": (lambda lines: lines[:-1], "the file ends before its last line"),
    "two": (lambda lines: [*lines, *lines], "nothing follows the line with the counts"),
    "unknown kind": (lambda lines: [lines[0], '{"trigger": "x"}'], "line 2: expected one of plan, blueprint"),
    "unknown member": (lambda lines: [lines[0], '{"end": "x", "more": 1}'], "line 2:"),
    "wrong form": (lambda lines: [lines[0], '{"plan": "x", "fields": {"doc": 1}}'], "line 2: plan.fields: expected texts by name"),
    "missing member": (lambda lines: [lines[0], '{"run": "x", "fields": {}}'], "line 2: run: dead is missing"),
    "no first line": (lambda lines: [lines[0], '{"of": "x", "events": []}'], "line 2: it belongs to run 'x', whose first line"),
    "not over": (lambda lines: [lines[0], '{"run": "x", "fields": {}, "dead": {}}', '{"complete": {}}'], "line 3: the lines of run 'x' are not over"),
    "other plan": (lambda lines: [lines[0], '{"plan": "x", "fields": {"doc": "{}", "format": "5"}}'], "line 2: plan 'x' is not named by what is in it"),
    "changed plan": (lambda lines: [lines[0], lines[1].replace('"fields":{', '"fields":{"more":"1",')], "is not named by what is in it"),
    "half a character": (lambda lines: [lines[0], '{"run": "x", "fields": {"c:\\udcff": "1"}, "dead": {}}'], "line 2: run.fields: expected texts by name"),
    "no character": (lambda lines: [lines[0], '{"run": "x", "fields": {"c:a": "\\ud800"}, "dead": {}}'], "line 2: run.fields: expected texts by name"),
    "no time": (lambda lines: [lines[0], '{"run": "x", "fields": {}, "dead": {"a": 1%s}}' % ("0" * 30)], "line 2: run.dead: expected numbers by name"),
    "no moment": (lambda lines: ['{"flowcraft":"backup","format":1,"protocol":"2","namespace":"n","at":1%s}' % ("0" * 400)], "line 1: expected the members"),
    "no schedule": (lambda lines: [lines[0], '{"schedule": "a|b|c", "fields": {"def": "{}", "when": "x"}}'], "line 2: the id of a schedule is"),
    "no definition": (lambda lines: [lines[0], '{"schedule": "a", "fields": {"def": "[1]", "when": "x"}}'], "line 2: schedule a: its definition cannot be read"),
    "no record": (lambda lines: [lines[0], '{"run": "x", "fields": {"st": "completed"}, "dead": {}}', '{"end": "x"}'], "line 2: run x: its record has no bp"),
    "a line gone": (lambda lines: [line for line in lines if not line.startswith('{"schedule"')], "the counts are not those"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BROKEN))
def test_what_is_no_backup_is_refused_by_its_line(lines: list[str], name: str) -> None:
    change, message = BROKEN[name]
    with pytest.raises(BackupError) as caught:
        list(entries_of(change(lines)))
    assert message in str(caught.value)


PLAN = plan_digest({"doc": "{}"}, "5")
RECORD = {"st": "completed", "bp": "x", "plan": PLAN, "cr": "1"}


@pytest.mark.parametrize(
    ("run_id", "fields", "batch"),
    [
        ("a|b", RECORD, "each"),
        ("a", {"st": "completed", "plan": PLAN, "cr": "1"}, "each"),
        ("a", RECORD | {"cr": "soon"}, "each"),
        ("a", RECORD | {"tags": "5"}, "each"),
        ("a", RECORD, "|events"),
        ("a", RECORD, "x\ny"),
    ],
)
def test_lines_of_a_run_that_cannot_be_one_store_nothing(
    lines: list[str], run_id: str, fields: dict[str, str], batch: str
) -> None:
    body: list[Any] = [
        {"plan": PLAN, "fields": {"doc": "{}", "format": "5"}},
        {"run": run_id, "fields": fields, "dead": {}},
        {"of": run_id, "batch": batch, "fields": {"0": "x"}},
        {"end": run_id},
        {"complete": {"plans": 1, "blueprints": 0, "schedules": 0, "runs": 1}},
    ]
    with TestEnvironment(blueprints={}, workers=0) as other:
        with pytest.raises(BackupError, match=r"line [34]: "):
            list(other.client.admin.restore([lines[0], *map(json.dumps, body)]))
        found = [
            key
            for key in other.link.redis.scan_iter(match=f"fc:{{{other.namespace}.*")
            if b"run:" in key or b"batch:" in key or b"draft:" in key
        ]
        assert found == []


def test_commands_write_and_restore_a_file(env: TestEnvironment, tmp_path: Path) -> None:
    file = tmp_path / "runs.ndjson"

    def flowcraft(on: TestEnvironment, *words: str) -> Any:
        return CliRunner().invoke(main, ["--url", on.url, "--namespace", on.namespace, *words])

    done = flowcraft(env, "backup", str(file))
    assert done.stderr == f"{file}: 8 runs, 5 blueprints, 1 schedule, 1 memory\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]
    assert flowcraft(env, "backup", str(file)).exit_code == 2
    assert flowcraft(env, "backup", "-").stdout.splitlines()[1:] == file.read_text().splitlines()[1:]
    with TestEnvironment(blueprints={}, workers=0) as other:
        dry = json.loads(flowcraft(other, "restore", str(file), "--dry-run", "--json").stdout)
        assert (dry["runs"], other.client.count_runs()) == ({"in_file": 8}, 0)
        found = flowcraft(other, "restore", str(file))
        assert "run slow  was running, is cancelled\n" in found.stdout
        assert "8 runs: 8 restored, 0 were there" in found.stderr
        file.write_text(file.read_text().replace('{"complete"', '{"complet"'))
        refused = flowcraft(other, "restore", str(file))
        number = len(file.read_text().splitlines())
        assert (refused.exit_code, refused.stderr.startswith(f"{file}:{number}: expected one of plan,")) == (2, True)
    assert flowcraft(env, "restore", str(tmp_path / "none")).exit_code == 2


def test_a_line_without_end_is_not_read_to_its_end(
    env: TestEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_format, "LONGEST_LINE", 1_000)
    file = tmp_path / "long.ndjson"
    file.write_text("x" * 1_000_000)
    found = CliRunner().invoke(main, ["--url", env.url, "--namespace", env.namespace, "restore", str(file)])
    assert (found.exit_code, found.stderr) == (2, f"{file}:1: it is longer than 1,000 characters\n")
    assert [len(line) for line in islice(_lines(file), 2)] == [1_001, 1_001]


def test_a_file_with_a_wrong_run_restores_nothing(env: TestEnvironment, lines: list[str], tmp_path: Path) -> None:
    file = tmp_path / "runs.ndjson"
    file.write_text("\n".join(line.replace('"cr":"', '"cr":"x') if "boom" in line else line for line in lines) + "\n")
    with TestEnvironment(blueprints={}, workers=0) as other:
        command = ["--url", other.url, "--namespace", other.namespace, "restore", str(file)]
        found = CliRunner().invoke(main, command)
        assert (found.exit_code, "cr is a time in ms, got 'x" in found.stderr) == (2, True)
        assert (other.client.blueprints(), other.client.count_runs()) == ([], 0)


def test_without_a_deployment_there_is_nothing_to_restore_into(env: TestEnvironment, lines: list[str]) -> None:
    from flowcraft_sdk import Client

    with Client(env.url, namespace="nobody-here") as client:
        for call in (client.admin.backup, lambda: client.admin.restore(lines)):
            with pytest.raises(ConfigurationError, match="nothing is published"):
                list(call())
