// The text that the chosen node streams, as it comes.

const MOST = 300000; // characters of a text that are shown, the latest
const DIRECTIONS = /[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g; // as in formats.py

/** @typedef {{id: string, type: string, attempt?: number, text?: string, part?: string, status?: string}} Item */
/** @typedef {{after: string, busy: boolean, ended: boolean, attempt: number, source: EventSource | null, parts: Map<string, Text>}} Followed */

/** @type {Map<HTMLElement, Followed>} */
const followed = new Map();

/**
 * Show what nodes stream; those that are on the page no more are left.
 * @param {HTMLElement[]} places
 */
export function followStreams(places) {
  for (const [place, now] of followed) {
    if (places.includes(place)) continue;
    now.source?.close();
    followed.delete(place);
  }
  for (const place of places) {
    let now = followed.get(place);
    if (!now) {
      now = { after: "0-0", busy: false, ended: false, attempt: 1, source: null, parts: new Map() };
      followed.set(place, now);
    }
    if (!now.busy && !now.ended) follow(place, now);
  }
}

/** Read what there is, and go on with what comes while the node runs. @param {HTMLElement} place @param {Followed} now */
async function follow(place, now) {
  now.busy = true;
  try {
    const answer = await fetch(`${place.dataset.stream}?after=${now.after}`);
    if (!answer.ok) return;
    /** @type {{items: Item[], next_after: string | null}} */
    const page = await answer.json();
    for (const item of page.items) take(place, now, item);
    now.ended = page.next_after === null;
    if (!now.ended && place.dataset.state === "running" && followed.get(place) === now) listen(place, now);
  } catch {
    // The next update of the page tries again.
  } finally {
    now.busy = now.source !== null;
  }
}

/** @param {HTMLElement} place @param {Followed} now */
function listen(place, now) {
  const stream = new EventSource(`${place.dataset.stream}?after=${now.after}`);
  now.source = stream;
  for (const type of ["started", "text", "gap", "end"]) {
    stream.addEventListener(type, (event) => {
      const message = /** @type {MessageEvent} */ (event);
      take(place, now, { id: message.lastEventId, type, ...JSON.parse(message.data) });
      if (type !== "end") return;
      now.ended = true;
      stop();
    });
  }
  const stop = () => {
    stream.close();
    now.source = null;
    now.busy = false;
  };
  stream.addEventListener("problem", stop);
  stream.onerror = () => { if (stream.readyState === EventSource.CLOSED) stop(); };
}

/** @param {HTMLElement} place @param {Followed} now @param {Item} item */
function take(place, now, item) {
  now.after = item.id;
  if (item.type === "started") {
    now.parts.clear();
    now.attempt = item.attempt ?? 1;
    place.replaceChildren();
    place.hidden = true;
  } else if (item.type === "text") add(place, now, item.part ?? "", item.text ?? "");
  else if (item.type === "gap") add(place, now, Array.from(now.parts.keys()).pop() ?? "", "[...]");
}

/** @param {HTMLElement} place @param {Followed} now @param {string} part @param {string} text */
function add(place, now, part, text) {
  let node = now.parts.get(part);
  if (!node) {
    const title = document.createElement("h2"), shown = document.createElement("pre");
    title.textContent = `Streamed${part ? ` ${part}` : ""}${now.attempt > 1 ? `, attempt ${now.attempt}` : ""}`;
    shown.className = "streamed";
    shown.tabIndex = 0;
    node = document.createTextNode("");
    shown.append(node);
    place.append(title, shown);
    place.hidden = false;
    now.parts.set(part, node);
  }
  const box = /** @type {HTMLElement} */ (node.parentElement);
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  node.appendData(text.replace(DIRECTIONS, (mark) => `\\u${mark.charCodeAt(0).toString(16)}`));
  if (node.length > MOST) node.deleteData(0, node.length - MOST);
  if (atEnd) box.scrollTop = box.scrollHeight;
}
