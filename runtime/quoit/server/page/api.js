// Sends requests to the server that the page came from. The API key stays in memory and is never stored.

import { decodeVector } from "./vectors.js";

let key = "";

/** Set the API key that requests are sent with; an empty one sends none. */
export const setKey = (value) => (key = value.trim());

/** Return whether requests are sent with a key. */
export const hasKey = () => key !== "";

/** An error that the server answered with, or the lack of an answer: status 0. */
class ServerError extends Error {
	constructor(status, message) {
		super(message);
		this.status = status;
		this.title = status ? `Error ${status}:` : "No answer:";
	}
}

/** Return the message of an error's body in any of the server's dialects. */
function messageOf(text) {
	try {
		const body = JSON.parse(text);
		const found = body.error?.message ?? body.error ?? body.message;
		if (typeof found === "string") return found;
	} catch {
		// A proxy's page is no JSON.
	}
	return text.slice(0, 500);
}

/** Return the text of an answer. */
export async function send(path, { body, lane, signal } = {}) {
	if (/[^\x21-\x7e]/.test(key)) throw refused(401, "the key has characters that a header cannot hold");
	const headers = new Headers();
	if (key) headers.set("authorization", `Bearer ${key}`);
	if (lane) headers.set("x-quoit-lane", lane);
	if (body !== undefined) headers.set("content-type", "application/json");
	let response, text;
	try {
		response = await fetch(path, {
			method: body === undefined ? "GET" : "POST",
			headers,
			body: body === undefined ? undefined : JSON.stringify(body),
			signal,
			cache: "no-store",
			credentials: "omit",
		});
		text = await response.text();
	} catch (error) {
		if (error.name === "AbortError") throw error;
		throw new ServerError(0, "the server cannot be reached; is it running?");
	}
	if (response.ok) return text;
	throw refused(response.status, messageOf(text));
}

/** Return an error; one that is about the key is also told to the page. */
function refused(status, message) {
	const error = new ServerError(status, message);
	if (status === 401) dispatchEvent(new CustomEvent("quoit-key", { detail: error }));
	return error;
}

/** Return the JSON of an answer. */
export async function ask(path, options) {
	return JSON.parse(await send(path, options));
}

/** Return vectors of texts, and the number of their tokens. `role` is query or document. */
export async function embed(texts, role, { lane, signal } = {}) {
	const body = { input: texts, input_type: role, encoding_format: "base64" };
	const answer = await ask("/v1/embeddings", { body, lane, signal });
	return { vectors: answer.data.map((each) => decodeVector(each.embedding)), tokens: answer.usage.total_tokens };
}
