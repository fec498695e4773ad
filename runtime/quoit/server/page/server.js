// The section Server: what the server is doing, from its metrics, and examples for other programs.

import { hasKey, send } from "./api.js";
import { $, chosen, count, counted, duration, el, onChosen, rate, say, showError, svg } from "./dom.js";
import { buckets, parseMetrics, quantile, select, total } from "./prometheus.js";
import { snippets } from "./snippets.js";

const PERIOD = 2000;
const MOST_POINTS = 60;

let isOpen = false;
let timer = 0;
let samples = null;
let before = null;
const rates = [];

/** Prepare the section. */
export function setUpServer() {
  onChosen("server-lane", () => samples && drawHistogram());
  $("server-copy").addEventListener("click", copy);
  document.addEventListener("visibilitychange", () => watch(isOpen));
}

/** Write what is served, and the examples. */
export function startServer(info) {
  const rows = [
    ["Model", info.model_id],
    ["Precision", info.model_dtype],
    ["Dimensions", info.dimension == null ? null : `${count(info.min_dimension ?? info.dimension)} to ${count(info.dimension)}`],
    ["Longest text", counted(info.max_input_length, "token")],
    ["Texts a request", count(info.max_client_batch_size)],
    ["Reranker", info.reranker ?? "none"],
    ["quoit", info.version],
  ].filter(([, value]) => value != null);
  $("server-facts").replaceChildren(...rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  drawSnippets(info);
}

/** Ask for the metrics every two seconds while the section can be seen. */
export function watch(open) {
  isOpen = open;
  clearTimeout(timer);
  if (open && !document.hidden) update();
}

async function update() {
  clearTimeout(timer);
  try {
    samples = parseMetrics(await send("/metrics"));
    showError($("server-error"), null);
    draw();
  } catch (error) {
    showError($("server-error"), error);
  }
  clearTimeout(timer);
  if (isOpen && !document.hidden) timer = setTimeout(update, PERIOD);
}

function draw() {
  const given = total(samples, "quoit_tokens_total", { kind: "given" });
  const computed = total(samples, "quoit_tokens_total", { kind: "computed" });
  const now = performance.now();
  if (before && now - before.at < 3 * PERIOD) {
    rates.push(Math.max(given - before.given, 0) / ((now - before.at) / 1000));
    if (rates.length > MOST_POINTS) rates.shift();
  } else {
    rates.length = 0;
  }
  before = { at: now, given };
  const rows = total(samples, "quoit_queue_rows");
  say($("server-queue"), count(total(samples, "quoit_queue_tokens")));
  say($("server-queue-detail"), rows ? `${counted(rows, "text")} waiting` : "nothing is waiting");
  say($("server-rate"), rates.length ? rate(rates.at(-1)) : "\u2013");
  say($("server-rate-detail"), `${count(given)} in all`);
  say($("server-saved"), given ? `${Math.max(0, 100 * (1 - computed / given)).toFixed(1)} %` : "\u2013");
  say($("server-saved-detail"), `${count(Math.max(given - computed, 0))} of ${counted(given, "token")} not computed`);
  const requests = select(samples, "quoit_requests_total");
  const failed = requests.filter((sample) => Number(sample.labels.status) >= 400);
  say($("server-requests"), count(requests.reduce((sum, sample) => sum + sample.value, 0)));
  say($("server-requests-detail"), `${count(failed.reduce((sum, sample) => sum + sample.value, 0))} with an error`);
  say($("server-cut"), count(total(samples, "quoit_truncated_texts_total")));
  say($("server-prompts"), count(total(samples, "quoit_cached_prompts")));
  say($("server-prompts-detail"), `${counted(total(samples, "quoit_cached_prompt_tokens"), "token")} kept`);
  drawRates();
  drawHistogram();
}

function drawRates() {
  const most = Math.max(...rates, 1);
  const points = rates.map((value, index) => `${(index * 120) / (MOST_POINTS - 1)},${(23 - (22 * value) / most).toFixed(2)}`);
  const line = svg("polyline", { points: points.join(" "), class: "spark" });
  $("server-spark").replaceChildren(...(rates.length > 1 ? [line] : []));
}

/** Draw the times of the requests that a model answered. */
function drawHistogram() {
  const lane = chosen("server-lane");
  const wanted = lane === "all" ? ["query", "bulk"] : [lane];
  const found = wanted.map((each) => buckets(samples, "quoit_request_seconds", { lane: each })).filter((each) => each.length);
  const all = (found[0] ?? []).map((bucket, index) => ({
    upTo: bucket.upTo,
    count: found.reduce((sum, each) => sum + each[index].count, 0),
  }));
  const answered = all.reduce((sum, bucket) => sum + bucket.count, 0);
  $("server-no-times").hidden = answered > 0;
  $("server-histogram").hidden = !answered;
  for (const share of [50, 95, 99]) {
    say($(`server-p${share}`), answered ? duration(1000 * quantile(all, share / 100)) : "\u2013");
  }
  say($("server-answered"), count(answered));
  if (!answered) return;
  const first = Math.max(all.findIndex((bucket) => bucket.count) - 1, 0);
  const last = Math.min(all.findLastIndex((bucket) => bucket.count) + 1, all.length - 1);
  const visible = all.slice(first, last + 1);
  const most = Math.max(...visible.map((bucket) => bucket.count));
  const bars = visible.map(({ upTo, count: value }, index) => {
    const from = first + index ? all[first + index - 1].upTo : 0;
    const bar = el("span", { class: "fill" });
    bar.style.setProperty("block-size", `${(100 * value) / most}%`);
    const words = upTo === Infinity ? `over ${duration(1000 * from)}` : duration(1000 * upTo);
    const title = `${counted(value, "request")}, ${upTo === Infinity ? words : `${duration(1000 * from)} to ${words}`}`;
    return el("li", { title }, el("span", { class: "count" }, value ? count(value) : ""), el("span", { class: "column" }, bar), el("span", { class: "edge" }, words));
  });
  $("server-histogram").replaceChildren(...bars);
}

function drawSnippets(info) {
  const origin = location.origin;
  const found = snippets({ origin, model: info.model_id, reranker: info.reranker, hasKey: hasKey() });
  const old = document.querySelector('input[name="snippet"]:checked')?.value ?? "curl";
  const choices = Object.keys(found).map((name) =>
    el("label", {}, el("input", { type: "radio", name: "snippet", value: name, checked: name === old }), el("span", {}, name)),
  );
  $("server-snippets").replaceChildren(...choices);
  const show = () => {
    $("server-snippet").textContent = found[chosen("snippet")];
    $("server-copied").textContent = "";
  };
  onChosen("snippet", show);
  show();
}

/** Copy the example; where the browser's clipboard is closed to plain HTTP, select it instead. */
async function copy() {
  const node = $("server-snippet");
  try {
    await navigator.clipboard.writeText(node.textContent);
    $("server-copied").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(node);
    $("server-copied").textContent = "Selected; copy it with your keyboard";
  }
}
