// Reads the text form of Prometheus' metrics.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** Return the samples of a text: name, labels, value. */
export function parseMetrics(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const found = LINE.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(LABEL)].map(([, name, value]) => [name, value]));
    const value = found[3] === "+Inf" ? Infinity : Number(found[3]);
    samples.push({ name: found[1], labels, value });
  }
  return samples;
}

/** Return the samples of a name whose labels have the given values. */
export function select(samples, name, labels = {}) {
  return samples.filter(
    (sample) => sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
  );
}

/** Return the sum of the samples of a name. */
export function total(samples, name, labels) {
  return select(samples, name, labels).reduce((sum, sample) => sum + sample.value, 0);
}

/** Return a histogram's buckets, summed over all other labels: `upTo` in seconds, and how many are in the bucket. */
export function buckets(samples, name, labels) {
  const sums = new Map();
  for (const { labels: found, value } of select(samples, `${name}_bucket`, labels)) {
    const upTo = found.le === "+Inf" ? Infinity : Number(found.le);
    sums.set(upTo, (sums.get(upTo) ?? 0) + value);
  }
  let before = 0;
  return [...sums]
    .sort(([a], [b]) => a - b)
    .map(([upTo, value]) => {
      const bucket = { upTo, count: value - before };
      before = value;
      return bucket;
    });
}

/** Return the value that a share of a histogram's counts stay below, between the ends of its bucket. */
export function quantile(found, share) {
  const wanted = found.reduce((sum, bucket) => sum + bucket.count, 0) * share;
  let below = 0;
  let from = 0;
  for (const { upTo, count } of found) {
    if (count > 0 && below + count >= wanted) {
      return upTo === Infinity ? from : from + ((upTo - from) * (wanted - below)) / count;
    }
    below += count;
    if (upTo !== Infinity) from = upTo;
  }
  return 0;
}
