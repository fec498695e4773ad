"""Count what the server does, for Prometheus. No label holds what a caller wrote."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from quoit.engine.prefix_cache import PrefixCache
from quoit.engine.scheduler import BatchRun, Scheduler
from quoit.server.call import Call

FIRST_BUCKET, BUCKET_RATIO, BUCKETS = 0.001, 1.6, 25
"""Histograms of seconds begin at 1 ms and end at 79 s."""
SECONDS = tuple(round(FIRST_BUCKET * BUCKET_RATIO**number, 6) for number in range(BUCKETS))
BATCH_TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Totals:
    """What a server has done.

    Attributes:
        requests: number of requests that had texts.
        texts: number of their texts.
        given_tokens: number of the tokens of batches.
        computed_tokens: number of those that were computed, and not shared.
        seconds: seconds of batches; those that ran side by side count twice.
    """

    requests: int
    texts: int
    given_tokens: int
    computed_tokens: int
    seconds: float


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("quoit_requests", "Requests", ["route", "status"], registry=self.registry)
        self._texts = Counter("quoit_texts", "Texts of requests, by status", ["status"], registry=self.registry)
        self._with_texts = 0
        self._rejected = Counter(
            "quoit_rejected", "Requests that were refused before any work", ["reason"], registry=self.registry
        )
        self._truncated = Counter(
            "quoit_truncated_texts", "Texts that were cut to the model's limit", registry=self.registry
        )
        self._twice = Counter(
            "quoit_texts_prompted_twice",
            "Texts that already began with a query's prompt when one was put before",
            registry=self.registry,
        )
        self._tokens = Counter(
            "quoit_tokens", "Tokens of batches: given, and computed", ["kind"], registry=self.registry
        )
        self._request_seconds = self._seconds("quoit_request_seconds", "Seconds of a request", "route", "lane")
        self._queue_seconds = self._seconds("quoit_queue_seconds", "Seconds until a request began to run", "lane")
        self._tokenize_seconds = self._seconds("quoit_tokenize_seconds", "Seconds of tokenization")
        self._compute_seconds = self._seconds("quoit_compute_seconds", "Seconds of batches", "lane")
        self._batch_tokens = Histogram(
            "quoit_batch_tokens", "Tokens of a batch", ["lane"], buckets=BATCH_TOKENS, registry=self.registry
        )
        self._ready = Gauge("quoit_ready", "1 while the server takes requests", registry=self.registry)
        self._build = Gauge(
            "quoit_build_info", "What is served", ["version", "model", "precision", "provider"], registry=self.registry
        )

    def _seconds(self, name: str, words: str, *labels: str) -> Histogram:
        return Histogram(name, words, labels, buckets=SECONDS, registry=self.registry)

    def watch(self, scheduler: Scheduler, caches: list[PrefixCache]) -> None:
        """Include what waits in a scheduler, and what prompts are cached."""
        self.registry.register(_Queues(scheduler, caches))

    def ready(self, ready: bool) -> None:
        """Note whether the server takes requests."""
        self._ready.set(float(ready))

    def built(self, version: str, model: str, precision: str, provider: str) -> None:
        """Note a model that is served."""
        self._build.labels(version, model, precision, provider).set(1)

    def rejected(self, reason: str) -> None:
        """Count a request that was refused before any work."""
        self._rejected.labels(reason).inc()

    def truncated(self, texts: int) -> None:
        """Count texts that were cut."""
        self._truncated.inc(texts)

    def prompted_twice(self, texts: int) -> None:
        """Count texts that got a second prompt."""
        self._twice.inc(texts)

    def batch(self, run: BatchRun) -> None:
        """Count a batch; the scheduler's threads call this."""
        self._tokens.labels("given").inc(run.tokens)
        self._tokens.labels("computed").inc(run.computed_tokens)
        self._batch_tokens.labels(run.lane).observe(run.tokens)
        self._compute_seconds.labels(run.lane).observe(run.seconds)

    def request(self, call: Call, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(call.route, str(status)).inc()
        if call.texts:
            self._with_texts += 1
            self._texts.labels(str(status)).inc(call.texts)
        lane = call.answered[0].lane if call.answered else "none"
        self._request_seconds.labels(call.route, lane).observe(seconds)
        for answered in call.answered:
            self._queue_seconds.labels(answered.lane).observe(answered.queue_seconds)
            self._tokenize_seconds.observe(answered.tokenize_seconds)

    def totals(self) -> Totals:
        """Return what was done so far."""
        return Totals(
            self._with_texts,
            int(_sum(self._texts, "_total")),
            int(_sum(self._tokens, "_total", kind="given")),
            int(_sum(self._tokens, "_total", kind="computed")),
            _sum(self._compute_seconds, "_sum"),
        )

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text form."""
        return generate_latest(self.registry)


def _sum(metric: Counter | Histogram, suffix: str, **labels: str) -> float:
    """Return the sum of a metric's samples with a suffix and some labels."""
    samples = [sample for family in metric.collect() for sample in family.samples]
    return sum(each.value for each in samples if each.name.endswith(suffix) and labels.items() <= each.labels.items())


class _Queues(Collector):
    """Reads a scheduler's counts when they are asked for."""

    def __init__(self, scheduler: Scheduler, caches: list[PrefixCache]) -> None:
        self._scheduler = scheduler
        self._caches = caches

    def collect(self) -> Iterator[Metric]:
        """Yield the counts."""
        counts = self._scheduler.counts()
        for name, words, found in (
            ("quoit_queue_rows", "Distinct texts that wait", counts.queued_rows),
            ("quoit_queue_tokens", "Their tokens", counts.queued_tokens),
        ):
            gauge = GaugeMetricFamily(name, words, labels=["lane"])
            for lane, value in found.items():
                gauge.add_metric([lane], value)
            yield gauge
        dropped = CounterMetricFamily("quoit_rows_dropped", "Texts that were not computed", labels=["reason"])
        for reason, value in counts.dropped.items():
            dropped.add_metric([reason], value)
        yield dropped
        yield CounterMetricFamily("quoit_rows_shared", "Texts that another's computation answered", counts.shared_rows)
        prompts = sum(len(cache.prompts) for cache in self._caches)
        yield GaugeMetricFamily("quoit_cached_prompts", "Prompts that are remembered", prompts)
        tokens = sum(cache.cached_tokens for cache in self._caches)
        yield GaugeMetricFamily("quoit_cached_prompt_tokens", "Tokens whose keys and values are kept", tokens)
