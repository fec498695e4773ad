"""Turn texts into vectors: prompts, tokens, batches, session and pooling in a row."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Never, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from quoit.arguments import flag, refuse_unknown, with_synonyms
from quoit.artifact import Artifact, EmbeddingContract, Precision
from quoit.engine.loaded_model import LoadedModel
from quoit.engine.options import Options
from quoit.engine.pipeline import Advance, Pipeline, ignore
from quoit.engine.pooling import DtypeLike, Float32, Output, Ranges, Vectors, finish, unit_rows
from quoit.engine.prefix_cache import DEFAULT_TOKENS
from quoit.engine.profile import Goal
from quoit.fingerprint import digest
from quoit.hub.opening import open_model
from quoit.ort.providers import ProviderRequest
from quoit.text.containers import each_text, list_texts
from quoit.text.prompts import Prompt, check_texts, document_prompt, named_prompt, plain_prompt, query_prompt
from quoit.text.tokenizer import Truncation


@dataclass(frozen=True)
class Encoded:
    """The vectors of consecutive texts, in input order, with counts of their tokens and of truncation.

    Attributes:
        vectors: the vectors, [n, dim]; [n, ceil(dim / 8)] for the binary types.
        tokens: number of tokens of the texts, end tokens included, before sharing of prefixes.
        truncation: counts of the texts that were cut to `max_tokens`, and of the tokens that they lost.
    """

    vectors: Vectors
    tokens: int
    truncation: Truncation


class Embedder(LoadedModel):
    """An embedding artifact, ready to run.

        embedder = Embedder("models/qwen3-embedding-0.6b")
        documents = embedder.encode_document(["The capital of China is Beijing."])
        queries = embedder.encode_query(["What is the capital of China?"])
        scores = queries @ documents.T

    The vector of a text depends on the text alone. It does not depend on the texts beside it, their order, the batch
    size, or the prompts that are cached from earlier calls (see `quoit.engine.prefix_cache`). One embedder may be used
    from several threads.

    Texts may be in a list, a tuple, a numpy array of one dimension, a column of pandas, Arrow or Polars, an iterator,
    or a view of a dictionary. Sets, mappings, tables and missing values are refused.
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
        prefix_cache_tokens: SupportsIndex = DEFAULT_TOKENS,
        spinning: bool | None = None,
        kernels: bool | None = None,
        tuned: Goal | None = None,
        tuning: str | Path | None = None,
        **unknown: Never,
    ) -> None:
        """Load an artifact that `quoit-export` wrote, or a model of the Hugging Face hub.

        Args:
            path: the artifact's folder, or a hub id such as `Qwen/Qwen3-Embedding-0.6B` or `ORG/NAME@REVISION`.
            precision: `fp32`, `fp16`, `bf16`, `int8` or `int4`; by default the fastest that the provider runs.
            provider: `cpu`, `cuda`, or `auto` for CUDA where onnxruntime offers it and the artifact has a graph for it.
            threads: number of threads; by default one for each core that this process may use.
            max_tokens: number of tokens that longer texts are cut to; by default the model's limit.
            batch_tokens: maximum number of distinct tokens in one batch; the default depends on the provider.
            workers: number of batches computed at a time, each on `threads // workers` threads; 1 by default.
            cuda_graphs: answer single short texts on CUDA by a captured run; on by default there.
            prefix_cache_tokens: maximum tokens of prompts whose keys and values are kept between calls; 0 for none.
            spinning: False to let threads sleep while they wait, for machines where other work runs.
            kernels: False for onnxruntime's own operators alone, True to refuse to run without the native kernels.
            tuned: `latency` or `throughput`: take options that are not given from the best setting of `quoit bench`.
            tuning: the tuning file, instead of the one that `quoit bench` keeps.
            **unknown: Refused; the error names the matching option.

        `quoit.engine.options.Options` says more about each.

        Raises:
            ArtifactError: the artifact is absent, damaged, for reranking, or rejected by its parity gate.
            ProviderError: onnxruntime or the provider asked for cannot run here.
            InputError: an argument is out of bounds.
            TypeError: an unknown option was given.
        """
        refuse_unknown(Embedder, "__init__", unknown)
        artifact = open_model(path, precision, provider)
        self.contract = artifact.contract(EmbeddingContract)
        self.options = Options(
            precision=precision,
            provider=provider,
            threads=threads,
            max_tokens=max_tokens,
            batch_tokens=batch_tokens,
            workers=workers,
            cuda_graphs=cuda_graphs,
            prefix_cache_tokens=prefix_cache_tokens,
            spinning=spinning,
            kernels=kernels,
            tuned=tuned,
            tuning=tuning,
        )
        self.pipeline = Pipeline.load(artifact, self.options)

    @property
    def dim(self) -> int:
        """Full dimension of this model's vectors."""
        return self.pipeline.artifact.manifest.dimension

    @property
    def prompts(self) -> dict[str, str]:
        """The checkpoint's prompts by name, as `prompt_name` takes them."""
        return dict(self.contract.prompts)

    def get_embedding_dimension(self) -> int:
        """Return `dim`, by the name that sentence-transformers gives to it."""
        return self.dim

    def similarity(self, first: ArrayLike, second: ArrayLike) -> Float32:
        """Return the cosine of each vector with each other one, as sentence-transformers does.

        Args:
            first: vectors, [n, dim], or one vector; of any type but the binary ones.
            second: vectors, [m, dim], or one vector.

        Returns:
            [n, m] float32.
        """
        return unit_rows(first) @ unit_rows(second).T

    def similarity_pairwise(self, first: ArrayLike, second: ArrayLike) -> Float32:
        """Return the cosine of each vector of `first` with the one of `second` at its place, [n] float32."""
        cosines: Float32 = np.sum(unit_rows(first) * unit_rows(second), axis=1)
        return cosines

    @with_synonyms
    def encode(
        self,
        texts: str | Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        dim: SupportsIndex | None = None,
        normalize: bool = True,
        dtype: DtypeLike = "float32",
        ranges: Ranges | None = None,
        show_progress: bool = False,
        **unknown: Never,
    ) -> Vectors:
        """Return the vectors of texts, with the checkpoint's default prompt if it has one (Qwen3-Embedding has none).

        The names that sentence-transformers gives to these options are understood too: `normalize_embeddings`,
        `precision` for `dtype`, `show_progress_bar`, `truncate_dim`; `batch_size` has no effect.

        Args:
            texts: the texts; one string gives one vector.
            prompt: text to put before each text, instead of the default prompt.
            prompt_name: name of the checkpoint's prompt to put before each text, a key of `prompts`; without effect
                beside `prompt`.
            dim: keep the first `dim` values, then normalise; None keeps all.
            normalize: scale each vector to unit length.
            dtype: `float32`, `float16`, `int8`, `uint8`, `binary` or `ubinary`, see `quoit.engine.pooling.Output`;
                numpy types are accepted too.
            ranges: [2, dim], for `int8` and `uint8`; see `quoit.calibration_ranges`.
            show_progress: draw a progress bar on standard error.
            **unknown: Refused; the error names the matching option.

        Returns:
            [n, dim] in the order of the texts, float32 with rows of unit length by default; [dim] for one string.

        Raises:
            TypeError: an item is not a string (the message names its index), the container of the texts has no order,
                or an unknown option was given.
            InputError: an option is out of bounds or unknown, or a text cannot be encoded.
            ComputeError: the model gave values that are not finite.
        """
        refuse_unknown(Embedder, "encode", unknown)
        return self._encode(
            self.plain_prompt(prompt, prompt_name), texts, show_progress, Output(dim, normalize, dtype, ranges)
        )

    @with_synonyms
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
        """Return vectors like `encode`, with the checkpoint's document prompt (empty for Qwen3-Embedding)."""
        refuse_unknown(Embedder, "encode_document", unknown)
        prompt = document_prompt(self.contract.prompts)
        return self._encode(prompt, texts, show_progress, Output(dim, normalize, dtype, ranges))

    @with_synonyms
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
        r"""Return vectors like `encode`, with the checkpoint's query prompt, or `Instruct: {instruction}\nQuery:`."""
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
        """Yield the vectors of any number of texts, some thousands at a time, in input order and bounded memory.

        The options are checked at the call, each text when its turn comes. If the iterable raises, or an item is not
        a text, the vectors of the texts before it come first, then the error.

        Args:
            texts: any iterable of strings, but not one string.
            prompt: text to put before each text.
            dim: as in `encode`.
            normalize: as in `encode`.
            dtype: as in `encode`.
            ranges: as in `encode`.
            **unknown: as in `encode`.

        Yields:
            [n, dim] for the next n texts.
        """
        refuse_unknown(Embedder, "encode_stream", unknown)
        output = Output(dim, normalize, dtype, ranges)
        return self._reported(self._windows(Prompt(prompt), texts, output))

    def encode_windows(
        self,
        texts: Iterable[str],
        *,
        prompt: str = "",
        advance: Advance = ignore,
        dim: SupportsIndex | None = None,
        normalize: bool = True,
        dtype: DtypeLike = "float32",
        ranges: Ranges | None = None,
        **unknown: Never,
    ) -> Iterator[Encoded]:
        """Yield windows like `encode_stream`, with the counts of tokens and of truncation; log nothing.

        For a progress bar, `advance` is called after each batch with the number of texts that it answered.
        """
        refuse_unknown(Embedder, "encode_windows", unknown)
        return self._windows(Prompt(prompt), texts, Output(dim, normalize, dtype, ranges), advance)

    def fingerprint(self, prompt: str) -> str:
        """Return the hash of all that decides a text's vector, except the text itself and the output's options.

        The graph and the kernels' instructions are part of it, since bits differ between them.
        """
        pipeline = self.pipeline
        manifest, choice = pipeline.artifact.manifest, pipeline.session.choice
        files = (manifest.tokenizer, *manifest.variants[choice.precision].files)
        session, max_tokens = pipeline.session, pipeline.tokenizer.max_tokens
        instructions = "" if session.kernels is None else session.kernels.instructions
        hashes = [file.sha256 for file in files]
        return digest(hashes, choice.provider, session.graph, instructions, prompt, max_tokens)

    def query_prompt(self, instruction: str | None = None) -> str:
        r"""Return the text that `encode_query` puts before each query, as `prompt` of other methods takes it."""
        return query_prompt(self.contract.prompts, instruction).text

    def plain_prompt(self, prompt: str | None = None, prompt_name: str | None = None) -> Prompt:
        """Return the prompt of `encode`: the given text, the checkpoint's prompt of a name, or its default prompt.

        Raises:
            InputError: the checkpoint has no prompt of this name, or the text cannot be encoded.
            TypeError: the prompt is not a string.
        """
        if prompt is not None:
            return Prompt(prompt)
        if prompt_name is not None:
            return named_prompt(self.contract.prompts, prompt_name)
        return plain_prompt(self.contract.prompts, self.contract.default_prompt_name)

    def check_output(self, output: Output) -> Output:
        """Return the form of vectors after a check that this model's vectors can have it; see `Output.check`."""
        return output.check(min_dim=self.contract.min_dim, hidden_size=self.dim)

    def _encode(self, prompt: Prompt, texts: str | Iterable[str], show_progress: bool, output: Output) -> Vectors:
        output = self.check_output(output)
        shows = flag("show_progress", show_progress)
        if isinstance(texts, str):
            one: Vectors = self._encode(prompt, [texts], shows, output)[0]
            return one
        listed = list_texts(texts)
        with tqdm(total=len(listed), unit=" texts", disable=not shows) as bar:
            windows = list(self._run(prompt, listed, output, bar.update))
        self.pipeline.report(sum((encoded.truncation for encoded in windows), Truncation()), len(listed))
        if not windows:
            return finish(np.empty((0, self.dim), np.float32), output)
        return np.concatenate([encoded.vectors for encoded in windows])

    def _windows(
        self, prompt: Prompt, texts: Iterable[str], output: Output, advance: Advance = ignore
    ) -> Iterator[Encoded]:
        """Return the windows of a stream; the options and the container are checked before the first item is read."""
        output = self.check_output(output)
        return self._run(prompt, check_texts(each_text(texts)), output, advance)

    def _run(self, prompt: Prompt, texts: Iterable[str], output: Output, advance: Advance) -> Iterator[Encoded]:
        """Run the pipeline on checked texts: tokens, batches and session, pooling."""
        for window in self.pipeline.windows(texts, prompt, advance):
            yield Encoded(finish(window.answers, output), window.tokens, window.truncation)

    def _reported(self, windows: Iterable[Encoded]) -> Iterator[Vectors]:
        for encoded in windows:
            self.pipeline.report(encoded.truncation, len(encoded.vectors))
            yield encoded.vectors
