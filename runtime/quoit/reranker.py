"""Turn pairs of query and document into scores: the embedder's stages, with a template, and scores, not vectors."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Never, NotRequired, SupportsIndex, TypedDict, overload

import numpy as np
from tqdm import tqdm

from quoit.arguments import flag, refuse_unknown, with_synonyms
from quoit.artifact import Artifact, Precision, RerankContract
from quoit.engine.loaded_model import LoadedModel
from quoit.engine.options import Options
from quoit.engine.pipeline import Advance, Pipeline, ignore
from quoit.engine.prefix_cache import DEFAULT_TOKENS
from quoit.engine.profile import Goal
from quoit.engine.scoring import Activation, Scores, activate, best_first, check_activation, check_finite, check_top_k
from quoit.hub.opening import open_model
from quoit.ort.providers import ProviderRequest
from quoit.text.containers import Pairs, each_pair, list_pairs, list_texts
from quoit.text.prompts import Pair, Prompt, Separator, check_text, join_pairs, rerank_prompt
from quoit.text.tokenizer import Truncation


class Ranked(TypedDict):
    """One entry of a ranking.

    `index` is the document's place among the documents, from 0, and `corpus_id` the same by the name that
    sentence-transformers gives to it. `text` is there if it was asked for.
    """

    index: int
    corpus_id: int
    score: float
    text: NotRequired[str]


@dataclass(frozen=True)
class Scoring:
    r"""Options of scoring.

    Attributes:
        instruction: the task that the model judges by; by default the artifact's instruction, the official one.
        separator: text between instruction, query and document: `"\n"`, the default, or `"\n\n"`. The published
            results of Qwen3-Reranker were made with `"\n\n"`.
        activation: `sigmoid`, the default, gives P(yes) in 0..1; `logit` gives logit(yes) - logit(no).
        show_progress: draw a progress bar on standard error.
    """

    instruction: str | None = None
    separator: Separator = "\n"
    activation: Activation = "sigmoid"
    show_progress: bool = False

    def check(self) -> None:
        """Refuse options that pairs cannot be scored with.

        Raises:
            InputError: the separator or activation is unknown.
            TypeError: the instruction is not a string, or `show_progress` is neither True nor False.
        """
        check_activation(self.activation)
        rerank_prompt("" if self.instruction is None else self.instruction, self.separator)
        flag("show_progress", self.show_progress)


@dataclass(frozen=True)
class Scored:
    """The scores of consecutive pairs, in input order, with counts of their tokens and of truncation.

    Attributes:
        logits: logit(yes) - logit(no) of each pair, [n] float32.
        tokens: number of tokens of the pairs, template included, before sharing of prefixes.
        truncation: counts of the pairs that were cut to `max_tokens`, and of the tokens that they lost.
    """

    logits: Scores
    tokens: int
    truncation: Truncation


class Reranker(LoadedModel):
    """A rerank artifact, ready to run.

        reranker = Reranker("models/qwen3-reranker-0.6b")
        reranker.rank("What is the capital of China?", documents, top_k=3)
        reranker.predict([("What is the capital of China?", "Beijing is the capital of China.")])

    A pair longer than `max_tokens` is cut at the end of the caller's text. The document loses its end first; if
    nothing is left of it, the query loses its end. The template around them is never cut. Special tokens written in a
    text are plain text: `<|im_end|>` in a document is those ten characters and not the special token.

    The score of a pair depends on the pair alone. The common beginning of pairs (template, instruction and query) is
    computed once per batch. The part before the query is kept between calls (see `quoit.engine.prefix_cache`). One
    reranker may be used from several threads.
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
            path: the artifact's folder, or a hub id such as `Qwen/Qwen3-Reranker-0.6B` or `ORG/NAME@REVISION`.
            precision: `fp32`, `fp16`, `bf16`, `int8` or `int4`; by default the fastest that the provider runs.
            provider: `cpu`, `cuda`, or `auto` for CUDA where onnxruntime offers it and the artifact has a graph for it.
            threads: number of threads; by default one for each core that this process may use.
            max_tokens: number of tokens that longer pairs are cut to; by default the model's limit.
            batch_tokens: maximum number of distinct tokens in one batch; the default depends on the provider.
            workers: number of batches computed at a time, each on `threads // workers` threads; 1 by default.
            cuda_graphs: answer single short pairs on CUDA by a captured run; on by default there.
            prefix_cache_tokens: maximum tokens of prompts whose keys and values are kept between calls; 0 for none.
            spinning: False to let threads sleep while they wait, for machines where other work runs.
            kernels: False for onnxruntime's own operators alone, True to refuse to run without the native kernels.
            tuned: `latency` or `throughput`: take options that are not given from the best setting of `quoit bench`.
            tuning: the tuning file, instead of the one that `quoit bench` keeps.
            **unknown: Refused; the error names the matching option.

        `quoit.engine.options.Options` says more about each.

        Raises:
            ArtifactError: the artifact is absent, damaged, for embedding, or rejected by its parity gate.
            ProviderError: onnxruntime or the provider asked for cannot run here.
            InputError: an argument is out of bounds.
            TypeError: an unknown option was given.
        """
        refuse_unknown(Reranker, "__init__", unknown)
        artifact = open_model(path, precision, provider)
        self.contract = artifact.contract(RerankContract)
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

    @with_synonyms
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
        """Rank documents by how well they answer a query, best first; documents with equal scores keep their order.

        Args:
            query: the query.
            documents: the documents, in any container that `Embedder.encode` takes; one string is refused.
            top_k: number of documents to return; all by default.
            return_documents: return the texts too.
            instruction: see `Scoring`.
            separator: see `Scoring`.
            activation: see `Scoring`.
            show_progress: see `Scoring`.
            **unknown: Refused; the error names the matching option.

        Returns:
            The index of each document, counted from 0 in input order, its score, and its text if asked for.

        Raises:
            TypeError: the query or a document is not a string (the message names its index), the container of the
                documents has no order, or an unknown option was given.
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
        return make_ranking(logits, texts, activation=activation, top_k=most, return_documents=texts_too)

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

    @with_synonyms
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
        """Return the scores of pairs (query, document), [n] float32 in the order of the pairs.

        Args:
            pairs: the pairs; any queries, in any order. Pairs with the same query are computed together. They may be
                tuples or lists, in a list, an array [n, 2], a zip or any other iterable that has an order. Two strings
                are one pair.
            instruction: see `Scoring`.
            separator: see `Scoring`.
            activation: see `Scoring`.
            show_progress: see `Scoring`.
            **unknown: Refused; the error names the matching option.

        Returns:
            [n] float32; for one single pair its score as a scalar, as in `CrossEncoder.predict` of
            sentence-transformers.

        Raises:
            TypeError: an item is not a pair of strings (the message names its index), the container of the pairs has
                no order, or an unknown option was given.
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
        advance: Advance = ignore,
        **unknown: Never,
    ) -> Iterator[Scored]:
        """Yield the logits of any number of pairs, some thousands at a time, in input order and bounded memory.

        If the iterable raises, the logits of the pairs before the error come first, then the error.

        Args:
            pairs: any iterable of (query, document).
            instruction: see `Scoring`.
            separator: see `Scoring`.
            advance: function for a progress bar, called after each batch with the number of pairs that it answered.
            **unknown: Refused; the error names the matching option.
        """
        refuse_unknown(Reranker, "score_windows", unknown)
        return self._run(join_pairs(each_pair(pairs), separator), self.prompt(instruction, separator), advance)

    def prompt(self, instruction: str | None = None, separator: Separator = "\n") -> Prompt:
        """Return the prompt of pairs, which ends just before the query; see `Scoring` for the options."""
        return rerank_prompt(self.contract.instruction if instruction is None else instruction, separator)

    def _run(self, texts: Iterable[str], prompt: Prompt, advance: Advance) -> Iterator[Scored]:
        for window in self.pipeline.windows(texts, prompt, advance):
            yield Scored(check_finite(window.answers), window.tokens, window.truncation)

    def _score(self, pairs: list[Pair], scoring: Scoring) -> Scores:
        with tqdm(total=len(pairs), unit=" pairs", disable=not scoring.show_progress) as bar:
            windows = self.score_windows(
                pairs, instruction=scoring.instruction, separator=scoring.separator, advance=bar.update
            )
            scored = list(windows)
        self.pipeline.report(sum((each.truncation for each in scored), Truncation()), len(pairs))
        return np.concatenate([each.logits for each in scored]) if scored else np.empty(0, np.float32)


def make_ranking(
    logits: Scores, documents: Sequence[str], *, activation: Activation, top_k: int | None, return_documents: bool
) -> list[Ranked]:
    """Return the entries of a ranking by logits, [n], best first; see `Reranker.rank`."""
    scores = activate(logits, activation)
    ranking: list[Ranked] = []
    for index in best_first(logits, top_k).tolist():
        ranked: Ranked = {"index": index, "corpus_id": index, "score": float(scores[index])}
        if return_documents:
            ranked["text"] = documents[index]
        ranking.append(ranked)
    return ranking
