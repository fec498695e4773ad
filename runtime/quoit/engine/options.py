"""Define the options of a run as the caller gives them, and resolve them for an artifact on this machine."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, SupportsIndex

from quoit.arguments import check_number, flag
from quoit.artifact import Artifact, Precision
from quoit.engine.prefix_cache import DEFAULT_TOKENS
from quoit.engine.profile import Goal, Setting, check_goal, read_tuning
from quoit.errors import InputError
from quoit.machine import usable_cores
from quoit.ort.kernels import Kernels, find_kernels
from quoit.ort.providers import Choice, ProviderRequest, choose

MAX_THREADS = 1 << 10
MAX_BATCH_TOKENS = 1 << 20
MAX_CACHE_TOKENS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a run as the caller gives them; `resolve` checks them.

    Attributes:
        precision: `fp32`, `fp16`, `bf16`, `int8` or `int4`; by default the fastest that the provider runs: int8 on a
            CPU, fp16 on CUDA.
        provider: `cpu`, `cuda`, or `auto` for CUDA where onnxruntime offers it and the artifact has a graph for it.
        threads: number of threads; by default one for each core that this process may use.
        max_tokens: number of tokens that longer texts are cut to, including the tokens that surround every text; by
            default the model's limit. A warning of the logger `quoit` says how many texts were cut.
        batch_tokens: maximum number of distinct tokens in one batch. The default depends on the provider; on CUDA it
            is at most 32,768, as memory allows, with padding counted.
        workers: number of batches computed at a time, each on `threads // workers` threads; 1 by default. More workers
            give more throughput on many texts, but a single text takes longer; on CUDA they gain nothing.
        cuda_graphs: on CUDA, answer a single text of up to 256 tokens by a captured run, which saves the time to
            launch its kernels. The first text of each of five lengths takes longer, and runs go one at a time. On by
            default there.
        prefix_cache_tokens: maximum tokens, all together, of prompts whose keys and values are kept between calls; 512
            by default, 0 for none. CUDA keeps none.
        spinning: False to let threads sleep while they wait for each other. That is slower where nothing else runs, and
            faster where other work needs the cores; True by default, as in onnxruntime.
        kernels: False to run onnxruntime's own operators alone, True to refuse to run without quoit's native kernels;
            by default they run where the CPU and the artifact allow it. Bits of answers differ between the two.
        tuned: `latency` or `throughput`: take threads, batch_tokens and workers that are not given from the setting
            that `quoit bench` found best for it on this machine.
        tuning: the tuning file, instead of the one that `quoit bench` keeps; implies `throughput` without `tuned`.
    """

    precision: Precision | None = None
    provider: ProviderRequest = "auto"
    threads: SupportsIndex | None = None
    max_tokens: SupportsIndex | None = None
    batch_tokens: SupportsIndex | None = None
    workers: SupportsIndex | None = None
    cuda_graphs: bool | None = None
    prefix_cache_tokens: SupportsIndex = DEFAULT_TOKENS
    spinning: bool | None = None
    kernels: bool | None = None
    tuned: Goal | None = None
    tuning: str | Path | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the options by name, as `Embedder` and `Reranker` take them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def resolve(self, artifact: Artifact) -> "Resolved":
        """Check the options and resolve them for an artifact on this machine.

        Raises:
            ArtifactError: the artifact lacks the precision, or it was rejected by its parity gate.
            ProviderError: onnxruntime or the provider asked for cannot run here.
            InputError: an option is out of bounds, or there is no tuning for this machine.
        """
        choice = choose(artifact, self.provider, self.precision)
        captures = self._captures(choice)
        given = self._tuned(artifact, choice)
        batch_tokens = given.batch_tokens
        if batch_tokens is not None:
            batch_tokens = check_number("batch_tokens", batch_tokens, 1, MAX_BATCH_TOKENS)
        threads = usable_cores() if given.threads is None else check_number("threads", given.threads, 1, MAX_THREADS)
        workers = 1 if given.workers is None else check_number("workers", given.workers, 1, threads)
        cache = check_number("prefix_cache_tokens", self.prefix_cache_tokens, 0, MAX_CACHE_TOKENS)
        if self.kernels is not None:
            flag("kernels", self.kernels)
        kernels = find_kernels(self.kernels)
        return Resolved(
            choice=choice,
            threads=threads // workers,
            workers=workers,
            batch_tokens=batch_tokens,
            max_tokens=self.max_tokens,
            cuda_graphs=captures,
            prefix_cache_tokens=cache,
            spinning=given.spinning is None or flag("spinning", given.spinning),
            kernels=kernels,
        )

    def _captures(self, choice: Choice) -> bool:
        """Return whether single short texts run as CUDA graphs.

        Raises:
            InputError: CUDA graphs are asked for, and the provider is not CUDA.
        """
        if self.cuda_graphs is None:
            return choice.provider == "cuda"
        if flag("cuda_graphs", self.cuda_graphs) and choice.provider != "cuda":
            raise InputError(
                f"cuda_graphs {self.cuda_graphs!r} needs CUDA, and the provider here is {choice.provider!r} "
                f"({choice.provider_reason}); leave it out, or use provider='cuda'"
            )
        return self.cuda_graphs

    def _tuned(self, artifact: Artifact, choice: Choice) -> "Options":
        """Return the options, completed from a tuning if one is asked for."""
        if self.tuned is None and self.tuning is None:
            return self
        goal: Goal = "throughput" if self.tuned is None else self.tuned
        check_goal(goal)
        return self.filled_in(read_tuning(artifact, choice, self.tuning).setting(goal))

    def filled_in(self, setting: Setting) -> "Options":
        """Return the options, completed from a setting.

        The setting's workers are taken only if neither threads nor workers are given, since they do not fit another
        number of threads.
        """
        workers = setting.workers if self.threads is None and self.workers is None else self.workers
        return replace(
            self,
            threads=setting.threads if self.threads is None else self.threads,
            batch_tokens=setting.batch_tokens if self.batch_tokens is None else self.batch_tokens,
            workers=workers,
            spinning=setting.spinning if self.spinning is None else self.spinning,
        )


@dataclass(frozen=True)
class Resolved:
    """The checked options of a run on this machine.

    Attributes:
        choice: the provider and the precision, with their reasons.
        threads: number of threads of each run.
        workers: number of runs at a time.
        batch_tokens: maximum number of distinct tokens in one batch; None for the provider's default.
        max_tokens: maximum number of tokens of a text; None for the model's limit. The tokenizer checks it, since it
            knows which tokens surround a text.
        cuda_graphs: True if single short texts run as CUDA graphs.
        prefix_cache_tokens: maximum number of tokens of all cached prompts together.
        spinning: True if threads spin while they wait for each other.
        kernels: the native kernels that may run.
    """

    choice: Choice
    threads: int
    workers: int
    batch_tokens: int | None
    max_tokens: SupportsIndex | None
    cuda_graphs: bool
    prefix_cache_tokens: int
    spinning: bool
    kernels: Kernels
