// Reads the history of a run page by page and then follows it, for the list of events and the timeline.

const PAGE = 1000;
const PAUSE = 2000; // ms between two attempts to reach the server

/** @typedef {{id: string, type: string, at: string, node_id: string | null, data: Record<string, unknown>}} RunEvent */

/**
 * Pass on all events of a run, until the run has ended or the place has left the page. What is interrupted goes on where it was.
 * @param {HTMLElement} place its `data-events` is the address
 * @param {string[]} types
 * @param {(events: RunEvent[]) => void} add
 * @param {(problem: string) => void} refused there is no such history, or the reader may not see it
 */
export function readHistory(place, types, add, refused) {
  const href = place.dataset.events ?? "";
  let last = 0;
  /** @param {"on" | "off" | "none"} state */
  const connection = (state) => window.dispatchEvent(new CustomEvent("flowcraft-connection", { detail: state }));
  const changed = () => window.dispatchEvent(new CustomEvent("flowcraft-changed"));

  /** @param {RunEvent[]} events */
  function pass(events) {
    const fresh = events.filter((event) => Number(event.id) > last);
    const latest = fresh.at(-1);
    if (!latest) return;
    last = Number(latest.id);
    add(fresh);
  }

  async function load() {
    while (place.isConnected) {
      const answer = await fetch(`${href}?after=${last}&limit=${PAGE}`).catch(() => null);
      if (answer && answer.status >= 400 && answer.status < 500) return refused(String(answer.status));
      if (!answer || !answer.ok) {
        connection("off");
        await new Promise((go) => setTimeout(go, PAUSE));
        continue;
      }
      /** @type {{items: RunEvent[], next_after: string | null}} */
      const page = await answer.json();
      pass(page.items);
      if (page.next_after === null) return connection("none");
      if (page.items.length < PAGE) return follow();
    }
  }

  function follow() {
    const stream = new EventSource(`${href}?after=${last}`);
    let lost = false;
    stream.onopen = () => {
      connection("on");
      if (lost) changed();
      lost = false;
    };
    stream.onerror = () => {
      lost = true;
      if (!place.isConnected) return stream.close();
      connection("off");
      // The browser connects again by itself, but not after an answer that is no stream.
      if (stream.readyState === EventSource.CLOSED) setTimeout(load, PAUSE);
    };
    for (const type of types) {
      stream.addEventListener(type, (message) => {
        if (!place.isConnected) return stream.close();
        pass([JSON.parse(/** @type {MessageEvent} */ (message).data)]);
        changed();
      });
    }
    stream.addEventListener("end", () => {
      stream.close();
      connection("none");
      changed();
    });
  }

  load();
}
