"""Texts to vectors: prompts, tokens, batches, session and pooling in a row."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
from tqdm import tqdm

from quoit.artifact import Artifact, Precision
from quoit.pipeline import Advance, Pipeline
from quoit.pooling import Output, OutputOptions, Vectors, finish
from quoit.prompts import check_text, document_prompt, query_prompt, render
from quoit.session import ProviderRequest

WINDOW_TEXTS = 8192
WINDOW_CHARACTERS = 8 << 20
"""Texts are taken in windows of at most so many texts and about so many characters, and sorted within."""


@dataclass(frozen=True)
class Encoded:
    """The vectors of one window of texts, in input order, and what they took.

    Attributes:
        vectors: [n, dim].
        tokens: the texts' tokens, end tokens included, before sharing of prefixes.
        truncated: how many of the texts were cut to `max_tokens`.
    """

    vectors: Vectors
    tokens: int
    truncated: int


class Embedder:
    """An embedding artifact, ready to run.

        embedder = Embedder("models/qwen3-embedding-0.6b")
        documents = embedder.encode_document(["The capital of China is Beijing."])
        queries = embedder.encode_query(["What is the capital of China?"])
        scores = queries @ documents.T

    The vector of a text depends on the text alone: not on the texts beside it, their order, or the batch size.
    One embedder may be used from several threads.
    """

    def __init__(
        self,
        path: str | Path | Artifact,
        *,
        precision: Precision | None = None,
        provider: ProviderRequest = "auto",
        threads: int | None = None,
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
        workers: int = 1,
    ) -> None:
        """Loads an artifact that `quoit-export` wrote.

        Args:
            path: the artifact folder.
            precision: `fp32`, `fp16` or `int8`; by default the fastest the provider runs: int8 on a CPU, fp16
                on CUDA.
            provider: `cpu`, `cuda`, or `auto` for CUDA where onnxruntime offers it.
            threads: by default one for each core this process may use.
            max_tokens: longer texts are cut to this many tokens, end token included; by default the model's
                limit.
            batch_tokens: distinct tokens of one batch; by default what suits the provider.
            workers: batches computed at a time, each on `threads // workers` threads. More of them give more
                throughput on many texts, and one text alone takes longer.

        Raises:
            ArtifactError: the artifact is absent, damaged, or rejected by its parity gate.
            ProviderError: onnxruntime or the provider asked for cannot run here.
            InputError: an argument is out of bounds.
        """
        self.pipeline = Pipeline.load(
            path,
            "embedding",
            precision=precision,
            provider=provider,
            threads=threads,
            max_tokens=max_tokens,
            batch_tokens=batch_tokens,
            workers=workers,
        )

    @property
    def dim(self) -> int:
        """The full dimension of this model's vectors."""
        return self.pipeline.artifact.manifest.architecture.hidden_size

    def encode(
        self, texts: str | Sequence[str], *, show_progress: bool = False, **output: Unpack[OutputOptions]
    ) -> Vectors:
        """The vectors of texts, without a prompt.

        Args:
            texts: the texts; one string gives one vector.
            show_progress: draw a progress bar on standard error.
            **output: `dim`, `normalize`, `dtype` and `ranges`, see `quoit.pooling.Output`.

        Returns:
            [n, dim] in the order of the texts, float32 with unit rows unless `output` says otherwise; [dim] for
            one string.

        Raises:
            TypeError: an item is not a string; its index is named.
            InputError: an output option cannot be met, or a text cannot be encoded.
            ComputeError: the model gave values that are not finite.
        """
        return self._encode("", texts, show_progress, Output(**output))

    def encode_document(
        self, texts: str | Sequence[str], *, show_progress: bool = False, **output: Unpack[OutputOptions]
    ) -> Vectors:
        """Like `encode`, behind the checkpoint's document prompt (empty for Qwen3-Embedding)."""
        return self._encode(document_prompt(self._prompts), texts, show_progress, Output(**output))

    def encode_query(
        self,
        texts: str | Sequence[str],
        *,
        instruction: str | None = None,
        show_progress: bool = False,
        **output: Unpack[OutputOptions],
    ) -> Vectors:
        r"""Like `encode`, behind the checkpoint's query prompt, or `Instruct: {instruction}\nQuery:`."""
        prompt = query_prompt(self._prompts, instruction)
        return self._encode(prompt, texts, show_progress, Output(**output))

    def encode_stream(
        self, texts: Iterable[str], *, prompt: str = "", **output: Unpack[OutputOptions]
    ) -> Iterator[Vectors]:
        """The vectors of any number of texts, some thousands at a time, in input order and bounded memory.

        Where the iterable raises, the texts before that are answered first.

        Args:
            texts: any iterable of strings.
            prompt: put before each text.
            **output: as in `encode`.

        Yields:
            [n, dim] for the next n texts.
        """
        for encoded in self.encode_windows(texts, prompt=prompt, **output):
            yield encoded.vectors

    def encode_windows(
        self,
        texts: Iterable[str],
        *,
        prompt: str = "",
        advance: Advance = lambda _: None,
        **output: Unpack[OutputOptions],
    ) -> Iterator[Encoded]:
        """Like `encode_stream`, with the number of tokens and of truncated texts beside the vectors.

        Args:
            texts: any iterable of strings.
            prompt: put before each text.
            advance: called after each batch with the number of texts it answered, for a progress bar.
            **output: as in `encode`.
        """
        return self._run(prompt, texts, Output(**output), advance)

    @property
    def _prompts(self) -> dict[str, str]:
        return self.pipeline.artifact.manifest.prompts

    def _encode(self, prompt: str, texts: str | Sequence[str], show_progress: bool, output: Output) -> Vectors:
        if isinstance(texts, str):
            one: Vectors = self._encode(prompt, [texts], show_progress, output)[0]
            return one
        for index, text in enumerate(texts):
            check_text(text, f"text {index}")
        with tqdm(total=len(texts), unit=" texts", disable=not show_progress) as bar:
            windows = [encoded.vectors for encoded in self._run(prompt, texts, output, bar.update)]
        return np.concatenate(windows) if windows else finish(np.empty((0, self.dim), np.float32), output)

    def _run(self, prompt: str, texts: Iterable[str], output: Output, advance: Advance) -> Iterator[Encoded]:
        """The pipeline: prompts, tokens, batches and session, pooling."""
        output.check(min_dim=self.pipeline.artifact.manifest.min_dim, hidden_size=self.dim)
        for window in take_windows(render(prompt, texts)):
            rows = self.pipeline.tokenizer.encode(window)
            states = self.pipeline.run(rows.ids, advance)
            yield Encoded(finish(states, output), sum(map(len, rows.ids)), rows.truncated)


def take_windows(texts: Iterable[str]) -> Iterator[list[str]]:
    """Consecutive lists of at most WINDOW_TEXTS texts and about WINDOW_CHARACTERS characters.

    Where the iterable raises, the texts it gave before are a last window, and then the error goes on.
    """
    window: list[str] = []
    characters = 0
    try:
        for text in texts:
            window.append(text)
            characters += len(text)
            if len(window) == WINDOW_TEXTS or characters >= WINDOW_CHARACTERS:
                yield window
                window, characters = [], 0
    except Exception:
        if window:
            yield window
        raise
    if window:
        yield window
