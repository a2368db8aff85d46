"""One browser and one site for all tests; skipped where there is no Chromium."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.ui.chromium import ARGUMENTS, MISSING, find_chromium

NEEDS = "the extra ui-test is not installed; `make test-ui` installs it"
WATCH = """
addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason=NEEDS)
    pytest.importorskip("axe_playwright_python", reason=NEEDS)
    path = find_chromium()
    if path is None:
        pytest.skip(MISSING)
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def site(browser: Any) -> Iterator[Any]:
    from tests.ui.site import open_site

    with open_site() as opened:
        yield opened


class Page:
    """A page of the browser, with all that it complained about.

    Attributes:
        page: Playwright's page.
        complaints: Messages of the console, reports of the CSP, errors of scripts.
    """

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.expects_failures = False
        page.set_default_timeout(30_000)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.add_init_script(WATCH)

    def _said(self, message: Any) -> None:
        failed = message.text.startswith("Failed to load resource")
        if not (failed and (self.expects_failures or message.location.get("url") == self.page.url)):
            self.complaints.append(f"{message.type}: {message.text} ({message.location.get('url')})")


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Page]]:
    """Opens pages in contexts of their own; at the end none may have complained."""
    contexts, pages = [], []

    def make(**options: Any) -> Page:
        context = browser.new_context(
            **{"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce", **options}
        )
        contexts.append(context)
        pages.append(Page(context.new_page()))
        return pages[-1]

    yield make
    complaints = [complaint for page in pages for complaint in page.complaints]
    for context in contexts:
        context.close()
    assert not complaints
