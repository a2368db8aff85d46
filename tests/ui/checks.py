"""What is checked on each page: axe-core finds nothing, and nothing is wider than the window."""

from functools import cache
from importlib.resources import files
from typing import Any

COLOURS = ["color-contrast"]
LOOKS: tuple[tuple[int, str, list[str] | None], ...] = (
    (1440, "light", None),
    (1440, "dark", COLOURS),
    (390, "light", [*COLOURS, "scrollable-region-focusable", "target-size"]),
    (390, "dark", None),
)
"""Widths and themes, with the rules of axe-core: all of them, or those that a width or a theme can change."""

_RUN = """
(only) => axe.run(document, only ? {runOnly: {type: "rule", values: only}, resultTypes: ["violations"]} : {resultTypes: ["violations"]}).then((found) => found.violations.flatMap(
  (rule) => rule.nodes.map((node) => `${rule.impact} ${rule.id}: ${node.html.slice(0, 160)} ${node.any.concat(node.all).map((each) => each.message).join("; ").slice(0, 200)}`)))
"""
_TOO_WIDE = """
() => document.documentElement.scrollWidth <= innerWidth ? [] : [
  `${document.documentElement.scrollWidth} px wide`, ...Array.from(document.querySelectorAll("body *")).filter((each) =>
    each.getBoundingClientRect().right > innerWidth + 1 && !each.closest(".scroll, .tabs, nav, svg")).slice(0, 6).map((each) => each.outerHTML.slice(0, 160))]
"""


@cache
def axe() -> str:
    """The script of axe-core."""
    return files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")


def violations(page: Any, only: list[str] | None = None) -> list[str]:
    """What axe-core finds, by all of its rules or some."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(f"() => {{ {axe()} }}")
    found: list[str] = page.evaluate(_RUN, only)
    return found


def too_wide(page: Any) -> list[str]:
    """What makes a page wider than the window; nothing if it is not."""
    found: list[str] = page.evaluate(_TOO_WIDE)
    return found


def all_looks(page: Any) -> list[str]:
    """Check a page in light and dark, wide and narrow: by all rules in one look of each theme and width, by some in the other two."""
    found = []
    for width, theme, only in LOOKS:
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": width, "height": 900})
        found += [f"{width} {theme}: {each}" for each in (*violations(page, only), *too_wide(page))]
    return found
