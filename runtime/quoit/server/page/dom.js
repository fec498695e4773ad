// Helpers for elements. Texts only ever become text nodes, never markup.

export const $ = (id) => document.getElementById(id);

/** Make an element: `el("p", {class: "hint"}, "text", child)`. Properties that start with "on" are listeners. */
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

/** Make an SVG element. */
export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Set a text only if it is another one, so that screen readers do not repeat it. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Show an error as the server wrote it, with a button to try again; null hides it. */
export function showError(node, error, retry) {
  node.replaceChildren();
  node.hidden = error == null;
  if (error == null) return;
  node.append(el("p", {}, el("strong", {}, error.title ?? "Error"), " ", error.message));
  if (retry) node.append(el("button", { type: "button", onclick: retry }, "Try again"));
}

/** Return a function that calls another one once nothing has happened for some milliseconds. */
export function debounced(action, milliseconds) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(action, milliseconds, ...values);
  };
}

/** Return a signal for a new piece of work; the one before is given up. */
export function makeTurns() {
  let current = null;
  return () => {
    current?.abort();
    current = new AbortController();
    return current.signal;
  };
}

/** Return the value of the chosen radio button of a name. */
export const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

/** Call a function when another radio button of a name is chosen. */
export function onChosen(name, action) {
  for (const input of document.querySelectorAll(`input[name="${name}"]`)) input.addEventListener("change", action);
}

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const three = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

/** Write a count with separators: 12,345. */
export const count = (value) => whole.format(value);

/** Write a count with its noun: "1 line", "3 lines". */
export const counted = (value, noun, plural = `${noun}s`) => `${count(value)} ${value === 1 ? noun : plural}`;

/** Write a time with a unit: 0.84 ms, 14 ms, 1.2 s. */
export function duration(milliseconds) {
  if (milliseconds < 10) return `${milliseconds.toFixed(milliseconds < 1 ? 2 : 1)} ms`;
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${three.format(milliseconds / 1000)} s`;
}

/** Write a rate of tokens. */
export const rate = (value) => (value >= 100 ? count(value) : three.format(value));

/** Write a cosine with three digits and a real minus sign. */
export const cosine = (value) => value.toFixed(3).replace("-", "\u2212");

/** Return the middle value of a list. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Return an arrow for a move from one place to another: up, down, or a dash for none. */
export function arrow(before, after) {
  const moved = before - after;
  if (moved === 0) return el("span", { class: "move", title: "same place" }, "\u2013");
  const words = `${moved > 0 ? "up" : "down"} ${Math.abs(moved)}`;
  const sign = moved > 0 ? "\u25b2" : "\u25bc";
  return el(
    "span",
    { class: `move ${moved > 0 ? "up" : "down"}`, title: words },
    el("span", { "aria-hidden": "true" }, `${sign}${Math.abs(moved)}`),
    el("span", { class: "unseen" }, words),
  );
}

/** Connect tabs with their panels, with the keys of the ARIA pattern; the address keeps which one is open. */
export function setUpTabs(list, opened) {
  const tabs = [...list.querySelectorAll('[role="tab"]')];
  const panelOf = (tab) => $(tab.getAttribute("aria-controls"));
  const open = (tab, focus) => {
    for (const each of tabs) {
      const isOpen = each === tab;
      each.setAttribute("aria-selected", String(isOpen));
      each.tabIndex = isOpen ? 0 : -1;
      panelOf(each).hidden = !isOpen;
    }
    if (focus) tab.focus();
    history.replaceState(null, "", `#${panelOf(tab).id}`);
    opened(panelOf(tab).id);
  };
  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener("click", () => open(tab, false));
    tab.addEventListener("keydown", (event) => {
      const last = tabs.length - 1;
      const to = { ArrowRight: index === last ? 0 : index + 1, ArrowLeft: index ? index - 1 : last, Home: 0, End: last };
      if (!(event.key in to)) return;
      event.preventDefault();
      open(tabs[to[event.key]], true);
    });
  }
  const wanted = () => tabs.find((tab) => `#${panelOf(tab).id}` === location.hash);
  addEventListener("hashchange", () => wanted() && open(wanted(), false));
  open(wanted() ?? tabs[0], false);
}
