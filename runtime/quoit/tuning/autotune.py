"""Find the fastest setting for an artifact on this machine, and measure its speed.

The best setting so far and one challenger take turns on the same texts, so that other work on the machine slows both.
A challenger wins if its median speed-up is above CLEARLY.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from quoit.artifact import Artifact, Precision
from quoit.engine.limits import with_budget
from quoit.engine.options import Options
from quoit.engine.pipeline import Pipeline
from quoit.engine.planner import plan_batches
from quoit.engine.profile import TUNING_FORMAT, Place, Setting, Tuning
from quoit.machine import usable_cores
from quoit.ort.providers import ProviderRequest
from quoit.text.prompts import NO_PROMPT, Prompt
from quoit.tuning.roofline import Ceilings, count, least_seconds, measure_ceilings

CLEARLY = 1.03
"""Minimum speed-up to win; a smaller one is noise, and the simpler setting stays."""
ROUNDS = 5
SHARES = 40
"""Number of parts of the user's time; one pass over the texts takes about one part."""
MIN_TEXTS = 8
MAX_WORKERS = 16
BUDGETS = (0.5, 2.0, 4.0)
"""Batch budgets to try, as multiples of the default budget."""
PERCENTILES = (50, 95, 99)

Told = Callable[[str], object]
Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class Texts:
    """Texts to run: `many` to answer at once, `single` to answer one by one, and the prompt of each group."""

    many: Sequence[str]
    single: Sequence[str]
    many_prompt: Prompt = NO_PROMPT
    single_prompt: Prompt = NO_PROMPT


@dataclass(frozen=True)
class Measured:
    """The result of tuning.

    Attributes:
        tuning: the best settings, and where they hold.
        tokens_per_second: tokens a second of many texts with the best setting, median of rounds; tokens that texts
            share count for each of them.
        times_default: speed-up of the best setting over the default for many texts, median of rounds.
        milliseconds: time of one text with the best setting, by percentile.
        kernels: native kernels that run, or why none do, in words.
        ceilings: the ceilings of this machine; None on a GPU.
        fraction: share of the speed at these ceilings that many texts reach; None on a GPU.
    """

    tuning: Tuning
    tokens_per_second: float
    times_default: float
    milliseconds: dict[str, float]
    kernels: str
    ceilings: Ceilings | None
    fraction: float | None


@dataclass
class Contest:
    """The best pipeline so far and its setting, for one kind of work.

    Attributes:
        pipeline: the best pipeline.
        setting: the setting of the best pipeline.
        run: function that does the work.
        told: function that is called before each challenge with a description of the challenger.
    """

    pipeline: Pipeline
    setting: Setting
    run: Callable[[Pipeline], object]
    told: Told

    def challenge(self, challenger: Pipeline, **changes: int) -> None:
        """Let a pipeline take turns with the best one, and keep the winner.

        Args:
            challenger: the pipeline.
            **changes: the fields of its setting that differ from the best one's.
        """
        self.told(", ".join(f"{name} {value}" for name, value in changes.items()))
        best, other = in_turn(self.pipeline, challenger, self.run)
        if float(np.median(best / other)) > CLEARLY:
            self.pipeline, self.setting = challenger, msgspec.structs.replace(self.setting, **changes)


def tune(
    artifact: Artifact,
    texts: Texts,
    *,
    precision: Precision | None = None,
    provider: ProviderRequest = "auto",
    seconds: float = 60,
    told: Told = lambda _: None,
) -> Measured:
    """Try settings one after another, and return the best ones.

    Args:
        artifact: the artifact to run.
        texts: the texts to answer.
        precision: as in `quoit.engine.options.Options`.
        provider: as in `quoit.engine.options.Options`.
        seconds: approximate time for tuning.
        told: function that is called before each step with a description of it.

    Raises:
        ArtifactError: the artifact is damaged, or lacks the precision.
        ProviderError: the artifact cannot run here.
        InputError: a text cannot be encoded.
    """
    cores = usable_cores()

    def load(threads: int, workers: int, *, spinning: bool = True) -> Pipeline:
        options = Options(precision=precision, provider=provider, threads=threads, workers=workers, spinning=spinning)
        return Pipeline.load(artifact, options)

    told("loading")
    base = load(cores, 1)
    default = Setting(threads=cores, workers=1, batch_tokens=base.limits.stream_tokens)
    many = take_texts(base, texts, seconds / SHARES)
    texts = replace(texts, many=many, single=texts.single[: max(len(many), MIN_TEXTS)])
    alone = Contest(base, default, partial(answer_singly, texts=texts), lambda what: told(f"one text: {what}"))
    bulk = Contest(base, default, partial(answer_many, texts=texts), lambda what: told(f"many texts: {what}"))
    if base.session.choice.provider == "cpu":
        for threads in powers(cores):
            alone.challenge(load(threads, 1), threads=threads)
        for workers in (number for number in (*powers(cores), cores) if 1 < number <= MAX_WORKERS):
            bulk.challenge(load(cores, workers), workers=workers)
        # A single thread waits for no other.
        if alone.setting.threads > 1:
            alone.challenge(load(alone.setting.threads, 1, spinning=False), spinning=False)
        if cores // bulk.setting.workers > 1:
            bulk.challenge(load(cores, bulk.setting.workers, spinning=False), spinning=False)
    for share in BUDGETS:
        tokens = round(share * default.batch_tokens)
        limits = with_budget(bulk.pipeline.limits, tokens)
        bulk.challenge(replace(bulk.pipeline, limits=limits), batch_tokens=tokens)
    told("the best and the default")
    place = Place.here(artifact, base.session.choice)
    tuning = Tuning(format=TUNING_FORMAT, place=place, latency=alone.setting, throughput=bulk.setting)
    return report(tuning, base, bulk, alone.pipeline, texts)


def report(tuning: Tuning, base: Pipeline, bulk: Contest, alone: Pipeline, texts: Texts) -> Measured:
    """Measure the speed of the best settings, and compare it with the default and the machine's ceilings."""
    best, default = in_turn(bulk.pipeline, base, bulk.run)
    singly = [partial(answer, alone, [text], texts.single_prompt) for text in (*texts.single,) * ROUNDS]
    latencies = [seconds_of(run) for run in singly]
    ceilings, least = bounds(bulk.pipeline, texts, usable_cores())
    tokens = sum(map(len, base.tokenizer.encode(list(texts.many_prompt.render(texts.many))).ids))
    return Measured(
        tuning=tuning,
        tokens_per_second=tokens / float(np.median(best)),
        times_default=float(np.median(default / best)),
        milliseconds={f"p{p}": float(np.percentile(latencies, p)) * 1e3 for p in PERCENTILES},
        kernels=base.describe_kernels(),
        ceilings=ceilings,
        fraction=None if least is None else least / float(np.median(best)),
    )


def powers(most: int) -> Iterator[int]:
    """Yield 1, 2, 4 and so on, below `most`."""
    number = 1
    while number < most:
        yield number
        number *= 2


def take_texts(pipeline: Pipeline, texts: Texts, seconds: float) -> Sequence[str]:
    """Take as many of the texts as are answered in about `seconds`, at least MIN_TEXTS."""
    some = replace(texts, many=texts.many[:MIN_TEXTS])
    answer_many(pipeline, some)
    took = seconds_of(partial(answer_many, pipeline, some))
    return texts.many[: max(int(len(some.many) * seconds / took), MIN_TEXTS)]


def answer_singly(pipeline: Pipeline, texts: Texts) -> None:
    """Compute the answer to one text after another."""
    for text in texts.single:
        answer(pipeline, [text], texts.single_prompt)


def answer_many(pipeline: Pipeline, texts: Texts) -> None:
    """Compute the answers to all texts at once."""
    answer(pipeline, texts.many, texts.many_prompt)


def answer(pipeline: Pipeline, texts: Sequence[str], prompt: Prompt) -> None:
    """Compute the answers to texts that follow a prompt, tokenization included."""
    for _ in pipeline.windows(texts, prompt):
        pass


def seconds_of(run: Callable[[], object]) -> float:
    """Return the seconds that a call of `run` takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def in_turn(one: Pipeline, other: Pipeline, run: Callable[[Pipeline], object]) -> tuple[Seconds, Seconds]:
    """Let two pipelines take turns, and return the seconds of each in every round, after one round to warm up."""
    took = np.empty((ROUNDS + 1, 2))
    for number in range(ROUNDS + 1):
        for place in (0, 1) if number % 2 else (1, 0):
            took[number, place] = seconds_of(partial(run, (one, other)[place]))
    return took[1:, 0], took[1:, 1]


def bounds(pipeline: Pipeline, texts: Texts, threads: int) -> tuple[Ceilings | None, float | None]:
    """Return the machine's ceilings and the minimum seconds for many texts at these ceilings; None, None on a GPU."""
    choice = pipeline.session.choice
    if choice.provider != "cpu":
        return None, None
    costs = pipeline.artifact.manifest.costs
    ceilings = measure_ceilings(costs, threads)
    prefix = pipeline.prefix_cache.get(texts.many_prompt.text)
    rows = pipeline.tokenizer.encode(list(texts.many_prompt.render(texts.many))).ids
    work = count(costs, plan_batches(rows, pipeline.limits, () if prefix is None else prefix.ids))
    return ceilings, least_seconds(work, ceilings, choice.precision)
