"""The timeline: rows of nodes with their items below them, idle time that is left out, and histories of 40,000 events."""

from typing import Any

import pytest

from tests.ui.checks import all_looks
from tests.ui.histories import add_items, until_waiting

ITEMS = 19_990
MOST_ELEMENTS = 100
HISTORY = """
async (events) => {
  const home = document.querySelector('script[src$="app.js"]').src;
  const { History, areasOf, barsOf, idleTimes, scaleOf } = await import(home.replace("app.js", "timeline.js"));
  const history = new History();
  for (const [at, type, node_id, data] of events) history.apply({ id: "1", type, at: new Date(at * 1000).toISOString(), node_id, data: data ?? { attempt: 1 } });
  const rows = Array.from(history.rows.values()), idle = idleTimes(rows, 0, 100_000), scale = scaleOf(0, 100_000, idle);
  return {
    groups: Array.from(history.groups.values(), (group) => [group.node, group.own?.name ?? null, group.rows.map((row) => row.name)]),
    bars: Object.fromEntries(rows.map((row) => [row.name, barsOf(row, scaleOf(0, 100_000, [])).map((bar) => [bar.style, bar.x, bar.width, bar.title])])),
    idle, missing: history.missing, breaks: scale.breaks,
    places: [0, 10, 50, 90, 100].map((at) => Math.round(scale.x(at * 1000))),
    times: [0, 250, 500, 1000].map((x) => Math.round(scale.at(x) / 1000)),
    areas: areasOf(rows, scaleOf(0, 100_000, [])),
  };
}
"""


@pytest.fixture(scope="module")
def rows_of(browser: Any, site: Any) -> Any:
    """Plays events, each with its second, in the scripts of the page."""
    page = browser.new_page()
    page.goto(f"{site.served.url}/runs/order-good?tab=timeline")
    yield lambda *events: page.evaluate(HISTORY, [list(event) for event in events])
    page.close()


def test_what_a_node_did_is_told_apart(rows_of: Any) -> None:
    found = rows_of(
        (0, "node_started", "a"), (20, "node_retrying", "a"), (60, "node_started", "a", {"attempt": 2}),
        (100, "node_completed", "a"), (10, "node_started", "b"), (50, "node_waiting", "b"), (10, "node_skipped", "c"),
    )  # fmt: skip
    assert found["bars"]["a"] == [
        ["span s-failed", 0, 200, "attempt 1: failed, 20.0 s"],
        ["back", 200, 400, "paused, 40.0 s"],
        ["span s-completed", 600, 400, "attempt 2: completed, 40.0 s"],
    ]
    assert found["bars"]["b"] == [
        ["span s-completed", 100, 400, "attempt 1: completed, 40.0 s"],
        ["span s-waiting wait", 500, 500, "waited, 50.0 s"],
    ]
    assert "c" not in found["bars"]
    queued = {"attempt": 1, "ready_at": "1970-01-01T00:00:10Z"}
    found = rows_of(
        (30, "node_started", "a", queued), (50, "node_waiting", "a"),
        (80, "node_resumed", "a", {"attempt": 1, "ready_at": "1970-01-01T00:01:00Z"}), (90, "node_handed_back", "a"),
        (100, "node_started", "a", {"attempt": 1, "ready_at": "1970-01-01T00:01:30Z"}),
    )  # fmt: skip
    assert [(bar[0], bar[1], bar[3]) for bar in found["bars"]["a"]] == [
        ("span s-queued queue", 100, "queued, 20.0 s"), ("span s-completed", 300, "attempt 1: completed, 20.0 s"),
        ("span s-waiting wait", 500, "waited, 10.0 s"), ("span s-queued queue", 600, "queued, 20.0 s"),
        ("span s-cancelled", 800, "attempt 1: cancelled, 10.0 s"), ("span s-queued queue", 900, "queued, 10.0 s"),
        ("span s-running", 997, "attempt 1: running, 0 ms"),
    ]  # fmt: skip


def test_items_and_rounds_are_below_their_node(rows_of: Any) -> None:
    found = rows_of(
        (0, "node_started", "each"), (1, "node_started", "each[1]"), (2, "node_started", "each[0]"),
        (3, "node_started", "turn"), (4, "node_started", "turn#2"), (5, "node_completed", "gone[7]"),
        (6, "events_truncated", None, {"count": 12}),
    )  # fmt: skip
    assert found["groups"] == [["each", "each", ["each[1]", "each[0]"]], ["turn", "turn", ["turn#2"]]]
    assert found["missing"] == 12


def test_bars_that_would_lie_on_one_another_are_one(rows_of: Any) -> None:
    events = []
    for number in range(9_000):
        events += [(number / 100, "node_started", "a"), (number / 100 + 0.005, "node_waiting", "a")]
    (bars,) = rows_of(*events)["bars"].values()
    assert len(bars) < 1_000
    assert min(bar[1] for bar in bars) == 0
    assert max(bar[1] + bar[2] for bar in bars) == 1000


def test_time_in_which_nothing_ran_is_left_out(rows_of: Any) -> None:
    found = rows_of(
        (0, "node_started", "a"), (10, "node_waiting", "a"), (90, "node_resumed", "a"), (100, "node_completed", "a"),
        (8, "node_started", "b"), (11, "node_completed", "b"), (97, "node_started", "c"),
    )  # fmt: skip
    assert found["idle"] == [[11_000, 90_000]]
    assert found["breaks"] == [{"x": pytest.approx(516.5, abs=1), "seconds": 79}]
    assert found["places"] == [0, 470, 523, 530, 1000]
    assert found["times"] == [0, 5, 11, 100]


def test_areas_say_how_many_items_did_what(rows_of: Any) -> None:
    found = rows_of(
        (0, "node_started", "a[0]"), (0, "node_started", "a[1]"), (50, "node_failed", "a[1]"), (100, "node_completed", "a[0]"),
    )  # fmt: skip
    states = {area["state"]: area["path"] for area in found["areas"]}
    assert states["failed"] == "M0 16.0h504v-7.0h-504z"
    assert states["completed"] == "M0 9.0h504v-7.0h-504zM504 16.0h496v-7.0h-496z"


def shown(page: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = page.evaluate(
        """() => Object.fromEntries(Array.from(document.querySelectorAll(".lane:not(.axis)"), (lane) => [
          lane.querySelector("[title]").title, Array.from(lane.querySelectorAll("rect:not(.idle) title"), (each) => each.textContent)]))"""
    )
    return found


@pytest.mark.parametrize("run_id", ["research-1", "order-0", "order-good", "parent-0"])
def test_the_page_and_the_api_agree(run_id: str, site: Any, open_page: Any) -> None:
    page = open_page().page
    page.goto(f"{site.served.url}/runs/{run_id}?tab=timeline")
    page.wait_for_selector(".lane:not(.axis)")
    page.wait_for_selector('[data-connection]:not([data-state="off"])', state="attached")
    answer = page.request.get(f"{site.served.url}/api/v1/runs/{run_id}/timeline").json()
    words = {"queue": "queued", "wait": "waited", "pause": "paused"}
    expected = {
        row["instance"]: [
            words.get(each["kind"], f"attempt {each['attempt']}: {each['state']}") for each in row["stretches"]
        ]
        for row in answer["rows"]
    }
    page.wait_for_function(
        "(count) => document.querySelectorAll('.lane:not(.axis)').length === count", arg=len(expected)
    )
    assert {name: [title.rpartition(",")[0] for title in titles] for name, titles in shown(page).items()} == expected


@pytest.fixture
def long_run(site: Any) -> Any:
    """A run with a history of 40,000 events that waits for an answer."""
    site.env.publish(
        {
            "id": "long",
            "nodes": [{"id": "each", "uses": "ok"}, {"id": "ask", "uses": "wait", "params": {"actions": ["go"]}}],
            "edges": ["each -> ask"],
        }
    )
    run = site.env.client.start("long", {})
    until_waiting(run)
    add_items(site.env, run.run_id, range(ITEMS))
    yield run
    run.cancel()
    run.wait(timeout=60)


def test_a_history_of_40_000_events_scrolls_with_few_elements(site: Any, open_page: Any, long_run: Any) -> None:
    page = open_page().page
    page.set_default_timeout(30_000)
    page.goto(f"{site.served.url}/runs/{long_run.run_id}?tab=timeline")
    page.wait_for_selector(f".lane :text('{ITEMS:,} items')")
    assert list(shown(page)) == ["each", "ask"], "items of a node with so many are shown on demand"
    label = page.get_attribute(".lane svg", "aria-label")
    assert label == f"each: {ITEMS:,} items: {ITEMS - 19:,} completed, 19 failed"
    page.click(".fold")
    page.wait_for_selector(".lane.item")
    rows = page.evaluate("() => document.querySelector('.lanes').scrollHeight")
    for part in (0.25, 0.5, 0.75):
        page.evaluate("(top) => { document.querySelector('.lanes').scrollTop = top; }", rows * part)
        number = round(rows * part / 30) + 5
        page.wait_for_selector(f'.lane.item [title="each[{number}]"]')
        assert page.locator(".lane").count() < MOST_ELEMENTS
    # What comes meanwhile is added, and what is in sight stays there.
    add_items(site.env, long_run.run_id, range(ITEMS, ITEMS + 10))
    long_run.signal("ask", action="go")
    page.wait_for_selector(".state.pill.s-completed")
    page.wait_for_function(
        "(text) => document.querySelector('.lane.axis').innerText.startsWith(text)", arg=f"{ITEMS + 12:,}"
    )
    assert page.locator(f'.lane.item [title="each[{number}]"]').count() == 1
    page.evaluate("() => { document.querySelector('.lanes').scrollTop = 0; }")
    page.wait_for_selector(".fold")
    page.click(".fold")
    page.wait_for_function("() => !document.querySelector('.lane.item')")


def test_items_open_by_keyboard_and_a_row_opens_its_node(site: Any, open_page: Any, long_run: Any) -> None:
    page = open_page().page
    page.set_default_timeout(30_000)
    page.goto(f"{site.served.url}/runs/{long_run.run_id}?tab=timeline")
    page.wait_for_selector(".fold")
    page.focus(".fold")
    page.keyboard.press("Enter")
    page.wait_for_selector('.fold[aria-expanded="true"]')
    assert page.evaluate("() => document.activeElement.className") == "fold", "the button keeps the focus"
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.wait_for_function("() => document.activeElement.matches('.lane.item')")
    page.keyboard.press("Enter")
    page.wait_for_selector("aside.side")
    assert "node=each" in page.url
    page.wait_for_selector(".lane.chosen")
    assert all_looks(page) == []
