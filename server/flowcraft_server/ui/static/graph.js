// Pan, zoom, find and the small map of a graph. The picture itself comes from the server.

const FAR = 0.5; // below this scale words cannot be read, and boxes show colours alone
const NEAREST = 2, FARTHEST = 0.03;
const WIDTH = 196; // of a node that is not opened
const NARROW = 600; // pixels in which a whole graph can seldom be read
const EDGE = 12;

/** @type {WeakMap<Element, () => void>} */
const begun = new WeakMap();

/**
 * Make a graph movable; where that was done before, show again what an update of the page has taken away.
 * @param {HTMLElement} place
 * @param {(href: string) => Promise<void>} go
 */
export function showGraph(place, go) {
  const again = begun.get(place);
  if (again) return again();
  const svg = /** @type {SVGSVGElement} */ (place.querySelector("svg"));
  const view = /** @type {SVGGElement} */ (svg.querySelector("[data-view]"));
  const frame = place.querySelector(".map .view");
  const scene = { width: Number(place.dataset.width), height: Number(place.dataset.height) };
  let x = 0, y = 0, scale = 1;

  function move() {
    view.setAttribute("transform", `translate(${x.toFixed(1)},${y.toFixed(1)}) scale(${scale.toFixed(4)})`);
    svg.classList.toggle("far", scale < FAR);
    const box = svg.getBoundingClientRect();
    frame?.setAttribute("x", String(-x / scale));
    frame?.setAttribute("y", String(-y / scale));
    frame?.setAttribute("width", String(box.width / scale));
    frame?.setAttribute("height", String(box.height / scale));
    const whole = -x <= 1 && -y <= 1 && scene.width * scale + x <= box.width + 1 && scene.height * scale + y <= box.height + 1;
    place.querySelector(".map")?.classList.toggle("hidden", whole);
  }

  function fit() {
    scene.width = Number(place.dataset.width);
    scene.height = Number(place.dataset.height);
    const box = svg.getBoundingClientRect();
    scale = Math.min(1.15, Math.max(FARTHEST, Math.min(box.width / scene.width, box.height / scene.height)));
    x = Math.max(0, (box.width - scene.width * scale) / 2);
    y = Math.max(0, (box.height - scene.height * scale) / 2);
    move();
  }

  /** @param {number} factor @param {number} atX @param {number} atY */
  function zoom(factor, atX, atY) {
    const next = Math.min(NEAREST, Math.max(FARTHEST, scale * factor));
    x = atX - ((atX - x) * next) / scale;
    y = atY - ((atY - y) * next) / scale;
    scale = next;
    move();
  }

  /** @param {Element} node */
  function centre(node) {
    zoom(Math.max(1, 0.9 / scale), 0, 0);
    const box = svg.getBoundingClientRect(), at = headOf(node);
    x += (box.left + box.right - at.left - at.right) / 2;
    y += (box.top + box.bottom - at.top - at.bottom) / 2;
    move();
  }

  /** Where the head of a node is on the screen: an opened one goes on below it. @param {Element} node */
  function headOf(node) {
    const strip = node.querySelector(".strip"), at = (strip ?? node).getBoundingClientRect();
    return { left: at.left, right: strip ? at.left + WIDTH * scale : at.right, top: at.top, bottom: at.bottom };
  }

  /** Bring a node that was opened into sight, without its head leaving it. @param {Element} node */
  function reveal(node) {
    const box = svg.getBoundingClientRect();
    let at = node.getBoundingClientRect();
    const fits = Math.min((box.width - 2 * EDGE) / at.width, (box.height - 2 * EDGE) / at.height);
    zoom(Math.min(1, Math.max(fits, FAR / scale)), at.left - box.left, at.top - box.top);
    at = node.getBoundingClientRect();
    x += Math.max(box.left + EDGE - at.left, Math.min(0, box.right - EDGE - at.right));
    y += Math.max(box.top + EDGE - at.top, Math.min(0, box.bottom - EDGE - at.bottom));
    move();
  }

  /** @type {Map<number, {x: number, y: number}>} */
  const held = new Map();
  let moved = 0, most = 4;
  svg.addEventListener("pointerdown", (event) => {
    held.set(event.pointerId, { x: event.clientX, y: event.clientY });
    moved = 0;
    most = event.pointerType === "touch" ? 10 : 4; // a finger is never quite still
  });
  svg.addEventListener("pointermove", (event) => {
    const last = held.get(event.pointerId);
    if (!last) return;
    const [other, third] = Array.from(held).filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    if (other && !third) {
      const box = svg.getBoundingClientRect();
      const gap = Math.hypot(event.clientX - other.x, event.clientY - other.y);
      const was = Math.hypot(last.x - other.x, last.y - other.y);
      if (was > 0) zoom(gap / was, (event.clientX + other.x) / 2 - box.left, (event.clientY + other.y) / 2 - box.top);
    } else {
      x += event.clientX - last.x;
      y += event.clientY - last.y;
      moved += Math.abs(event.clientX - last.x) + Math.abs(event.clientY - last.y);
      if (moved > most && !svg.classList.contains("held")) {
        svg.classList.add("held");
        svg.setPointerCapture(event.pointerId);
      }
      move();
    }
    held.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  for (const end of ["pointerup", "pointercancel"]) {
    svg.addEventListener(end, (event) => {
      held.delete(/** @type {PointerEvent} */ (event).pointerId);
      svg.classList.remove("held");
    });
  }
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 240), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });

  /** @param {EventTarget | null} target */
  const nodeOf = (target) => (target instanceof Element ? target.closest("[data-href]") : null);
  let toggled = "";
  /** Choose a node, or open or close one. @param {Element} node */
  function choose(node) {
    toggled = node.matches(".toggle") ? node.getAttribute("data-key")?.slice(2) ?? "" : "";
    go(node.getAttribute("data-href") ?? "");
  }
  svg.addEventListener("click", (event) => {
    const node = nodeOf(event.target);
    if (node && moved <= most) choose(node);
  });
  svg.addEventListener("keydown", (event) => {
    const node = nodeOf(event.target);
    const box = svg.getBoundingClientRect(), step = 60;
    const keys = /** @type {Record<string, () => void>} */ ({
      ArrowLeft: () => { x += step; }, ArrowRight: () => { x -= step; }, ArrowUp: () => { y += step; }, ArrowDown: () => { y -= step; },
      "+": () => zoom(1.25, box.width / 2, box.height / 2), "-": () => zoom(0.8, box.width / 2, box.height / 2), 0: fit,
    });
    const key = keys[event.key];
    if (node && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      choose(node);
    } else if (key) {
      event.preventDefault();
      key();
      move();
    }
  });
  svg.addEventListener("focusin", (event) => {
    const node = nodeOf(event.target);
    if (!node || !node.matches(":focus-visible")) return;
    const at = headOf(node), box = svg.getBoundingClientRect();
    if (at.left < box.left || at.right > box.right || at.top < box.top || at.bottom > box.bottom) centre(node);
  });
  place.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? /** @type {HTMLElement | null} */ (event.target.closest("[data-zoom]")) : null;
    const box = svg.getBoundingClientRect();
    if (button?.dataset.zoom === "fit") fit();
    else if (button) zoom(button.dataset.zoom === "in" ? 1.3 : 1 / 1.3, box.width / 2, box.height / 2);
    const map = event.target instanceof Element ? event.target.closest(".map svg") : null;
    const matrix = map instanceof SVGSVGElement ? map.getScreenCTM() : null;
    if (matrix) {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
      x = box.width / 2 - point.x * scale;
      y = box.height / 2 - point.y * scale;
      move();
    }
  });
  const find = /** @type {HTMLInputElement | null} */ (place.querySelector("[data-find]"));
  /** @param {boolean} go whether to move to the first one */
  function mark(go) {
    const text = find?.value.trim().toLowerCase() ?? "";
    let first = go;
    for (const node of Array.from(svg.querySelectorAll("[data-node]"))) {
      const found = text !== "" && (node.getAttribute("data-node") ?? "").toLowerCase().includes(text);
      node.classList.toggle("found", found);
      if (found && first) {
        centre(node);
        first = false;
      }
    }
    if (text === "" && go) fit();
  }
  find?.addEventListener("input", () => mark(true));
  /** A small graph does not need the whole height. @param {number} least @param {number} wanted */
  function heighten(least, wanted) {
    place.style.height = `${Math.round(Math.max(least, Math.min(wanted + 40, innerHeight * 0.68)))}px`;
  }
  /** @type {Element | null} */
  let seen = null;
  /** In a narrow window the panel of the chosen node covers what is below: bring the node to where it can be seen. */
  function attend() {
    const chosen = svg.querySelector(".node.chosen");
    if (chosen && chosen !== seen && svg.getBoundingClientRect().width < NARROW) {
      place.scrollIntoView();
      centre(chosen);
    }
    seen = chosen;
  }
  begun.set(place, () => {
    mark(false);
    attend();
    const width = Number(place.dataset.width), height = Number(place.dataset.height);
    if (width === scene.width && height === scene.height) return;
    Object.assign(scene, { width, height });
    heighten(place.clientHeight, height * scale);
    move();
    const opened = toggled && svg.querySelector(`.node.open[data-key="n:${CSS.escape(toggled)}"]`);
    toggled = "";
    if (opened) reveal(opened);
  });
  const space = svg.getBoundingClientRect().width, narrow = space < NARROW;
  heighten(260, scene.height * (narrow ? 0.9 : Math.min(1.15, space / scene.width)));
  new ResizeObserver(() => move()).observe(svg);
  fit();
  const first = svg.querySelector(".node.chosen") ?? (narrow ? svg.querySelector(".s-failed, .s-running, .s-waiting") ?? svg.querySelector(".node") : null);
  if (first && scale < FAR) centre(first);
  attend();
}
