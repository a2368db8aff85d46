"""`python -m tests.ui.shots`: pictures of all pages in both themes and two widths, in build/shots, and the one of the documentation."""

import sys
from pathlib import Path

from loguru import logger

from tests.ui.chromium import ARGUMENTS, MISSING, find_chromium
from tests.ui.site import open_site

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build/shots"
FIGURE = ROOT / "docs/web-ui.png"
PAGES = {
    "overview": "/",
    "overview-day": "/?window=24h",
    "overview-month": "/?window=30d",
    "runs": "/runs",
    "runs-filtered": "/runs?status=failed&blueprint=order",
    "run-graph": "/runs/research-1",
    "run-node": "/runs/research-1?node=search_web",
    "run-running": "/runs/research-0?node=search_web",
    "run-streaming": "/runs/research-0?node=publish",
    "run-timeline": "/runs/research-1?tab=timeline",
    "run-events": "/runs/research-1?tab=events",
    "run-context": "/runs/research-1?tab=context",
    "run-failed": "/runs/order-0?node=charge",
    "run-result": "/runs/order-0?tab=result",
    "run-child": "/runs/parent-0",
    "run-opened": "/runs/fan-0?open=nested&open=nested/call_order&open=each[1]",
    "run-items": "/runs/fan-0?open=each[1]&node=each",
    "run-wide": "/runs/wide-0",
    "run-strange": f"/runs/{'S' * 200}?node=say",
    "waiting": "/waiting",
    "blueprints": "/blueprints",
    "blueprint": "/blueprints/research-report",
    "operations": "/operations?examine=true",
    "not-found": "/runs/nothing",
}
EMPTY = {
    "overview": "/",
    "runs": "/runs",
    "waiting": "/waiting",
    "blueprints": "/blueprints",
    "operations": "/operations",
}


def main() -> int:
    """Take them."""
    from playwright.sync_api import sync_playwright

    path = find_chromium()
    if path is None:
        print(f"shots: {MISSING}", file=sys.stderr)
        return 1
    logger.remove()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open_site() as site, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=ARGUMENTS)
        pages = {name: site.served.url + href for name, href in PAGES.items()}
        pages |= {f"empty-{name}": site.empty.url + href for name, href in EMPTY.items()}
        pages["blueprint-compared"] = f"{site.served.url}/blueprints/research-report?compare={site.old_version}"
        pages["log-in"] = f"{site.guarded.url}/runs"
        for width in (1440, 390):
            for theme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
                for name, href in pages.items():
                    page.goto(href)
                    page.wait_for_timeout(150)
                    page.screenshot(path=FOLDER / f"{name}-{width}-{theme}.png", full_page=True)
                page.close()
        page = browser.new_page(viewport={"width": 1280, "height": 720}, color_scheme="light")
        page.goto(pages["run-running"])
        page.wait_for_timeout(150)
        page.screenshot(path=FIGURE)
        browser.close()
    print(f"shots: {len(pages) * 4} in {FOLDER.relative_to(ROOT)}, and {FIGURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
