// The section Server: what the server is doing, from its metrics, and examples for other programs.

import { hasKey, send } from "./api.js";
import { $, chosen, count, counted, describe, duration, el, onChosen, say, showError } from "./dom.js";
import { buckets, parseMetrics, quantile, total } from "./prometheus.js";
import { snippets } from "./snippets.js";

const PERIOD = 2000;
let served = null;
let isOpen = false;
let timer = 0;
let samples = [];
let before = null;

export function setUpServer() {
	onChosen("server-lane", drawTimes);
	onChosen("snippet", drawSnippet);
	$("server-copy").addEventListener("click", copy);
	document.addEventListener("visibilitychange", () => watch(isOpen));
}

/** Write what is served, and the examples. */
export function startServer(info) {
	served = info;
	const rows = [
		["Model", info.model_id],
		["Precision", info.model_dtype],
		["Dimensions", info.dimension && `${count(info.min_dimension)} to ${count(info.dimension)}`],
		["Longest text", counted(info.max_input_length, "token")],
		["Reranker", info.reranker ?? "none"],
		["Version", info.version],
	];
	describe("server-facts", rows.filter(([, value]) => value));
	drawSnippet();
}

/** Ask for the metrics every two seconds while the section can be seen. */
export function watch(open) {
	isOpen = open;
	clearTimeout(timer);
	if (open && !document.hidden) update();
}

async function update() {
	try {
		samples = parseMetrics(await send("/metrics"));
		showError("server-error", null);
		drawTiles();
		drawTimes();
	} catch (error) {
		showError("server-error", error);
	}
	clearTimeout(timer);
	if (isOpen && !document.hidden) timer = setTimeout(update, PERIOD);
}

function drawTiles() {
	const given = total(samples, "quoit_tokens_total", { kind: "given" });
	const saved = given - total(samples, "quoit_tokens_total", { kind: "computed" });
	const requests = samples.filter((sample) => sample.name === "quoit_requests_total");
	const failed = requests.filter((sample) => sample.labels.status >= 400);
	const waiting = total(samples, "quoit_queue_rows");
	const tiles = [
		["Queue, tokens", count(total(samples, "quoit_queue_tokens")), waiting ? `${counted(waiting, "text")} waiting` : "nothing is waiting"],
		["Tokens a second", rateOf(given), `${count(given)} in all`],
		["Saved by sharing", given ? `${((100 * saved) / given).toFixed(1)} %` : "\u2013", `${count(saved)} of ${counted(given, "token")} not computed`],
		["Requests", count(total(requests, "quoit_requests_total")), `${count(total(failed, "quoit_requests_total"))} with an error`],
	];
	describe("server-tiles", tiles.map(([name, value, detail]) => [name, value, "card", detail]));
}

/** Return the tokens a second since the metrics before. */
function rateOf(given) {
	const now = { at: performance.now(), given };
	const seconds = (now.at - before?.at) / 1000;
	const words = seconds < (3 * PERIOD) / 1000 ? count((given - before.given) / seconds) : "\u2013";
	before = now;
	return words;
}

/** Draw the times of the requests that a model answered. */
function drawTimes() {
	const lane = chosen("server-lane");
	const all = buckets(samples, "quoit_request_seconds", (labels) => (lane === "all" ? labels.lane !== "none" : labels.lane === lane));
	const answered = all.reduce((sum, bucket) => sum + bucket.count, 0);
	const at = (share) => (answered ? duration(1000 * quantile(all, share)) : "\u2013");
	describe("server-times", [["median", at(0.5)], ["95 %", at(0.95)], ["99 %", at(0.99)], ["requests", count(answered)]]);
	const first = Math.max(all.findIndex((bucket) => bucket.count) - 1, 0);
	const visible = answered ? all.slice(first, all.findLastIndex((bucket) => bucket.count) + 2) : [];
	const most = Math.max(...visible.map((bucket) => bucket.count));
	const bars = visible.map(({ from, upTo, count: value }) => {
		const bar = el("span", { class: "fill" });
		bar.style.setProperty("height", `${(100 * value) / most}%`);
		const edge = upTo === Infinity ? "more" : duration(1000 * upTo);
		const title = `${counted(value, "request")}, ${duration(1000 * from)} to ${edge}`;
		return el("li", { title }, el("span", {}, value ? count(value) : ""), el("span", { class: "column" }, bar), el("span", { class: "edge" }, edge));
	});
	$("server-histogram").replaceChildren(...bars);
}

function drawSnippet() {
	if (!served) return;
	const { model_id, dimension, reranker } = served;
	const model = dimension && model_id;
	const found = snippets({ origin: location.origin, model, reranker, hasKey: hasKey() });
	$("server-snippet").textContent = found[chosen("snippet")];
	say("server-copied", "");
}

/** Copy the example; where the browser closes its clipboard to plain HTTP, select it instead. */
async function copy() {
	const node = $("server-snippet");
	try {
		await navigator.clipboard.writeText(node.textContent);
		say("server-copied", "Copied");
	} catch {
		getSelection().selectAllChildren(node);
		say("server-copied", "Selected; copy it with your keyboard");
	}
}
