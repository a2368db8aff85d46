"""Text of strangers is shown as text, wherever it stands."""

import json

import pytest

from tests.ui.site import HOSTILE, LONG, MARKUP

RUN = "S" * 200
PATHS = [
    "/", "/runs", "/waiting", "/blueprints", "/blueprints/strange", f"/runs/{RUN}", f"/runs/{RUN}?tab=timeline",
    f"/runs/{RUN}?tab=events", f"/runs/{RUN}?tab=context", f"/runs/{RUN}?tab=result", f"/runs/{RUN}?node=fail",
    f"/runs/{RUN}?node=say", f"/runs/{RUN}?node={LONG}", "/runs/strange-waiting", f"/runs?tag={MARKUP}", f"/runs?q={MARKUP}",
    f"/runs?status={MARKUP}&since={MARKUP}&cursor=x", f"/find?q={MARKUP}", f"/runs/{RUN}?node={MARKUP}&tab={MARKUP}",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_nothing_of_it_is_run_or_becomes_an_element(path, site, open_page) -> None:
    opened = open_page()
    opened.expects_failures = True  # a cursor that is none is refused
    page = opened.page
    page.goto(site.served.url + path.replace('"', "%22").replace("<", "%3C").replace(">", "%3E"))
    page.wait_for_load_state("load")
    if "tab=events" in path:
        page.wait_for_selector(".event")
    assert page.evaluate("() => window.hit === undefined")
    assert not page.locator("img, body script").count()


def test_it_can_be_read(site, open_page) -> None:
    page = open_page().page
    page.goto(f"{site.served.url}/runs/strange-waiting?tab=context")
    shown = json.dumps(HOSTILE, ensure_ascii=False).replace("\u202e", "\\u202e")  # what turns text round is an escape
    assert shown in page.locator("td pre").first.text_content()
    page.goto(f"{site.served.url}/runs/{RUN}?node=fail")
    assert f"{HOSTILE}\nsecond line\nthird line" in page.locator("aside .message.error").text_content()
    page.goto(f"{site.served.url}/waiting")
    button = page.locator('section[data-key="strange-waiting/ask"] button').first
    assert button.text_content() == HOSTILE


def test_a_button_with_such_a_name_works(site, open_page) -> None:
    page = open_page().page
    run = site.env.client.start("strange", {}, run_id="strange-answered")
    page.goto(f"{site.served.url}/runs/{run.run_id}")
    page.locator("form[data-answer] [data-field]").fill(HOSTILE)
    page.locator("form[data-answer] button").first.click()
    page.wait_for_selector("form[data-answer]", state="detached")
    assert run.describe(outputs=True).nodes["ask"].output == {HOSTILE: HOSTILE}
