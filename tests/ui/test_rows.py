"""Rows of long lists: what goes out of sight is filled anew, what has the focus is not."""

from typing import Any

import pytest

KEEP = """
async ([steps, focused]) => {
  const home = document.querySelector('script[src$="app.js"]').src;
  const { keepRows, put } = await import(home.replace("app.js", "rows.js"));
  const list = document.body.appendChild(document.createElement("div")), rows = new Map(), marks = new Map();
  const shown = [], watch = new MutationObserver(() => {});
  watch.observe(list, { childList: true });
  for (const keys of steps) {
    keepRows(list, rows, keys.map((key) => ({ key })), ({ key }, before, spare) => {
      const row = before ?? spare("row") ?? document.createElement("button");
      if (!marks.has(row)) marks.set(row, marks.size);
      row.dataset.kind = "row";
      if (row !== before) put(row, key, "");
      if (key === focused) queueMicrotask(() => row.focus());
      return row;
    });
    const moved = new Set(watch.takeRecords().flatMap(({ addedNodes }) => Array.from(addedNodes, (row) => row.textContent)));
    await null; // for the focus
    shown.push(Array.from(list.children, (row) => [row.textContent, marks.get(row), moved.has(row.textContent)]));
  }
  list.remove();
  return shown;
}
"""


@pytest.fixture(scope="module")
def kept(browser: Any, site: Any) -> Any:
    page = browser.new_page()
    page.goto(f"{site.served.url}/runs/order-good?tab=events")
    yield lambda steps, focused="": page.evaluate(KEEP, [[list(keys) for keys in steps], focused])
    page.close()


def test_elements_out_of_sight_are_filled_anew(kept: Any) -> None:
    first, second, third, fourth = kept(["abc", "bcd", "xyz", "x"])
    assert first == [["a", 0, True], ["b", 1, True], ["c", 2, True]]
    assert second == [["b", 1, False], ["c", 2, False], ["d", 0, True]], "what stays is not moved"
    assert third == [["x", 1, False], ["y", 2, False], ["z", 0, False]], "where none stays, each is filled where it is"
    assert fourth == [["x", 1, False]]


def test_a_row_with_the_focus_becomes_no_other_one(kept: Any) -> None:
    _, second = kept(["abc", "bcd"], "a")
    assert second == [["b", 1, False], ["c", 2, False], ["d", 3, True]]
