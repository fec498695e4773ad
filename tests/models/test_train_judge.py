"""models/train: what the layers of the reranker compute."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from quoit.text.prompts import DEFAULT_TASK, RERANK_PREFIX, RERANK_SUFFIX, render_pairs
from support import Vectors, byte_tokenizer
from train import judge, student, table, vocabulary
from train.encode import ndcg_at_10
from training import unit_rows

TOKENIZER = Path(__file__).parents[2] / "models" / "quoit-reranker-6m" / "tokenizer.json"


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


def pair_rows(tokenizer: Tokenizer, query: str, documents: list[str]) -> list[list[int]]:
    """The ids of a query's pairs in the official template."""
    pairs = render_pairs([(query, document) for document in documents], DEFAULT_TASK, "\n")
    return [tokenizer.encode(RERANK_PREFIX + pair + RERANK_SUFFIX).ids for pair in pairs]


def score(model: Any, tokenizer: Tokenizer, rows: list[list[int]]) -> Vectors:
    """Logit of yes less logit of no, of every row."""
    yes, no = (tokenizer.token_to_id(answer) for answer in vocabulary.ANSWERS)
    with torch.no_grad():
        logits = [model(torch.tensor([row])).logits[0, -1] for row in rows]
    return np.array([float(one[yes] - one[no]) for one in logits], np.float32)


@pytest.fixture(scope="module")
def row(tokenizer: Tokenizer) -> list[int]:
    """The ids of one pair."""
    (ids,) = pair_rows(tokenizer, QUERY, [DOCUMENT])
    return ids


@pytest.fixture(scope="module")
def layers(started: Any, row: list[int]) -> list[Vectors]:
    return states_of(started, row)


def states_of(model: Any, row: list[int]) -> list[Vectors]:
    """The states `[tokens, hidden]` of a pair behind each layer, in units of SCALE, as transformers computes them."""
    with torch.no_grad():
        found = model.model(input_ids=torch.tensor([row]), output_hidden_states=True)
    return [states[0].numpy() / student.SCALE for states in found.hidden_states]


def tokens_of(tokenizer: Tokenizer, row: list[int]) -> list[str]:
    return [str(tokenizer.id_to_token(index)) for index in row]


def sides_of(tokens: list[str]) -> tuple[range, range]:
    """Where the query stands in a pair, and where the document."""
    document, end = tokens.index(judge.DOCUMENT_LABEL), len(tokens) - 1 - tokens[::-1].index("<|im_end|>")
    return range(tokens.index(judge.QUERY_LABEL) + 2, document), range(document + 2, end)


def words_of(row: list[int], tokens: list[str], side: range) -> list[int]:
    """The ids of a side that are not the template's too."""
    return [row[at] for at in side if tokens[at] not in judge.TEMPLATE]


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


def test_a_documents_first_tokens_are_early(tokenizer: Tokenizer, started: Any) -> None:
    (ids,) = pair_rows(tokenizer, QUERY, [" ".join([DOCUMENT] * 40)])
    early = states_of(started, ids)[1][:, judge.EARLY] / judge.MARK
    tokens = tokens_of(tokenizer, ids)
    first = tokens.index(judge.DOCUMENT_LABEL) + 2
    assert not early[: first - 2].any(), "what stands before the document"
    expected = np.log(judge.early_weights(200)) / judge.EARLIEST
    np.testing.assert_allclose(early[first : first + 200], expected, atol=0.1)
    assert early[first] > 0.5 > 0.2 > early[first + 120]


def test_two_tokens_take_the_weighted_means(
    token_table: table.Table, tokenizer: Tokenizer, row: list[int], layers: list[Vectors]
) -> None:
    tokens = tokens_of(tokenizer, row)
    for token, side in zip((judge.QUERY_MEAN, judge.DOCUMENT_MEAN), sides_of(tokens), strict=True):
        words = words_of(row, tokens, side)
        weights = np.exp(token_table.weights[words])
        if token == judge.DOCUMENT_MEAN:
            weights *= judge.early_weights(len(words))
        mean = (weights[:, None] * token_table.rows[words]).sum(axis=0)
        taker = tokens.index(token)
        assert cosine(layers[2][taker, SECOND], mean[FIRST]) > 0.999, "where tokens have their second half"
        assert cosine(layers[3][taker, FIRST], mean[SECOND]) > 0.999
        np.testing.assert_allclose(layers[2][side, : 2 * judge.HALF], layers[0][side, : 2 * judge.HALF], atol=1e-4)


def test_words_find_themselves_in_the_query_once(tokenizer: Tokenizer, started: Any) -> None:
    (row,) = pair_rows(tokenizer, "a map server", ["the given map and another map query"])
    tokens = tokens_of(tokenizer, row)
    first = tokens.index(judge.DOCUMENT_LABEL) + 2
    matches = states_of(started, row)[2][first:, judge.MATCH] / judge.MATCH_GAIN
    expected = {"Ġthe": -1, "Ġgiven": -1, "Ġmap": 0, "Ġand": -1, "Ġquery": -1}
    for at, token in enumerate(tokens[first : first + 7]):
        again = token in tokens[first : first + at]
        assert matches[at] == pytest.approx(-1 / 3 if again else expected.get(token, -1), abs=0.2), token


def test_what_is_not_found_or_was_there_before_is_missed(tokenizer: Tokenizer, started: Any) -> None:
    (row,) = pair_rows(tokenizer, "a map server", ["the given map and another map query"])
    tokens = tokens_of(tokenizer, row)
    first = tokens.index(judge.DOCUMENT_LABEL) + 2
    missed = states_of(started, row)[2][first : first + 7, judge.MISSED] / judge.MARK
    found = [at for at, token in enumerate(tokens[first : first + 7]) if token == "Ġmap"]
    assert missed[found[0]] == pytest.approx(0, abs=0.01)
    assert np.delete(missed, found[0]).min() > 0.7


def test_the_last_token_forgets_the_first_halves(layers: list[Vectors]) -> None:
    """Of 24 there is less left than a tenth of the 9 that the second ones will be."""
    assert np.abs(layers[3][-1, : 2 * judge.HALF]).max() < 0.1
    assert np.linalg.norm(layers[3][-1, : 2 * judge.HALF]) < judge.GATHERINGS[1] / 10


def test_the_answer_is_the_cosines_and_what_was_not_found(
    started: Any, token_table: table.Table, tokenizer: Tokenizer
) -> None:
    """As the module says, within a twentieth of what a cosine of one adds, but for what the final norm divides by."""
    documents = [DOCUMENT, "one server", "the river and the bridge", "summer garden", "a map of every map"]
    answers, expected = [], []
    weights = np.exp(token_table.weights.clip(-judge.HEAVIEST, judge.HEAVIEST))
    for row in pair_rows(tokenizer, QUERY, documents):
        tokens = tokens_of(tokenizer, row)
        asked, answered = (words_of(row, tokens, side) for side in sides_of(tokens))
        means = [weights[asked] @ token_table.rows[asked]]
        means.append(weights[answered] * judge.early_weights(len(answered)) @ token_table.rows[answered])
        likeness = sum(
            gain * cosine(means[0][half], means[1][half])
            for gain, half in zip(judge.SIMILARITIES, (FIRST, SECOND), strict=True)
        )
        found = sum(weights[token] for token in set(asked) & set(answered))
        expected.append(likeness - judge.OVERLAP * 10 / (10 + found))
        answers.append(states_of(started, row)[-1][-1, judge.ANSWER])
    length = np.dot(answers, expected) / np.dot(expected, expected)
    np.testing.assert_allclose(np.array(answers) / length, expected, atol=sum(judge.SIMILARITIES) / 20)


def test_the_score_grows_with_what_both_texts_share(tokenizer: Tokenizer, started: Any) -> None:
    texts = ["map server", "another server behind the map", "one server", "the river and the bridge", "summer garden"]
    rows = pair_rows(tokenizer, "map server", texts)
    scores = score(started, tokenizer, rows).tolist()
    assert scores[0] > scores[1] > max(scores[2:])
    assert scores[0] > 0 > max(scores[2:])


WORDS = "apple river window garden music paper stone bridge summer winter doctor engine planet forest letter market"


def test_the_start_already_tells_documents_apart(started: Any, tokenizer: Tokenizer) -> None:
    """Each document has the words of its query among others, shuffled; there is no training yet."""
    choose = random.Random(0)
    words = WORDS.split()
    asked = [choose.sample(words, 4) for _ in range(16)]
    queries = [" ".join(part) for part in asked]
    documents = [" ".join(choose.sample([*part, *part, choose.choice(words)], 9)) for part in asked]
    rows = [row for query in queries for row in pair_rows(tokenizer, query, documents)]
    scores = score(started, tokenizer, rows)
    assert ndcg_at_10(scores.reshape(len(queries), -1)) > 0.95


def test_a_vocabulary_without_the_template_is_refused(token_table: table.Table) -> None:
    with pytest.raises(ValueError, match=r"'<Document'.*no tokens"):
        judge.start(token_table, byte_tokenizer(), seed=0)
