// Helpers for elements. Texts only ever become text nodes, never markup.

export const $ = (id) => document.getElementById(id);

/** Make an element: `el("p", {class: "hint"}, "text", child)`. Attributes that start with "on" are listeners. */
export function el(name, attributes = {}, ...children) {
	const node = document.createElement(name);
	for (const [key, value] of Object.entries(attributes)) {
		if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
		else node.setAttribute(key, value);
	}
	node.append(...children.filter((child) => child != null));
	return node;
}

/** Set a text only if it is another one, so that screen readers do not repeat it. */
export function say(id, text) {
	if ($(id).textContent !== text) $(id).textContent = text;
}

/** Fill a description list with rows of name, value, class, and a detail. */
export function describe(id, rows) {
	const items = rows.map(([name, value, kind = "", detail = null]) =>
		el("div", { class: kind }, el("dt", {}, name), el("dd", {}, value), detail && el("dd", { class: "hint" }, detail)),
	);
	$(id).replaceChildren(...items);
}

/** Show an error as the server wrote it, with a button to try again; null hides it. */
export function showError(id, error, retry) {
	const node = $(id);
	node.hidden = !error;
	node.replaceChildren();
	if (!error) return;
	node.append(el("p", {}, el("strong", {}, error.title ?? "Error:"), " ", error.message));
	if (retry) node.append(el("button", { onclick: retry }, "Try again"));
}

/** Return a function that calls another one after a pause. */
export function debounced(action, milliseconds) {
	let timer = 0;
	return () => {
		clearTimeout(timer);
		timer = setTimeout(action, milliseconds);
	};
}

/** Return a function that gives a signal for new work, and aborts the work before. */
export function makeTurns() {
	let current = null;
	return () => {
		current?.abort();
		current = new AbortController();
		return current.signal;
	};
}

/** Fill the fieldsets that name their values with radio buttons. */
export function setUpChoices() {
	for (const set of document.querySelectorAll("fieldset")) {
		const { name, values } = set.dataset;
		const choices = values.split(",").map((value, index) => {
			const input = el("input", { type: "radio", name, value });
			input.checked = index === 0;
			return el("label", {}, input, el("span", {}, value));
		});
		set.append(el("div", {}, ...choices));
	}
}

/** Return the value that is chosen of a fieldset. */
export const chosen = (name) => document.querySelector(`[name="${name}"]:checked`).value;

/** Call a function when another value of a fieldset is chosen. */
export function onChosen(name, action) {
	document.querySelector(`[data-name="${name}"]`).addEventListener("change", action);
}

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** Write a count with separators: 12,345. */
export const count = (value) => whole.format(value);

/** Write a count with its noun: "1 line", "3 lines". */
export const counted = (value, noun, plural = `${noun}s`) => `${count(value)} ${value === 1 ? noun : plural}`;

/** Write a time with a unit: 0.8 ms, 14 ms, 1.21 s. */
export function duration(milliseconds) {
	if (milliseconds >= 1000) return `${(milliseconds / 1000).toPrecision(3)} s`;
	return milliseconds < 0.1 ? "under 0.1 ms" : `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
}

/** Write a cosine with a real minus sign, and none before zero. */
export function cosine(value, digits = 3) {
	const text = value.toFixed(digits);
	return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "\u2212");
}

/** Return an arrow for a move from one place to another. */
export function arrow(before, after) {
	const moved = before - after;
	const words = moved ? `${moved > 0 ? "up" : "down"} ${Math.abs(moved)}` : "same place";
	const sign = moved ? `${moved > 0 ? "\u25b2" : "\u25bc"}${Math.abs(moved)}` : "\u2013";
	const kind = moved ? words.split(" ")[0] : "";
	return el("span", { class: `move ${kind}`, title: words, role: "img", "aria-label": words }, sign);
}

/** Connect tabs with their panels, with the keys of the ARIA pattern; the address keeps which one is open. */
export function setUpTabs(list, opened) {
	const tabs = [...list.children];
	const nameOf = (tab) => tab.getAttribute("aria-controls");
	const open = (tab) => {
		for (const each of tabs) {
			each.setAttribute("aria-selected", each === tab);
			each.tabIndex = each === tab ? 0 : -1;
			$(nameOf(each)).hidden = each !== tab;
		}
		opened(nameOf(tab));
	};
	const choose = (tab) => {
		open(tab);
		history.replaceState(null, "", `#${nameOf(tab)}`);
	};
	for (const [index, tab] of tabs.entries()) {
		tab.addEventListener("click", () => choose(tab));
		tab.addEventListener("keydown", (event) => {
			const to = { ArrowRight: (index + 1) % tabs.length, ArrowLeft: index - 1, Home: 0, End: -1 }[event.key];
			if (to === undefined) return;
			event.preventDefault();
			choose(tabs.at(to));
			tabs.at(to).focus();
		});
	}
	open(tabs.find((tab) => `#${nameOf(tab)}` === location.hash) ?? tabs[0]);
}
