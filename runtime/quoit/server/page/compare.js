// The section Compare: cosines of queries and documents, with and without the instruction.

import { embed } from "./api.js";
import { $, arrow, chosen, cosine, count, counted, debounced, el, makeTurns, onChosen, say, showError } from "./dom.js";
import { DOCUMENTS, QUERIES } from "./examples.js";
import { bestFirst, bytesOf, cosines } from "./vectors.js";

const MOST_LINES = 40;
const vectors = { query: new Map(), document: new Map() };
const nextTurn = makeTurns();
let shown = null;

export function setUpCompare() {
	const update = debounced(run, 350);
	for (const [name, text] of [["queries", QUERIES], ["documents", DOCUMENTS]]) {
		const area = $(`compare-${name}`);
		area.value ||= text;
		area.addEventListener("input", () => (numberLines(area), update()));
		area.addEventListener("scroll", () => (area.previousSibling.scrollTop = area.scrollTop));
		numberLines(area);
	}
	$("compare-dimensions").addEventListener("input", draw);
	onChosen("compare-form", draw);
}

/** Set the bounds of the slider by what the model offers, and compare what is there. */
export function startCompare(info) {
	const slider = $("compare-dimensions");
	slider.min = info.min_dimension;
	slider.max = info.dimension;
	slider.value = info.dimension;
	vectors.query.clear();
	vectors.document.clear();
	run();
}

/** Write Q1, Q2, ... or D1, D2, ... beside the lines that are not empty. */
function numberLines(area) {
	const letter = area.id === "compare-queries" ? "Q" : "D";
	let index = 0;
	area.previousSibling.textContent = area.value.replace(/.*/g, (line) => (line.trim() ? `${letter}${++index}` : ""));
}

const linesOf = (name) => $(`compare-${name}`).value.split("\n").map((line) => line.trim()).filter(Boolean);

/** Embed new lines, and draw all of them. */
async function run() {
	const lines = [linesOf("queries"), linesOf("documents")];
	const [queries, documents] = lines.map((each) => each.slice(0, MOST_LINES));
	const isCut = lines.some((each) => each.length > MOST_LINES);
	say("compare-note", isCut ? `Only the first ${MOST_LINES} lines of each side are compared.` : "");
	const signal = nextTurn();
	try {
		await Promise.all([embedNew(queries, "query", signal), embedNew([...queries, ...documents], "document", signal)]);
	} catch (error) {
		if (!signal.aborted) showError("compare-error", error, run);
		return;
	}
	showError("compare-error", null);
	shown = { queries, documents };
	draw();
}

async function embedNew(texts, role, signal) {
	const missing = [...new Set(texts)].filter((text) => !vectors[role].has(text));
	if (!missing.length) return;
	const found = await embed(missing, role, { lane: "query", signal });
	missing.forEach((text, index) => vectors[role].set(text, found.vectors[index]));
}

/** Draw both maps and the changes of rank, without a request. */
function draw() {
	const slider = $("compare-dimensions");
	const [dimensions, most, form] = [Number(slider.value), Number(slider.max), chosen("compare-form")];
	const bytes = bytesOf(dimensions, form);
	const times = bytesOf(most, "float32") / bytes;
	say("compare-dimensions-value", `${dimensions} of ${most}`);
	say("compare-size", `${counted(bytes, "byte")} a vector${times > 1 ? `, ${times.toFixed(times < 10 ? 1 : 0)}\u00d7 smaller` : ""}`);
	if (!shown) return;
	const { queries, documents } = shown;
	$("compare-results").hidden = !queries.length || !documents.length;
	if ($("compare-results").hidden) return;
	const get = (role, texts) => texts.map((text) => vectors[role].get(text));
	const right = get("document", documents);
	const asQueries = get("query", queries);
	const withIt = cosines(asQueries, right, dimensions, form);
	const without = cosines(get("document", queries), right, dimensions, form);
	const values = [...withIt.flat(), ...without.flat()];
	const bounds = [Math.min(...values), Math.max(...values)];
	drawMap("compare-with", "With the instruction", withIt, bounds);
	drawMap("compare-without", "Without the instruction", without, bounds);
	const others = withIt.filter((row, index) => bestFirst(row)[0] !== bestFirst(without[index])[0]).length;
	const words = others ? `the best document of ${others} of ${counted(queries.length, "query", "queries")}` : "no best document here";
	say("compare-summary", `The instruction changes ${words}.`);
	drawRanks(cosines(asQueries, right, most, "float32"), withIt, dimensions === most && form === "float32");
}

/** Draw a map, and say how far the best document leads on average. */
function drawMap(id, words, rows, [least, most]) {
	const head = rows[0].map((_, index) => el("th", { scope: "col" }, `D${index + 1}`));
	let leads = 0;
	const body = rows.map((row, number) => {
		const [best, second = best] = bestFirst(row);
		leads += row[best] - row[second];
		const cells = row.map((value, index) => {
			const share = (value - least) / (most - least || 1);
			const title = `Q${number + 1} ${shown.queries[number]}\nD${index + 1} ${shown.documents[index]}\ncosine ${cosine(value)}`;
			const kind = `${index === best ? "best" : ""} ${share > 0.85 ? "hot" : ""}`;
			const cell = el("td", { class: kind, title }, el("span", {}, cosine(value, 2)));
			cell.style.setProperty("--heat", `${Math.round(share * 100)}%`);
			return cell;
		});
		return el("tr", {}, el("th", { scope: "row" }, `Q${number + 1}`), ...cells);
	});
	const lead = el("span", { class: "hint" }, `the best document leads by ${cosine(leads / rows.length)} on average`);
	const table = el("table", { class: "map" }, el("thead", {}, el("tr", {}, el("td"), ...head)), el("tbody", {}, ...body));
	const scroll = el("div", { class: "scroll", role: "region", "aria-label": words, tabindex: 0 }, table);
	$(id).replaceChildren(el("figcaption", {}, words, lead), scroll);
}

/** List each query's documents in order, and how far each has moved. */
function drawRanks(before, after, isReference) {
	let [moved, others] = [0, 0];
	const rows = after.map((row, number) => {
		const old = bestFirst(before[number]);
		const items = bestFirst(row).map((document, place) => {
			const from = old.indexOf(document);
			moved += Number(from !== place);
			others += Number(place === 0 && from !== 0);
			return el("li", { title: shown.documents[document] }, `D${document + 1}`, from === place ? null : arrow(from, place));
		});
		const query = el("th", { scope: "row" }, el("span", { class: "label" }, `Q${number + 1}`), shown.queries[number]);
		return el("tr", {}, query, el("td", {}, el("ol", { class: "order" }, ...items)));
	});
	$("compare-ranks").replaceChildren(...rows);
	const changes = `${count(moved)} of ${counted(before.flat().length, "place")} and ${others} of ${counted(rows.length, "best document")}`;
	const reference = "This is the reference: all dimensions in float32. Move the slider, or choose other numbers.";
	say("compare-ranks-summary", isReference ? reference : `Changed against all dimensions in float32: ${changes}.`);
}
