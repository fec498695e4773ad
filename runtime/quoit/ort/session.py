"""Load a variant of an artifact, and compute answers from inputs.

A session never changes the provider silently: the provider asked for runs, or an error says why not. This module does
not know whether answers are states to pool or scores.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoit.artifact import Artifact, FileRecord
from quoit.errors import ArtifactError, InputError, ProviderError, brief
from quoit.ort.cancellation import Cancellation, RunCancelledError
from quoit.ort.cuda import prepare
from quoit.ort.cuda_graphs import CAPTURE_OPTIONS, CudaGraphs, run_options
from quoit.ort.fork_guard import ForkGuard, never_free_in_forks
from quoit.ort.graph_inputs import ONNX_TYPES, InputContract, Inputs
from quoit.ort.kernels import Kernels, find_kernels
from quoit.ort.module import onnxruntime
from quoit.ort.probe import choose_graph
from quoit.ort.providers import Choice
from quoit.ort.sessions import ONNX_NAMES, open_session
from quoit.precisions import PRECISIONS

Answers = NDArray[np.float32]

FLASH_ATTENTION, EFFICIENT_ATTENTION, UNFUSED_ATTENTION = 1, 2, 16
"""Bits of the provider's option `sdpa_kernel`; cuDNN's attention has a bit of its own that is left out."""
CUDA_OPTIONS = {
    "arena_extend_strategy": "kSameAsRequested",
    "sdpa_kernel": str(FLASH_ATTENTION | EFFICIENT_ATTENTION | UNFUSED_ATTENTION),
}
"""Options of the CUDA provider. By default, onnxruntime doubles the memory that it takes from the device at each step:
66 GB for the 0.6B model and batches of 65,536 tokens. On newer devices, it also prefers cuDNN's attention, which takes
60 ms or more for each new shape of a batch. See bench/log/."""
NO_CPU_FALLBACK = {"session.disable_cpu_ep_fallback": "1"}
"""Session configuration on CUDA that refuses to run any node on the CPU."""


NO_SPINNING = {"session.intra_op.allow_spinning": "0"}
"""Session configuration with which threads sleep while they wait."""


class Session:
    """A loaded variant of an artifact.

    Attributes:
        choice: the provider and precision that run.
        threads: onnxruntime's intra-op threads.
        spinning: True if they spin while they wait for each other.
        graph: the name of the graph that runs.
        kernels: the native kernels that run it; None if it is onnxruntime's alone.
        answer_shape: the shape of one row's answer: [hidden] for a state, [] for a score.
        presents: names of the outputs that are keys and values of a prefix; empty if the graph gives none.
        fork_guard: refuses to run in a forked process.
    """

    def __init__(
        self,
        artifact: Artifact,
        choice: Choice,
        contract: InputContract,
        *,
        threads: int,
        cuda_graphs: bool = False,
        spinning: bool = True,
        kernels: Kernels | None = None,
        first: Inputs | None = None,
    ) -> None:
        """Load the model while another thread checks the hashes of the variant's other files.

        Args:
            artifact: the artifact that has the model.
            choice: the provider and precision that `choose` decided.
            contract: the inputs that runs will give.
            threads: onnxruntime's intra-op threads.
            cuda_graphs: True to answer single short rows on CUDA by a captured run.
            spinning: False to let onnxruntime's threads sleep while they wait for each other.
            kernels: the native kernels that may run; by default, those that run in this process.
            first: inputs of a run to make while hashes are checked: native kernels arrange their weights in the first.

        Raises:
            ArtifactError: a file is missing or damaged, or onnxruntime cannot load the model.
            ProviderError: the provider cannot run here.
        """
        self.choice = choice
        self.threads = threads
        self.spinning = spinning
        self.fork_guard = ForkGuard()
        found = find_kernels() if kernels is None else kernels
        self.graph, graph = choose_graph(artifact, choice, found)
        self.kernels = found if self.graph in found.graphs else None
        path = artifact.verify(graph.file)
        others = [file for file in artifact.variant(choice.precision).files if file != graph.file]
        self._session: Any = load_checked(
            artifact, path, others, lambda: self._load(path, first, cuda_graphs=cuda_graphs)
        )
        check_inputs(self._session, contract, path)
        answer, *presents = self._session.get_outputs()
        self._answer = answer.name
        self.answer_shape: tuple[int, ...] = tuple(answer.shape[1:])
        self.presents: tuple[str, ...] = tuple(output.name for output in presents)
        repeats = choice.provider == "cpu" and PRECISIONS[choice.precision].no_lone_row
        self._accompany: Callable[[Inputs], Inputs] | None = contract.no_lone_row if repeats else None
        self._turn: AbstractContextManager[object] = nullcontext()
        self._cuda_graphs, self._options = None, None
        if cuda_graphs:
            # While one thread captures, no other thread may allocate memory on the device.
            self._turn = Lock()
            self._cuda_graphs = CudaGraphs(self._session, choice.provider, contract)
            self._options = run_options()

    def _load(self, path: Path, first: Inputs | None, *, cuda_graphs: bool) -> Any:
        """Open the onnxruntime session of a graph, and make the first run if native kernels run it."""
        on_cuda = self.choice.provider == "cuda"
        if on_cuda:
            prepare(onnxruntime())
        try:
            session = open_session(
                path,
                provider=self.choice.provider,
                threads=self.threads,
                config=(NO_CPU_FALLBACK if on_cuda else {}) | ({} if self.spinning else NO_SPINNING),
                kernels=None if self.kernels is None else self.kernels.library,
                provider_options=(CUDA_OPTIONS if on_cuda else {}) | (CAPTURE_OPTIONS if cuda_graphs else {}),
            )
        except Exception as error:
            if not on_cuda:
                raise
            raise ProviderError(
                f"{ONNX_NAMES['cuda']} did not load {path}: {brief(error)}; check the driver and device with "
                "`nvidia-smi`, or use provider='cpu'"
            ) from error
        never_free_in_forks(session)
        if self.kernels is not None and first is not None:
            session.run([session.get_outputs()[0].name], first)
        return session

    def close(self) -> None:
        """Refuse later runs. The model's memory is free when runs in other threads have ended."""
        self._session = self._cuda_graphs = None

    def check(self) -> None:
        """Refuse to run in a forked process, or after `close`; raises as `_open` does."""
        self._open()

    def _open(self) -> Any:
        """Return the onnxruntime session.

        Raises:
            ProviderError: this process is a fork of the one that loaded the model.
            InputError: the model was closed.
        """
        self.fork_guard.check()
        session = self._session
        if session is None:
            raise InputError("the model was closed, and its memory is free; load it again")
        return session

    def run(self, inputs: Inputs, cancellation: Cancellation | None = None) -> Answers:
        """Return the answers to a batch's rows, [R, *answer_shape] float32. Several threads may call this.

        A batch of one row may have its answer twice (`InputContract.no_lone_row`).

        Args:
            inputs: the inputs of the graph.
            cancellation: switch that ends this run, and no other. Runs of a session with captured runs do not end
                early: they take milliseconds.

        Raises:
            RunCancelledError: `cancellation` ended the run.
        """
        session, cuda_graphs = self._open(), self._cuda_graphs
        inputs = self._accompanied(inputs)
        options = self._options
        if cancellation is not None and cuda_graphs is None:
            options = cancellation.options
        with self._turn:
            captured = None if cuda_graphs is None else cuda_graphs.run(inputs)
            if captured is not None:
                return captured
            try:
                answers: Answers = session.run([self._answer], inputs, options)[0]
            except Exception as error:
                if cancellation is not None and cancellation.cancelled:
                    raise RunCancelledError("the run was cancelled") from error
                raise
            return answers

    def _accompanied(self, inputs: Inputs) -> Inputs:
        """Return the inputs of a run, without a lone row where it would have other bits."""
        return inputs if self._accompany is None else self._accompany(inputs)

    def run_presents(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        """Return the keys and values of a prefix, by the names in `presents`. Several threads may call this."""
        session = self._open()
        inputs = self._accompanied(inputs)
        with self._turn:
            return dict(zip(self.presents, session.run(self.presents, inputs, self._options), strict=True))


def load_checked(artifact: Artifact, path: Path, others: list[FileRecord], load: Callable[[], Any]) -> Any:
    """Return the result of `load`, while another thread checks the hashes of the variant's other files.

    Raises:
        ArtifactError: a file is missing or damaged, or onnxruntime cannot load the graph.
        ProviderError: `load` raised it.
    """
    for record in others:
        artifact.path(record)
    with ThreadPoolExecutor(1) as pool:
        checks = [pool.submit(artifact.verify, record) for record in others]
        try:
            session = load()
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


def check_inputs(session: Any, contract: InputContract, path: Path) -> None:
    """Refuse a graph whose required inputs are not those of its layout, in names, types and number of axes.

    Raises:
        ArtifactError: the graph takes other inputs.
    """
    taken = {value.name: (value.type, len(value.shape)) for value in session.get_inputs()}
    given = {one.name: (ONNX_TYPES[one.dtype], len(one.shape)) for one in contract.required}
    if taken != given:
        names_differ = taken.keys() != given.keys()
        told = [", ".join(sorted(some) if names_differ else map(_describe, some.items())) for some in (taken, given)]
        raise ArtifactError(
            f"{path} takes {told[0]}, where {told[1]} are given; export the artifact again with this version"
        )


def _describe(one: tuple[str, tuple[str, int]]) -> str:
    """Return an input's name, type and number of axes, in words."""
    name, (kind, axes) = one
    return f"{name} {kind} of {axes} axes"
