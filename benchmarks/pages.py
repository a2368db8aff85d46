"""Pages of a run of 40,000 events in Chromium: first paint, time until all is there, and frames while it is scrolled."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.api_process import Api
from benchmarks.report import write
from benchmarks.setting import NAMESPACE, store, workers
from flowcraft_sdk import Client
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.store.publish import publish_settings

ITEMS = 20_000
EVENTS = 2 * ITEMS
SCROLL_SECONDS = 4
WHEEL = 6_000
"""Pixels a second: a wheel that is turned fast. The scroll bar is dragged to the end and back in the same time, too."""

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
WATCH = """
window.longest = 0;
new PerformanceObserver((list) => list
  .getEntries().forEach((each) => { window.longest = Math.max(window.longest, each.duration); }))
  .observe({ type: "longtask", buffered: true });
"""
SCROLL = """
([seconds, speed]) => new Promise((done) => {
  const place = document.querySelector(".lanes, .events"), began = performance.now(), frames = [];
  const far = place.scrollHeight - place.clientHeight;
  let before = began;
  function frame(now) {
    frames.push(now - before);
    before = now;
    const part = (now - began) / (seconds * 1000);
    place.scrollTop = speed ? speed * seconds * part : far / 2 * (1 - Math.cos(2 * Math.PI * Math.max(0, part)));
    if (part < 1) requestAnimationFrame(frame);
    else done({ frames: frames.slice(1)});
  }
  requestAnimationFrame(frame);
})
"""
VIEWS = {
    "timeline, items folded": ("timeline", f".lane :text('{ITEMS:,} items')", ""),
    "timeline, 20,000 items open": ("timeline", f".lane :text('{ITEMS:,} items')", ".fold"),
    "events": ("events", ".event:has-text('run ended')", ""),
}


def busy_seconds(session: Any) -> float:
    """Processor time of the page's main thread."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


def measure(browser: Any, address: str, view: str) -> dict[str, float]:
    """One page: how soon it is there, and how it scrolls."""
    tab, whole, press = VIEWS[view]
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(120_000)
    page.add_init_script(WATCH)
    page.goto(f"{address}/runs/long?tab={tab}")
    page.wait_for_selector(".lane:not(.axis), .event", state="attached")
    rows = page.evaluate("() => performance.now()")
    page.wait_for_selector(whole)
    complete = page.evaluate("() => performance.now()")
    paint = page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0")
    longest = page.evaluate("() => window.longest")
    if press:
        page.click(press)
        page.wait_for_selector(".lane.item")
    if tab == "events":
        page.uncheck("[data-follow]")
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    scrolled: dict[str, float] = {}
    for name, speed in (("", WHEEL), ("dragged: ", 0)):
        before = busy_seconds(session)
        frames = sorted(page.evaluate(SCROLL, [SCROLL_SECONDS, speed])["frames"])
        scrolled |= {
            f"{name}frames a second": 1000 * len(frames) / sum(frames),
            f"{name}processor a frame": (busy_seconds(session) - before) * 1000 / len(frames),
            f"{name}frame p95": frames[int(len(frames) * 0.95)],
        }
    page.close()
    return {
        "first paint": paint,
        "first rows": rows,
        "all events": complete,
        "longest task": longest,
        **scrolled,
    }


def main() -> int:
    """Measure and print."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser")
    chromium = parser.parse_args().chromium
    table = Table("ms", *VIEWS)
    figures = {}
    with store() as (link, _), tempfile.TemporaryDirectory() as folder:
        publish_settings(link.redis, Partitions(NAMESPACE), history=True, max_events=2 * EVENTS, cancel_grace_ms=30_000)
        with workers("benchmarks.worker", link.url, 4), Client(link.url, namespace=NAMESPACE) as client:
            client.start("map", {"items": list(range(ITEMS))}, run_id="long").result(timeout=300)
        api = Api(link.url, NAMESPACE, Path(folder))
        try:
            with sync_playwright() as started:
                browser = started.chromium.launch(executable_path=chromium, args=FLAGS)
                measure(browser, api.address, "events")  # the first page of a browser and of a process is for nobody
                for view in VIEWS:
                    figures[view] = measure(browser, api.address, view)
                browser.close()
        finally:
            api.stop()
    for name in next(iter(figures.values())):
        table.add_row(name, *(f"{each[name]:.1f}" for each in figures.values()))
    Console().print(table)
    write("pages", {"events": EVENTS, "ms": figures})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
