"""Large graphs and long histories."""

import json
import re
from urllib.parse import parse_qs, urlsplit

EVENTS = 40_000
ROWS_IN_SIGHT = 100


def test_a_graph_of_500_nodes_is_drawn_and_searched(site, open_page) -> None:
    page = open_page().page
    page.goto(f"{site.served.url}/runs/wide-0")
    assert page.locator(".node").count() == 500
    boxes = page.evaluate(
        """() => Array.from(document.querySelectorAll(".node"), (node) => node.getAttribute("transform"))"""
    )
    assert len(set(boxes)) == 500
    page.fill("[data-find]", "step_377")
    found = page.locator(".node.found")
    assert found.count() == 1
    place, frame = found.bounding_box(), page.locator(".canvas").bounding_box()
    assert (
        frame["x"] < place["x"] < frame["x"] + frame["width"] and frame["y"] < place["y"] < frame["y"] + frame["height"]
    )
    assert place["width"] > 150, "it can be read"
    page.click('[data-zoom="fit"]')
    assert page.locator("svg.far").count() == 1, "from afar there are colours in place of words"
    page.focus("[data-graph] > svg")
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")


def test_40_000_events_scroll_with_few_elements(site, open_page) -> None:
    # A run of this deployment keeps 10,000 events: the route is played, in pages of the form that the API has.
    def answer(route) -> None:
        query = parse_qs(urlsplit(route.request.url).query)
        after, limit = int(query["after"][0]), int(query.get("limit", ["1000"])[0])
        items = [
            {"id": str(number), "type": "node_progress", "at": "2026-01-01T00:00:00.000Z", "node_id": f"node_{number % 500}",
             "data": {"number": number}}
            for number in range(after + 1, min(after + limit, EVENTS) + 1)
        ]  # fmt: skip
        last = after + len(items)
        route.fulfill(
            content_type="application/json",
            body=json.dumps({"items": items, "next_after": str(last) if last < EVENTS else None}),
        )

    page = open_page().page
    page.set_default_timeout(60_000)  # forty pages of events go through this process
    page.route(re.compile(r"/api/v1/runs/order-good/events"), answer)
    page.goto(f"{site.served.url}/runs/order-good?tab=events")
    page.wait_for_selector(f".event:has-text('{{\"number\":{EVENTS}}}')")
    page.uncheck("[data-follow]")
    assert page.locator(".event").count() < ROWS_IN_SIGHT
    height = page.evaluate("() => document.querySelector('.events').scrollHeight")
    for part in (0, 0.25, 0.5, 0.75):
        page.evaluate("(top) => { document.querySelector('.events').scrollTop = top; }", height * part)
        page.wait_for_selector(f".event:has-text('{{\"number\":{round(EVENTS * part) + 3}}}')")
        assert page.locator(".event").count() < ROWS_IN_SIGHT
    page.fill("[data-event-filter]", '"number":12345')
    page.wait_for_function("() => document.querySelectorAll('.event').length === 1")
