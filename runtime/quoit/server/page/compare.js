// The section Compare: cosines of queries and documents, with and without the instruction.

import { embed, wasAborted } from "./api.js";
import { $, arrow, chosen, cosine, count, counted, debounced, el, makeTurns, onChosen, showError } from "./dom.js";
import { DOCUMENTS, QUERIES } from "./examples.js";
import { bestFirst, bytesOf, cosines } from "./vectors.js";

const MOST_LINES = 40;
const vectors = new Map();
const nextTurn = makeTurns();
let shown = null;

const keyOf = (role, text) => `${role}\n${text}`;
const signed = (value) => (value > 0 ? "+" : "") + cosine(value);

/** Prepare the section. */
export function setUpCompare() {
  const update = debounced(run, 350);
  for (const [name, text, letter] of [["queries", QUERIES, "Q"], ["documents", DOCUMENTS, "D"]]) {
    const area = $(`compare-${name}`);
    if (!area.value) area.value = text;
    const number = () => numberLines(area, $(`compare-${name}-numbers`), letter);
    area.addEventListener("input", () => (number(), update()));
    area.addEventListener("scroll", () => ($(`compare-${name}-numbers`).scrollTop = area.scrollTop));
    number();
  }
  $("compare-dimensions").addEventListener("input", draw);
  onChosen("compare-form", draw);
}

/** Set the bounds of the slider by what the model offers, and compare what is there. */
export function startCompare(info) {
  const slider = $("compare-dimensions");
  slider.min = info.min_dimension ?? 1;
  slider.max = slider.value = info.dimension;
  $("compare-least").textContent = count(slider.min);
  $("compare-most").textContent = count(slider.max);
  vectors.clear();
  run();
}

/** Write Q1, Q2, ... beside the lines that are not empty. */
function numberLines(area, numbers, letter) {
  let index = 0;
  const labels = area.value.split("\n").map((line) => (line.trim() ? `${letter}${++index}` : ""));
  numbers.textContent = labels.join("\n");
}

const linesOf = (name) => $(`compare-${name}`).value.split("\n").map((line) => line.trim()).filter(Boolean);

/** Embed the lines that are new, and draw all of them. */
async function run() {
  const [queries, documents] = [linesOf("queries"), linesOf("documents")].map((lines) => lines.slice(0, MOST_LINES));
  const isCut = linesOf("queries").length > MOST_LINES || linesOf("documents").length > MOST_LINES;
  const signal = nextTurn();
  $("compare-note").textContent = isCut ? `Only the first ${MOST_LINES} lines of each side are compared.` : "";
  try {
    await Promise.all([
      embedNew(queries, "query", signal),
      embedNew([...queries, ...documents], "document", signal),
    ]);
  } catch (error) {
    if (!wasAborted(error)) showError($("compare-error"), error, run);
    return;
  }
  showError($("compare-error"), null);
  shown = { queries, documents };
  draw();
}

async function embedNew(texts, role, signal) {
  const missing = [...new Set(texts)].filter((text) => !vectors.has(keyOf(role, text)));
  if (!missing.length) return;
  const found = await embed(missing, role, { lane: "query", signal });
  for (const [index, text] of missing.entries()) vectors.set(keyOf(role, text), found.vectors[index]);
}

/** Draw both maps and the changes of rank; nothing is asked of the server. */
function draw() {
  const dimensions = Number($("compare-dimensions").value);
  const most = Number($("compare-dimensions").max);
  const form = chosen("compare-form");
  $("compare-dimensions-value").textContent = count(dimensions);
  const bytes = bytesOf(dimensions, form);
  const times = bytesOf(most, "float32") / bytes;
  const saved = times > 1 ? `, ${times >= 10 ? Math.round(times) : times.toFixed(1)}\u00d7 smaller` : "";
  $("compare-size").textContent = `${counted(bytes, "byte")} a vector${saved}`;
  if (!shown) return;
  const { queries, documents } = shown;
  const isEmpty = !queries.length || !documents.length;
  $("compare-empty").hidden = !isEmpty;
  $("compare-results").hidden = isEmpty;
  if (isEmpty) return;
  const get = (role, texts) => texts.map((text) => vectors.get(keyOf(role, text)));
  const right = get("document", documents);
  const sides = { with: get("query", queries), without: get("document", queries) };
  const maps = {};
  for (const [name, left] of Object.entries(sides)) maps[name] = cosines(left, right, dimensions, form);
  const values = [...maps.with.flat(), ...maps.without.flat()];
  const bounds = [Math.min(...values), Math.max(...values)];
  drawScale(bounds);
  for (const name of ["with", "without"]) drawMap($(`compare-${name}`), maps[name], bounds);
  drawSummary(maps);
  drawRanks(cosines(sides.with, right, most, "float32"), maps.with, dimensions === most && form === "float32");
}

function drawScale([least, most]) {
  $("compare-scale-least").textContent = cosine(least);
  $("compare-scale-most").textContent = cosine(most);
}

function drawMap(table, rows, [least, most]) {
  const head = el("tr", {}, el("td"), ...rows[0].map((_, index) => el("th", { scope: "col" }, `D${index + 1}`)));
  const body = rows.map((row, number) => {
    const best = bestFirst(row)[0];
    const cells = row.map((value, index) => {
      const share = (value - least) / (most - least || 1);
      const cell = el("td", { class: index === best ? "best" : "" }, el("span", {}, value.toFixed(2).replace("-", "\u2212")));
      cell.style.setProperty("--heat", `${Math.round(share * 100)}%`);
      if (share > 0.62) cell.classList.add("hot");
      cell.title = `Q${number + 1} and D${index + 1}: ${cosine(value)}\n${shown.queries[number]}\n${shown.documents[index]}`;
      return cell;
    });
    return el("tr", {}, el("th", { scope: "row", title: shown.queries[number] }, `Q${number + 1}`), ...cells);
  });
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...body);
}

/** Say how far the best document leads, with and without the instruction. */
function drawSummary(maps) {
  const lead = (rows) => {
    const leads = rows.map((row) => {
      const order = bestFirst(row);
      return row[order[0]] - row[order[1]];
    });
    return leads.reduce((sum, value) => sum + value, 0) / leads.length;
  };
  for (const name of ["with", "without"]) {
    const text = maps[name][0].length > 1 ? `best document leads by ${cosine(lead(maps[name]))} on average` : "";
    $(`compare-${name}-lead`).textContent = text;
  }
  const others = maps.with.filter((row, index) => bestFirst(row)[0] !== bestFirst(maps.without[index])[0]).length;
  const words = others
    ? `The instruction changes the best document of ${others} of ${counted(maps.with.length, "query", "queries")}.`
    : "The instruction changes no best document here.";
  $("compare-summary").textContent = words;
}

/** List each query's documents in order, and how far each has moved from the order at full precision. */
function drawRanks(before, after, isReference) {
  let moved = 0;
  let changedBest = 0;
  const rows = after.map((row, number) => {
    const [old, order] = [bestFirst(before[number]), bestFirst(row)];
    moved += order.filter((document, place) => old[place] !== document).length;
    changedBest += Number(old[0] !== order[0]);
    const items = order.map((document, place) => {
      const from = old.indexOf(document);
      const words = `${shown.documents[document]}\ncosine ${cosine(row[document])}, ${signed(row[document] - before[number][document])}`;
      return el("li", { title: words, class: from === place ? "" : "moved" }, `D${document + 1}`, from === place ? null : arrow(from, place));
    });
    const name = el("th", { scope: "row" }, el("span", { class: "label" }, `Q${number + 1}`), " ", shown.queries[number]);
    return el("tr", {}, name, el("td", {}, el("ol", { class: "order" }, ...items)));
  });
  $("compare-ranks").tBodies[0].replaceChildren(...rows);
  const places = after.length * after[0].length;
  const words = isReference
    ? "This is the reference: all dimensions in float32. Move the slider or choose another form."
    : moved
      ? `${count(moved)} of ${counted(places, "place")} changed against all dimensions in float32; the best document changed for ${changedBest} of ${after.length}.`
      : "No document changed its place against all dimensions in float32.";
  $("compare-ranks-summary").textContent = words;
}
