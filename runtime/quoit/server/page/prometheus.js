// Reads the text form of Prometheus' metrics.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;
const number = (text) => (text === "+Inf" ? Infinity : Number(text));

/** Return the samples of a text: name, labels, value. */
export function parseMetrics(text) {
	const found = text.split("\n").map((line) => LINE.exec(line));
	return found.filter(Boolean).map(([, name, labels, value]) => ({
		name,
		labels: Object.fromEntries([...(labels ?? "").matchAll(LABEL)].map((match) => match.slice(1))),
		value: number(value),
	}));
}

/** Return the sum of the samples of a name whose labels have the given values. */
export function total(samples, name, labels = {}) {
	const fits = (sample) => sample.name === name && Object.keys(labels).every((key) => sample.labels[key] === labels[key]);
	return samples.filter(fits).reduce((sum, sample) => sum + sample.value, 0);
}

/** Return a histogram's buckets, summed over the labels that fit: their bounds in seconds, and their counts. */
export function buckets(samples, name, fits) {
	const sums = new Map();
	for (const sample of samples) {
		if (sample.name !== `${name}_bucket` || !fits(sample.labels)) continue;
		const upTo = number(sample.labels.le);
		sums.set(upTo, (sums.get(upTo) ?? 0) + sample.value);
	}
	const bounds = [...sums.keys()].sort((a, b) => a - b);
	return bounds.map((upTo, index) => {
		const from = index ? bounds[index - 1] : 0;
		return { from, upTo, count: sums.get(upTo) - (index ? sums.get(from) : 0) };
	});
}

/** Return the value that a share of a histogram's counts stay below; inside a bucket they are taken as even. */
export function quantile(found, share) {
	const wanted = found.reduce((sum, bucket) => sum + bucket.count, 0) * share;
	let below = 0;
	for (const { from, upTo, count } of found) {
		if (count && below + count >= wanted) return upTo === Infinity ? from : from + ((upTo - from) * (wanted - below)) / count;
		below += count;
	}
	return 0;
}
