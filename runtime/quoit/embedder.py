"""Texts to vectors: prompts, tokens, batches, session and pooling in a row."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
from tqdm import tqdm

from quoit.artifact import Artifact, EmbeddingContract, digest, open_artifact
from quoit.pipeline import Advance, Pipeline, RunOptions
from quoit.pooling import Output, OutputOptions, Vectors, finish
from quoit.prompts import check_text, document_prompt, plain_prompt, query_prompt, render
from quoit.tokens import Truncation


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
    what was kept of its prompt from earlier calls (see `quoit.kept`). One embedder may be used from several threads.
    """

    def __init__(self, path: str | Path | Artifact, **options: Unpack[RunOptions]) -> None:
        """Loads an artifact that `quoit-export` wrote.

        Args:
            path: the artifact folder.
            **options: `precision`, `provider`, `threads`, `max_tokens`, `batch_tokens`, `workers`, `cuda_graphs`,
                `tuned` and `tuning`, see `quoit.pipeline.RunOptions`.

        Raises:
            ArtifactError: the artifact is absent, damaged, for reranking, or rejected by its parity gate.
            ProviderError: onnxruntime or the provider asked for cannot run here.
            InputError: an argument is out of bounds.
        """
        artifact = open_artifact(path)
        self.contract = artifact.contract(EmbeddingContract)
        self.pipeline = Pipeline.load(artifact, **options)

    @property
    def dim(self) -> int:
        """The full dimension of this model's vectors."""
        return self.pipeline.artifact.manifest.architecture.hidden_size

    def encode(
        self, texts: str | Sequence[str], *, show_progress: bool = False, **output: Unpack[OutputOptions]
    ) -> Vectors:
        """The vectors of texts, without a prompt unless the checkpoint names a default one (Qwen3-Embedding does not).

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
        prompt = plain_prompt(self.contract.prompts, self.contract.default_prompt_name)
        return self._encode(prompt, texts, show_progress, Output(**output))

    def encode_document(
        self, texts: str | Sequence[str], *, show_progress: bool = False, **output: Unpack[OutputOptions]
    ) -> Vectors:
        """Like `encode`, behind the checkpoint's document prompt (empty for Qwen3-Embedding)."""
        return self._encode(document_prompt(self.contract.prompts), texts, show_progress, Output(**output))

    def encode_query(
        self,
        texts: str | Sequence[str],
        *,
        instruction: str | None = None,
        show_progress: bool = False,
        **output: Unpack[OutputOptions],
    ) -> Vectors:
        r"""Like `encode`, behind the checkpoint's query prompt, or `Instruct: {instruction}\nQuery:`."""
        prompt = query_prompt(self.contract.prompts, instruction)
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
            self.pipeline.report(encoded.truncation, len(encoded.vectors))
            yield encoded.vectors

    def encode_windows(
        self,
        texts: Iterable[str],
        *,
        prompt: str = "",
        advance: Advance = lambda _: None,
        **output: Unpack[OutputOptions],
    ) -> Iterator[Encoded]:
        """Like `encode_stream`, with the number of tokens and what was cut beside the vectors; logs nothing.

        Args:
            texts: any iterable of strings.
            prompt: put before each text.
            advance: called after each batch with the number of texts it answered, for a progress bar.
            **output: as in `encode`.
        """
        return self._run(prompt, texts, Output(**output), advance)

    def fingerprint(self, prompt: str) -> str:
        """A hash of all that decides a text's vector, but the text itself and the output's options."""
        pipeline = self.pipeline
        manifest, choice = pipeline.artifact.manifest, pipeline.session.choice
        files = (manifest.tokenizer, *manifest.variants[choice.precision].files)
        return digest([file.sha256 for file in files], choice.provider, prompt, pipeline.tokenizer.max_tokens)

    def _encode(self, prompt: str, texts: str | Sequence[str], show_progress: bool, output: Output) -> Vectors:
        if isinstance(texts, str):
            one: Vectors = self._encode(prompt, [texts], show_progress, output)[0]
            return one
        for index, text in enumerate(texts):
            check_text(text, f"text {index}")
        with tqdm(total=len(texts), unit=" texts", disable=not show_progress) as bar:
            windows = list(self._run(prompt, texts, output, bar.update))
        self.pipeline.report(sum((encoded.truncation for encoded in windows), Truncation()), len(texts))
        if not windows:
            return finish(np.empty((0, self.dim), np.float32), output)
        return np.concatenate([encoded.vectors for encoded in windows])

    def _run(self, prompt: str, texts: Iterable[str], output: Output, advance: Advance) -> Iterator[Encoded]:
        """The pipeline: prompts, tokens, batches and session, pooling."""
        output.check(min_dim=self.contract.min_dim, hidden_size=self.dim)
        for window in self.pipeline.windows(render(prompt, texts), advance, prompt):
            yield Encoded(finish(window.answers, output), window.tokens, window.truncation)
