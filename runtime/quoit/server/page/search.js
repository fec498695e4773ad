// The section Search: a text is cut into passages, embedded, and searched as one types.

import { ask, embed } from "./api.js";
import { chunk } from "./chunks.js";
import { $, arrow, cosine, count, counted, debounced, duration, el, makeTurns, say, showError } from "./dom.js";
import { QUERY, TEXT } from "./examples.js";
import { bestFirst, dot } from "./vectors.js";

const BATCH = 32;
const TOP = 10;
const RANKING_PAUSE = 180;
const REMEMBERED = 20;

const embedded = new Map();
const latencies = [];
const searchTurn = makeTurns();
const rankTurn = makeTurns();
let passages = [];
let reranker = null;
let embedding = null;

export function setUpSearch() {
	$("search-text").value ||= TEXT;
	$("search-query").value ||= QUERY;
	for (const id of ["search-text", "search-size"]) $(id).addEventListener("input", drawSource);
	$("search-file").addEventListener("change", (event) => readFile(event.target.files[0]));
	$("search-choose").addEventListener("click", () => $("search-file").click());
	$("search-start").addEventListener("click", () => (embedding ? embedding.abort() : embedText()));
	$("search-query").addEventListener("input", debounced(search, 120));
	for (const kind of ["dragover", "dragleave", "drop"]) {
		$("search-drop").addEventListener(kind, (event) => {
			if (kind === "drop" && !event.dataTransfer.files.length) return;
			event.preventDefault();
			$("search-drop").classList.toggle("over", kind === "dragover");
			if (kind === "drop") readFile(event.dataTransfer.files[0]);
		});
	}
	drawSource();
}

/** Note what the server has. */
export function startSearch(info) {
	reranker = info.reranker;
	$("search-reranker").hidden = !reranker;
	embedded.clear();
	passages = [];
	drawSource();
}

async function readFile(file) {
	if (!file) return;
	try {
		const bytes = await file.arrayBuffer();
		$("search-text").value = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
		showError("search-error", null);
	} catch (error) {
		showError("search-error", error instanceof TypeError ? new Error(`${file.name} is not UTF-8 text`) : error);
	}
	$("search-file").value = "";
	drawSource();
}

const cut = () => [...new Set(chunk($("search-text").value, Math.min(Math.max($("search-size").value, 80), 8000)))];

/** Say how many passages there are, and what is still to do. */
function drawSource() {
	const found = cut();
	const missing = found.filter((text) => !embedded.has(text)).length;
	const isBegun = missing < found.length;
	say("search-start", embedding ? "Stop" : missing && isBegun ? "Continue" : "Embed");
	$("search-start").disabled = !embedding && !missing;
	say("search-count", counted(found.length, "passage") + (isBegun ? `, ${missing ? `${count(missing)} to embed` : "all embedded"}` : ""));
}

/** Embed the passages that are new, in batches; what is done stays when a request fails or is stopped. */
async function embedText() {
	const found = cut();
	const missing = found.filter((text) => !embedded.has(text));
	const bar = $("search-progress");
	const { signal } = (embedding = new AbortController());
	const started = performance.now();
	let tokens = 0;
	showError("search-error", null);
	drawSource();
	bar.hidden = false;
	bar.max = missing.length;
	bar.value = 0;
	try {
		while (bar.value < missing.length) {
			const batch = missing.slice(bar.value, bar.value + BATCH);
			const answer = await embed(batch, "document", { lane: "bulk", signal });
			batch.forEach((text, index) => embedded.set(text, answer.vectors[index]));
			tokens += answer.tokens;
			const milliseconds = performance.now() - started;
			bar.value += batch.length;
			say("search-speed", `${counted(tokens, "token")} in ${duration(milliseconds)} \u00b7 ${count((1000 * tokens) / milliseconds)} tokens/s`);
		}
	} catch (error) {
		if (!signal.aborted) showError("search-error", error, embedText);
	}
	embedding = null;
	bar.hidden = true;
	passages = found.filter((text) => embedded.has(text));
	drawSource();
	search();
}

/** Embed the query and show the nearest passages; an older query is given up. */
async function search() {
	const query = $("search-query").value.trim();
	const signal = searchTurn();
	rankTurn();
	if (!query || !passages.length) {
		for (const id of ["search-results", "rerank-results"]) $(id).replaceChildren();
		say("search-times", passages.length ? "Type a query." : "Embed the text first.");
		return;
	}
	const started = performance.now();
	let vector;
	try {
		[vector] = (await embed([query], "query", { lane: "query", signal })).vectors;
	} catch (error) {
		if (!signal.aborted) showError("search-query-error", error, search);
		return;
	}
	const answered = performance.now();
	const scores = passages.map((text) => dot(vector, embedded.get(text)));
	const found = bestFirst(scores).slice(0, TOP).map((index) => ({ text: passages[index], score: scores[index] }));
	const compared = performance.now();
	showError("search-query-error", null);
	latencies.unshift(answered - started);
	latencies.splice(REMEMBERED);
	const median = [...latencies].sort((a, b) => a - b)[latencies.length >> 1];
	const latency = el("strong", { id: "search-latency" }, duration(answered - started));
	const others = `median of ${latencies.length}: ${duration(median)} \u00b7 ${counted(passages.length, "passage")} compared in ${duration(compared - answered)}`;
	$("search-times").replaceChildren(latency, others);
	$("search-results").replaceChildren(...found.map((one) => result(one.text, cosine(one.score), one.score)));
	if (reranker) rank(query, found);
}

/** Show the reranker's order of what was found. */
async function rank(query, found) {
	const signal = rankTurn();
	const list = $("rerank-results");
	list.classList.add("old");
	await new Promise((resolve) => setTimeout(resolve, RANKING_PAUSE));
	if (signal.aborted) return;
	const started = performance.now();
	const body = { query, documents: found.map((one) => one.text), return_documents: false, model: reranker };
	let answer;
	try {
		answer = await ask("/rerank", { body, lane: "query", signal });
	} catch (error) {
		if (!signal.aborted) showError("rerank-error", error, () => rank(query, found));
		return;
	}
	showError("rerank-error", null);
	say("rerank-time", ` \u00b7 ranked in ${duration(performance.now() - started)}`);
	list.classList.remove("old");
	const items = answer.results.map(({ index, relevance_score: score }, place) =>
		result(found[index].text, `${(100 * score).toFixed(1)} %`, score, arrow(index, place)),
	);
	list.replaceChildren(...items);
}

function result(text, value, share, move) {
	const bar = el("span", { class: "bar" }, el("span"));
	bar.firstChild.style.setProperty("width", `${100 * Math.min(Math.max(share, 0), 1)}%`);
	const [, heading, rest] = /^(?:#+\s+(.*)\n*)?([^]*)$/.exec(text);
	const words = el("p", {}, heading ? el("strong", {}, `${heading}\n`) : null, rest.replace(/\n+/g, "\n"));
	return el("li", {}, el("div", { class: "numbers" }, move, el("span", { class: "score" }, value), bar), words);
}
