// The section Tokens: what the model reads of a text.

import { ask, wasAborted } from "./api.js";
import { $, chosen, count, counted, debounced, el, makeTurns, onChosen, showError } from "./dom.js";

const MOST_SHOWN = 2000;
const EXAMPLE = "How do I get my money back?\nI paid 49.90 \u20ac for a na\u00efve caf\u00e9 order. \ud83d\ude00";
const nextTurn = makeTurns();
let around = null;
let found = null;

/** Prepare the section. */
export function setUpTokens() {
  const area = $("tokens-text");
  if (!area.value) area.value = EXAMPLE;
  area.addEventListener("input", debounced(run, 250));
  onChosen("tokens-prompt", run);
  $("tokens-limit").addEventListener("input", draw);
  $("tokens-ids").addEventListener("change", () => $("tokens-list").classList.toggle("with-ids", $("tokens-ids").checked));
}

/** Note the model's limit, and show what is there. */
export function startTokens(info) {
  $("tokens-limit").max = $("tokens-limit").value = info.max_input_length;
  around = null;
  run();
}

/** Ask for the tokens of the text, of the prompt alone, and of a letter, which shows the tokens around each text. */
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
    const promptEnd = Math.max(0, ...prompt.map((token) => token.stop));
    found = { text, tokens, promptEnd };
  } catch (error) {
    if (!wasAborted(error)) showError($("tokens-error"), error, run);
    return;
  }
  showError($("tokens-error"), null);
  draw();
}

/** Draw the tokens with the place where the limit cuts them. */
function draw() {
  if (!found) return;
  const { tokens, promptEnd, text } = found;
  const { before, after } = around;
  const limit = Number($("tokens-limit").value) || Number($("tokens-limit").max);
  const room = Math.max(limit - before.length - after.length, 0);
  const ofPrompt = tokens.filter((token) => token.start < promptEnd).length;
  const lost = Math.max(tokens.length - room, 0);
  drawNumbers({ prompt: ofPrompt, text: tokens.length - ofPrompt, around: before.length + after.length, limit, lost });
  const kept = tokens.slice(0, room);
  const list = [
    ...before.map((token) => chip(token, "around")),
    ...chips(kept.slice(0, MOST_SHOWN), promptEnd),
    kept.length > MOST_SHOWN ? el("li", { class: "gap" }, `\u2026 ${count(kept.length - MOST_SHOWN)} more`) : null,
    ...after.map((token) => chip(token, "around")),
    lost ? el("li", { class: "cut" }, `cut here: ${counted(lost, "token")} lost`) : null,
    ...chips(tokens.slice(room, room + MOST_SHOWN / 4), promptEnd, "lost"),
    lost > MOST_SHOWN / 4 ? el("li", { class: "gap" }, `\u2026 ${count(lost - MOST_SHOWN / 4)} more`) : null,
  ];
  $("tokens-list").replaceChildren(...list.filter(Boolean));
  const isReadToEnd = !tokens.length || tokens.at(-1).stop - promptEnd >= [...text].length;
  $("tokens-note").textContent = isReadToEnd ? "" : "The text is so long that the server did not read its end.";
}

function drawNumbers(numbers) {
  for (const [name, value] of Object.entries(numbers)) $(`tokens-count-${name}`).textContent = count(value);
  const sent = Math.min(numbers.prompt + numbers.text + numbers.around, numbers.limit);
  $("tokens-count-total").textContent = count(sent);
}

function chips(tokens, promptEnd, kind = "") {
  return tokens.map((token, index) => {
    const isRest = index > 0 && tokens[index - 1].start === token.start && tokens[index - 1].stop === token.stop;
    return chip(token, `${kind} ${token.start < promptEnd ? "prompt" : ""}`, isRest);
  });
}

/** Make a token: spaces and ends of lines get a sign; the second and later tokens of one character have a dot. */
function chip(token, kind, isRest = false) {
  const text = isRest ? "\u00b7" : token.text.replace(/ /g, "\u2423").replace(/\t/g, "\u21e5").replace(/\r?\n/g, "\u23ce");
  const title = isRest ? `a further token of ${token.text}` : JSON.stringify(token.text);
  return el("li", { class: kind.trim(), title }, el("span", { class: "text" }, text), el("span", { class: "id" }, String(token.id)));
}
