"""Pairs of query and document to scores: the embedder's stages, with a template and a score for a vector."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict, Unpack

import numpy as np
from tqdm import tqdm

from quoit.artifact import Artifact, RerankContract, open_artifact
from quoit.errors import shown
from quoit.pipeline import Advance, Pipeline, RunOptions
from quoit.prompts import Pair, Separator, check_text, render_pairs, rerank_prompt
from quoit.scoring import Activation, Scores, activate, best_first, check_activation, check_finite, check_top_k
from quoit.tokens import Truncation


class Ranked(TypedDict):
    """A document's place in the ranking: its index among the documents, its score, and its text if asked for."""

    index: int
    score: float
    text: NotRequired[str]


class ScoreOptions(TypedDict, total=False):
    r"""How pairs are scored.

    Keys:
        instruction: what the model is to judge by; by default the artifact's, which is the official one.
        separator: between instruction, query and document: `"\n"`, the default, or `"\n\n"`, with which the
            published results of Qwen3-Reranker were made.
        activation: `sigmoid`, the default, gives P(yes) in 0..1; `logit` gives logit(yes) - logit(no).
        show_progress: draw a progress bar on standard error.
    """

    instruction: str | None
    separator: Separator
    activation: Activation
    show_progress: bool


@dataclass(frozen=True)
class Scoring:
    """`ScoreOptions` with their defaults."""

    instruction: str | None = None
    separator: Separator = "\n"
    activation: Activation = "sigmoid"
    show_progress: bool = False


@dataclass(frozen=True)
class Scored:
    """The scores of consecutive pairs, in input order, and what they took.

    Attributes:
        logits: [n] float32, logit(yes) - logit(no).
        tokens: the pairs' tokens, template included, before sharing of prefixes.
        truncation: how many of the pairs were cut to `max_tokens`, and by how much.
    """

    logits: Scores
    tokens: int
    truncation: Truncation


class Reranker:
    """A rerank artifact, ready to run.

        reranker = Reranker("models/qwen3-reranker-0.6b")
        reranker.rank("What is the capital of China?", documents, top_k=3)
        reranker.predict([("What is the capital of China?", "Beijing is the capital of China.")])

    A pair longer than `max_tokens` is cut at the end of what the caller wrote: the document loses its end
    first, then, once nothing is left of it, the query. The template around them always survives. Text is text:
    `<|im_end|>` in a document is those ten characters and not the special token.

    The score of a pair depends on the pair alone. What pairs begin with in common, template, instruction and
    query, is computed once per batch, and what precedes the query is kept between calls (see `quoit.kept`). One
    reranker may be used from several threads.
    """

    def __init__(self, path: str | Path | Artifact, **options: Unpack[RunOptions]) -> None:
        """Loads an artifact that `quoit-export` wrote.

        Args:
            path: the artifact folder.
            **options: `precision`, `provider`, `threads`, `max_tokens`, `batch_tokens`, `workers`, `cuda_graphs`,
                `tuned` and `tuning`, see `quoit.pipeline.RunOptions`.

        Raises:
            ArtifactError: the artifact is absent, damaged, for embedding, or rejected by its parity gate.
            ProviderError: onnxruntime or the provider asked for cannot run here.
            InputError: an argument is out of bounds.
        """
        artifact = open_artifact(path)
        self.contract = artifact.contract(RerankContract)
        self.pipeline = Pipeline.load(artifact, **options)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Unpack[ScoreOptions],
    ) -> list[Ranked]:
        """The documents by how well they answer a query, best first; equals keep their order.

        Args:
            query: the query.
            documents: the documents.
            top_k: how many to return; all by default.
            return_documents: return the texts too.
            **options: see `ScoreOptions`.

        Raises:
            TypeError: the query or a document is not a string; its index is named.
            InputError: an option is out of bounds, or a text cannot be encoded.
            ComputeError: the model gave a score that is not finite.
        """
        check_text(query, "query")
        if isinstance(documents, str):
            raise TypeError(f"documents is one string, {shown(documents)}; put it into a list")
        check_top_k(top_k)
        scoring = Scoring(**options)
        logits = self._score([(query, document) for document in documents], scoring)
        scores = activate(logits, scoring.activation)
        ranking: list[Ranked] = []
        for index in best_first(logits, top_k).tolist():
            ranked: Ranked = {"index": index, "score": float(scores[index])}
            if return_documents:
                ranked["text"] = documents[index]
            ranking.append(ranked)
        return ranking

    def predict(self, pairs: Sequence[Pair], **options: Unpack[ScoreOptions]) -> Scores:
        """The scores of pairs (query, document), [n] float32 in the order of the pairs.

        Args:
            pairs: the pairs; any queries, in any order. Those with a query in common are computed together.
            **options: see `ScoreOptions`.

        Raises:
            TypeError: an item is no pair of strings; its index is named.
            InputError: an option is out of bounds, or a text cannot be encoded.
            ComputeError: the model gave a score that is not finite.
        """
        scoring = Scoring(**options)
        return activate(self._score(pairs, scoring), scoring.activation)

    def score_windows(
        self,
        pairs: Iterable[Pair],
        *,
        instruction: str | None = None,
        separator: Separator = "\n",
        advance: Advance = lambda _: None,
    ) -> Iterator[Scored]:
        """The logits of any number of pairs, some thousands at a time, in input order and bounded memory.

        Where the iterable raises, the pairs before that are answered first.

        Args:
            pairs: any iterable of (query, document).
            instruction: see `ScoreOptions`.
            separator: see `ScoreOptions`.
            advance: called after each batch with the number of pairs it answered, for a progress bar.
        """
        instruction = self.contract.instruction if instruction is None else instruction
        texts, prompt = render_pairs(pairs, instruction, separator), rerank_prompt(instruction, separator)
        for window in self.pipeline.windows(texts, advance, prompt):
            yield Scored(check_finite(window.answers), window.tokens, window.truncation)

    def _score(self, pairs: Sequence[Pair], scoring: Scoring) -> Scores:
        check_activation(scoring.activation)
        for _ in render_pairs(pairs, "", scoring.separator):
            pass  # a pair that is none is refused before any is computed
        with tqdm(total=len(pairs), unit=" pairs", disable=not scoring.show_progress) as bar:
            windows = self.score_windows(
                pairs, instruction=scoring.instruction, separator=scoring.separator, advance=bar.update
            )
            scored = list(windows)
        self.pipeline.report(sum((each.truncation for each in scored), Truncation()), len(pairs))
        return np.concatenate([each.logits for each in scored]) if scored else np.empty(0, np.float32)
