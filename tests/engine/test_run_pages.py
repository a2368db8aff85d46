"""Pages of runs and of waiting nodes: every run once, whatever happens between two pages."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowcraft_sdk import BlueprintNotFoundError, Client, ConfigurationError
from flowcraft_sdk._operations import list_runs, run_pages
from flowcraft_server.testing import TestEnvironment

BLUEPRINTS = {
    "echo": "nodes:\n  say: {uses: echo}\n",
    "say": "nodes:\n  say: {uses: echo}\n",
    "fails": "nodes:\n  boom: {uses: fail}\n",
    "ask": (
        "nodes:\n  work: {uses: echo}\n  ask: {uses: wait, params: {prompt: Well?, timeout: 1h, onTimeout: null}}\n"
        "  nap: {uses: sleep, params: {duration: 1h}}\n"
    ),
    "call": "nodes:\n  sub: {uses: subflow, params: {blueprintId: ask}}\n",
}


def fail(_ctx: Any) -> None:
    raise ValueError("no Such customer")


@pytest.fixture(scope="module", params=[1, 16], ids=["one partition", "16 partitions"])
def env(request: pytest.FixtureRequest) -> Iterator[TestEnvironment]:
    handlers: dict[str, Callable[..., Any]] = {"echo": lambda ctx: ctx.input, "fail": fail}
    blueprints = {name: text.replace(", onTimeout: null", "") for name, text in BLUEPRINTS.items()}
    with TestEnvironment(blueprints=blueprints, handlers=handlers, partitions=request.param, check=False) as env:
        yield env


def pages(client: Client, limit: int, between: Callable[[], Any] = lambda: None, **filters: Any) -> list[list[str]]:
    found, cursor = [], None
    while True:
        page = client.list_runs_page(limit=limit, cursor=cursor, **filters)
        found.append([run.run_id for run in page.items])
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor
        between()


def found_in(some: list[list[str]]) -> set[str]:
    return {run_id for page in some for run_id in page}


def test_each_run_is_on_one_page(env: TestEnvironment) -> None:
    client = env.client
    handles = [client.start("echo", {"n": n}, tags=["t"] if n % 3 else []) for n in range(23)]
    for handle in handles:
        handle.wait(10)
    newest_first = [run.run_id for run in client.list_runs(blueprint_id="echo")]
    assert set(newest_first) == {handle.run_id for handle in handles}
    for limit in (1, 5, 23, 1000):
        found = pages(client, limit, blueprint_id="echo")
        assert [run_id for page in found for run_id in page] == newest_first
        assert max(map(len, found)) <= limit
    assert len(pages(client, 23, blueprint_id="echo")) == 1, "a page that has all is the last one"
    later: list[str] = []
    found = pages(client, 5, lambda: later.append(client.start("echo", {"late": 1}).run_id), blueprint_id="echo")
    assert [run_id for page in found for run_id in page] == newest_first, "what starts between two pages shifts nothing"
    tagged = pages(client, 4, tag="t", status="completed", blueprint_id="echo")
    assert sum(map(len, tagged)) == sum(1 for n in range(23) if n % 3)


def test_runs_are_found_by_id_and_by_what_they_failed_with(env: TestEnvironment) -> None:
    client = env.client
    failed = client.start("fails", run_id="Order-77")
    failed.wait(10)
    client.start("echo", run_id="order-78").wait(10)
    assert pages(client, 10, search="order-7") == [["order-78", "Order-77"]]
    assert pages(client, 10, search="no such CUSTOMER") == [["Order-77"]]
    assert pages(client, 10, search="valueerror", status="failed") == [["Order-77"]]
    assert pages(client, 10, search="no such supplier") == [[]]


def test_records_are_read_of_runs_that_the_indexes_do_not_rule_out(
    env: TestEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, read = env.client, []

    def counting(deployment: Any, run_ids: list[str]) -> Any:
        read.extend(run_ids)
        return (yield from list_runs.summaries(deployment, run_ids))

    failed = [client.start("fails", tags=["both"]) for _ in range(3)]
    completed = [client.start("say", tags=["both"]) for _ in range(5)]
    for run in (*failed, *completed):
        run.wait(20)
    monkeypatch.setattr(run_pages, "summaries", counting)
    expected = [run.run_id for run in client.list_runs(blueprint_id="say")]
    for statuses, blueprint, wanted in (
        ("completed", "say", expected),  # fewer are of the blueprint
        (["completed", "failed", "running"], "say", expected),
        ("running", "say", []),  # fewer are in the state
        ("failed", "say", []),
        ("completed", "fails", []),
    ):
        read.clear()
        found = pages(client, 2, status=statuses, blueprint_id=blueprint)
        assert [run_id for page in found for run_id in page] == wanted
        assert set(read) == set(wanted), (statuses, blueprint)
    read.clear()
    tagged = pages(client, 2, tag="both", status="failed", blueprint_id="fails")
    assert {run_id for page in tagged for run_id in page} == {run.run_id for run in failed} == set(read)
    read.clear()
    assert pages(client, 10, search="no such supplier at all") == [[]]
    assert read == []


def test_the_children_of_a_run_are_read_and_no_other_runs(
    env: TestEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, read = env.client, []

    def counting(deployment: Any, run_ids: list[str]) -> Any:
        read.extend(run_ids)
        return (yield from list_runs.summaries(deployment, run_ids))

    parent = client.start("call", run_id="above")
    others = [client.start("echo", parent=parent, tags=["below"]) for _ in range(3)]
    for run in (*others, *(client.start("echo") for _ in range(5))):
        run.wait(60)
    while not parent.describe().children or not client.waiting().items:
        pass
    children = {f"{parent.run_id}~1", *(run.run_id for run in others)}
    monkeypatch.setattr(run_pages, "summaries", counting)
    for limit in (1, 2, 10):
        read.clear()
        found = pages(client, limit, parent=parent.run_id)
        assert [run_id for page in found for run_id in page] == [
            run.run_id for run in client.list_runs(parent=parent.run_id)
        ]
        assert found_in(found) == set(read) == children
    assert found_in(pages(client, 2, parent=parent.run_id, status="completed")) == children - {f"{parent.run_id}~1"}
    assert found_in(pages(client, 2, parent=parent.run_id, tag="below")) == children - {f"{parent.run_id}~1"}
    assert pages(client, 2, parent=parent.run_id, blueprint_id="fails") == [[]]
    began = parent.describe().created_at
    assert pages(client, 9, parent=parent.run_id, started_before=began) == [[]]
    assert found_in(pages(client, 9, parent=parent.run_id, started_after=began)) == children
    assert pages(client, 2, parent=others[0].run_id) == [[]]
    assert pages(client, 2, parent="no-such-run") == [[]]
    parent.cancel(grace=0)


def test_as_many_ids_are_read_as_a_page_needs(env: TestEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    client, read = env.client, []
    for run in [client.start("echo", tags=["many"]) for _ in range(100)]:
        run.wait(60)
    scored = list_runs.scored

    def counting(reply: Any) -> Any:
        found = scored(reply)
        read.extend(found)
        return found

    monkeypatch.setattr(list_runs, "scored", counting)
    page = client.list_runs_page(tag="many", status="completed", limit=2)
    assert len(page.items) == 2
    if env.partitions.count == 1:
        assert len(read) < 100, "the first piece is as large as the page, later ones are larger"
    else:
        assert len(read) <= env.partitions.count * list_runs.LEAST_OF_A_PARTITION
    assert len(found_in(pages(client, 7, tag="many", status="completed"))) == 100


def test_a_page_looks_at_so_many_runs_only(env: TestEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_pages, "MOST_LOOKED_AT", 10)
    monkeypatch.setattr(run_pages, "READ_AT_ONCE", 5)
    client = env.client
    wanted = client.start("echo", tags=["needle"])
    wanted.wait(10)
    for _ in range(12):
        client.start("echo").wait(10)
    found = pages(client, 1, search=wanted.run_id)
    assert found[0] == []
    assert [run_id for page in found for run_id in page] == [wanted.run_id]


def test_all_that_wait_for_a_signal(env: TestEnvironment) -> None:
    client = env.client
    own, above = client.start("ask", tags=["x"]), client.start("call")
    while len(above.describe().waiting) < 3 or len(own.describe().waiting) < 2:
        pass
    page = client.waiting()
    assert {(node.blueprint_id, node.node_id, node.prompt) for node in page.items} == {("ask", "ask", "Well?")}
    assert len(page.items) == 2, "the child run's node stands with the child run, sleeping nodes stand nowhere"
    first = next(node for node in page.items if node.run_id == own.run_id)
    assert first.tags == ("x",)
    assert first.expires_at is not None
    one = client.waiting(limit=1)
    two = client.waiting(limit=1, cursor=one.next_cursor)
    assert {*(node.run_id for node in (*one.items, *two.items))} == {node.run_id for node in page.items}
    for node in page.items:
        client.get_handle(node.run_id).cancel(grace=0)
    above.cancel(grace=0)
    assert client.waiting().items == ()


def test_one_blueprint(env: TestEnvironment) -> None:
    found = env.client.blueprint("ask")
    assert [node["id"] for node in found.document["nodes"]] == ["work", "ask", "nap"]
    assert found.current
    assert env.client.blueprint("ask", version=found.version) == found
    for name, version in (("aks", None), ("ask", "0" * 64), ("echo", found.version)):
        with pytest.raises(BlueprintNotFoundError):
            env.client.blueprint(name, version=version)


@pytest.mark.parametrize("cursor", ["", "x", "1", "nan,x", "inf,r", "1e9,r", "1,", 5, "1," + "r" * 3000])
def test_what_is_no_cursor_is_refused(env: TestEnvironment, cursor: Any) -> None:
    for read in (env.client.list_runs_page, env.client.waiting):
        with pytest.raises(ConfigurationError, match="cursor is the next_cursor of a page"):
            read(cursor=cursor)
