"""models/train: how the reranker starts, what it reads, and what it is shown."""

import random
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from quoit import Embedder
from quoit.prompts import DEFAULT_TASK, RERANK_PREFIX, RERANK_SUFFIX, Separator, render_pairs
from support import Vectors, byte_tokenizer, make_reranker
from train import joint, judge, losses, reranker, student, table, vocabulary
from train.encode import ndcg_at_10
from train.pairs import Pair
from training import BFLOAT16, TINY, make_pairs, make_taught, random_ids, unit_rows

TOKENIZER = Path(__file__).parents[2] / "models" / "quoit-reranker-7m" / "tokenizer.json"
LIMIT = 64


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The reranker's own: the template's labels are single tokens."""
    return Tokenizer.from_file(str(TOKENIZER))


@pytest.fixture(scope="module")
def token_table() -> table.Table:
    """Random directions, most in the first dimensions, and weights that differ by what those of words do."""
    rows = unit_rows(vocabulary.VOCABULARY, student.HIDDEN) * np.linspace(2, 0.2, student.HIDDEN, dtype=np.float32)
    rows[:, -table.RESERVED :] = 0
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    weights = np.random.default_rng(1).standard_normal(len(rows), dtype=np.float32)
    return table.Table(rows, weights - weights.mean())


@pytest.fixture(scope="module")
def started(token_table: table.Table, tokenizer: Tokenizer) -> Any:
    """The reranker before training. Read-only."""
    return judge.start(token_table, tokenizer, seed=0)


QUERY, DOCUMENT = "map server", "a relational database server behind every other map"


@pytest.fixture(scope="module")
def row(tokenizer: Tokenizer) -> list[int]:
    """The ids of one pair."""
    (ids,) = joint.render(tokenizer, QUERY, [DOCUMENT], "\n", LIMIT)
    return ids


@pytest.fixture(scope="module")
def layers(started: Any, row: list[int]) -> list[Vectors]:
    """The states `[tokens, hidden]` of the pair behind each layer, as transformers computes them."""
    with torch.no_grad():
        found = started.model(input_ids=torch.tensor([row]), output_hidden_states=True)
    return [states[0].numpy() / student.SCALE for states in found.hidden_states]


def tokens_of(tokenizer: Tokenizer, row: list[int]) -> list[str]:
    return [str(tokenizer.id_to_token(index)) for index in row]


def cosine(one: Vectors, other: Vectors) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


FIRST, SECOND = slice(0, judge.HALF), slice(judge.HALF, 2 * judge.HALF)


def test_the_first_layer_marks_both_sides(tokenizer: Tokenizer, row: list[int], layers: list[Vectors]) -> None:
    tokens = tokens_of(tokenizer, row)
    query, document = tokens.index(judge.QUERY_LABEL), tokens.index(judge.DOCUMENT_LABEL)
    counts = [query, document - query, len(tokens) - document]
    sides, insides = (np.repeat(marks, counts) for marks in ([0, -judge.MARK, judge.MARK], [0, judge.MARK, judge.MARK]))
    np.testing.assert_allclose(layers[1][:, judge.SIDE], sides, atol=0.001)
    np.testing.assert_allclose(layers[1][:, judge.INSIDE], insides, atol=0.001)


def test_two_tokens_take_the_weighted_means(
    token_table: table.Table, tokenizer: Tokenizer, row: list[int], layers: list[Vectors]
) -> None:
    tokens = tokens_of(tokenizer, row)
    document, end = tokens.index(judge.DOCUMENT_LABEL), len(tokens) - 1 - tokens[::-1].index("<|im_end|>")
    sides = {
        judge.QUERY_MEAN: range(tokens.index(judge.QUERY_LABEL) + 2, document),
        judge.DOCUMENT_MEAN: range(document + 2, end),
    }
    for token, side in sides.items():
        words = [row[at] for at in side if tokens[at] not in judge.TEMPLATE]
        mean = (np.exp(token_table.weights[words])[:, None] * token_table.rows[words]).sum(axis=0)
        taker = tokens.index(token)
        assert cosine(layers[2][taker, SECOND], mean[FIRST]) > 0.999, "where tokens have their second half"
        assert cosine(layers[3][taker, FIRST], mean[SECOND]) > 0.999
        np.testing.assert_allclose(layers[2][side, : 2 * judge.HALF], layers[0][side, : 2 * judge.HALF], atol=1e-4)


def test_words_find_themselves_in_the_query_once(tokenizer: Tokenizer, started: Any) -> None:
    (row,) = joint.render(tokenizer, "a map server", ["the given map and another map query"], "\n", LIMIT)
    tokens = tokens_of(tokenizer, row)
    first = tokens.index(judge.DOCUMENT_LABEL) + 2
    with torch.no_grad():
        found = started.model(input_ids=torch.tensor([row]), output_hidden_states=True)
    matches = found.hidden_states[2][0, first:, judge.MATCH].numpy() / student.SCALE / judge.MATCH_GAIN
    expected = {"Ġthe": -1, "Ġgiven": -1, "Ġmap": 0, "Ġand": -1, "Ġquery": -1}
    for at, token in enumerate(tokens[first : first + 7]):
        again = token in tokens[first : first + at]
        assert matches[at] == pytest.approx(-1 / 3 if again else expected.get(token, -1), abs=0.15), token


def test_the_answer_is_both_cosines_less_what_was_not_found(
    token_table: table.Table, tokenizer: Tokenizer, started: Any
) -> None:
    """As torch computes it in the layers: within a few percent, for the norms see the answer too."""

    def answer(query: str, document: str) -> tuple[float, float]:
        rows = joint.render(tokenizer, query, [document], "\n", LIMIT)
        sides = [tokenizer.encode(f" {text}").ids for text in (query, document)]
        means = [(np.exp(token_table.weights[ids])[:, None] * token_table.rows[ids]).sum(axis=0) for ids in sides]
        cosines = [cosine(*(mean[half] for mean in means)) for half in (FIRST, SECOND)]
        with torch.no_grad():
            score = joint.read(started, rows, joint.answer_ids(tokenizer), started.model).item()
        return score, float(np.dot(judge.SIMILARITIES, cosines))

    texts = ["map server", "a server for maps", "the river and the bridge", "summer in the garden of a doctor"]
    found = np.array([answer("map server", text) for text in texts])
    assert (np.argsort(found[:, 0]) == np.argsort(found[:, 1])).all()
    assert found[0, 0] > 3
    assert found[2:, 0].max() < 0


WORDS = "apple river window garden music paper stone bridge summer winter doctor engine planet forest letter market"


def test_the_start_already_tells_documents_apart(started: Any, tokenizer: Tokenizer) -> None:
    """Each document has the words of its query among others, shuffled; there is no training yet."""
    choose = random.Random(0)
    words = WORDS.split()
    asked = [choose.sample(words, 4) for _ in range(16)]
    queries = [" ".join(part) for part in asked]
    documents = [" ".join(choose.sample([*part, *part, choose.choice(words)], 9)) for part in asked]
    rows = [row for query in queries for row in joint.render(tokenizer, query, documents, "\n", LIMIT)]
    with torch.no_grad():
        scores = joint.read(started, rows, joint.answer_ids(tokenizer), started.model).numpy()
    assert ndcg_at_10(scores.reshape(len(queries), -1)) > 0.95


def test_a_vocabulary_without_the_template_is_refused(token_table: table.Table) -> None:
    with pytest.raises(ValueError, match=r"'<Document'.*no tokens"):
        judge.start(token_table, byte_tokenizer(), seed=0)


DOCUMENTS = ["a short document", "a short document", "a long document " * 50, "", "  leading", "\nnew line", "é日"]


@pytest.mark.parametrize("separator", ["\n", "\n\n"])
@pytest.mark.parametrize("count", [1, 2, len(DOCUMENTS)])
def test_a_rendered_row_is_the_official_template(tokenizer: Tokenizer, separator: Separator, count: int) -> None:
    query, documents = "What is it?", DOCUMENTS[:count]
    rows = joint.render(tokenizer, query, documents, separator, LIMIT)
    suffix = tokenizer.encode(RERANK_SUFFIX).ids
    fixed = len(tokenizer.encode(RERANK_PREFIX + next(render_pairs([(query, "")], DEFAULT_TASK, separator))).ids)
    pairs = render_pairs([(query, document) for document in documents], DEFAULT_TASK, separator)
    for pair, row in zip(pairs, rows, strict=True):
        assert row == tokenizer.encode(RERANK_PREFIX + pair).ids[: fixed + LIMIT] + suffix


def test_a_score_is_the_last_tokens_logit_of_yes_less_that_of_no() -> None:
    model: Any = make_reranker(**TINY, attn_implementation="eager").float()
    generator = np.random.default_rng(0)
    answers = [17, 301]
    rows = [random_ids(generator, size) for size in (1, 7, 30, 90, 30, 2)]
    with torch.no_grad():
        found = joint.read(model, rows, answers, model.model)
        logits = [model(torch.tensor([row])).logits[0, -1, answers] for row in rows]
    expected = torch.stack([yes - no for yes, no in logits])
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max() / expected.abs().max()) < BFLOAT16


def test_nearest_are_the_best_of_the_same_source(token_table: table.Table, tmp_path: Path) -> None:
    folder = tmp_path / "embedding"
    student.write_checkpoint(folder, student.start(token_table, end_token=0, seed=0), byte_tokenizer())
    embedder = Embedder(reranker.export(folder), provider="cpu")
    pairs = make_pairs(reranker.CANDIDATES + 20) + make_pairs(12, "docs")
    found = reranker.nearest(embedder, pairs)
    assert sorted(found) == list(range(len(pairs)))
    for index, ranked in found.items():
        same_source = [i for i, pair in enumerate(pairs) if pair.source == pairs[index].source]
        assert set(ranked) <= set(same_source)
        assert len(ranked) == len(set(ranked)) == min(reranker.CANDIDATES, len(same_source))


def test_documents_are_the_right_one_near_ones_and_others() -> None:
    others = list(range(100, 150))
    seen: Counter[int] = Counter()
    for seed in range(500):
        right, *rest = reranker.choose_documents(3, others, random.Random(seed))
        assert right == 3
        assert len(set(rest)) == len(rest) == reranker.DOCUMENTS - 1
        assert set(rest) <= set(others)
        assert set(rest[: reranker.NEAR]) <= set(others[:10])
        seen.update(rest)
    assert set(seen) == set(others)
    assert min(seen[other] for other in others[:10]) > max(seen[other] for other in others[10:])


def test_lessons_never_give_a_second_right_answer() -> None:
    pairs = [Pair("debian", f"debian/{n // 2}", f"query {n}", f"document {n}") for n in range(60)]
    taught = make_taught(pairs)
    taught.documents[1::4] = taught.documents[::4][: len(taught.documents[1::4])]
    taught.documents[2::4] = taught.documents[::4]
    candidates = {n: random.Random(n).sample(range(60), reranker.CANDIDATES) for n in range(60)}
    candidates[7] = candidates[7][:10]
    asked: Counter[int] = Counter()
    for batch in islice(reranker.lessons(taught, candidates, random.Random(0)), 12):
        assert len(batch) == reranker.QUERIES_PER_BATCH
        for right, *others in batch:
            asked[right] += 1
            assert len(set(others)) == reranker.DOCUMENTS - 1
            assert set(others) <= set(candidates[right])
            for other in others:
                assert other != right
                assert pairs[other].group != pairs[right].group
                assert float(taught.documents[other] @ taught.documents[right]) < losses.SAME_MEANING
    assert 7 not in asked, "too few candidates"
    assert len(asked) == 59
