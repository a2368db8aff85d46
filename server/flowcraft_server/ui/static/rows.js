// Rows of long lists: only those in sight are elements, and what stays in sight stays the same element, with its focus. What goes out
// of sight is filled anew for what comes into sight: that costs less than a new element.

const MORE = 6; // rows above and below those in sight

/** Where places were scrolled to when they were drawn last. @type {WeakMap<Element, number>} */
const tops = new WeakMap();

/**
 * Which rows are in sight.
 * @param {HTMLElement} place what scrolls
 * @param {number} height of a row
 * @param {number} count of all rows
 */
export function inSight(place, height, count) {
  const top = place.scrollTop, high = place.clientHeight;
  const more = Math.abs(top - (tops.get(place) ?? top)) > high ? 0 : MORE; // the bar is dragged: none of them will be seen
  tops.set(place, top);
  return { from: Math.max(0, Math.floor(top / height) - more), to: Math.min(count, Math.ceil((top + high) / height) + more) };
}

/**
 * Have the rows of some entries in a list, in their order, and no others.
 * @template {{key: string}} Entry
 * @param {Element} list
 * @param {Map<string, HTMLElement>} rows those in the list, by key
 * @param {Entry[]} entries
 * @param {(entry: Entry, row: HTMLElement | undefined, spare: (kind: string) => HTMLElement | undefined) => HTMLElement} made the row of
 *   an entry: the one that is there, one of a kind that was of another entry, or a new one
 */
export function keepRows(list, rows, entries, made) {
  const keys = new Set(entries.map((entry) => entry.key));
  /** @type {HTMLElement[]} */
  const spares = [];
  for (const [key, row] of rows) {
    if (keys.has(key)) continue;
    rows.delete(key);
    if (row.contains(document.activeElement)) row.remove();
    else spares.push(row);
  }
  // In front of a row that stays they would be in its way; where none stays, each is filled where it is.
  if (rows.size) spares.forEach((row) => row.remove());
  else spares.sort((one, other) => one.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1);
  /** @param {string} kind */
  const spare = (kind) => {
    const index = spares.findIndex((row) => row.dataset.kind === kind);
    return index < 0 ? undefined : spares.splice(index, 1)[0];
  };
  let at = list.firstElementChild;
  for (const entry of entries) {
    const before = rows.get(entry.key), row = made(entry, before, spare);
    if (before && row !== before) {
      if (at === before) at = at.nextElementSibling;
      before.remove();
    }
    rows.set(entry.key, row);
    if (row === at) at = at.nextElementSibling;
    else list.insertBefore(row, at);
  }
  for (const row of spares) row.remove();
}

/** Have a text and a title in an element, and touch nothing that is as it is to be. @param {HTMLElement} place @param {string} text @param {string} title */
export function put(place, text, title) {
  const node = place.firstChild;
  if (!node || node.nodeType !== Node.TEXT_NODE || node !== place.lastChild) place.textContent = text;
  else if (node.nodeValue !== text) node.nodeValue = text;
  if (place.title !== title) {
    if (title) place.title = title;
    else place.removeAttribute("title");
  }
}
