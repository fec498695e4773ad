"""One onnxruntime session: a batch in, answers out. The only module that imports onnxruntime.

A session never changes provider behind the caller's back: what was asked for runs, or an error says why not.
This module does not know what the answers mean: states to be pooled, or scores.
"""

import base64
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from quoit.artifact import GRAPHS, Artifact, FileRecord, GraphName, Precision, ProviderName, Variant
from quoit.engine.planner import Batch, Ids, Row, batch_of
from quoit.errors import ArtifactError, InputError, ProviderError, brief, shown
from quoit.ort.cuda import explain_absence, installed, prepare
from quoit.ort.cuda_graphs import CAPTURE_OPTIONS, Replays, run_options
from quoit.ort.fork_guard import ForkGuard, never_free_in_forks

ProviderRequest = Literal["cpu", "cuda", "auto"]
Answers = NDArray[np.float32]

ONNX_NAMES: dict[ProviderName, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
PREFERRED: dict[ProviderName, tuple[Precision, ...]] = {
    "cpu": ("int8", "int4", "fp32", "fp16", "bf16"),
    "cuda": ("fp16", "bf16", "int4"),
}
FLASH_ATTENTION, EFFICIENT_ATTENTION, UNFUSED_ATTENTION = 1, 2, 16
"""Bits of the provider's option `sdpa_kernel`; cuDNN's attention is another."""
CUDA_OPTIONS = {
    "arena_extend_strategy": "kSameAsRequested",
    "sdpa_kernel": str(FLASH_ATTENTION | EFFICIENT_ATTENTION | UNFUSED_ATTENTION),
}
"""By default onnxruntime takes twice as much from the device each time, 66 GB for 0.6B and batches of 65,536 tokens.
And on newer devices it prefers cuDNN's attention, which takes 60 ms and more for each shape of a batch that it has not
met. See bench/log/."""
ERRORS_ONLY = 3


@dataclass(frozen=True)
class Choice:
    """What runs, and why: the execution provider and the precision."""

    provider: ProviderName
    provider_reason: str
    precision: Precision
    precision_reason: str


def choose(artifact: Artifact, provider: ProviderRequest, precision: Precision | None) -> Choice:
    """Decides provider and precision, each with its reason.

    Raises:
        ProviderError: onnxruntime is absent, or has not the provider asked for.
        ArtifactError: the artifact lacks the precision, or export rejected it.
        InputError: an unknown provider or precision.
    """
    if provider not in get_args(ProviderRequest):
        raise InputError(f"provider {shown(provider)} is unknown; choose one of {', '.join(get_args(ProviderRequest))}")
    if precision is not None:
        if precision not in get_args(Precision):
            raise InputError(f"precision {shown(precision)} is unknown; choose one of {', '.join(get_args(Precision))}")
        artifact.variant(precision)
    name, why = _choose_provider(artifact, provider, precision)
    if precision is not None:
        return Choice(name, why, precision, "asked for")
    usable = _runs(artifact, name)
    if not usable:
        raise ArtifactError(f"{artifact.folder} has no variant that passed its parity gate; export it again")
    return Choice(name, why, usable[0], f"the first of {', '.join(PREFERRED[name])} that the artifact has")


def _choose_provider(
    artifact: Artifact, requested: ProviderRequest, precision: Precision | None
) -> tuple[ProviderName, str]:
    if requested == "cpu":
        return "cpu", "asked for"
    available = onnxruntime().get_available_providers()
    has_cuda = ONNX_NAMES["cuda"] in available
    if requested == "cuda" and not has_cuda:
        raise ProviderError(
            f"provider 'cuda' was asked for, but {explain_absence(available, installed())}, or use provider='cpu'"
        )
    if not has_cuda:
        return "cpu", "onnxruntime offers no CUDA"
    runs = _runs(artifact, "cuda")
    if precision in runs or (precision is None and runs):
        return "cuda", "onnxruntime offers CUDA" if requested == "auto" else "asked for"
    what = f"the {precision} variant of {artifact.folder}" if precision else f"{artifact.folder}"
    if requested == "cuda":
        raise ArtifactError(
            f"{what} has no graph for CUDA, which runs {', '.join(PREFERRED['cuda'])}; add one with "
            f"`quoit-export CHECKPOINT {artifact.folder} --precision fp16`, or use provider='cpu'"
        )
    return "cpu", f"{what} has no graph for CUDA"


def _runs(artifact: Artifact, provider: ProviderName) -> list[Precision]:
    """The accepted precisions that a provider runs, the preferred one first."""
    variants, accepted = artifact.manifest.variants, artifact.accepted()
    return [name for name in PREFERRED[provider] if name in accepted and variants[name].graph(provider)]


def onnxruntime() -> Any:
    """The onnxruntime module, imported on first use.

    Raises:
        ProviderError: it is not installed.
    """
    # onnxruntime 1.32 reads this once, when it is imported. Without it, it writes a device id and a database into the
    # user's cache folder, starts an uploader, and prints a warning where it cannot write. A value that is set stays.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime as module
    except ImportError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise ProviderError(
            f"onnxruntime cannot be imported ({error}); install it with `pip install 'quoit[cpu]'` or "
            "`pip install 'quoit[cuda]'`"
        ) from error
    return module


def onnxruntime_version() -> str:
    """The installed onnxruntime's version, with its distribution's name."""
    return " and ".join(installed()) or onnxruntime().__version__


INT8_PROBE = base64.b64decode(
    "CAo6eAouCgFhCgFiEgF5GhRub2RlX01hdE11bEludGVnZXJfMCINTWF0TXVsSW50ZWdlchIBZ1oVCgFhEhAKDggCEgoKAxIBTQoDEgFLWhUK"
    "AWISEAoOCAMSCgoDEgFLCgMSAU5iFQoBeRIQCg4IBhIKCgMSAU0KAxIBTkIECgAQFA=="
)
"""An ONNX model of one node, y = MatMulInteger(a uint8 [M, K], b int8 [K, N])."""


@cache
def int8_is_exact() -> bool:
    """Whether this CPU sums products of uint8 and int8 without saturation.

    x86 without VNNI adds pairs of products in 16 bits, where the largest pair, 2 * 255 * 127, saturates. The
    answer comes from multiplying the largest values, so it needs no list of processors.
    """
    options = onnxruntime().SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    session = onnxruntime().InferenceSession(INT8_PROBE, options, providers=[ONNX_NAMES["cpu"]])
    rows, inner, columns = 16, 64, 16
    left, right = np.full((rows, inner), 255, np.uint8), np.full((inner, columns), 127, np.int8)
    results = [session.run(None, {"a": some, "b": right})[0] for some in (left, left[:1])]
    return all(bool((result == inner * 255 * 127).all()) for result in results)


def check_exact() -> None:
    """Refuses to run the graph for CPUs that sum int8 products exactly where this one does not.

    Raises:
        ProviderError: this CPU's sums saturate.
    """
    if not int8_is_exact():
        raise ProviderError(
            "int8 can only be measured on a CPU that sums int8 products exactly (AVX512-VNNI, AVX-VNNI, AMX or ARM "
            "dot products), and this one saturates; export it on another machine, it will run here"
        )


def graph_name(variant: Variant, provider: ProviderName) -> GraphName:
    """Which of a variant's graphs a provider runs on this machine."""
    if provider == "cpu" and variant.graph("saturating") is not None and not int8_is_exact():
        return "saturating"
    return provider


@dataclass(frozen=True)
class Kept:
    """What later batches need of a prefix that was computed once.

    Attributes:
        prefix: [P] int64, its token ids.
        past: the graph's inputs of every layer's keys and values, [P, kv_heads * head_dim] float32 each.
    """

    prefix: Ids
    past: dict[str, NDArray[np.float32]]


class Session:
    """A loaded variant of an artifact."""

    def __init__(self, artifact: Artifact, choice: Choice, *, threads: int, cuda_graphs: bool = False) -> None:
        """Loads the model while its hash is checked in another thread.

        Args:
            artifact: where the model lies.
            choice: the provider and precision that `choose` decided.
            threads: onnxruntime's intra-op threads.
            cuda_graphs: on CUDA, answer single short texts by a captured run.

        Raises:
            ArtifactError: a file is missing, damaged, or no model that onnxruntime can load.
            ProviderError: the provider cannot run here.
        """
        self.choice = choice
        self.threads = threads
        self.fork_guard = ForkGuard()
        self._provider_options = (CUDA_OPTIONS if choice.provider == "cuda" else {}) | (
            CAPTURE_OPTIONS if cuda_graphs else {}
        )
        variant = artifact.variant(choice.precision)
        self.graph = graph_name(variant, choice.provider)
        graph = variant.graph(self.graph)
        if graph is None:
            raise ArtifactError(
                f"the {choice.precision} variant of {artifact.folder} has no {GRAPHS[self.graph]}, which "
                f"provider {choice.provider!r} runs; export the artifact again"
            )
        path = artifact.verify(graph)
        self._session = self._load_checked(artifact, path, [file for file in variant.files if file is not graph])
        self._check_inputs(path)
        self._answer, *self._presents = (output.name for output in self._session.get_outputs())
        self._turn: AbstractContextManager[object] = nullcontext()
        self._replays, self._options = None, None
        if cuda_graphs:
            # While one thread captures, no other may take memory on the device.
            self._turn = Lock()
            self._replays = Replays(onnxruntime(), self._session, choice.provider, self._feed)
            self._options = run_options(onnxruntime())

    def _load_checked(self, artifact: Artifact, path: Path, others: list[FileRecord]) -> Any:
        """A session of a graph, loaded while the hashes of the variant's other files are checked in another thread."""
        for record in others:
            artifact.path(record)
        with ThreadPoolExecutor(1) as pool:
            checks = [pool.submit(artifact.verify, record) for record in others]
            try:
                session = self._load(str(path))
            except Exception as error:
                for check in checks:
                    check.result()
                if isinstance(error, ProviderError):
                    raise
                raise ArtifactError(
                    f"onnxruntime cannot load {path}: {brief(error)}; export the artifact again with this version"
                ) from error
            for check in checks:
                check.result()
        return session

    def _load(self, path: str) -> Any:
        module = onnxruntime()
        options = module.SessionOptions()
        if self.choice.provider == "cuda":
            prepare(module)
            # No node runs on the CPU behind the caller's back.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.intra_op_num_threads = self.threads
        options.log_severity_level = ERRORS_ONLY
        name = ONNX_NAMES[self.choice.provider]
        try:
            session = module.InferenceSession(path, options, providers=[(name, self._provider_options)])
        except Exception as error:
            if self.choice.provider == "cpu":
                raise
            raise ProviderError(
                f"{name} did not load {path}: {brief(error)}; check the driver and device with `nvidia-smi`, or use "
                "provider='cpu'"
            ) from error
        session.disable_fallback()
        never_free_in_forks(session)
        return session

    def _check_inputs(self, path: Path) -> None:
        taken, given = {value.name for value in self._session.get_inputs()}, set(self._feed(batch_of([0])))
        if taken != given:
            raise ArtifactError(
                f"{path} takes {', '.join(sorted(taken))}, where {', '.join(sorted(given))} are given; "
                "export the artifact again with this version"
            )

    @property
    def answer_shape(self) -> tuple[int, ...]:
        """The shape of one text's answer: [hidden] for a state, [] for a score."""
        return tuple(self._session.get_outputs()[0].shape[1:])

    @property
    def keeps(self) -> bool:
        """Whether the graph gives and takes the keys and values of a prefix."""
        return bool(self._presents)

    def keep(self, prefix: Row) -> Kept:
        """The keys and values of a prefix of at least one token, for rows whose attention is not tiled."""
        batch = batch_of(prefix)
        rows = np.arange(len(prefix), dtype=np.int64)
        found = self._session.run(self._presents, self._feed(batch) | {"kept_row": rows})
        # Copies, so that they do not hold more of the session's memory than their own.
        past = zip(self._presents, map(np.array, found), strict=True)
        return Kept(batch.input_ids, {name.replace("present", "past_key_values"): values for name, values in past})

    def run(self, batch: Batch, kept: Kept | None = None) -> Answers:
        """The answers to a batch's distinct texts, [N, *answer_shape] float32. Safe to call from several threads.

        Args:
            batch: what to answer.
            kept: the prefix that the batch was planned with.
        """
        self.fork_guard.check()
        past = kept.past if kept is not None and batch.prefix_tokens else {}
        with self._turn:
            if self._replays is not None and self._replays.takes(batch):
                return self._replays.run(batch)
            answers: Answers = self._session.run([self._answer], self._feed(batch) | past, self._options)[0]
        return answers

    def _feed(self, batch: Batch) -> dict[str, NDArray[Any]]:
        return feed(batch, self.choice.provider)


def feed(batch: Batch, provider: ProviderName = "cpu") -> dict[str, NDArray[Any]]:
    """The inputs of a provider's graph by name; CUDA's has no kept prefix."""
    if provider == "cuda":
        rows, longest = batch.attention_index.shape
        return {
            "input_ids": batch.input_ids[batch.attention_index].ravel(),
            "row_lengths": batch.row_lengths,
            "last_row": np.arange(rows) * longest + batch.row_lengths,
            "longest_row": np.array(longest, np.int32),
            "rectangle": np.array([rows, longest, -1]),
        }
    return {
        "input_ids": batch.input_ids,
        "attention_index": batch.attention_index,
        "row_lengths": batch.attended_lengths,
        "stream_slot": batch.stream_slot,
        "last_row": batch.last_row,
        "tiled_attention": np.array(batch.tiled_attention),
    }
