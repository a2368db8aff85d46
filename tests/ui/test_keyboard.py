"""All of it by keyboard alone."""


def focused(page) -> str:
    return page.evaluate("() => document.activeElement.outerHTML.slice(0, 300)")


def test_go_search_and_help(site, open_page) -> None:
    page = open_page().page
    page.goto(site.served.url + "/")
    for keys, path in (("gr", "/runs"), ("gw", "/waiting"), ("gb", "/blueprints"), ("gp", "/operations"), ("go", "/")):
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_url(site.served.url + path)
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()
    page.keyboard.press("/")
    page.keyboard.type("order-good")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/order-good")


def test_rows_and_the_panel_of_a_node(site, open_page) -> None:
    page = open_page().page
    page.goto(site.served.url + "/runs?status=failed&blueprint=order")
    ids = page.locator("tr[data-href] a.id").all_inner_texts()
    for key in "jjjk":
        page.keyboard.press(key)
    assert f'title="{ids[1]}"' in focused(page)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/{ids[1]}")
    page.wait_for_selector('[data-node="charge"]')
    while 'data-node="charge"' not in focused(page):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("aside.side")
    assert page.locator("aside.side strong").first.inner_text() == "charge"
    assert "Error" in page.inner_text("aside.side")
    page.keyboard.press("Escape")
    page.wait_for_selector("aside.side", state="detached")
    page.go_back()
    page.wait_for_selector("aside.side")


def test_the_first_tab_leads_past_the_menu(site, open_page) -> None:
    page = open_page().page
    page.goto(site.served.url + "/runs")
    page.keyboard.press("Tab")
    assert "To the content" in focused(page)
    page.keyboard.press("Enter")
    assert '<main id="main"' in focused(page)


def test_focus_is_seen_wherever_tab_leads(site, open_page) -> None:
    page = open_page().page
    page.goto(site.served.url + "/runs")
    page.wait_for_selector("tr[data-href]")
    for _ in range(25):
        page.keyboard.press("Tab")
        style = page.evaluate(
            "() => { const at = getComputedStyle(document.activeElement); return `${at.outlineStyle} ${at.outlineWidth}`; }"
        )
        assert "none" not in style and not style.endswith(" 0px"), focused(page)
