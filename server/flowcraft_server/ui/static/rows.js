// Rows of long lists: only those in sight are elements, and what stays in sight stays the same element, with its focus.

const MORE = 6; // rows above and below those in sight

/**
 * Which rows are in sight.
 * @param {HTMLElement} place what scrolls
 * @param {number} height of a row
 * @param {number} count of all rows
 */
export function inSight(place, height, count) {
  const from = Math.max(0, Math.floor(place.scrollTop / height) - MORE);
  return { from, to: Math.min(count, Math.ceil((place.scrollTop + place.clientHeight) / height) + MORE) };
}

/**
 * Have the rows of some entries in a list, in their order, and no others.
 * @template {{key: string}} Entry
 * @param {Element} list
 * @param {Map<string, HTMLElement>} rows those in the list, by key
 * @param {Entry[]} entries
 * @param {(entry: Entry, row: HTMLElement | undefined) => HTMLElement} made the row of an entry: the one that is there, or a new one
 */
export function keepRows(list, rows, entries, made) {
  const keys = new Set(entries.map((entry) => entry.key));
  for (const [key, row] of rows) {
    if (keys.has(key)) continue;
    row.remove();
    rows.delete(key);
  }
  let at = list.firstElementChild;
  for (const entry of entries) {
    const before = rows.get(entry.key), row = made(entry, before);
    if (before && row !== before) {
      if (at === before) at = at.nextElementSibling;
      before.remove();
    }
    rows.set(entry.key, row);
    if (row === at) at = at.nextElementSibling;
    else list.insertBefore(row, at);
  }
}
