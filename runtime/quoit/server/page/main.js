// Begins the page: waits until the server has loaded its models, asks for a key if it wants one, starts the sections.

import { ask, hasKey, setKey } from "./api.js";
import { setUpCompare, startCompare } from "./compare.js";
import { $, say, setUpTabs } from "./dom.js";
import { setUpSearch, startSearch } from "./search.js";
import { setUpServer, startServer, watch } from "./server.js";
import { setUpTokens, startTokens } from "./tokens.js";

const LOADING = 503;
const KEY_WANTED = 401;
const PERIOD = 1000;
const CHECK_PERIOD = 15000;

let started = "";
let isKeyed = false;
let timer = 0;

/** Ask what the server is until it answers; then look again from time to time. */
async function connect() {
  clearTimeout(timer);
  let next = CHECK_PERIOD;
  try {
    const info = await ask("/info");
    const names = new Set([info.model_id, info.reranker].filter(Boolean));
    showState("ready", [...names].join(" and "), info.model_dtype);
    $("key-panel").hidden = true;
    say($("notice"), "");
    start(info);
  } catch (error) {
    if (error.status === KEY_WANTED) {
      askForKey(error);
      return;
    }
    const isLoading = error.status === LOADING;
    showState(isLoading ? "loading" : "away", isLoading ? "loading" : "not connected", "");
    say($("notice"), isLoading ? `${error.message}. This page goes on by itself.` : `${error.title} ${error.message} Trying again.`);
    next = PERIOD;
  }
  timer = setTimeout(connect, next);
}

/** Start the sections; again only if the server has other models now, so that no work of the user is lost. */
function start(info) {
  const what = JSON.stringify(info);
  if (what === started) {
    if (isKeyed !== hasKey()) startServer(info);
    isKeyed = hasKey();
    return;
  }
  started = what;
  isKeyed = hasKey();
  const hasEmbedder = info.dimension != null;
  for (const node of document.querySelectorAll(".no-embedder")) node.hidden = hasEmbedder;
  for (const node of document.querySelectorAll(".embedder")) node.hidden = !hasEmbedder;
  if (hasEmbedder) {
    startCompare(info);
    startSearch(info);
  }
  startTokens(info);
  startServer(info);
  watch(!$("server").hidden);
}

function showState(state, model, precision) {
  document.body.dataset.state = state;
  say($("state"), { ready: "ready", loading: "loading", away: "not connected", locked: "locked" }[state]);
  say($("model"), state === "ready" ? model : "");
  say($("precision"), precision);
}

function askForKey(error) {
  clearTimeout(timer);
  showState("locked", "", "");
  say($("notice"), "");
  say($("key-message"), hasKey() ? `The key was refused: ${error.message}.` : `${error.message}.`);
  if ($("key-panel").hidden) {
    $("key-panel").hidden = false;
    $("key").focus();
  }
}

function useKey() {
  setKey($("key").value);
  connect();
}

$("key-use").addEventListener("click", useKey);
$("key").addEventListener("keydown", (event) => {
  if (event.key === "Enter") useKey();
});
addEventListener("quoit-key", (event) => askForKey(event.detail));

setUpCompare();
setUpSearch();
setUpTokens();
setUpServer();
setUpTabs($("tabs"), (name) => watch(name === "server" && started !== ""));
connect();
