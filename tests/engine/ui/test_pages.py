"""The pages as the server makes them: each in each state, by role, with the text of strangers in them."""

import re

import pytest
from fastapi.testclient import TestClient

from flowcraft_server.api.access import Role
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.ui.assets import assets

from .conftest import HOSTILE, TOKENS, Open

PAGES = [
    "/",
    "/runs",
    "/runs?status=failed",
    "/runs?blueprint=echo&since=24h&tag=x",
    "/runs?q=no%20such%20customer",
    "/runs/echoed",
    "/runs/echoed?node=say",
    "/runs/echoed?tab=timeline&node=say",
    "/runs/echoed?tab=events",
    "/runs/echoed?tab=context",
    "/runs/echoed?tab=result",
    "/runs/failed?node=boom",
    "/runs/failed?tab=result",
    "/runs/parent",
    "/runs/parent~1",
    "/runs/kept",
    "/runs/kept~own",
    "/runs/asks",
    "/runs/asks?tab=result",
    "/runs/asks?node=nowhere",
    "/waiting",
    "/blueprints",
    "/blueprints/approval",
    "/blueprints/approval?node=ask",
    "/operations",
    "/operations?examine=true",
]


@pytest.mark.parametrize("path", PAGES)
def test_each_page_is_made_and_shows_text_of_strangers_as_text(pages: TestClient, path: str) -> None:
    answer = pages.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert "<script>alert" not in answer.text
    assert 'style="' not in answer.text  # the policy would refuse it
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', answer.text)


def test_pages_show_what_they_are_for(pages: TestClient) -> None:
    assert "no such customer" in pages.get("/runs/failed").text
    assert "Traceback" in pages.get("/runs/failed?node=boom").text
    assert "who is &#34;" in pages.get("/runs/failed?node=boom").text
    assert "&lt;script&gt;" in pages.get("/runs/echoed?tab=context").text
    assert 'href="/runs/parent~1"' in pages.get("/runs/parent").text
    assert "left child runs to go on: <a" in pages.get("/runs/kept").text
    assert "It goes on without its parent run" in pages.get("/runs/kept~own").text
    waiting = pages.get("/waiting").text
    assert 'value="yes"' in waiting
    assert 'data-field="count" data-kind="integer"' in waiting
    failed = pages.get("/runs?status=failed").text
    assert 'href="/runs/failed"' in failed
    assert 'href="/runs/echoed"' not in failed


def test_pages_of_what_is_not_there(pages: TestClient) -> None:
    for path in ("/runs/nobody", "/blueprints/nothing"):
        answer = pages.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")
        assert "There is no such thing" in answer.text
    assert pages.get("/find?q=echoed", follow_redirects=False).headers["location"] == "/runs/echoed"
    assert pages.get("/find?q=nobody", follow_redirects=False).headers["location"] == "/runs?q=nobody"


def test_a_list_in_parts(env: TestEnvironment, pages: TestClient) -> None:
    for number in range(60):
        env.client.start("echo", {"text": "x"}, run_id=f"many-{number:02}").wait(10)
    first = pages.get("/runs?blueprint=echo").text
    found = re.search(r'href="(/runs\?[^"]*cursor=[^"]*)"', first)
    assert found is not None
    second = pages.get(found[1].replace("&amp;", "&")).text
    ids = [re.findall(r'data-key="(many-\d+)"', page) for page in (first, second)]
    assert len(ids[0]) == 50
    assert sorted(ids[0] + ids[1]) == [f"many-{number:02}" for number in range(60)]


@pytest.mark.parametrize("path", PAGES)
def test_nobody_sees_a_page_without_a_token(open_pages: Open, path: str) -> None:
    client = open_pages(tokens=TOKENS)
    answer = client.get(path)
    assert answer.status_code == 401
    assert "Log in" in answer.text
    assert "echoed" not in answer.text
    assert client.get("/ui-changes").status_code == 401


def test_a_browser_logs_in_and_out(open_pages: Open) -> None:
    client = open_pages(tokens=TOKENS)
    assert client.post("/api/v1/session", json={"token": "operate-token-0123456789"}).status_code == 204
    page = client.get("/").text
    assert "Log out" in page
    assert "operateer: operate" in page
    assert client.delete("/api/v1/session").status_code == 204
    assert client.get("/").status_code == 401


def test_those_who_look_on_have_no_buttons_and_see_no_secrets(open_pages: Open) -> None:
    for role, sees in ((Role.VIEW, False), (Role.OPERATE, True)):
        client = open_pages(tokens=TOKENS, token=f"{role}-token-0123456789")
        assert ("s3cret-of-a-customer" in client.get("/runs/echoed?tab=context").text) is sees
        assert ("key-of-a-partner" in client.get("/runs/failed?node=boom").text) is sees
        assert ("data-submit" in client.get("/waiting").text) is sees
        assert ("data-submit" in client.get("/blueprints/echo").text) is sees
        assert ("data-call" in client.get("/runs/asks").text) is sees
    assert "data-submit" not in open_pages(read_only=True).get("/waiting").text


def test_the_panel_of_a_node_has_its_steps(pages: TestClient) -> None:
    page = pages.get("/runs/failed?node=boom").text
    assert "<h2>Steps</h2>" in page
    assert "find &#34;&gt;&lt;script&gt;" in page and HOSTILE not in page


def test_files_of_the_pages_are_kept_by_browsers(pages: TestClient) -> None:
    page = pages.get("/").text
    for name in ("app.css", "app.js", "theme.js", "favicon.svg"):
        path = f"/ui/{assets().digest}/{name}"
        assert path in page
        answer = pages.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert pages.get("/ui/old/app.css").headers["cache-control"] == "no-store"
    assert pages.get(f"/ui/{assets().digest}/../pages.py").status_code == 404
    assert HOSTILE not in page


def test_what_a_page_leaves_out_is_said(pages: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "more are not in this list" not in pages.get("/blueprints").text
    monkeypatch.setattr("flowcraft_server.ui.pages.MOST_BLUEPRINTS", 1)
    assert "3 more are not in this list" in pages.get("/blueprints").text


def test_streams_are_bounded(pages: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowcraft_server.ui.changes.MOST_LISTENERS", 0)
    answer = pages.get("/ui-changes")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


def test_the_number_of_runs_that_wait_is_that_of_now(pages: TestClient, env: TestEnvironment) -> None:
    def shown() -> int:
        (number,) = re.findall(r"data-waiting>(\d+)<", pages.get("/runs/echoed").text)
        return int(number)

    before = shown()
    run = env.client.start("approval", {})
    run.wait_for("waiting", timeout=60)
    assert shown() == before + 1
    run.cancel()
    run.wait(60)
    assert shown() == before
