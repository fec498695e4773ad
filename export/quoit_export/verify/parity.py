"""Measure how far a variant's answers are from its reference's, and compare them with the floor for publishing.

Answers are computed with the runtime's own tokens, batches and pooling, on a fixed set of held-out texts. These are in
some thirty languages, code and symbols, and no decision of export depends on them. int8 and int4 are also measured on
the texts that calibrated them. The reference of fp32 is transformers; the reference of all other precisions is fp32. An
embedding model's answers are vectors, a reranker's are scores. This module does not know what makes a variant better.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from quoit.artifact import HELD_OUT, SNIPPETS, Artifact, EmbeddingContract, GraphName, Measure, Parity, Precision, Task
from quoit.engine.limits import cpu_limits
from quoit.engine.planner import Batch, plan_batches
from quoit.engine.pooling import Output, finish
from quoit.engine.scoring import check_finite, sigmoid
from quoit.ort.session import Answers
from quoit.text.prompts import Pair, render_pairs
from quoit.text.tokenizer import Ids, TextTokenizer
from quoit_export.checkpoint.checkpoint import Checkpoint
from quoit_export.errors import ParityError
from quoit_export.precisions.table import PRECISIONS, REFERENCE
from quoit_export.sample_texts import sample_texts
from quoit_export.verify.layerwise import answers

DIGITS = 7
QUERIES = 4
DOCUMENTS = 32
NEAREST = 10
ROUNDING = 1e-5
"""Length below which a unit vector's distance from the sample's mean is rounding of float32, not meaning."""


@dataclass(frozen=True)
class Sample:
    """Texts to measure on, and their name in the manifest."""

    name: str
    texts: Sequence[str]

    @property
    def pairs(self) -> list[Pair]:
        """Pairs of the texts, QUERIES x at most DOCUMENTS, query by query."""
        step = len(self.texts) // QUERIES
        queries = self.texts[: QUERIES * step : step]
        return [(query, document) for query in queries for document in self.texts[:DOCUMENTS]]


def held_out() -> Sample:
    """Return the sample of the held-out texts."""
    return Sample(HELD_OUT, parity_texts())


def parity_texts() -> list[str]:
    """Return the held-out texts."""
    return sample_texts("parity_texts.txt")


def snippets() -> Sample:
    """Return the sample of held-out snippets: single tokens, fragments and code of several lines."""
    return Sample(SNIPPETS, sample_texts("parity_snippets.jsonl"))


def parity_pairs() -> list[Pair]:
    """Return the pairs of the held-out texts."""
    return held_out().pairs


def parity_rows(artifact: Artifact, sample: Sample) -> list[Ids]:
    """Return the token ids of a sample: of its texts, or for a reranker of its pairs."""
    tokenizer = TextTokenizer.load(artifact.path(artifact.manifest.tokenizer), artifact.manifest)
    contract = artifact.manifest.contract
    if isinstance(contract, EmbeddingContract):
        return tokenizer.encode(sample.texts).ids
    return tokenizer.encode(list(render_pairs(sample.pairs, contract.instruction, "\n"))).ids


@dataclass(frozen=True)
class Questions:
    """A sample's texts or pairs as the runtime batches them.

    Attributes:
        sample: the sample.
        rows: the token ids of each text or pair.
        batches: the batches of the rows.
    """

    sample: Sample
    rows: Sequence[Ids]
    batches: Sequence[Batch]

    @classmethod
    def plan(cls, artifact: Artifact, sample: Sample) -> "Questions":
        """Return the rows and batches of a sample for the model of an artifact."""
        rows = parity_rows(artifact, sample)
        return cls(
            sample, rows, list(plan_batches(rows, cpu_limits(artifact.manifest.task, artifact.manifest.max_tokens)))
        )

    def part(self, artifact: Artifact, numbers: Sequence[int]) -> "Questions":
        """Return some of the texts or pairs, by their numbers, in batches of their own."""
        rows = [self.rows[number] for number in numbers]
        limits = cpu_limits(artifact.manifest.task, artifact.manifest.max_tokens)
        return Questions(self.sample, rows, list(plan_batches(rows, limits)))

    def arrange(self, found: Sequence[Answers]) -> Answers:
        """Return a graph's answers to the batches in the order of the rows, [n, hidden] or [n]."""
        answers = np.empty((len(self.rows), *found[0].shape[1:]), np.float32)
        for batch, some in zip(self.batches, found, strict=True):
            answers[batch.texts] = some[batch.output_row]
        return answers

    def collect(self, found: Sequence[Answers], task: Task) -> Answers:
        """Return a graph's answers to the batches as unit vectors [n, hidden], or as logits [QUERIES, documents].

        Raises:
            ComputeError: an answer is not finite.
        """
        answers = self.arrange(found)
        if task == "embedding":
            vectors: Answers = finish(answers, Output())
            return vectors
        return self.shape(check_finite(answers), task)

    @staticmethod
    def shape(answers: Answers, task: Task) -> Answers:
        """Return the answers to all rows as unit vectors [n, hidden], or as logits [QUERIES, documents]."""
        return answers if task == "embedding" else answers.reshape(QUERIES, -1)


def collect(questions: Sequence[Questions], found: Sequence[Answers], task: Task) -> list[Answers]:
    """Return the answers to several samples, whose batches were run one after another."""
    rest = iter(found)
    return [one.collect(list(islice(rest, len(one.batches))), task) for one in questions]


def variant_answers(
    artifact: Artifact, precision: Precision, samples: Sequence[Sample], graph: GraphName = "cpu"
) -> list[Answers]:
    """Return a variant's answers to samples; see `answer`."""
    return answer(artifact, precision, [Questions.plan(artifact, sample) for sample in samples], graph)


def answer(
    artifact: Artifact, precision: Precision, questions: Sequence[Questions], graph: GraphName = "cpu"
) -> list[Answers]:
    """Return a variant's unit vectors of each sample's texts [n, hidden], or logits of its pairs [QUERIES, documents].

    The written graph and tensors run on the CPU, after a check that they match their records.

    Raises:
        ArtifactError: a file is damaged.
        ComputeError: an answer is not finite.
    """
    model = load_variant(artifact, precision, graph)
    found = answers(model, batches_of(questions), f"running {precision}")
    return collect(questions, found, artifact.manifest.task)


def batches_of(questions: Sequence[Questions]) -> list[Batch]:
    """Return the batches of several samples, one after another."""
    return [batch for one in questions for batch in one.batches]


def load_variant(artifact: Artifact, precision: Precision, graph: GraphName = "cpu") -> ir.Model:
    """Load one of a variant's written graphs, after a check of its files; tensors stay on disk until they are used.

    Raises:
        ArtifactError: a file is damaged.
    """
    variant = artifact.variant(precision)
    files = {record.path: artifact.verify(record) for record in variant.files}
    return ir.load(files[variant.graphs[graph].file.path])


def transformers_answers(checkpoint: Checkpoint, artifact: Artifact, sample: Sample) -> Answers:
    """Return transformers' answers to a sample in float32, one row of token ids at a time.

    Raises:
        ParityError: torch or transformers is not installed.
    """
    try:
        import torch
        from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification
        from transformers.utils import logging
    except ImportError as error:
        raise ParityError(f"--verify needs torch and transformers ({error}); `pip install 'quoit[verify]'`") from error
    if not sys.stderr.isatty():
        disable: Callable[[], None] = logging.disable_progress_bar
        disable()
    contract = checkpoint.contract

    def answers(kind: Any, answer: Callable[[Any], Any], **options: Any) -> Answers:
        model = kind.from_pretrained(checkpoint.folder, dtype=torch.float32).eval()
        rows = [torch.from_numpy(row.astype(np.int64))[None] for row in parity_rows(artifact, sample)]
        with torch.inference_mode():
            found: Answers = torch.stack([answer(model(input_ids=row, **options)) for row in rows]).numpy()
        return found

    if isinstance(contract, EmbeddingContract):
        vectors = answers(AutoModel, lambda output: output.last_hidden_state[0, -1])
        unit: Answers = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit
    if contract.yes_token_id is None:
        logits = answers(AutoModelForSequenceClassification, lambda output: output.logits[0, 0])
    else:
        yes, no = contract.yes_token_id, contract.no_token_id
        logits = answers(
            AutoModelForCausalLM, lambda output: output.logits[0, -1, yes] - output.logits[0, -1, no], logits_to_keep=1
        )
    return logits.reshape(QUERIES, -1)


@dataclass(frozen=True)
class Comparison:
    """Labels of one comparison.

    Attributes:
        precision: the precision whose answers are compared.
        task: the task of the model.
        reference: the name of the reference.
        texts: the name of the sample.
        graph: the name of the graph that gave the answers.
    """

    precision: Precision
    task: Task
    reference: str = REFERENCE
    texts: str = HELD_OUT
    graph: GraphName = "cpu"


def compare(found: Answers, reference: Answers, what: Comparison) -> tuple[Parity, ...]:
    """Return the parity of answers to the reference's, one record for each measure; see `Parity` for the measures."""
    spec = PRECISIONS[what.precision]
    floors, mean_floors = (spec.floors, spec.mean_floors) if what.texts != SNIPPETS else ({}, spec.snippet_floors)
    if what.graph == "native_attention" and spec.native_floors is not None:
        floors, mean_floors = spec.native_floors, {}
    pairs: dict[Measure, NDArray[np.float64]]
    left, right = found.astype(np.float64), reference.astype(np.float64)
    if what.task == "embedding":
        near, far = (neighbours(vectors) for vectors in (left, right))
        pairs = {
            "cosine": np.einsum("nd,nd->n", left, right),
            "centred": centred(left, right),
            "top10": overlap(near, far, NEAREST),
            "ranking": spearman(near, far),
        }
    else:
        pairs = {"agreement": 1 - np.abs(sigmoid(left) - sigmoid(right)).ravel(), "spearman": spearman(left, right)}
    return tuple(
        Parity(
            measure=measure,
            reference=what.reference,
            texts=what.texts,
            samples=len(values),
            mean=round(float(values.mean()), DIGITS),
            p1=round(float(np.percentile(values, 1)), DIGITS),
            minimum=round(float(values.min()), DIGITS),
            floor=floors.get(measure),
            mean_floor=mean_floors.get(measure),
            graph=what.graph,
        )
        for measure, values in pairs.items()
    )


def centred(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each row of [n, d] the cosine of its two unit vectors, minus the mean of their own side's n vectors.

    Vectors of a causal model share a large direction. It fills the plain cosine and says nothing about which texts are
    alike. Without it, what is left is what ranks texts.

    Every difference from the mean gets ROUNDING as one more coordinate. So a text that is at the mean on both sides has
    1, one that is there on one side alone has nearly 0, and nothing is divided by zero. Elsewhere it changes nothing
    that is recorded. A sample of one text has 1.
    """
    near, far = (side - side.mean(axis=0) for side in (left, right))
    lengths = [np.sqrt(np.einsum("nd,nd->n", side, side) + ROUNDING**2) for side in (near, far)]
    cosine: NDArray[np.float64] = (np.einsum("nd,nd->n", near, far) + ROUNDING**2) / (lengths[0] * lengths[1])
    return cosine


def neighbours(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the similarity of each unit vector [n, d] to all others, [n, n - 1]."""
    count = len(vectors)
    return (vectors @ vectors.T)[~np.eye(count, dtype=bool)].reshape(count, count - 1)


def overlap(left: NDArray[np.float64], right: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Return for each row of [q, n] the share of its `most` highest columns that are also the other's highest."""
    best = [np.argsort(-scores, axis=1, kind="stable")[:, :most] for scores in (left, right)]
    return np.array([len(np.intersect1d(one, other)) / len(one) for one, other in zip(*best, strict=True)])


def spearman(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank correlation of each row of [q, n] with the other's.

    Ties are not treated, since a model's float scores have none.
    """
    ranks = [scores.argsort(axis=1).argsort(axis=1) for scores in (left, right)]
    return np.array([np.corrcoef(one, other)[0, 1] for one, other in zip(*ranks, strict=True)])
