"""Each page in each state, in light and dark, wide and narrow: nothing complains, axe-core finds nothing, nothing is too wide."""

import pytest

from tests.ui.checks import all_looks, too_wide

EMPTY = ["/", "/runs", "/runs?tag=none", "/waiting", "/blueprints", "/operations", "/operations?examine=true"]
FILLED = [
    "/", "/runs", "/runs?status=failed&blueprint=order&since=24h", "/runs?q=research", "/waiting", "/blueprints",
    "/blueprints/research-report", "/blueprints/research-report?node=approve", "/operations",
    "/runs/research-0", "/runs/research-1?node=search_web", "/runs/research-1?tab=timeline", "/runs/research-0?tab=events",
    "/runs/research-1?tab=context", "/runs/research-1?tab=result", "/runs/order-0?node=charge", "/runs/order-0?tab=result",
    "/runs/order-good?tab=result", "/runs/parent-0", "/runs/parent-0?open=call_order&node=call_order/charge",
    "/runs/fan-0?open=nested&open=nested/call_order&open=each[1]&node=each", "/runs/order-0?tab=timeline",
    f"/runs/{'S' * 200}", "/runs/strange-waiting?node=say", "/blueprints/strange",
]  # fmt: skip
PROBLEMS = {"/runs/nothing": "no such thing", "/blueprints/nothing": "no such thing"}
SEEN_BY_VIEW = ["/runs", "/runs/research-0", "/runs/order-0", "/waiting", "/blueprints/research-report", "/operations"]
CHANGES = "main button[data-call], main button[data-bulk], main [data-submit], main button[data-dialog]"


@pytest.mark.parametrize("path", FILLED)
def test_filled(path: str, site, open_page) -> None:
    page = open_page().page
    assert page.goto(site.served.url + path).status == 200
    page.wait_for_function("() => document.readyState === 'complete'")
    assert all_looks(page) == []


def test_what_differs_between_two_versions(site, open_page) -> None:
    page = open_page().page
    page.goto(f"{site.served.url}/blueprints/research-report")
    page.click("text=What differs")
    page.wait_for_selector(".node.s-removed")
    assert site.old_version in page.url
    assert page.locator(".node.s-added").count() == 4
    assert page.locator(".node.s-removed .badge-text").text_content() == "removed"
    assert all_looks(page) == []


@pytest.mark.parametrize("path", EMPTY)
def test_empty(path: str, site, open_page) -> None:
    page = open_page().page
    assert page.goto(site.empty.url + path).status == 200
    assert page.locator(".empty").count() or path == "/operations?examine=true"
    assert all_looks(page) == []


@pytest.mark.parametrize("path", PROBLEMS)
def test_problems(path: str, site, open_page) -> None:
    page = open_page().page
    assert page.goto(site.served.url + path).status == 404
    assert PROBLEMS[path] in page.inner_text("main")
    assert all_looks(page) == []


def test_redis_does_not_answer(site, open_page) -> None:
    page = open_page().page
    assert page.goto(f"{site.broken.url}/runs").status == 503
    assert "Redis does not answer" in page.inner_text("main")
    assert page.locator(".empty a.button").inner_text() == "Try again"
    assert all_looks(page) == []


def test_log_in_and_out_with_a_token(site, open_page) -> None:
    opened = open_page()
    page = opened.page
    opened.expects_failures = True  # the browser says of each answer of 401 that it is one
    assert page.goto(f"{site.guarded.url}/runs").status == 401
    assert not page.locator("header nav").count()
    assert all_looks(page) == []
    page.fill("[data-field=token]", "no such token")
    page.keyboard.press("Enter")
    page.wait_for_selector(".message.error:visible")
    page.fill("[data-field=token]", "admin-token-0123456789")
    page.keyboard.press("Enter")
    page.wait_for_selector("tr[data-href]")
    assert "admin" in page.inner_text("footer")
    page.click("text=Log out")
    page.wait_for_selector("[data-field=token]")


def test_who_may_only_look_has_no_buttons_and_sees_no_secrets(site, open_page) -> None:
    page = open_page(extra_http_headers={"authorization": "Bearer view-token-0123456789"}).page
    for path in SEEN_BY_VIEW:
        page.goto(site.guarded.url + path)
        assert page.locator(CHANGES).evaluate_all("(all) => all.map((each) => each.outerHTML)") == [], path
    assert all_looks(page) == []
    page.goto(f"{site.guarded.url}/runs/research-1?tab=context")
    assert "s3cret" not in page.content()


def test_small_windows_from_the_start_and_the_switch_of_the_theme(site, open_page) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, color_scheme="light").page
    for path in ("/", "/runs", "/runs/research-0", "/runs/research-1?node=judge", "/blueprints/wide-graph"):
        page.goto(site.served.url + path)
        assert too_wide(page) == []
    page.click("[data-theme-switch]")
    page.reload()
    assert page.evaluate("() => document.documentElement.dataset.theme") == "dark", "it is kept"
