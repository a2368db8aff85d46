"""What is done by clicking: start, answer, cancel, do again; and what is refused."""

from tests.ui.site import until_waiting


def start(site, number: str, **context) -> tuple:
    """A run that waits for its answer."""
    run = site.env.client.start("research-report", {"topic": "tests", **context}, run_id=f"clicked-{number}")
    until_waiting(run)
    return run


def test_start_a_run_from_the_form_of_its_blueprint(site, open_page) -> None:
    page = open_page().page
    page.goto(site.served.url + "/blueprints/research-report")
    page.click("text=Start a run")
    dialog = page.locator("#start")
    assert dialog.locator('[data-field="depth"]').input_value() == "3", "the default is there"
    dialog.locator("button.primary").click()
    assert page.evaluate("() => document.querySelector('#start [data-field=topic]').matches(':invalid')")
    dialog.locator('[data-field="topic"]').fill("batteries")
    dialog.locator('[data-field="tone"]').select_option(label="warm")
    dialog.locator("button.primary").click()
    page.wait_for_selector(".facts-line")
    context = site.env.client.get_handle(page.locator("h1").inner_text()).describe(ctx=True).ctx
    assert {key: context[key] for key in ("topic", "depth", "tone")} == {
        "topic": "batteries",
        "depth": 3,
        "tone": "warm",
    }


def test_answer_what_waits(site, open_page) -> None:
    run = start(site, "answered")
    page = open_page().page
    page.goto(site.served.url + "/waiting")
    panel = page.locator(f'section[data-key="{run.run_id}/approve"]')
    assert "solid-state batteries" in panel.inner_text()
    panel.locator('[data-field="comment"]').fill("well done")
    panel.locator('[data-field="score"]').fill("5")
    panel.locator('[data-field="tone"]').select_option(label="dry")
    panel.locator("button", has_text="revise").click()
    panel.wait_for(state="detached")
    assert run.result(timeout=60) is not None
    assert run.describe(outputs=True).nodes["approve"].output == {
        "comment": "well done",
        "score": 5,
        "tone": "dry",
        "urgent": False,
    }


def test_an_answer_that_the_schema_refuses_is_explained_and_kept(site, open_page) -> None:
    run = start(site, "refused")
    opened = open_page()
    opened.expects_failures = True
    page = opened.page
    page.goto(f"{site.served.url}/runs/{run.run_id}")
    page.evaluate("() => document.querySelector('[data-field=score]').required = false")
    page.fill("[data-field=comment]", "no score")
    page.click("button:text-is('publish')")
    message = page.locator(".message.error")
    message.wait_for()
    assert "score" in message.inner_text()
    assert page.input_value("[data-field=comment]") == "no score"
    page.fill("[data-field=score]", "3")
    page.click("button:text-is('revise')")
    page.wait_for_selector(".state.pill.s-completed")


def test_cancel(site, open_page) -> None:
    run = start(site, "cancelled")
    page = open_page().page
    page.goto(f"{site.served.url}/runs/{run.run_id}")
    page.click("button.danger")
    page.click("text=Keep as it is")
    assert run.status() == "waiting"
    page.click("button.danger")
    page.click("#ask [data-yes]")
    page.wait_for_selector(".state.pill.s-cancelled")
    assert run.status() == "cancelled"
    assert not page.locator("button.danger").count()


def test_do_again_from_a_node_with_a_changed_context(site, open_page) -> None:
    page = open_page().page
    page.goto(f"{site.served.url}/runs/order-0?node=charge")
    page.click("text=Run again from here")
    dialog = page.locator("#rerun")
    assert dialog.locator('[data-field="from"]').input_value() == "charge"
    dialog.locator('[data-field="patch"]').fill("{card: good}")
    dialog.locator("button.primary").click()
    assert "is no JSON" in dialog.locator(".message.error").inner_text()
    dialog.locator('[data-field="patch"]').fill('{"card": "good"}')
    dialog.locator("button.primary").click()
    page.wait_for_selector(".state.pill.s-completed")
    assert "order-0" in page.inner_text(".facts-line")
    page.click('[data-node="validate"]')
    page.wait_for_selector("aside.side")
    assert "from the run that this one does again" in page.inner_text("aside.side")


def test_many_at_once(site, open_page) -> None:
    runs = [start(site, f"bulk-{number}") for number in range(2)]
    page = open_page().page
    page.goto(f"{site.served.url}/runs?status=waiting")
    for run in runs:
        page.check(f'input[value="{run.run_id}"]')
    assert page.inner_text("[data-chosen-count]") == "2 selected"
    page.click('[data-bulk="POST cancel"]')
    page.click("#ask [data-yes]")
    for run in runs:
        page.wait_for_selector(f'tr[data-key="{run.run_id}"]', state="detached")
        assert run.wait(timeout=60).status == "cancelled"


def test_filters_live_in_the_address(site, open_page) -> None:
    page = open_page().page
    page.goto(site.served.url + "/runs")
    page.select_option("select[name=blueprint]", "order")
    page.click('.chip.s-completed[href*="blueprint=order"]')
    page.wait_for_url("**/runs?status=completed&blueprint=order")
    page.wait_for_selector('.chip.s-completed[aria-current="true"]')
    page.reload()
    assert page.locator("tr[data-href] .state.s-completed").count() == page.locator("tr[data-href]").count() > 0


def test_pause_and_resume_a_queue(site, open_page) -> None:
    page = open_page().page
    page.goto(site.served.url + "/operations")
    page.click("text=Pause")
    page.click("#ask [data-yes]")
    page.wait_for_selector("button:text-is('Resume')")
    assert site.env.client.admin.queues()[0].paused_since
    page.click("button:text-is('Resume')")
    page.wait_for_selector("button:text-is('Pause')")
    assert not site.env.client.admin.queues()[0].paused_since
