// Makes one tree of elements like another one, and leaves alone what is equal: focus, selection and what was typed stay.

/**
 * @param {Element} from what is on the page
 * @param {Element} to what it should be like
 */
export function morph(from, to) {
  attributes(from, to);
  if (from.hasAttribute("data-live-own")) return;
  children(from, to);
}

/** @param {Element} from @param {Element} to */
function attributes(from, to) {
  const kept = new Set((from.getAttribute("data-keep") ?? "").split(" "));
  if (from instanceof HTMLDialogElement) kept.add("open");
  for (const { name, value } of Array.from(to.attributes)) {
    if (!kept.has(name) && from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of Array.from(from.attributes)) {
    if (!kept.has(name) && !to.hasAttribute(name)) from.removeAttribute(name);
  }
}

/** @param {Node} node */
const keyOf = (node) => (node instanceof Element ? node.getAttribute("data-key") ?? node.id ?? "" : "");

/** @param {Node} one @param {Node} other */
const alike = (one, other) => one.nodeType === other.nodeType && one.nodeName === other.nodeName && keyOf(one) === keyOf(other);

/**
 * What stands between two neighbours and is on its way out, null if something there stays: an element that is moved loses its
 * scroll position, so that what goes is removed in front of it instead.
 * @param {ChildNode | null} at @param {Node} end @param {Set<string>} kept keys of what stays
 */
function leaving(at, end, kept) {
  const found = [];
  for (; at && at !== end; at = at.nextSibling) {
    if (at instanceof Element && (!keyOf(at) || kept.has(keyOf(at)))) return null;
    found.push(at);
  }
  return at && found;
}

/** @param {Element} from @param {Element} to */
function children(from, to) {
  /** @type {Map<string, Element>} */
  const keyed = new Map();
  for (const child of Array.from(from.children)) {
    const key = keyOf(child);
    if (key) keyed.set(key, child);
  }
  const kept = new Set(Array.from(to.children, keyOf));
  /** @type {ChildNode | null} */
  let at = from.firstChild;
  for (const wanted of Array.from(to.childNodes)) {
    const key = keyOf(wanted);
    /** @type {Node | undefined} */
    let found = key ? keyed.get(key) : undefined;
    if (found && found.nodeName !== wanted.nodeName) found = undefined;
    if (!found && at && alike(at, wanted)) found = at;
    if (!found) {
      from.insertBefore(document.importNode(wanted, true), at);
      continue;
    }
    const left = found === at ? null : leaving(at, found, kept);
    if (left) {
      for (const each of left) each.remove();
      at = /** @type {ChildNode} */ (found);
    }
    if (at && found === at) at = at.nextSibling;
    else from.insertBefore(found, at);
    if (found instanceof Element && wanted instanceof Element) morph(found, wanted);
    else if (found.nodeValue !== wanted.nodeValue) found.nodeValue = wanted.nodeValue;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
