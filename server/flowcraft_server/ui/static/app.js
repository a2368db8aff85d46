// What makes the pages live: navigation without a reload, updates that the server announces, forms that call the API, keys.
import { duration } from "./format.js";
import { morph } from "./morph.js";
import { followStreams } from "./stream.js";

const TYPES = ["run_started", "node_started", "node_completed", "node_retrying", "node_failed", "node_recovered", "node_skipped",
  "node_waiting", "node_resumed", "node_cancelled", "node_taken_over", "node_handed_back", "node_progress", "step_recorded", "step_failed", "custom",
  "signal_received", "cancel_requested", "child_abandoned", "parent_stopped", "run_closing", "node_compensating", "run_ended", "events_truncated", "unknown", "changed"];
// Ms between two updates of a page, at least.
const PAUSE = 100;
// Ms until the next attempt to reach a server that is away.
const RETRY = 2000;

/** @template {Element} T @param {string} selector @param {ParentNode} within @returns {T | null} */
const one = (selector, within = document) => /** @type {T | null} */ (within.querySelector(selector));
/** @param {string} selector @param {ParentNode} within @returns {HTMLElement[]} */
const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));

// ---- navigation and updates

let request = 0;
let updating = false;
let again = false;
let quietUntil = 0;
let retry = 0;

/** Put what the server says of an address on the page. @param {string} href @param {boolean} [keep] keep what is there if the server cannot say now @returns {Promise<boolean>} whether it is there now */
async function show(href, keep) {
  const mine = ++request;
  const answer = await fetch(href, { headers: { accept: "text/html" }, redirect: "follow" });
  if (keep && answer.status >= 500) throw new Error(String(answer.status));
  if (!(answer.headers.get("content-type") ?? "").startsWith("text/html")) {
    location.assign(href);
    return false;
  }
  const text = await answer.text();
  if (mine !== request) return false; // another page was asked for meanwhile
  const page = new DOMParser().parseFromString(text, "text/html");
  const main = one("main"), next = one("main", page);
  if (!main || !next || !one("header.bar nav", page) !== !one("header.bar nav")) {
    location.assign(href);
    return false;
  }
  if (answer.redirected) history.replaceState(null, "", answer.url);
  document.title = page.title;
  const bar = one("header.bar nav"), nextBar = one("header.bar nav", page);
  if (bar && nextBar) morph(bar, nextBar);
  morph(main, next);
  stale = false;
  connection(streamState);
  begin();
  return true;
}

/** Go to a page. @param {string} href */
async function go(href) {
  const url = new URL(href, location.href);
  const samePlace = url.pathname === location.pathname;
  try {
    history.pushState(null, "", url);
    if ((await show(url.href)) && !samePlace) {
      window.scrollTo(0, 0);
      one("main")?.dispatchEvent(new CustomEvent("shown"));
    }
  } catch {
    location.assign(url.href);
  }
}

/** Bring the page up to date; calls that come while that is under way are one more round. */
async function update() {
  if (updating) {
    again = true;
    return;
  }
  updating = true;
  try {
    do {
      again = false;
      const wait = quietUntil - performance.now();
      if (wait > 0) await new Promise((go) => setTimeout(go, wait));
      const before = performance.now();
      await show(location.href, true);
      quietUntil = performance.now() + Math.max(PAUSE, performance.now() - before);
    } while (again);
  } catch {
    later();
  } finally {
    updating = false;
  }
}

/** Try again to bring the page up to date, as the server or its Redis is away. */
function later() {
  stale = true;
  connection(streamState);
  retry ||= setTimeout(() => { retry = 0; update(); }, RETRY);
}

// ---- the connection on which the server announces changes

/** @type {EventSource | null} */
let source = null;
let listeningTo = "";
// Whether something may have been missed while the connection was away.
let lost = false;

let streamState = /** @type {"on" | "off" | "none"} */ ("none");
// Whether the last attempt to bring the page up to date has failed.
let stale = false;

/** @param {"on" | "off" | "none"} now how the stream of changes does */
function connection(now) {
  streamState = now;
  const place = one("[data-connection]");
  if (!(place instanceof HTMLElement)) return;
  const state = stale ? "off" : now;
  place.dataset.state = state;
  place.firstElementChild?.replaceChildren(state === "on" ? "Live" : state === "off" ? "Reconnecting" : "");
  document.body.classList.toggle("stale", state === "off");
}

function listen() {
  const place = one("main");
  const wanted = place?.getAttribute("data-live") ?? "";
  const where = wanted.split(/[?&]after=/)[0] ?? ""; // without the place from which on it is followed
  if (where === listeningTo && source && source.readyState !== EventSource.CLOSED) return;
  source?.close();
  source = null;
  listeningTo = where;
  if (!wanted) {
    if (!one("[data-events]")) connection("none");
    if (one("[data-retry]")) later();
    return;
  }
  const stream = new EventSource(wanted);
  source = stream;
  stream.onopen = () => {
    connection("on");
    if (lost) update(); // what changed while it was away
    lost = false;
  };
  stream.onerror = () => {
    if (stream !== source) return;
    lost = true;
    if (stream.readyState === EventSource.CLOSED) {
      source = null;
      connection("off");
      setTimeout(() => { if (!source) update().then(listen); }, RETRY);
    } else connection("off");
  };
  for (const type of TYPES) stream.addEventListener(type, () => update());
  stream.addEventListener("end", () => {
    stream.close();
    if (stream === source) {
      source = null;
      connection("none");
      update();
    }
  });
}

// ---- forms and buttons that call the API

/** @param {string} call such as `POST /api/v1/runs` @param {unknown} body @returns {Promise<{ok: boolean, answer: any}>} */
async function api(call, body) {
  const [method, href = ""] = call.split(" ");
  const answer = await fetch(href, {
    method,
    headers: body === undefined ? {} : { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  }).catch(() => null);
  if (!answer) return { ok: false, answer: { detail: "The server does not answer. Nothing was changed, as far as can be told." } };
  const text = await answer.text();
  let found = {};
  try {
    found = text ? JSON.parse(text) : {};
  } catch {
    found = { detail: `The server answered with ${answer.status}.` };
  }
  return { ok: answer.ok, answer: found };
}

/** The values of a form. @param {HTMLFormElement} form @returns {any} */
function valuesOf(form) {
  /** @type {Record<string, unknown>} */
  const values = {};
  let whole;
  for (const field of all("[data-field]", form)) {
    const name = field.dataset.field ?? "", kind = field.dataset.kind;
    const input = /** @type {HTMLInputElement} */ (field);
    let value;
    if (kind === "boolean") value = input.checked;
    else if (input.value === "") continue;
    else if (kind === "number" || kind === "integer") value = Number(input.value);
    else if (kind === "json" || kind === "choice") {
      try {
        value = JSON.parse(input.value);
      } catch (error) {
        throw new Error(`${name || "The text"} is no JSON: ${/** @type {Error} */ (error).message}`);
      }
    } else value = input.value;
    if (name === "") whole = value;
    else values[name] = value;
  }
  return whole === undefined ? values : whole;
}

/** @param {Element} place @param {any} problem */
function complain(place, problem) {
  const shown = one("[data-problem]", place);
  const lines = [problem.detail ?? "That did not work.", ...(problem.errors ?? []).slice(0, 8).map(
    (/** @type {any} */ each) => `${(each.loc ?? []).join(".")}: ${each.msg}`)];
  if (shown) {
    shown.textContent = lines.join("\n");
    shown.classList.remove("hidden");
    shown.setAttribute("role", "alert");
  } else ask("That did not work", lines.join("\n"), "");
}

/** @param {HTMLFormElement} form @param {HTMLElement | null} button */
async function submit(form, button) {
  const call = form.dataset.submit ?? "";
  let values;
  try {
    values = valuesOf(form);
  } catch (error) {
    complain(form, { detail: /** @type {Error} */ (error).message });
    return;
  }
  let body = values;
  if ("start" in form.dataset) body = { blueprint: form.dataset.start, ctx: values };
  if ("answer" in form.dataset) {
    const empty = typeof values === "object" && values !== null && !Object.keys(values).length;
    body = { payload: empty ? null : values };
    if (button instanceof HTMLButtonElement && button.value) body.action = button.value;
  }
  const buttons = all("button", form);
  buttons.forEach((each) => each.setAttribute("disabled", ""));
  const { ok, answer } = await api(call, body);
  buttons.forEach((each) => each.removeAttribute("disabled"));
  if (!ok) return complain(form, answer);
  form.closest("dialog")?.close();
  if ("gotoSame" in form.dataset) location.reload();
  else if (form.dataset.goto && answer.run_id) go(form.dataset.goto + encodeURIComponent(answer.run_id));
  else update();
}

/** @param {string} title @param {string} text @param {string} yes @returns {Promise<boolean>} */
function ask(title, text, yes) {
  const dialog = /** @type {HTMLDialogElement} */ (one("#ask"));
  const button = /** @type {HTMLButtonElement} */ (one("[data-yes]", dialog));
  one("h2", dialog)?.replaceChildren(title);
  one(".body", dialog)?.replaceChildren(text);
  button.textContent = yes;
  button.classList.toggle("hidden", !yes);
  one("[data-close]", dialog)?.replaceChildren(yes ? "Keep as it is" : "Close");
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((decide) => {
    button.onclick = () => dialog.close("yes");
    dialog.onclose = () => decide(dialog.returnValue === "yes");
  });
}

/** @param {HTMLElement} button */
async function call(button) {
  const { call: what = "", ask: question, askText = "", yes = "Yes", then } = button.dataset;
  if (question && !(await ask(question, askText, yes))) return;
  const { ok, answer } = await api(what, button.dataset.body ? JSON.parse(button.dataset.body) : what.startsWith("DELETE") ? undefined : {});
  if (!ok) return complain(document.createElement("div"), answer);
  if (then) location.assign(then);
  else update();
}

// ---- selections in lists

function chosenRuns() {
  return all('input[name="run"]:checked').map((box) => /** @type {HTMLInputElement} */ (box).value);
}

function showChosen() {
  const bar = one("[data-chosen]");
  if (!bar) return;
  const runs = chosenRuns();
  bar.classList.toggle("hidden", !runs.length);
  one("[data-chosen-count]", bar)?.replaceChildren(`${runs.length} selected`);
}

/** @param {HTMLElement} button */
async function bulk(button) {
  const runs = chosenRuns(), api_path = document.body.dataset.api ?? "", kind = button.dataset.bulk ?? "";
  const word = runs.length === 1 ? "run" : "runs";
  if (!(await ask(`${button.textContent?.trim()} ${runs.length} ${word}?`, "Those to which it cannot be done are left as they are, and named.", `${button.textContent?.trim()} ${runs.length} ${word}`))) return;
  const failed = [];
  for (const run of runs) {
    const [method, what] = kind.split(" ");
    const place = `${api_path}/runs/${encodeURIComponent(run)}`;
    const { ok, answer } = await api(what ? `${method} ${place}/${what}` : `${method} ${place}`, what ? {} : undefined);
    if (!ok) failed.push(`${run}: ${answer.detail}`);
  }
  all('input[name="run"]:checked').forEach((box) => { /** @type {HTMLInputElement} */ (box).checked = false; });
  showChosen();
  if (failed.length) await ask("Some were left out", failed.slice(0, 10).join("\n"), "");
  update();
}

// ---- times that go on

setInterval(() => {
  for (const place of all("[data-since]")) {
    const seconds = (Date.now() - Date.parse(place.dataset.since ?? "")) / 1000;
    if (seconds >= 0) place.textContent = duration(seconds);
  }
}, 1000);

// ---- clicks and keys

document.addEventListener("click", (event) => {
  const target = /** @type {Element} */ (event.target);
  const link = /** @type {HTMLAnchorElement | null} */ (target.closest("a[data-nav]"));
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
    event.preventDefault();
    go(link.href);
    return;
  }
  const button = /** @type {HTMLElement | null} */ (target.closest("button"));
  if (button) {
    if (button.dataset.call) call(button);
    if (button.dataset.bulk) bulk(button);
    if ("close" in button.dataset) button.closest("dialog")?.close();
    if (button.dataset.dialog) {
      const dialog = /** @type {HTMLDialogElement | null} */ (one(`#${button.dataset.dialog}`));
      const from = dialog && button.dataset.setFrom ? one('[data-field="from"]', dialog) : null;
      if (from instanceof HTMLSelectElement) from.value = button.dataset.setFrom ?? "";
      dialog?.showModal();
    }
    if ("themeSwitch" in button.dataset) {
      const root = document.documentElement;
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      try {
        localStorage.setItem("flowcraft-theme", root.dataset.theme);
      } catch {
        // It holds for this page then.
      }
    }
    return;
  }
  const row = /** @type {HTMLElement | null} */ (target.closest("tr[data-href]"));
  if (row && !target.closest("a, input, label") && !getSelection()?.toString()) go(row.dataset.href ?? "");
});

document.addEventListener("change", (event) => {
  const target = /** @type {HTMLInputElement} */ (event.target);
  if (target.matches("[data-all]")) {
    all('input[name="run"]').forEach((box) => { /** @type {HTMLInputElement} */ (box).checked = target.checked; });
  }
  if (target.matches('[data-all], input[name="run"]')) showChosen();
  if (target.matches("form[data-filter] select")) target.form?.requestSubmit();
});

document.addEventListener("submit", (event) => {
  const form = /** @type {HTMLFormElement} */ (event.target);
  if (form.dataset.submit) {
    event.preventDefault();
    submit(form, event.submitter);
  } else if (form.method === "get") {
    event.preventDefault();
    const query = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (typeof value === "string" && value) query.append(name, value);
    go(`${form.action.split("?")[0]}?${query}`);
  } else event.preventDefault();
});

let before = "";
/** @param {number} step */
function row(step) {
  const rows = all("tr[data-href], .lane:not(.axis)");
  const now = rows.findIndex((each) => each.classList.contains("at"));
  const next = rows[Math.min(rows.length - 1, Math.max(0, now < 0 ? 0 : now + step))];
  if (!next) return;
  rows.forEach((each) => each.classList.toggle("at", each === next));
  (/** @type {HTMLElement | null} */ (next.matches("a") ? next : next.querySelector("a")))?.focus();
}

const PLACES = /** @type {Record<string, string>} */ ({ o: "Overview", r: "Runs", w: "Waiting", b: "Blueprints", p: "Operations" });
document.addEventListener("keydown", (event) => {
  const target = /** @type {Element} */ (event.target);
  if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, dialog[open]")) return;
  const key = event.key, place = PLACES[key];
  if (before === "g" && place) {
    /** @type {HTMLElement | undefined} */ (all("header.bar nav a").find((link) => link.textContent?.startsWith(place)))?.click();
  } else if (key === "/") {
    event.preventDefault();
    /** @type {HTMLElement | null} */ (one('.find input'))?.focus();
  } else if (key === "?") /** @type {HTMLDialogElement} */ (one("#keys")).showModal();
  else if (key === "j") row(1);
  else if (key === "k") row(-1);
  else if (key === "Escape") /** @type {HTMLElement | null} */ (one('aside.side a[aria-label="Close"]'))?.click();
  before = before === "g" ? "" : key;
});

window.addEventListener("popstate", () => { show(location.href).catch(() => location.reload()); });
window.addEventListener("flowcraft-changed", () => { update(); });
window.addEventListener("flowcraft-connection", (event) => connection(/** @type {CustomEvent} */ (event).detail));

function begin() {
  // A page loads the scripts of what it has, no others.
  const graphs = all("[data-graph]"), lists = all(".events[data-events]"), timelines = all("[data-timeline]");
  const away = later;
  if (graphs.length) import("./graph.js").then(({ showGraph }) => graphs.forEach((place) => showGraph(place, go)), away);
  if (lists.length) import("./events.js").then(({ showEvents }) => lists.forEach((place) => showEvents(place, TYPES)), away);
  if (timelines.length) import("./timeline.js").then(({ showTimeline }) => timelines.forEach((place) => showTimeline(place, TYPES)), away);
  followStreams(all("[data-stream]"));
  showChosen();
  listen();
}
begin();
