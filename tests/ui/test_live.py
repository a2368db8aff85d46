"""Pages change by themselves, and go on by themselves after the server was away."""

import json

import pytest

from tests.ui.site import PIECE


def mark(page) -> None:
    """Notice reloads: what is set on the window is lost by one."""
    page.evaluate("() => { window.kept = true; }")


def kept(page) -> bool:
    return page.evaluate("() => window.kept === true")


def test_states_of_nodes_show_without_a_reload(site, open_page) -> None:
    run = site.env.client.start("slow", {}, run_id="live-0")
    page = open_page().page
    page.goto(f"{site.served.url}/runs/{run.run_id}")
    page.wait_for_selector('.node.s-running[data-node="first"]')
    mark(page)
    site.handlers.gate(run.run_id, "first").set()
    page.wait_for_selector('.node.s-completed[data-node="first"]')
    page.wait_for_selector('.node.s-running[data-node="second"]')
    page.click("text=Timeline")
    page.wait_for_selector(".lane svg")
    site.handlers.gate(run.run_id, "second").set()
    page.wait_for_selector(".state.pill.s-completed")
    assert kept(page)


def test_the_text_of_a_node_shows_as_it_is_streamed(site, open_page) -> None:
    run = site.env.client.start("slow", {}, run_id="live-text")
    page = open_page().page
    page.goto(f"{site.served.url}/runs/{run.run_id}?node=first")
    page.wait_for_selector(f"pre.streamed:has-text({PIECE!r})")
    mark(page)
    site.handlers.gate(run.run_id, "first").set()
    page.wait_for_selector('.node.s-running[data-node="second"]')
    page.wait_for_selector("pre.streamed:has-text('It is done.')")
    assert page.inner_text("pre.streamed") == f"{PIECE} It is done."
    page.click('.node[data-node="second"]')
    page.wait_for_function("() => document.querySelector('aside.side strong')?.textContent === 'second'")
    page.wait_for_function(f"() => document.querySelector('pre.streamed')?.textContent === {json.dumps(PIECE + ' ')}")
    site.handlers.gate(run.run_id, "second").set()
    page.wait_for_selector("pre.streamed:has-text('It is done.')")
    assert kept(page)


def test_events_follow(site, open_page) -> None:
    run = site.env.client.start("slow", {}, run_id="live-1")
    page = open_page().page
    page.goto(f"{site.served.url}/runs/{run.run_id}?tab=events")
    page.wait_for_selector(".event:has-text('node started')")
    site.handlers.gate(run.run_id, "first").set()
    page.wait_for_selector(".event:has-text('node completed')")
    page.fill("[data-event-filter]", "run started")
    page.wait_for_function("() => document.querySelectorAll('.event').length === 1")
    site.handlers.gate(run.run_id, "second").set()
    page.wait_for_selector(".state.pill.s-completed")


def test_lists_show_what_is_new(site, open_page) -> None:
    page = open_page().page
    page.goto(f"{site.served.url}/runs?blueprint=slow")
    page.wait_for_selector('[data-connection][data-state="on"]')
    mark(page)
    site.env.client.start("slow", {}, run_id="live-2")
    page.wait_for_selector('tr[data-key="live-2"] .s-running')
    site.handlers.gate("live-2", "first").set()
    site.handlers.gate("live-2", "second").set()
    page.wait_for_selector('tr[data-key="live-2"] .s-completed')
    assert kept(page)


def test_what_is_typed_survives_updates(site, open_page) -> None:
    run = site.env.client.start("slow", {}, run_id="live-3")
    page = open_page().page
    page.goto(f"{site.served.url}/waiting")
    field = page.locator('section[data-key="research-1/approve"] [data-field="comment"]')
    field.fill("half an answer")
    site.env.client.start("research-report", {"topic": "x"}, run_id="live-4")
    page.wait_for_selector('section[data-key="live-4/approve"]')
    assert field.input_value() == "half an answer"
    assert "data-field" in page.evaluate("() => document.activeElement.outerHTML")
    run.cancel()


@pytest.mark.parametrize("path", ["/runs", "/runs/live-5?tab=events", "/runs/live-5"])
def test_the_server_goes_away_and_comes_back(path, site, open_page) -> None:
    run = site.env.client.start("slow", {}, run_id="live-5")
    opened = open_page()
    opened.expects_failures = True  # the browser names each attempt to connect
    page = opened.page
    page.goto(site.served.url + path)
    page.wait_for_selector('[data-connection][data-state="on"]')
    mark(page)
    site.served.stop()
    page.wait_for_selector('[data-connection][data-state="off"]')
    assert page.inner_text("[data-connection]") == "Reconnecting"
    site.served.start()
    page.wait_for_selector('[data-connection][data-state="on"]', timeout=20_000)
    assert not page.locator(".stale").count() and kept(page)
    if path == "/runs/live-5":
        site.handlers.gate("live-5", "first").set()
        page.wait_for_selector('.node.s-completed[data-node="first"]')
    assert run.status() == "running"
