"""Texts to vectors: prompts, tokens, batches, session and pooling in a row."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Never, SupportsIndex

import numpy as np
from tqdm import tqdm

from quoit.arguments import flag, refuse_unknown
from quoit.artifact import Artifact, EmbeddingContract, Precision, digest, open_artifact
from quoit.engine.pipeline import Advance, Pipeline
from quoit.engine.pooling import DtypeLike, Output, Ranges, Vectors, finish
from quoit.engine.profile import Goal
from quoit.ort.session import ProviderRequest
from quoit.text.containers import each_text, list_texts
from quoit.text.prompts import check_text, document_prompt, plain_prompt, query_prompt, render
from quoit.text.tokenizer import Truncation


@dataclass(frozen=True)
class Encoded:
    """The vectors of consecutive texts, in input order, and what they took.

    Attributes:
        vectors: [n, dim].
        tokens: the texts' tokens, end tokens included, before sharing of prefixes.
        truncation: how many of the texts were cut to `max_tokens`, and by how much.
    """

    vectors: Vectors
    tokens: int
    truncation: Truncation


class Embedder:
    """An embedding artifact, ready to run.

        embedder = Embedder("models/qwen3-embedding-0.6b")
        documents = embedder.encode_document(["The capital of China is Beijing."])
        queries = embedder.encode_query(["What is the capital of China?"])
        scores = queries @ documents.T

    The vector of a text depends on the text alone: not on the texts beside it, their order, or the batch size, nor on
    what was kept of its prompt from earlier calls (see `quoit.engine.prefix_cache`). One embedder may be used from
    several threads.

    Texts may be in a list, a tuple, a numpy array of one dimension, a column of pandas, Arrow or Polars, an iterator,
    or a view of a dictionary. Sets, mappings and tables are refused, and so are missing values.
    """

    def __init__(  # noqa: PLR0913  every option is seen
        self,
        path: str | Path | Artifact,
        *,
        precision: Precision | None = None,
        provider: ProviderRequest = "auto",
        threads: SupportsIndex | None = None,
        max_tokens: SupportsIndex | None = None,
        batch_tokens: SupportsIndex | None = None,
        workers: SupportsIndex | None = None,
        cuda_graphs: bool | None = None,
        tuned: Goal | None = None,
        tuning: str | Path | None = None,
        **unknown: Never,
    ) -> None:
        """Loads an artifact that `quoit-export` wrote.

        `path` is its folder; how it runs is said by the options of `quoit.engine.pipeline.RunOptions`.

        Raises:
            ArtifactError: the artifact is absent, damaged, for reranking, or rejected by its parity gate.
            ProviderError: onnxruntime or the provider asked for cannot run here.
            InputError: an argument is out of bounds.
            TypeError: an unknown option was given.
        """
        refuse_unknown(Embedder, "__init__", unknown)
        artifact = open_artifact(path)
        self.contract = artifact.contract(EmbeddingContract)
        self.pipeline = Pipeline.load(
            artifact,
            precision=precision,
            provider=provider,
            max_tokens=max_tokens,
            cuda_graphs=cuda_graphs,
            tuned=tuned,
            tuning=tuning,
            threads=threads,
            batch_tokens=batch_tokens,
            workers=workers,
        )

    @property
    def dim(self) -> int:
        """The full dimension of this model's vectors."""
        return self.pipeline.artifact.manifest.dimension

    def encode(
        self,
        texts: str | Iterable[str],
        *,
        dim: SupportsIndex | None = None,
        normalize: bool = True,
        dtype: DtypeLike = "float32",
        ranges: Ranges | None = None,
        show_progress: bool = False,
        **unknown: Never,
    ) -> Vectors:
        """The vectors of texts, without a prompt unless the checkpoint names a default one (Qwen3-Embedding does not).

        Args:
            texts: the texts; one string gives one vector.
            dim: keep the first `dim` values, then normalise; None keeps all.
            normalize: scale each vector to unit length.
            dtype: `float32`, `float16`, `int8`, `uint8`, `binary` or `ubinary`, see `quoit.engine.pooling.Output`;
                numpy's own types are taken too.
            ranges: [2, dim], for `int8` and `uint8`; see `quoit.calibration_ranges`.
            show_progress: draw a progress bar on standard error.
            **unknown: Refused; the error names the matching option.

        Returns:
            [n, dim] in the order of the texts, float32 with unit rows unless the options say otherwise; [dim] for
            one string.

        Raises:
            TypeError: an item is not a string, with its index; what holds the texts has no order; or an unknown
                option was given.
            InputError: an option cannot be met, or a text cannot be encoded.
            ComputeError: the model gave values that are not finite.
        """
        refuse_unknown(Embedder, "encode", unknown)
        prompt = plain_prompt(self.contract.prompts, self.contract.default_prompt_name)
        return self._encode(prompt, texts, show_progress, Output(dim, normalize, dtype, ranges))

    def encode_document(
        self,
        texts: str | Iterable[str],
        *,
        dim: SupportsIndex | None = None,
        normalize: bool = True,
        dtype: DtypeLike = "float32",
        ranges: Ranges | None = None,
        show_progress: bool = False,
        **unknown: Never,
    ) -> Vectors:
        """Like `encode`, behind the checkpoint's document prompt (empty for Qwen3-Embedding)."""
        refuse_unknown(Embedder, "encode_document", unknown)
        prompt = document_prompt(self.contract.prompts)
        return self._encode(prompt, texts, show_progress, Output(dim, normalize, dtype, ranges))

    def encode_query(
        self,
        texts: str | Iterable[str],
        *,
        instruction: str | None = None,
        dim: SupportsIndex | None = None,
        normalize: bool = True,
        dtype: DtypeLike = "float32",
        ranges: Ranges | None = None,
        show_progress: bool = False,
        **unknown: Never,
    ) -> Vectors:
        r"""Like `encode`, behind the checkpoint's query prompt, or `Instruct: {instruction}\nQuery:`."""
        refuse_unknown(Embedder, "encode_query", unknown)
        prompt = query_prompt(self.contract.prompts, instruction)
        return self._encode(prompt, texts, show_progress, Output(dim, normalize, dtype, ranges))

    def encode_stream(
        self,
        texts: Iterable[str],
        *,
        prompt: str = "",
        dim: SupportsIndex | None = None,
        normalize: bool = True,
        dtype: DtypeLike = "float32",
        ranges: Ranges | None = None,
        **unknown: Never,
    ) -> Iterator[Vectors]:
        """The vectors of any number of texts, some thousands at a time, in input order and bounded memory.

        The options are checked at the call, each text when its turn comes. Where the iterable raises, or an item is
        no text, the texts before that are answered first.

        Args:
            texts: any iterable of strings, not one string.
            prompt: put before each text.
            dim: as in `encode`, and so are the others.
            normalize: as in `encode`.
            dtype: as in `encode`.
            ranges: as in `encode`.
            **unknown: as in `encode`.

        Yields:
            [n, dim] for the next n texts.
        """
        refuse_unknown(Embedder, "encode_stream", unknown)
        output = Output(dim, normalize, dtype, ranges)
        return self._reported(self._windows(prompt, texts, output, lambda _: None))

    def encode_windows(
        self,
        texts: Iterable[str],
        *,
        prompt: str = "",
        advance: Advance = lambda _: None,
        dim: SupportsIndex | None = None,
        normalize: bool = True,
        dtype: DtypeLike = "float32",
        ranges: Ranges | None = None,
        **unknown: Never,
    ) -> Iterator[Encoded]:
        """Like `encode_stream`, with the number of tokens and what was cut beside the vectors; logs nothing.

        `advance` is called after each batch with the number of texts it answered, for a progress bar.
        """
        refuse_unknown(Embedder, "encode_windows", unknown)
        return self._windows(prompt, texts, Output(dim, normalize, dtype, ranges), advance)

    def fingerprint(self, prompt: str) -> str:
        """A hash of all that decides a text's vector, but the text itself and the output's options."""
        pipeline = self.pipeline
        manifest, choice = pipeline.artifact.manifest, pipeline.session.choice
        files = (manifest.tokenizer, *manifest.variants[choice.precision].files)
        return digest([file.sha256 for file in files], choice.provider, prompt, pipeline.tokenizer.max_tokens)

    def _encode(self, prompt: str, texts: str | Iterable[str], show_progress: bool, output: Output) -> Vectors:
        output = output.check(min_dim=self.contract.min_dim, hidden_size=self.dim)
        shows = flag("show_progress", show_progress)
        if isinstance(texts, str):
            one: Vectors = self._encode(prompt, [texts], shows, output)[0]
            return one
        listed = list_texts(texts)
        with tqdm(total=len(listed), unit=" texts", disable=not shows) as bar:
            windows = list(self._run(prompt, (prompt + text for text in listed), output, bar.update))
        self.pipeline.report(sum((encoded.truncation for encoded in windows), Truncation()), len(listed))
        if not windows:
            return finish(np.empty((0, self.dim), np.float32), output)
        return np.concatenate([encoded.vectors for encoded in windows])

    def _windows(self, prompt: str, texts: Iterable[str], output: Output, advance: Advance) -> Iterator[Encoded]:
        """What a stream gives; all but its items is checked before the first of them is asked for."""
        output = output.check(min_dim=self.contract.min_dim, hidden_size=self.dim)
        prompt = check_text(prompt, "prompt")
        return self._run(prompt, render(prompt, each_text(texts)), output, advance)

    def _run(self, prompt: str, texts: Iterable[str], output: Output, advance: Advance) -> Iterator[Encoded]:
        """The pipeline: tokens, batches and session, pooling. The texts are checked, and begin with the prompt."""
        for window in self.pipeline.windows(texts, advance, prompt):
            yield Encoded(finish(window.answers, output), window.tokens, window.truncation)

    def _reported(self, windows: Iterable[Encoded]) -> Iterator[Vectors]:
        for encoded in windows:
            self.pipeline.report(encoded.truncation, len(encoded.vectors))
            yield encoded.vectors
