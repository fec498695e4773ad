// Arithmetic on vectors, as the server would do it: prefixes of unit length, int8, sign bits, cosines, ranks.

const LEVELS = 127;

/** Return a vector from the base64 of its float32 values. */
export function decodeVector(text) {
	const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
	return new Float32Array(bytes.buffer);
}

/** Scale a vector to unit length. */
function normalized(vector) {
	let sum = 0;
	for (const value of vector) sum += value * value;
	const length = Math.sqrt(sum) || 1;
	return Float32Array.from(vector, (value) => value / length);
}

/** Return a vector in fewer dimensions and another form, such that dot products are cosines.
 *
 * int8: each vector is scaled by its own largest value and rounded. binary: a bit for each dimension, set if it is
 * above zero; as values of +1 and -1 their cosine is 1 - 2 * (different bits) / (all bits), the Hamming similarity.
 */
export function reduced(vector, dimensions, form) {
	const prefix = normalized(vector.subarray(0, dimensions));
	if (form === "float32") return prefix;
	if (form === "binary") return normalized(prefix.map((value) => (value > 0 ? 1 : -1)));
	let largest = 0;
	for (const value of prefix) largest = Math.max(largest, Math.abs(value));
	return normalized(prefix.map((value) => Math.round((value / (largest || 1)) * LEVELS)));
}

/** Return the dot product of two vectors. */
export function dot(left, right) {
	let sum = 0;
	for (let index = 0; index < left.length; index++) sum += left[index] * right[index];
	return sum;
}

/** Return the cosine of each query and each document, a row for each query. */
export function cosines(queries, documents, dimensions, form) {
	const right = documents.map((vector) => reduced(vector, dimensions, form));
	return queries.map((vector) => {
		const left = reduced(vector, dimensions, form);
		return right.map((other) => dot(left, other));
	});
}

/** Return indexes of scores, best first; ties keep their order. */
export function bestFirst(scores) {
	return [...scores.keys()].sort((a, b) => scores[b] - scores[a] || a - b);
}

/** Return the bytes of a stored vector. */
export function bytesOf(dimensions, form) {
	return { float32: 4 * dimensions, int8: dimensions, binary: Math.ceil(dimensions / 8) }[form];
}
