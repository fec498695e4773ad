// The section Search: a text is cut into passages, embedded, and searched as one types.

import { ask, embed, wasAborted } from "./api.js";
import { chunk } from "./chunks.js";
import { $, arrow, cosine, count, counted, debounced, duration, el, makeTurns, median, rate, showError } from "./dom.js";
import { QUERY, TEXT } from "./examples.js";
import { bestFirst, dot } from "./vectors.js";

const BATCH = 32;
const TOP = 10;
const TYPING_PAUSE = 120;
const RANKING_PAUSE = 180;
const REMEMBERED = 20;
const MOST_BYTES = 20e6;

const embedded = new Map();
const latencies = [];
const searchTurn = makeTurns();
const rankTurn = makeTurns();
let passages = [];
let reranker = null;
let embedding = null;

/** Prepare the section. */
export function setUpSearch() {
  const area = $("search-text");
  if (!area.value) area.value = TEXT;
  if (!$("search-query").value) $("search-query").value = QUERY;
  for (const name of ["search-text", "search-size"]) $(name).addEventListener("input", drawSource);
  $("search-file").addEventListener("change", (event) => readFile(event.target.files[0]));
  $("search-choose").addEventListener("click", () => $("search-file").click());
  $("search-start").addEventListener("click", () => (embedding ? embedding.abort() : embedText()));
  $("search-query").addEventListener("input", debounced(search, TYPING_PAUSE));
  setUpDrop($("search-drop"));
  drawSource();
}

/** Note what the server has. */
export function startSearch(info) {
  reranker = info.reranker;
  $("search-reranker").hidden = !reranker;
  $("search-columns").classList.toggle("alone", !reranker);
  $("search-reranker-name").textContent = reranker ?? "";
  embedded.clear();
  passages = [];
}

function setUpDrop(zone) {
  const mark = (event, isOver) => {
    event.preventDefault();
    zone.classList.toggle("over", isOver);
  };
  zone.addEventListener("dragover", (event) => mark(event, true));
  zone.addEventListener("dragleave", (event) => mark(event, false));
  zone.addEventListener("drop", (event) => {
    mark(event, false);
    const file = event.dataTransfer.files[0];
    const text = event.dataTransfer.getData("text/plain");
    if (file) readFile(file);
    else if (text) setText(text);
  });
}

async function readFile(file) {
  if (!file) return;
  try {
    if (!/\.(txt|md|markdown)$/i.test(file.name)) throw new Error(`${file.name} is no .txt or .md file`);
    if (file.size > MOST_BYTES) throw new Error(`${file.name} has more than ${count(MOST_BYTES / 1e6)} MB`);
    setText(new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer()));
    showError($("search-error"), null);
  } catch (error) {
    const isEncoding = error instanceof TypeError;
    showError($("search-error"), isEncoding ? new Error(`${file.name} is not UTF-8 text`) : error);
  }
  $("search-file").value = "";
}

function setText(text) {
  $("search-text").value = text;
  drawSource();
}

const cut = () => chunk($("search-text").value, Math.min(Math.max(Number($("search-size").value) || 500, 80), 8000));

/** Say how many passages there are, and what is still to do. */
function drawSource() {
  const found = cut();
  const missing = found.filter((text) => !embedded.has(text)).length;
  const start = $("search-start");
  start.textContent = embedding ? "Stop" : missing && missing < found.length ? "Continue" : "Embed";
  start.disabled = !embedding && !missing;
  const done = found.length && !missing ? ", all embedded" : missing < found.length ? `, ${count(missing)} to embed` : "";
  $("search-count").textContent = found.length ? `${counted(found.length, "passage")}${done}` : "No text yet";
}

/** Embed the passages that are new, in batches; what is done stays when a request fails or is stopped. */
async function embedText() {
  const found = cut();
  const missing = [...new Set(found)].filter((text) => !embedded.has(text));
  const bar = $("search-progress");
  embedding = new AbortController();
  showError($("search-error"), null);
  drawSource();
  bar.hidden = false;
  bar.max = missing.length;
  bar.value = 0;
  const started = performance.now();
  let tokens = 0;
  try {
    for (let from = 0; from < missing.length; from += BATCH) {
      const batch = missing.slice(from, from + BATCH);
      const answer = await embed(batch, "document", { lane: "bulk", signal: embedding.signal });
      for (const [index, text] of batch.entries()) embedded.set(text, answer.vectors[index]);
      tokens += answer.tokens;
      const milliseconds = performance.now() - started;
      bar.value = from + batch.length;
      $("search-speed").textContent = `${count(tokens)} tokens in ${duration(milliseconds)} \u00b7 ${rate((tokens / milliseconds) * 1000)} tokens/s`;
    }
  } catch (error) {
    if (!wasAborted(error)) showError($("search-error"), error, embedText);
  }
  embedding = null;
  bar.hidden = true;
  passages = [...new Set(found)].filter((text) => embedded.has(text));
  drawSource();
  search();
}

/** Embed the query and show the nearest passages; an older query is given up. */
async function search() {
  const query = $("search-query").value.trim();
  const signal = searchTurn();
  rankTurn();
  if (!query || !passages.length) {
    clearResults(passages.length ? "Type a query." : "Embed the text first, then type.");
    return;
  }
  const started = performance.now();
  let vector;
  try {
    vector = (await embed([query], "query", { lane: "query", signal })).vectors[0];
  } catch (error) {
    if (!wasAborted(error)) showError($("search-query-error"), error, search);
    return;
  }
  const answered = performance.now();
  const scores = passages.map((text) => dot(vector, embedded.get(text)));
  const top = bestFirst(scores).slice(0, TOP);
  const compared = performance.now();
  showError($("search-query-error"), null);
  $("search-hint").hidden = true;
  latencies.push(answered - started);
  if (latencies.length > REMEMBERED) latencies.shift();
  $("search-latency").textContent = duration(answered - started);
  $("search-median").textContent = `median of ${latencies.length}: ${duration(median(latencies))}`;
  $("search-compared").textContent = `${counted(passages.length, "passage")} compared in ${duration(compared - answered)}`;
  const found = top.map((index) => ({ text: passages[index], score: scores[index] }));
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
  const body = { query, documents: found.map((one) => one.text), return_documents: false };
  let answer;
  try {
    answer = await ask("/rerank", { body, lane: "query", signal });
  } catch (error) {
    if (!wasAborted(error)) showError($("rerank-error"), error, () => rank(query, found));
    return;
  }
  showError($("rerank-error"), null);
  $("rerank-latency").textContent = duration(performance.now() - started);
  list.classList.remove("old");
  list.replaceChildren(
    ...answer.results.map(({ index, relevance_score: score }, place) =>
      result(found[index].text, `${(100 * score).toFixed(1)} %`, score, arrow(index, place)),
    ),
  );
}

function result(text, value, share, move = null) {
  const bar = el("span", { class: "bar", "aria-hidden": "true" }, el("span"));
  bar.firstChild.style.setProperty("inline-size", `${Math.min(Math.max(share, 0), 1) * 100}%`);
  const numbers = el("div", { class: "numbers" }, move, el("span", { class: "score" }, value), bar);
  return el("li", {}, numbers, el("p", {}, text));
}

function clearResults(words) {
  $("search-hint").hidden = false;
  $("search-hint").textContent = words;
  for (const name of ["search-results", "rerank-results"]) $(name).replaceChildren();
  for (const name of ["search-latency", "search-median", "search-compared", "rerank-latency"]) $(name).textContent = "";
  for (const name of ["search-query-error", "rerank-error"]) showError($(name), null);
}
