// Sends requests to the server that the page came from. The API key stays in memory and is never stored.

import { decodeVector } from "./vectors.js";

let key = "";

/** Set the API key that requests are sent with; an empty one sends none. */
export function setKey(value) {
  key = value.trim();
}

/** Return whether requests are sent with a key. */
export const hasKey = () => key !== "";

/** An error that the server answered with, or its absence: status 0. */
export class ServerError extends Error {
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
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
    // The body is no JSON, for example a proxy's page.
  }
  return text.slice(0, 500) || "the answer has no text";
}

/** Send a request and return the response; anything but success is thrown as a ServerError. */
export async function send(path, { body, lane, signal } = {}) {
  const headers = new Headers();
  try {
    if (key) headers.set("authorization", `Bearer ${key}`);
  } catch {
    throw new ServerError(401, "the key has characters that a header cannot hold; type it again");
  }
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
  const error = new ServerError(response.status, messageOf(text), Number(response.headers.get("retry-after")) || 0);
  if (response.status === 401) dispatchEvent(new CustomEvent("quoit-key", { detail: error }));
  throw error;
}

/** Send a request and return the JSON of its answer. */
export async function ask(path, options) {
  return JSON.parse(await send(path, options));
}

/** Return vectors of texts, and the number of their tokens. `role` is query or document. */
export async function embed(texts, role, { lane, signal } = {}) {
  const body = { input: texts, input_type: role, encoding_format: "base64" };
  const answer = await ask("/v1/embeddings", { body, lane, signal });
  return { vectors: answer.data.map((each) => decodeVector(each.embedding)), tokens: answer.usage.total_tokens };
}

/** Return whether an error only says that a later request took the place of this one. */
export const wasAborted = (error) => error.name === "AbortError";
