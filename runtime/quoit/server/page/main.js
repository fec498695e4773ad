// Begins the page: waits until the server has loaded its models, asks for a key if it wants one, starts the sections.

import { ask, hasKey, setKey } from "./api.js";
import { setUpCompare, startCompare } from "./compare.js";
import { $, say, setUpChoices, setUpTabs } from "./dom.js";
import { setUpSearch, startSearch } from "./search.js";
import { setUpServer, startServer, watch } from "./server.js";
import { setUpTokens, startTokens } from "./tokens.js";

const UNREADY_PERIOD = 1000;
const READY_PERIOD = 15000;
let started = "";
let timer = 0;

/** Ask what the server is until it answers; then look again from time to time. */
async function connect() {
	clearTimeout(timer);
	try {
		const info = await ask("/info");
		showState("ready", [...new Set([info.model_id, info.reranker])].filter(Boolean).join(" and "));
		say("notice", "");
		$("key-panel").hidden = true;
		start(info);
		timer = setTimeout(connect, READY_PERIOD);
	} catch (error) {
		if (error.status === 401) return;
		const isLoading = error.status === 503 && error.message.includes("loading");
		showState(isLoading ? "loading" : "not connected");
		say("notice", `${isLoading ? "" : error.title} ${error.message}. This page tries again by itself.`);
		timer = setTimeout(connect, UNREADY_PERIOD);
	}
}

/** Start the sections; again only if the server has other models now, so that no work of the user is lost. */
function start(info) {
	startServer(info);
	const what = JSON.stringify(info);
	if (what === started) return;
	started = what;
	const hasEmbedder = info.dimension != null;
	for (const node of document.querySelectorAll(".no-embedder")) node.hidden = hasEmbedder;
	for (const node of document.querySelectorAll(".embedder")) node.hidden = !hasEmbedder;
	if (hasEmbedder) {
		startCompare(info);
		startSearch(info);
	}
	startTokens(info);
	watch(!$("server").hidden);
}

function showState(state, model = "") {
	document.body.dataset.state = state;
	say("state", state);
	say("model", model);
}

function askForKey(error) {
	clearTimeout(timer);
	showState("locked");
	say("notice", "");
	say("key-message", `${hasKey() ? "The key was refused: " : ""}${error.message}.`);
	if (!$("key-panel").hidden) return;
	$("key-panel").hidden = false;
	$("key").focus();
}

function useKey() {
	setKey($("key").value);
	connect();
}

$("key-use").addEventListener("click", useKey);
$("key").addEventListener("keydown", (event) => event.key === "Enter" && useKey());
addEventListener("quoit-key", (event) => askForKey(event.detail));

setUpChoices();
setUpCompare();
setUpSearch();
setUpTokens();
setUpServer();
setUpTabs($("tabs"), (name) => watch(name === "server" && started !== ""));
connect();
