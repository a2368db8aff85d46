// The timeline of a run: a row for each node, with those of its items and rounds below it, on one scale of time. It is put together
// from the events, and only the rows in sight are drawn, so that 20,000 items scroll as well as 20.
import { duration } from "./format.js";
import { readHistory } from "./history.js";
import { inSight, keepRows, put } from "./rows.js";

// Height of a row in pixels, as the style sheet has it.
const ROW = 30;
// Units across a row.
const WIDE = 1000;
// Units of a bar at least, so that what took no time is seen.
const NARROWEST = 3;
// Units that stand for idle time that is left out.
const BREAK = 14;
// Of the picture of all items of a node.
const COLUMNS = 250;
// Items of a node that are shown unasked.
const MOST_OPEN = 20;
// Of the length of the run.
const SHORTEST_IDLE = 0.04;
// Ms between two drawings of what changes.
const PAUSE = 250;
const TICKS = 5;

/** @typedef {import("./history.js").RunEvent} RunEvent */
/** @typedef {{kind: "queue" | "run" | "wait" | "pause", state: string, attempt: number, begin: number, end: number | null}} Stretch */
/** @typedef {{name: string, stretches: Stretch[], attempt: number}} Row */
/** @typedef {{kind: string, values: Record<string, string | number>, title: string}} Shape */
/** @typedef {{node: string, own: Row | null, rows: Row[], open: boolean | null}} Group */
/** @typedef {{x: (at: number) => number, at: (x: number) => number, end: number, breaks: {x: number, seconds: number}[]}} Scale */

const ENDS = /** @type {Record<string, string>} */ ({
  node_completed: "completed", node_recovered: "recovered", node_retrying: "failed", node_failed: "failed",
  node_cancelled: "cancelled", node_taken_over: "lost",
});

/** What each instance of a node did, from the history in its order; `api/stretches.py` has the same rules. */
export class History {
  /** @type {Map<string, Group>} */
  groups = new Map();
  /** @type {Map<string, Row>} */
  rows = new Map();
  missing = 0;

  /** @param {RunEvent} event */
  apply(event) {
    if (event.type === "events_truncated") this.missing = Number(event.data.count) || 0;
    const name = event.node_id, at = Date.parse(event.at);
    if (name === null) return;
    let row = this.rows.get(name);
    if (event.type === "node_started") {
      row ??= this.#begin(name);
      row.attempt = Number(event.data.attempt ?? 1);
      begin(row, event, at);
    } else if (!row) return;
    else if (event.type === "node_waiting") turn(row, at, "wait", "waiting");
    else if (event.type === "node_resumed") begin(row, event, at);
    else if (event.type === "node_handed_back") turn(row, at, "queue", "queued", "cancelled");
    else if (event.type in ENDS) {
      const goesOn = event.type === "node_retrying" || event.type === "node_taken_over";
      turn(row, at, goesOn ? "pause" : null, "retrying", ENDS[event.type]);
    }
  }

  /** @param {string} name */
  #begin(name) {
    /** @type {Row} */
    const row = { name, stretches: [], attempt: 1 };
    const node = name.replace(/[#[].*$/s, "");
    let group = this.groups.get(node);
    if (!group) this.groups.set(node, (group = { node, own: null, rows: [], open: null }));
    if (name === node) group.own = row;
    else group.rows.push(row);
    this.rows.set(name, row);
    return row;
  }
}

/** Run, after the time in which it was ready and no worker had it yet. @param {Row} row @param {RunEvent} event @param {number} at */
function begin(row, event, at) {
  const last = row.stretches.at(-1), ready = Math.max(Date.parse(String(event.data.ready_at)), last?.begin ?? 0);
  if (ready < at && (last?.kind !== "queue" || last.end !== null)) turn(row, ready, "queue", "queued");
  turn(row, at, "run", "running");
}

/** End what a row was doing, and begin something else. @param {Row} row @param {number} at @param {Stretch["kind"] | null} kind @param {string} state @param {string} [endedAs] */
function turn(row, at, kind, state, endedAs = "completed") {
  const now = row.stretches[row.stretches.length - 1];
  if (now && now.end === null) {
    now.end = at;
    if (now.kind === "run") now.state = endedAs;
  }
  if (kind) row.stretches.push({ kind, state, attempt: row.attempt, begin: at, end: null });
}

/** The times in which nothing ran and that are long enough to be left out. @param {Iterable<Row>} rows @param {number} start @param {number} end @returns {[number, number][]} */
export function idleTimes(rows, start, end) {
  const ran = [];
  for (const row of rows) for (const each of row.stretches) if (each.kind === "run") ran.push(each);
  ran.sort((one, other) => one.begin - other.begin);
  /** @type {[number, number][]} */
  const idle = [];
  let until = start;
  for (const { begin, end: over } of [...ran, { begin: end, end }]) {
    if (begin - until > (end - start) * SHORTEST_IDLE) idle.push([until, begin]);
    until = Math.max(until, over ?? end);
  }
  return idle;
}

/** Where times are across a row. @param {number} start @param {number} end @param {[number, number][]} idle what is left out @returns {Scale} */
export function scaleOf(start, end, idle) {
  const length = Math.max(1, end - start);
  const left = length - idle.reduce((sum, [from, to]) => sum + to - from, 0);
  const unit = (WIDE - BREAK * idle.length) / Math.max(1, left);
  /** @type {{at: number, x: number, unit: number}[]} */
  const pieces = [];
  const breaks = [];
  let x = 0, at = start;
  for (const [from, to] of idle) {
    pieces.push({ at, x, unit });
    x += (from - at) * unit;
    pieces.push({ at: from, x, unit: BREAK / (to - from) });
    breaks.push({ x, seconds: (to - from) / 1000 });
    x += BREAK;
    at = to;
  }
  pieces.push({ at, x, unit });
  return {
    end, breaks,
    x: (time) => {
      const piece = pieces.reduce((found, each) => (each.at <= time ? each : found));
      return Math.min(WIDE, Math.max(0, piece.x + (time - piece.at) * piece.unit));
    },
    at: (place) => {
      const piece = pieces.reduce((found, each) => (each.x <= place ? each : found));
      return piece.at + (place - piece.x) / piece.unit;
    },
  };
}

const WORDS = { queue: "queued", wait: "waited", pause: "paused" };

/** The bars of a row; of those that would lie on one another one is left. @param {Row} row @param {Scale} scale */
export function barsOf(row, scale) {
  /** @type {Map<string, {style: string, x: number, width: number, title: string}>} */
  const latest = new Map();
  const bars = [];
  for (const each of row.stretches) {
    const x = Math.min(scale.x(each.begin), WIDE - NARROWEST), end = each.end ?? scale.end;
    const width = Math.max(NARROWEST, scale.x(end) - x);
    const what = each.kind === "run" ? `attempt ${each.attempt}: ${each.state}` : WORDS[each.kind];
    const style = each.kind === "pause" ? "back" : `span s-${each.state}${each.kind === "run" ? "" : ` ${each.kind}`}`;
    const before = latest.get(style);
    if (before && x < before.x + NARROWEST - 1) {
      before.width = Math.max(before.width, x + width - before.x);
      continue;
    }
    const bar = { style, x, width, title: `${what}, ${duration((end - each.begin) / 1000)}` };
    latest.set(style, bar);
    bars.push(bar);
  }
  return bars;
}

const LAYERS = ["failed", "cancelled", "completed", "running", "waiting"];
/** @param {string} state */
const layerOf = (state) => state === "lost" || state === "timed_out" ? "failed" : state === "recovered" ? "completed" : state;

/** @param {number} x */
const columnOf = (x) => Math.min(COLUMNS - 1, Math.floor(x / WIDE * COLUMNS));

/** How many items did what at a time, as areas on one another. @param {Row[]} rows @param {Scale} scale @returns {{state: string, path: string}[]} */
export function areasOf(rows, scale) {
  /** @type {Record<string, Int32Array>} */
  const steps = {};
  for (const row of rows) {
    for (const each of row.stretches) {
      if (each.kind === "pause" || each.kind === "queue") continue;
      const step = (steps[layerOf(each.state)] ??= new Int32Array(COLUMNS + 1));
      const from = columnOf(scale.x(each.begin)), to = columnOf(scale.x(each.end ?? scale.end)) + 1;
      step[from] = (step[from] ?? 0) + 1;
      step[to] = (step[to] ?? 0) - 1;
    }
  }
  const sums = new Float64Array(COLUMNS), areas = [];
  for (const state of LAYERS) {
    const step = steps[state];
    if (!step) continue;
    let now = 0;
    const below = Float64Array.from(sums);
    sums.forEach((sum, at) => { sums[at] = sum + (now += step[at] ?? 0); });
    areas.push({ state, below, above: Float64Array.from(sums) });
  }
  const peak = Math.max(1, ...sums), wide = WIDE / COLUMNS;
  return areas.map(({ state, below, above }) => {
    let path = "";
    for (let at = 0; at < COLUMNS; at++) {
      const up = above[at] ?? 0, down = below[at] ?? 0;
      if (up === down) continue;
      let to = at + 1;
      while (to < COLUMNS && above[to] === up && below[to] === down) to++;
      const high = Math.max(1, 14 * (up - down) / peak), foot = 16 - 14 * down / peak;
      path += `M${at * wide} ${foot.toFixed(1)}h${(to - at) * wide}v${(-high).toFixed(1)}h${(at - to) * wide}z`;
      at = to - 1;
    }
    return { state, path };
  });
}

/** @type {WeakMap<Element, () => void>} */
const begun = new WeakMap();

/**
 * Draw the timeline of a run, and go on with it. Called again for a place, it takes over what the server has changed there.
 * @param {HTMLElement} place
 * @param {string[]} types
 */
export function showTimeline(place, types) {
  const refresh = begun.get(place);
  if (refresh) return refresh();
  const panel = /** @type {HTMLElement} */ (place.closest("section"));
  const skip = /** @type {HTMLInputElement} */ (panel.querySelector("[data-skip-idle]"));
  const note = /** @type {HTMLElement} */ (panel.querySelector("[data-missing]"));
  const axis = element("div", "lane axis"), room = element("div", "events-room"), list = element("div", "events-window");
  room.append(list);
  const history = new History();
  /** @typedef {{key: string, group: Group, row: Row | null}} Entry */
  /** @type {Entry[]} */
  let entries = [];
  /** @type {Map<string, HTMLElement>} */
  const lanes = new Map();
  /** @type {WeakMap<HTMLElement, number>} */
  const drawn = new WeakMap();
  /** @type {Scale | null} */
  let scale = null;
  let version = 0, old = true, planned = 0, later = 0, drawnAt = 0;
  const skew = Date.parse(place.dataset.now ?? "") - Date.now(); // the clock of the server is the one that counts

  /** @param {Group} group */
  const isOpen = (group) => group.open ?? group.rows.length <= MOST_OPEN;
  /** @param {string} node */
  const linkTo = (node) => `${place.dataset.href}${encodeURIComponent(node)}`;

  function arrange() {
    entries = [];
    for (const group of history.groups.values()) {
      entries.push({ key: group.node, group, row: group.rows.length ? null : group.own });
      if (group.rows.length && isOpen(group)) for (const row of group.rows) entries.push({ key: row.name, group, row });
    }
    let start = Date.parse(place.dataset.start ?? "");
    for (const row of history.rows.values()) start = Math.min(start, row.stretches[0]?.begin ?? start);
    const end = place.dataset.end ? Date.parse(place.dataset.end) : Date.now() + skew;
    const idle = idleTimes(history.rows.values(), start, end);
    skip.parentElement?.classList.toggle("hidden", !idle.length);
    scale = scaleOf(start, end, skip.checked ? idle : []);
    const { at } = scale;
    const count = history.rows.size;
    const ticks = element("span", "ticks");
    axis.replaceChildren(element("span", "", `${count.toLocaleString("en")} ${count === 1 ? "node" : "nodes"}`), ticks, element("span"));
    ticks.append(...Array.from({ length: TICKS }, (_, tick) =>
      element("span", "", duration((at(WIDE * tick / (TICKS - 1)) - start) / 1000))));
    if (count && !axis.isConnected) place.replaceChildren(axis, room);
    if (!count) place.querySelector("strong")?.replaceChildren("Nothing has begun yet");
    note.classList.toggle("hidden", !history.missing);
    note.textContent = `The first ${history.missing.toLocaleString("en")} events are no longer kept: nodes may be missing.`;
    room.style.height = `${entries.length * ROW}px`;
    version++;
    old = false;
    drawnAt = performance.now();
  }

  function draw() {
    planned = 0;
    if (old && (!lanes.size || performance.now() - drawnAt >= PAUSE)) arrange();
    else if (old) later ||= setTimeout(() => { later = 0; soon(); }, PAUSE);
    if (!scale) return;
    const { from, to } = inSight(place, ROW, entries.length), by = scale;
    list.style.transform = `translateY(${from * ROW}px)`;
    keepRows(list, lanes, entries.slice(from, to), (entry, before, spare) => {
      const kind = kindOf(entry);
      let lane = before?.dataset.kind === kind ? before : undefined; // else its first item has begun
      if (!lane) {
        lane = spare(kind) ?? laneOf(entry);
        drawn.delete(lane);
      }
      if (drawn.get(lane) !== version) fill(lane, entry, by);
      drawn.set(lane, version);
      return lane;
    });
  }

  function soon() {
    planned ||= requestAnimationFrame(draw);
  }

  function renew() {
    old = true;
    soon();
  }

  /** Lanes of items are filled anew for other ones. @param {Entry} entry */
  const kindOf = ({ key, group, row }) => row && group.rows.length ? "item" : `${row ? "node" : "batch"} ${key}`;

  /** @param {Entry} entry */
  function laneOf(entry) {
    const { key, group, row } = entry, lane = element(row ? "a" : "div", `lane${row && group.rows.length ? " item" : ""}`);
    lane.dataset.kind = kindOf(entry);
    const name = element("span", "clip"), picture = svg("svg", { viewBox: "0 0 1000 18", preserveAspectRatio: "none", role: "img" });
    const link = row ? lane : element("a", "", key);
    if (!row) name.title = key;
    link.setAttribute("href", linkTo(group.node));
    link.dataset.nav = "";
    if (!row) {
      const fold = element("button", "fold");
      fold.setAttribute("type", "button");
      fold.setAttribute("aria-label", `Items of ${key}`);
      fold.onclick = () => {
        group.open = !isOpen(group);
        drawnAt = -PAUSE;
        renew();
      };
      name.append(fold, link, element("span", "soft"));
    }
    lane.append(name, picture, element("span", "number soft right"));
    return lane;
  }

  /** @param {HTMLElement} lane @param {Entry} entry @param {Scale} by */
  function fill(lane, { key, group, row }, by) {
    lane.classList.toggle("chosen", group.node === place.dataset.openNode);
    const [name, picture, time] = lane.children;
    if (!name || !picture || !time) return;
    if (row) {
      put(/** @type {HTMLElement} */ (name), key, key);
      const href = linkTo(group.node);
      if (lane.getAttribute("href") !== href) lane.setAttribute("href", href);
    }
    const mine = row ?? group.own, bars = mine ? barsOf(mine, by) : [];
    /** @type {Shape[]} */
    const parts = by.breaks.map(({ x, seconds }) => ({ kind: "rect", values: { class: "idle", x, y: 0, width: BREAK, height: 18 }, title: `${duration(seconds)} idle` }));
    parts.push(...bars.map((bar) => {
      const thin = bar.style === "back";
      return { kind: "rect", values: { class: row ? bar.style : `${bar.style} under`, x: bar.x.toFixed(2), y: thin ? 6 : 2, width: bar.width.toFixed(2), height: thin ? 6 : 14 }, title: bar.title };
    }));
    let label = bars.slice(-4).map((bar) => bar.title).join(", "), rows = mine ? [mine] : [];
    if (!row) {
      rows = [...rows, ...group.rows];
      const count = group.rows.length, word = group.rows[0]?.name.includes("[") ? "item" : "round";
      const counts = new Map();
      for (const { stretches } of group.rows) {
        const state = stretches.at(-1)?.state ?? "";
        counts.set(state, (counts.get(state) ?? 0) + 1);
      }
      label = `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}: ${[...counts].map(([state, n]) => `${n.toLocaleString("en")} ${state.replace("_", " ")}`).join(", ")}`;
      parts.push(...areasOf(group.rows, by).map(({ state, path }) => ({ kind: "path", values: { class: `span s-${state}`, d: path }, title: label })));
      lane.querySelector(".fold")?.setAttribute("aria-expanded", String(isOpen(group)));
      name.lastElementChild?.replaceChildren(` ${label.split(":")[0]}`);
    }
    picture.setAttribute("aria-label", `${key}: ${label}`);
    keepShapes(picture, parts);
    let begin = Infinity, end = -Infinity;
    for (const { stretches } of rows) {
      begin = Math.min(begin, stretches.find((each) => each.kind !== "queue")?.begin ?? begin);
      end = Math.max(end, stretches.at(-1)?.end ?? by.end);
    }
    put(/** @type {HTMLElement} */ (time), duration((end - begin) / 1000), "");
  }

  place.addEventListener("scroll", soon, { passive: true });
  skip.addEventListener("change", () => { drawnAt = -PAUSE; renew(); });
  new ResizeObserver(soon).observe(place);
  begun.set(place, renew);
  const clock = setInterval(() => {
    if (!place.isConnected || place.dataset.end) clearInterval(clock);
    else renew();
  }, 1000);
  readHistory(place, types, (events) => { events.forEach((event) => history.apply(event)); renew(); }, () => {
    if (!history.rows.size) place.textContent = "The history cannot be read now.";
  });
}

/** @param {string} kind @param {string} [style] @param {string} [text] */
function element(kind, style, text) {
  const made = document.createElement(kind);
  if (style) made.className = style;
  if (text) made.textContent = text;
  return made;
}

/** @param {string} kind @param {Record<string, string | number>} values */
function svg(kind, values) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(values)) made.setAttribute(name, String(value));
  return made;
}

/** Have some shapes in a picture; those that are there are changed. @param {Element} picture @param {Shape[]} shapes */
function keepShapes(picture, shapes) {
  shapes.forEach(({ kind, values, title }, at) => {
    let shape = picture.children[at];
    if (shape?.tagName !== kind) {
      const made = svg(kind, {});
      made.append(svg("title", {}));
      if (shape) shape.replaceWith(made);
      else picture.append(made);
      shape = made;
    }
    for (const [name, value] of Object.entries(values)) {
      if (shape.getAttribute(name) !== String(value)) shape.setAttribute(name, String(value));
    }
    if (shape.firstChild && shape.firstChild.textContent !== title) shape.firstChild.textContent = title;
  });
  while (picture.children.length > shapes.length) picture.lastElementChild?.remove();
}
