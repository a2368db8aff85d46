// The list of events: all are kept as data, and only those in sight are drawn, so that 40,000 scroll as well as 40.
import { readHistory } from "./history.js";
import { inSight, keepRows, put } from "./rows.js";

const ROW = 31; // height of a row in pixels, as the style sheet has it

/** @typedef {import("./history.js").RunEvent} RunEvent */

/** @type {WeakSet<Element>} */
const begun = new WeakSet();

/**
 * Fill a list with the events of a run, and follow them.
 * @param {HTMLElement} place
 * @param {string[]} types
 */
export function showEvents(place, types) {
  if (begun.has(place)) return;
  begun.add(place);
  const panel = /** @type {HTMLElement} */ (place.closest("section"));
  const filter = /** @type {HTMLInputElement | null} */ (panel.querySelector("[data-event-filter]"));
  const follow = /** @type {HTMLInputElement | null} */ (panel.querySelector("[data-follow]"));
  const room = document.createElement("div"), window_ = document.createElement("div");
  room.className = "events-room";
  window_.className = "events-window";
  room.append(window_);
  place.replaceChildren(room);
  /** @type {RunEvent[]} */
  const events = [];
  /** @type {RunEvent[]} */
  let shown = events;
  /** @type {Map<string, HTMLElement>} */
  const rows = new Map();
  let wanted = "", waiting = false, toEnd = false;

  /** @param {RunEvent} event */
  const isWanted = (event) =>
    `${event.type} ${event.type.replaceAll("_", " ")} ${event.node_id ?? ""} ${JSON.stringify(event.data)}`.toLowerCase().includes(wanted);

  function blank() {
    const line = document.createElement("div");
    line.className = "event";
    line.dataset.kind = "event";
    line.append(...["span", "span", "span", "code"].map((kind) => document.createElement(kind)));
    for (const cell of line.children) cell.className = "clip";
    return line;
  }

  /** @param {HTMLElement} line @param {RunEvent} event */
  function fill(line, event) {
    const data = Object.keys(event.data).length ? JSON.stringify(event.data) : "";
    const texts = [event.at.slice(11, 23), event.type.replaceAll("_", " "), event.node_id ?? "", data];
    const titles = [event.at, "", event.node_id ?? "", data.slice(0, 4000)];
    texts.forEach((text, at) => put(/** @type {HTMLElement} */ (line.children[at]), text, titles[at] ?? ""));
    return line;
  }

  function draw() {
    waiting = false;
    room.style.height = `${shown.length * ROW}px`;
    if (toEnd) place.scrollTop = place.scrollHeight;
    toEnd = false;
    const { from, to } = inSight(place, ROW, shown.length);
    window_.style.transform = `translateY(${from * ROW}px)`;
    keepRows(window_, rows, shown.slice(from, to).map((event) => ({ key: event.id, event })), ({ event }, before, spare) => before ?? fill(spare("event") ?? blank(), event));
  }

  function soon() {
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  }

  function choose() {
    wanted = filter?.value.trim().toLowerCase() ?? "";
    shown = wanted ? events.filter(isWanted) : events;
    soon();
  }

  /** @param {RunEvent[]} more */
  function add(more) {
    events.push(...more);
    if (shown !== events) shown.push(...more.filter(isWanted));
    toEnd ||= follow?.checked ?? false;
    soon();
  }

  place.addEventListener("scroll", soon, { passive: true });
  filter?.addEventListener("input", choose);
  new ResizeObserver(soon).observe(place);
  readHistory(place, types, add, () => { if (!events.length) place.textContent = "The events cannot be read now."; });
}
