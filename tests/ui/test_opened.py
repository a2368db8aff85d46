"""Child runs that are opened in the graph of their parent: by mouse and keyboard, live, kept in the address."""

DEEP = "/runs/fan-0?open=nested&open=nested/call_order&open=each[1]"


def places(page) -> dict[str, tuple[float, float]]:
    """Where each node is drawn on the screen."""
    return page.evaluate(
        """() => Object.fromEntries(Array.from(document.querySelectorAll("[data-node]"), (node) => {
          const at = node.getBoundingClientRect();
          return [node.dataset.node, [Math.round(at.left), Math.round(at.top)]];
        }))"""
    )


def toggle(way: str) -> str:
    return f'.toggle[data-key="t:{way}"]'


def until_open(page, way: str) -> None:
    page.wait_for_selector(f'.node.open[data-node="{way}"]')


def test_a_call_is_opened_and_closed_in_place(site, open_page) -> None:
    page = open_page().page
    page.goto(f"{site.served.url}/runs/fan-0")
    page.wait_for_selector(toggle("nested"))
    before = places(page)
    page.click(toggle("nested"))
    until_open(page, "nested")
    assert page.url.endswith("?open=nested")
    assert page.get_attribute(toggle("nested"), "aria-expanded") == "true"
    page.click(toggle("nested/call_order"))
    page.wait_for_selector('.node.s-completed[data-node="nested/call_order/charge"]')
    page.go_back()
    page.wait_for_selector('.node.open[data-node="nested/call_order"]', state="detached")
    until_open(page, "nested")
    page.click(toggle("nested"))
    page.wait_for_selector(".node.open", state="detached")
    assert "open" not in page.url
    after = places(page)
    assert {name: after[name][0] - after["list"][0] for name in after} == {
        name: before[name][0] - before["list"][0] for name in before
    }


def test_what_is_opened_moves_nothing_above_and_before_it(site, open_page) -> None:
    page = open_page(viewport={"width": 2400, "height": 1400}).page
    page.goto(f"{site.served.url}/runs/fan-0")
    page.wait_for_selector(toggle("nested"))
    before = places(page)
    page.click(toggle("nested"))
    until_open(page, "nested")
    after = places(page)
    moved = {name for name in before if after[name] != before[name]}
    below = {
        name for name in before if before[name][1] > before["nested"][1] and before[name][0] == before["nested"][0]
    }
    assert moved == {"report"} | below


def test_by_keyboard_and_with_a_node_of_the_child_in_the_panel(site, open_page) -> None:
    page = open_page().page
    page.goto(f"{site.served.url}/runs/fan-0")
    page.focus(toggle("each"))
    page.keyboard.press("Enter")
    until_open(page, "each")
    assert page.evaluate("() => document.activeElement.getAttribute('aria-expanded')") == "true", "the focus stays"
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.dataset.node") == "each[0]/validate"
    page.keyboard.press("Enter")
    page.wait_for_selector("aside.side")
    assert page.locator("aside.side strong").first.inner_text() == "each[0]/validate"
    page.keyboard.press("Escape")
    page.wait_for_selector("aside.side", state="detached")
    until_open(page, "each")
    page.focus(toggle("each"))
    page.keyboard.press(" ")
    page.wait_for_selector(".node.open", state="detached")


def test_an_address_opens_several_and_an_item(site, open_page) -> None:
    page = open_page().page
    page.goto(site.served.url + DEEP)
    assert {node.get_attribute("data-node") for node in page.locator(".node.open").all()} == {
        "nested", "nested/call_order", "each",
    }  # fmt: skip
    assert page.locator('.node.s-failed[data-node="each[1]/charge"]').count() == 1
    page.goto(f"{site.served.url}/runs/fan-0?open=each[1]&node=each[1]/charge")
    assert "declined" in page.inner_text("aside.side .message.error")
    page.goto(f"{site.served.url}/runs/fan-0?open=nothing&open=nested/call_order&node=nothing/x")
    assert page.locator(".node").count() == 5 and not page.locator(".node.open").count()


def test_items_are_listed_by_state_and_from_a_number_on_and_opened(site, open_page) -> None:
    page = open_page().page
    page.goto(f"{site.served.url}/runs/fan-0?node=each")
    rows = page.locator(".items tr")
    assert rows.count() == 3
    page.click(".side .chip.s-failed")
    page.wait_for_url("**items=failed")
    page.wait_for_function("() => document.querySelectorAll('.items tr').length === 1")
    assert "declined" in rows.first.inner_text()
    page.click(".items a:text-is('graph')")
    until_open(page, "each")
    page.wait_for_selector('.node.s-failed[data-node="each[1]/charge"]')
    page.fill(".side input[name=items]", "2")
    page.keyboard.press("Enter")
    page.wait_for_url("**items=2**")
    page.wait_for_selector(".items tr:first-child td:text-is('[2]')")
    until_open(page, "each")
    assert rows.count() == 1


def test_the_states_of_an_opened_run_and_of_what_follows_show_live(site, open_page) -> None:
    run = site.env.client.start("outer", {"items": ["a"]}, run_id="opened-live")
    page = open_page().page
    page.goto(f"{site.served.url}/runs/{run.run_id}?open=call&open=each[0]")
    page.wait_for_selector('.node.s-running[data-node="call/first"]')
    page.evaluate("() => { window.kept = true; }")
    child = run.describe().nodes["call"].child_run_id
    site.handlers.gate(child, "first").set()
    page.wait_for_selector('.node.s-completed[data-node="call/first"]')
    page.wait_for_selector('.node.s-running[data-node="call/second"]')
    site.handlers.gate(child, "second").set()
    page.wait_for_selector('.node.s-completed[data-node="call"]')
    page.wait_for_selector('.node.s-running[data-node="each[0]/first"]')
    item = next(child_id for child_id, node in run.describe().child_nodes.items() if node == "each[0]")
    for node in ("first", "second"):
        site.handlers.gate(item, node).set()
        page.wait_for_selector(f'.node.s-completed[data-node="each[0]/{node}"]')
    page.wait_for_selector(".state.pill.s-completed")
    assert page.evaluate("() => window.kept === true")
    page.wait_for_selector('[data-connection][data-state="none"]', state="attached")


def test_the_stream_of_opened_runs_goes_on_after_the_server_was_away(site, open_page) -> None:
    run = site.env.client.start("outer", {"items": []}, run_id="opened-away")
    opened = open_page()
    opened.expects_failures = True  # the browser names each attempt to connect
    page = opened.page
    page.goto(f"{site.served.url}/runs/{run.run_id}?open=call")
    page.wait_for_selector('.node.s-running[data-node="call/first"]')
    page.wait_for_selector('[data-connection][data-state="on"]')
    site.served.stop()
    page.wait_for_selector('[data-connection][data-state="off"]')
    child = run.describe().nodes["call"].child_run_id
    site.handlers.gate(child, "first").set()
    site.served.start()
    page.wait_for_selector('.node.s-running[data-node="call/second"]', timeout=20_000)
    site.handlers.gate(child, "second").set()
    page.wait_for_selector(".state.pill.s-completed", timeout=20_000)
