"""Pairs of query and document to scores: the embedder's stages, with a template and a score for a vector."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Never, NotRequired, SupportsIndex, TypedDict, overload

import numpy as np
from tqdm import tqdm

from quoit.arguments import flag, refuse_unknown
from quoit.artifact import Artifact, Precision, RerankContract, open_artifact
from quoit.engine.pipeline import Advance, Pipeline
from quoit.engine.profile import Goal
from quoit.engine.scoring import Activation, Scores, activate, best_first, check_activation, check_finite, check_top_k
from quoit.ort.providers import ProviderRequest
from quoit.text.containers import Pairs, each_pair, list_pairs, list_texts
from quoit.text.prompts import Pair, Separator, check_text, render_pairs, rerank_prompt
from quoit.text.tokenizer import Truncation


class Ranked(TypedDict):
    """A document's place in the ranking: its index among the documents, its score, and its text if asked for."""

    index: int
    score: float
    text: NotRequired[str]


@dataclass(frozen=True)
class Scoring:
    r"""How pairs are scored.

    Attributes:
        instruction: what the model is to judge by; by default the artifact's, which is the official one.
        separator: between instruction, query and document: `"\n"`, the default, or `"\n\n"`, with which the
            published results of Qwen3-Reranker were made.
        activation: `sigmoid`, the default, gives P(yes) in 0..1; `logit` gives logit(yes) - logit(no).
        show_progress: draw a progress bar on standard error.
    """

    instruction: str | None = None
    separator: Separator = "\n"
    activation: Activation = "sigmoid"
    show_progress: bool = False

    def check(self) -> None:
        """Refuses what pairs cannot be scored by.

        Raises:
            InputError: an unknown separator or activation.
            TypeError: the instruction is no string, or `show_progress` neither True nor False.
        """
        check_activation(self.activation)
        rerank_prompt("" if self.instruction is None else self.instruction, self.separator)
        flag("show_progress", self.show_progress)


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
    query, is computed once per batch, and what precedes the query is kept between calls (see
    `quoit.engine.prefix_cache`). One reranker may be used from several threads.
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
            ArtifactError: the artifact is absent, damaged, for embedding, or rejected by its parity gate.
            ProviderError: onnxruntime or the provider asked for cannot run here.
            InputError: an argument is out of bounds.
            TypeError: an unknown option was given.
        """
        refuse_unknown(Reranker, "__init__", unknown)
        artifact = open_artifact(path)
        self.contract = artifact.contract(RerankContract)
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

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        top_k: SupportsIndex | None = None,
        return_documents: bool = False,
        instruction: str | None = None,
        separator: Separator = "\n",
        activation: Activation = "sigmoid",
        show_progress: bool = False,
        **unknown: Never,
    ) -> list[Ranked]:
        """The documents by how well they answer a query, best first; equals keep their order.

        Args:
            query: the query.
            documents: the documents, in whatever `Embedder.encode` takes; one string is refused.
            top_k: how many to return; all by default.
            return_documents: return the texts too.
            instruction: see `Scoring`, which has the rest too.
            separator: see `Scoring`.
            activation: see `Scoring`.
            show_progress: see `Scoring`.
            **unknown: Refused; the error names the matching option.

        Returns:
            The index of each document, from 0 in the order they came, its score, and its text if asked for.

        Raises:
            TypeError: the query or a document is not a string, with its index; what holds the documents has no
                order; or an unknown option was given.
            InputError: an option is out of bounds, or a text cannot be encoded.
            ComputeError: the model gave a score that is not finite.
        """
        refuse_unknown(Reranker, "rank", unknown)
        query = check_text(query, "query")
        scoring = Scoring(instruction, separator, activation, show_progress)
        most, texts_too = check_top_k(top_k), flag("return_documents", return_documents)
        scoring.check()
        texts = list_texts(documents, "documents")
        logits = self._score([(query, text) for text in texts], scoring)
        scores = activate(logits, activation)
        ranking: list[Ranked] = []
        for index in best_first(logits, most).tolist():
            ranked: Ranked = {"index": index, "score": float(scores[index])}
            if texts_too:
                ranked["text"] = texts[index]
            ranking.append(ranked)
        return ranking

    @overload
    def predict(
        self,
        pairs: Pairs,
        *,
        instruction: str | None = None,
        separator: Separator = "\n",
        activation: Activation = "sigmoid",
        show_progress: bool = False,
        **unknown: Never,
    ) -> Scores: ...

    @overload
    def predict(
        self,
        pairs: Pair | list[str],
        *,
        instruction: str | None = None,
        separator: Separator = "\n",
        activation: Activation = "sigmoid",
        show_progress: bool = False,
        **unknown: Never,
    ) -> np.float32: ...

    def predict(
        self,
        pairs: Pairs | Pair | list[str],
        *,
        instruction: str | None = None,
        separator: Separator = "\n",
        activation: Activation = "sigmoid",
        show_progress: bool = False,
        **unknown: Never,
    ) -> Scores | np.float32:
        """The scores of pairs (query, document), [n] float32 in the order of the pairs.

        Args:
            pairs: the pairs; any queries, in any order. Those with a query in common are computed together. They may
                be tuples or lists, in a list, an array [n, 2], a zip or any other iterable that has an order. Two
                strings are one pair.
            instruction: see `Scoring`, which has the rest too.
            separator: see `Scoring`.
            activation: see `Scoring`.
            show_progress: see `Scoring`.
            **unknown: Refused; the error names the matching option.

        Returns:
            [n] float32; for one pair alone its score, as the `CrossEncoder.predict` of sentence-transformers gives it.

        Raises:
            TypeError: an item is no pair of strings, with its index; what holds the pairs has no order; or an
                unknown option was given.
            InputError: an option is out of bounds, or a text cannot be encoded.
            ComputeError: the model gave a score that is not finite.
        """
        refuse_unknown(Reranker, "predict", unknown)
        scoring = Scoring(instruction, separator, activation, show_progress)
        scoring.check()
        found, single = list_pairs(pairs)
        scores = activate(self._score(found, scoring), activation)
        return np.float32(scores[0]) if single else scores

    def score_windows(
        self,
        pairs: Pairs,
        *,
        instruction: str | None = None,
        separator: Separator = "\n",
        advance: Advance = lambda _: None,
        **unknown: Never,
    ) -> Iterator[Scored]:
        """The logits of any number of pairs, some thousands at a time, in input order and bounded memory.

        Where the iterable raises, the pairs before that are answered first.

        Args:
            pairs: any iterable of (query, document).
            instruction: see `Scoring`.
            separator: see `Scoring`.
            advance: called after each batch with the number of pairs it answered, for a progress bar.
            **unknown: Refused; the error names the matching option.
        """
        refuse_unknown(Reranker, "score_windows", unknown)
        instruction = self.contract.instruction if instruction is None else instruction
        prompt = rerank_prompt(instruction, separator)
        return self._run(render_pairs(each_pair(pairs), instruction, separator), prompt, advance)

    def _run(self, texts: Iterable[str], prompt: str, advance: Advance) -> Iterator[Scored]:
        for window in self.pipeline.windows(texts, advance, prompt):
            yield Scored(check_finite(window.answers), window.tokens, window.truncation)

    def _score(self, pairs: list[Pair], scoring: Scoring) -> Scores:
        with tqdm(total=len(pairs), unit=" pairs", disable=not scoring.show_progress) as bar:
            windows = self.score_windows(
                pairs, instruction=scoring.instruction, separator=scoring.separator, advance=bar.update
            )
            scored = list(windows)
        self.pipeline.report(sum((each.truncation for each in scored), Truncation()), len(pairs))
        return np.concatenate([each.logits for each in scored]) if scored else np.empty(0, np.float32)
