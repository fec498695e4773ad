// The section Tokens: what the model reads of a text.

import { ask } from "./api.js";
import { $, chosen, count, counted, debounced, describe, el, makeTurns, onChosen, showError } from "./dom.js";

const MOST_SHOWN = 2000;
const MOST_BESIDE_CUT = 240;
const LAST_SHOWN = 60;
const EXAMPLE = "How do I get my money back?\nI paid 49.90 \u20ac for a na\u00efve caf\u00e9 order. \ud83d\ude00";
const nextTurn = makeTurns();
let around = null;
let found = null;

export function setUpTokens() {
	$("tokens-text").value ||= EXAMPLE;
	$("tokens-text").addEventListener("input", debounced(run, 250));
	onChosen("tokens-prompt", run);
	$("tokens-limit").addEventListener("input", draw);
}

/** Note the model's limit, and show what is there. */
export function startTokens(info) {
	$("tokens-limit").max = $("tokens-limit").value = info.max_input_length;
	around = null;
	run();
}

/** Ask for the tokens of the text, of the prompt, and of a letter, which shows what is around each text. */
async function run() {
	const signal = nextTurn();
	const text = $("tokens-text").value;
	const name = chosen("tokens-prompt");
	const body = { inputs: ["", text], add_special_tokens: false, prompt_name: name === "none" ? null : name };
	try {
		if (!around) {
			const [tokens] = await ask("/tokenize", { body: { inputs: ["a"] }, signal });
			const first = tokens.findIndex((token) => !token.special);
			around = { before: tokens.slice(0, first), after: tokens.slice(first).filter((token) => token.special) };
		}
		const [prompt, tokens] = await ask("/tokenize", { body, signal });
		found = { tokens, promptEnd: Math.max(0, ...prompt.map((token) => token.stop)) };
	} catch (error) {
		if (!signal.aborted) showError("tokens-error", error, run);
		return;
	}
	showError("tokens-error", null);
	draw();
}

/** Draw the tokens with the place where the limit cuts them. */
function draw() {
	if (!found) return;
	const { tokens, promptEnd } = found;
	const { before, after } = around;
	const limit = Number($("tokens-limit").value || $("tokens-limit").max);
	const room = Math.max(limit - before.length - after.length, 0);
	const ofPrompt = tokens.filter((token) => token.start < promptEnd).length;
	const lost = Math.max(tokens.length - room, 0);
	const read = before.length + tokens.length - lost + after.length;
	describe("tokens-counts", [
		["prompt", count(ofPrompt), "prompt"],
		["text", count(tokens.length - ofPrompt)],
		["special", count(before.length + after.length)],
		["lost", count(lost), lost ? "lost" : ""],
		["read", `${count(read)} of ${count(limit)}`],
	]);
	const chips = tokens.map((token, index) => {
		const kind = `${index >= room ? "lost" : ""} ${token.start < promptEnd ? "prompt" : ""}`;
		return () => chip(token, kind, index > 0 && tokens[index - 1].stop === token.stop);
	});
	const most = lost ? MOST_BESIDE_CUT : MOST_SHOWN;
	const shown = (some) => {
		if (some.length <= most) return some.map((make) => make());
		const gap = el("li", { class: "hint" }, `\u2026 ${count(some.length - most)} more \u2026`);
		const ends = [some.slice(0, most - LAST_SHOWN), some.slice(-LAST_SHOWN)];
		const [start, end] = ends.map((part) => part.map((make) => make()));
		return [...start, gap, ...end];
	};
	$("tokens-list").replaceChildren(
		...before.map((token) => chip(token, "around")),
		...shown(chips.slice(0, room)),
		...after.map((token) => chip(token, "around")),
		lost ? el("li", { class: "cut" }, `cut here: ${counted(lost, "token")} lost`) : "",
		...shown(chips.slice(room)),
	);
}

/** Make a token: spaces and ends of lines get a sign; the second and later tokens of one character have a dot. */
function chip(token, kind, isRest = false) {
	const plain = token.special ? token.text.replace(/\u0120/g, " ").replace(/\u010a/g, "\n") : token.text;
	const text = isRest ? "\u00b7" : plain.replace(/ /g, "\u2423").replace(/\t/g, "\u21e5").replace(/\r?\n/g, "\u23ce");
	return el("li", { class: kind, title: JSON.stringify(token.text) }, el("span", { class: "text" }, text), el("span", { class: "id" }, token.id));
}
