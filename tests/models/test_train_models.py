"""models/train: what is learned from the pairs, and how."""

import copy
import itertools
import json
import random
from collections import Counter
from itertools import islice
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers.models import BPE
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen3ForCausalLM, Qwen3Model

from oracle import make_model
from quoit.artifact import EmbeddingContract, RerankContract
from quoit.text.prompts import DEFAULT_TASK, INSTRUCTION_TEMPLATE, RERANK_PREFIX, RERANK_SUFFIX
from quoit_export.checkpoint.checkpoint import open_checkpoint
from qwen3_tokenizer import END_TOKEN, PLAIN_ADDED_TOKENS, SPECIAL_TOKENS
from support import byte_tokenizer
from train import clusters, embedding, judge, losses, rotation, student, table, vocabulary
from train.course import Course, follow, optimizers
from train.encode import INSTRUCTIONS, TOKENS_PER_RUN, last_states, ndcg_at_10, render_query, tokenize
from train.losses import DIMENSIONS
from train.pairs import Pair, Taught
from training import (
    BFLOAT16,
    TEACHER,
    TINY,
    embedding_tokenizer,
    make_pairs,
    make_taught,
    random_ids,
    rerank_tokenizer,
    unit_rows,
)


def test_cut_ids_still_end_in_the_end_token() -> None:
    tokenizer = byte_tokenizer()
    end = tokenizer.token_to_id(END_TOKEN)
    short, fitting, long = tokenize(tokenizer, ["ab", "abcd", "abcdefgh"], 5)
    assert short == [*b"ab", end]
    assert fitting == [*b"abcd", end]
    assert long == [*b"abcd", end]


def test_a_state_does_not_see_its_batch() -> None:
    model: Any = make_model(**TINY).float()
    generator = np.random.default_rng(0)
    rows = [random_ids(generator, size) for size in generator.integers(1, 80, 250)]
    assert len(rows) * max(map(len, rows)) > 2 * TOKENS_PER_RUN, "several runs"
    with torch.no_grad():
        together = last_states(model, rows)
        alone = torch.cat([model(input_ids=torch.tensor([row])).last_hidden_state[:, -1] for row in rows])
    assert together.dtype == torch.float32
    assert float((together - alone).abs().max() / alone.abs().max()) < BFLOAT16
    assert float((together - alone.roll(1, 0)).abs().max() / alone.abs().max()) > 10 * BFLOAT16, "the order counts"


def prompt_of(text: str) -> str:
    """The instruction in front of a rendered query; empty without one."""
    head, separator, _ = text.partition("\nQuery:")
    return head + separator if separator else ""


@pytest.mark.parametrize("source", ["debian", "docstrings", "docs", "debian-de"])
def test_queries_are_rendered_in_the_promised_shares(source: str) -> None:
    choose = random.Random(0)
    query = "parse HTML for Python"
    texts = [render_query(Pair(source, "group", query, "document"), choose) for _ in range(2000)]
    official = INSTRUCTION_TEMPLATE.format(instruction=DEFAULT_TASK)
    prompts = Counter(map(prompt_of, texts))
    assert all(text.lower().endswith(query.lower()) for text in texts)
    assert prompts[""] / 2000 == pytest.approx(0.3, abs=0.04)
    if source in INSTRUCTIONS:
        other = INSTRUCTION_TEMPLATE.format(instruction=INSTRUCTIONS[source])
        assert prompts[official] / 2000 == pytest.approx(0.6, abs=0.04)
        assert prompts[other] / 2000 == pytest.approx(0.1, abs=0.03)
        assert set(prompts) == {"", official, other}
    else:
        assert set(prompts) == {"", official}
    assert sum(not text.endswith(query) for text in texts) / 2000 == pytest.approx(0.1, abs=0.03)


def test_a_wordnet_query_asks_for_some_of_the_words() -> None:
    choose = random.Random(0)
    words = ["dog", "domestic fox", "hound"]
    pair = Pair("wordnet", "wordnet/dog", ", ".join(words), "a furry animal")
    texts = [render_query(pair, choose) for _ in range(2000)]
    asked = [text.removeprefix(prompt_of(text)).lower() for text in texts]
    sizes = Counter(sum(word in text for word in words) for text in asked)
    assert set(sizes) == {1, 2, 3}
    assert sizes[3] > 1000
    questions = Counter(text.startswith(("what", "definition")) for text in asked)
    assert questions[True] / 2000 == pytest.approx(0.3, abs=0.04)
    assert Counter(map(prompt_of, texts))[""] / 2000 == pytest.approx(0.3, abs=0.04)


def test_ndcg_counts_the_rank_of_the_diagonal() -> None:
    assert ndcg_at_10(np.eye(20, dtype=np.float32)) == 1
    second, third, first = [2, 3, 1], [5, 4, 3], [0, 0, 1]
    scores = np.array([second, [9, 0, 8], first], np.float32)
    assert ndcg_at_10(scores) == pytest.approx((1 / log2(3) + 1 / log2(4) + 1) / 3)
    assert ndcg_at_10(np.array([third], np.float32)) == 1, "one query, its document in the first column"
    for rank, worth in ((9, 1 / log2(11)), (10, 0)):
        row = np.zeros((1, 20), np.float32)
        row[0, 0], row[0, 1 : rank + 1] = 0.5, 1
        assert ndcg_at_10(row) == pytest.approx(worth)
    assert ndcg_at_10(np.zeros((20, 20), np.float32)) == 0, "a model that sees no difference finds nothing"


def test_the_vocabulary_sees_the_prompts_but_no_added_token() -> None:
    texts = list(vocabulary.texts([]))
    counts = Counter(word.strip(':<>".,') for text in dict.fromkeys(texts) for word in text.split())
    template = RERANK_PREFIX + RERANK_SUFFIX + INSTRUCTION_TEMPLATE.format(instruction=DEFAULT_TASK)
    for added in (*SPECIAL_TOKENS, *PLAIN_ADDED_TOKENS):
        template = template.replace(added, " ")
        assert not any(added in text for text in texts)
    assert {word.strip(':<>".,') for word in template.split()} <= set(counts)
    assert {"Instruct", "Query", "Document", "yes", "no"} <= set(counts)
    assert texts.count("yes") == texts.count("no") == vocabulary.TEMPLATE_WEIGHT


def test_the_vocabulary_sees_all_english_and_some_translated_pairs() -> None:
    english = [*make_pairs(30), *make_pairs(30, "docs"), Pair("wordnet", "wordnet/dog", "dog, big hound", "an animal")]
    texts = set(vocabulary.texts(english))
    assert {side for pair in english for side in (pair.query, pair.document)} <= texts
    assert {"dog", " dog", "big hound", " big hound"} <= texts
    german = [Pair("debian-de", "debian/a", f"Frage {n}", f"Antwort {n}") for n in range(30)]
    assert len(set(vocabulary.texts(german)) - texts) == 2 * 30 / vocabulary.TRANSLATED_SHARE


def test_a_small_corpus_is_too_small() -> None:
    learned = vocabulary.learn(make_pairs(50))
    with pytest.raises(ValueError, match="too small"):
        vocabulary.build(learned, end_token=True)


def test_a_vocabulary_without_an_answer_is_refused() -> None:
    bare = {f"<{number}>": number for number in range(vocabulary.VOCABULARY - 26)}
    with pytest.raises(ValueError, match=r"'yes'.*no tokens"):
        vocabulary.build(BPE(vocab=bare, merges=[]), end_token=False)


PROMPTED = embedding_tokenizer()
END, INSTRUCT, QUERY = (PROMPTED.get_vocab()[name] for name in (END_TOKEN, *student.LABELS))
WORDS = np.arange(QUERY + 1, vocabulary.VOCABULARY)
"""Tokens that are no labels."""


@pytest.fixture(scope="module")
def token_table() -> table.Table:
    """Random directions; every other token weighs e times as much."""
    rows = unit_rows(vocabulary.VOCABULARY, student.HIDDEN)
    rows[:, -table.RESERVED :] = 0
    weights = np.tile(np.array([-0.5, 0.5], np.float32), len(rows) // 2)
    return table.Table(rows / np.linalg.norm(rows, axis=1, keepdims=True), weights)


@pytest.fixture(scope="module")
def started(token_table: table.Table) -> Any:
    """The embedding model before training. Read-only."""
    return student.start(token_table, PROMPTED, seed=0)


def test_principal_directions_are_orthonormal_and_fall_in_energy() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((1000, TEACHER)) * generator.permutation(np.linspace(0.1, 3, TEACHER))
    directions = student.principal_directions(vectors.astype(np.float32))
    assert directions.shape == (TEACHER, student.HIDDEN)
    np.testing.assert_allclose(directions.T @ directions, np.eye(student.HIDDEN), atol=1e-4)
    energy = ((vectors @ directions) ** 2).sum(axis=0)
    assert (np.diff(energy) <= 1e-4 * energy[0]).all()
    best = np.linalg.svd(vectors, compute_uv=False)[: student.HIDDEN] ** 2
    np.testing.assert_allclose(energy, best, rtol=1e-3)


def test_token_rows_are_unit_rows_without_what_all_share() -> None:
    vectors = unit_rows(500, TEACHER)
    directions = student.principal_directions(vectors)
    rows = student.token_rows(vectors, directions)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    moved = student.token_rows(vectors + unit_rows(1, TEACHER, seed=9), directions)
    np.testing.assert_allclose(moved, rows, atol=1e-4)


def cosines(states: Tensor) -> Tensor:
    unit = functional.normalize(states, dim=1)
    return unit @ unit.T


def test_the_start_hardly_depends_on_the_order_of_tokens(started: Any) -> None:
    generator = np.random.default_rng(0)
    same, different = [], []
    for _ in range(10):
        first, second = (generator.choice(WORDS, 24, replace=False) for _ in range(2))
        rows = [[*row.tolist(), END] for row in (first, generator.permutation(first), second)]
        with torch.no_grad():
            found = cosines(started(input_ids=torch.tensor(rows)).last_hidden_state[:, -1])
        same.append(float(found[0, 1]))
        different.append(float(found[0, 2]))
    assert 2 * (1 - min(same)) < 1 - max(different)
    assert min(same) > 0.94


def test_the_start_is_the_weighted_mean_of_the_token_rows(started: Any, token_table: table.Table) -> None:
    generator = np.random.default_rng(0)
    rows = generator.choice(WORDS, (30, 24))
    rows[:, -1] = END
    with torch.no_grad():
        states = started(input_ids=torch.from_numpy(rows)).last_hidden_state[:, -1].numpy()
    content = slice(0, student.CONTENT)
    assert not states[:, student.CONTENT :].any(), "what only the layers need is not in the vector"
    heavy = np.exp(token_table.weights)[:, None] * token_table.rows
    weighted, plain = (
        np.array(
            [
                np.corrcoef(state[content], each[row[:-1]].sum(axis=0)[content])[0, 1]
                for state, row in zip(states, rows, strict=True)
            ]
        )
        for each in (heavy, token_table.rows)
    )
    assert weighted.min() > 0.995
    assert plain.max() < 0.99, "a heavy token counts more"


def test_the_start_leaves_out_the_task_of_a_prompt_and_no_more(started: Any) -> None:
    """Whatever the task: the vector is that of the text behind it, which the label before it does not change either."""
    generator = np.random.default_rng(0)
    for _ in range(10):
        text, *tasks = (generator.choice(WORDS, size).tolist() for size in (8, 16, 40))
        rows = [[*text, END], *([INSTRUCT, *task, QUERY, *text, END] for task in tasks), [*tasks[0], *text, END]]
        with torch.no_grad():
            states = torch.stack([started(input_ids=torch.tensor([row])).last_hidden_state[0, -1] for row in rows])
        found = cosines(states)
        assert found[0, 1:3].min() > 0.98
        assert found[0, 3] < 0.95, "without the labels it is part of the text"


def test_a_vocabulary_without_the_labels_is_refused(token_table: table.Table) -> None:
    with pytest.raises(ValueError, match="'Instruct', 'Query'"):
        student.start(token_table, byte_tokenizer(), seed=0)


def test_the_seed_is_all_that_is_random(token_table: table.Table, started: Any) -> None:
    again, other = (student.start(token_table, PROMPTED, seed).state_dict() for seed in (0, 1))
    assert all(torch.equal(tensor, again[name]) for name, tensor in started.state_dict().items())
    assert not torch.equal(again["layers.3.mlp.up_proj.weight"], other["layers.3.mlp.up_proj.weight"])
    assert torch.equal(again["embed_tokens.weight"], other["embed_tokens.weight"])


def test_a_rotation_changes_the_vectors_as_it_says_and_nothing_else(started: Any) -> None:
    model = copy.deepcopy(started)
    generator = torch.Generator().manual_seed(0)
    for layer in model.layers:
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            norm.weight.data = 1 + 0.2 * torch.randn(norm.weight.shape, generator=generator)
        layer.mlp.down_proj.weight.data = torch.randn(layer.mlp.down_proj.weight.shape, generator=generator)
    turn = rotation.Rotation(1 + 0.1 * torch.randn(student.CONTENT, generator=generator))
    turn.linear.weight = torch.linalg.qr(torch.randn(student.CONTENT, student.CONTENT, generator=generator))[0]
    rows = torch.from_numpy(np.random.default_rng(0).choice(WORDS, (4, 24)))
    with torch.no_grad():
        before = model(input_ids=rows).last_hidden_state
        expected = turn(before[..., : student.CONTENT])  # all weights of the final norm are one there
        rotation.rotate(model, turn)
        found = model(input_ids=rows).last_hidden_state
    assert not found[..., student.CONTENT :].any()
    torch.testing.assert_close(found[..., : student.CONTENT], expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found, before, atol=0.1)


def test_a_learned_rotation_puts_first_what_tells_texts_apart(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tokens have the same in the dimensions of the shortest prefix, at first."""
    monkeypatch.setattr(rotation, "STEPS", 40)
    monkeypatch.setattr(rotation, "RATE", 1e-2)
    model = copy.deepcopy(started)
    prefix = slice(0, DIMENSIONS[-1])
    with torch.no_grad():
        model.embed_tokens.weight[:, prefix] = model.embed_tokens.weight[WORDS[0], prefix]
    texts = ["".join(letters) for letters in itertools.combinations("abcdefghijklmnop", 2)]
    pairs = [Pair("debian", text, text, text) for text in texts]
    taught = Taught(pairs, *(np.zeros((len(pairs), TEACHER), np.float16) for _ in range(2)))

    def likeness() -> float:
        with torch.no_grad():
            states = last_states(model, tokenize(PROMPTED, texts, 64))[:, prefix]
        return float(cosines(states).mean())

    assert likeness() > 0.9
    everything = itertools.repeat(list(range(len(pairs))))
    learned = rotation.learn(model, PROMPTED, taught, everything, seed=0)
    turn = learned.matrix()
    torch.testing.assert_close(turn @ turn.T, torch.eye(student.CONTENT), atol=1e-4, rtol=0)
    rotation.rotate(model, learned)
    assert likeness() < 0.6


def test_a_table_learns_which_words_belong_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every query has a letter of its own, every document another; only training can tell which go together."""
    monkeypatch.setattr(table, "STEPS", 150)
    letters = "abcdefghijklmnop"
    pairs = [Pair("debian", f"debian/{c}", c * 8, c.upper() * 12) for c in letters]
    taught = make_taught(pairs)
    taught.documents[:] = taught.queries
    directions = student.principal_directions(unit_rows(1000, TEACHER))
    tokenizer = byte_tokenizer()
    first = unit_rows(tokenizer.get_vocab_size(), student.HIDDEN)
    deal = itertools.repeat(list(range(len(pairs))))

    found = table.train(first, tokenizer, taught, directions, deal, seed=0)
    np.testing.assert_allclose(np.linalg.norm(found.rows, axis=1), 1, atol=1e-5)
    assert abs(float(found.weights.mean())) < 1e-5
    assert not found.rows[:, -table.RESERVED :].any()
    lower, upper = (found.rows[[ord(c) for c in text]] for text in (letters, letters.upper()))
    assert ndcg_at_10(lower @ upper.T) > 0.95
    table.save(found, tmp_path / "table.npz")
    again = table.load(tmp_path / "table.npz")
    np.testing.assert_array_equal(again.rows, found.rows)
    np.testing.assert_array_equal(again.weights, found.weights)


def test_a_cluster_has_documents_alike_and_a_batch_is_dealt_from_clusters() -> None:
    count, size = 40, clusters.PAIRS_PER_CLUSTER
    centres = unit_rows(count, TEACHER, seed=3)
    taught = make_taught(make_pairs(count * size) + make_pairs(50, "debian-de"))
    order = np.random.default_rng(0).permutation(count * size)
    taught.documents[order] = (np.repeat(centres, size, axis=0) + 0.3 * unit_rows(count * size, TEACHER)).astype(
        np.float16
    )
    taught.documents[count * size :] = 0
    of = np.full(len(taught.pairs), -1)
    of[order] = np.repeat(np.arange(count), size)
    directions = student.principal_directions(centres)
    found = clusters.clusters(taught, directions, seed=0)
    assert sorted(index for cluster in found for index in cluster) == list(range(len(taught.pairs)))
    purity = sum(Counter(of[cluster].tolist()).most_common(1)[0][1] for cluster in found) / len(of)
    assert purity > 0.7

    deal = clusters.batches(found, 128, seed=0)
    once = list(islice(deal, len(taught.pairs) // 128))
    assert all(len(batch) == len(set(batch)) for batch in once)
    dealt = [index for batch in once for index in batch]
    assert len(set(dealt)) > 0.97 * len(taught.pairs), "one pass meets nearly every pair"
    assert np.mean([len(set(of[batch])) for batch in once]) < 20, "a batch is from few clusters"
    assert next(deal) != once[0], "the next pass puts others together"


COMMON_FILES = {"config.json", "model.safetensors", "tokenizer.json"}
RERANK_FILES = COMMON_FILES | {"chat_template.jinja"}
EMBEDDING_FILES = COMMON_FILES | {
    *("tokenizer_config.json", "config_sentence_transformers.json", "modules.json", "1_Pooling/config.json"),
}


@pytest.mark.parametrize(("task", "files"), [("embedding", EMBEDDING_FILES), ("rerank", RERANK_FILES)])
def test_a_checkpoint_has_the_official_files_and_loads_again(
    tmp_path: Path, started: Any, token_table: table.Table, task: str, files: set[str]
) -> None:
    model: Any = started if task == "embedding" else judge.start(token_table, rerank_tokenizer(), seed=0)
    folder = tmp_path / "checkpoint"
    student.write_checkpoint(folder, model, byte_tokenizer())
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == files

    tensors = load_file(folder / "model.safetensors")
    assert set(tensors) == set(model.state_dict()) - {"lm_head.weight"}
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}

    kind: Any = Qwen3Model if task == "embedding" else Qwen3ForCausalLM
    loaded = kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True).state_dict()
    assert set(loaded) == set(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded[name], tensor.to(torch.bfloat16).float()), name


@pytest.mark.parametrize("task", ["embedding", "rerank"])
def test_quoit_export_recognises_a_checkpoint(
    tmp_path: Path, started: Any, token_table: table.Table, task: str
) -> None:
    tokenizer = byte_tokenizer() if task == "embedding" else rerank_tokenizer()
    model = started if task == "embedding" else judge.start(token_table, rerank_tokenizer(), seed=0)
    student.write_checkpoint(tmp_path / "checkpoint", model, tokenizer)
    opened = open_checkpoint(str(tmp_path / "checkpoint"))
    assert isinstance(opened.contract, EmbeddingContract if task == "embedding" else RerankContract)
    assert opened.max_tokens == student.MAX_TOKENS
    assert opened.architecture.attention.rope_theta == 1e6


NOTHING_EXCLUDED = torch.zeros(32, 32, dtype=torch.bool)


def test_matching_orthogonal_vectors_have_no_contrast_loss() -> None:
    vectors = torch.eye(32, student.HIDDEN)
    matching = float(losses.contrast(vectors, 3 * vectors, NOTHING_EXCLUDED))
    shuffled = float(losses.contrast(vectors, vectors.roll(1, 0), NOTHING_EXCLUDED))
    assert matching == pytest.approx(0, abs=1e-4)
    assert shuffled == pytest.approx(1 / losses.TEMPERATURE, rel=0.1)


def test_excluded_pairs_are_no_negatives() -> None:
    vectors = torch.eye(32, student.HIDDEN)
    vectors[1] = vectors[0]
    excluded = NOTHING_EXCLUDED.clone()
    excluded[0, 1] = excluded[1, 0] = True
    with_twins = float(losses.contrast(vectors, vectors, NOTHING_EXCLUDED))
    assert with_twins == pytest.approx(2 / 32 * np.log(2), rel=1e-3)
    assert float(losses.contrast(vectors, vectors, excluded)) == pytest.approx(0, abs=1e-4)


def test_contrast_sees_every_prefix() -> None:
    """Vectors that differ only in their second halves are alike at the shorter lengths."""
    vectors = torch.eye(32, student.HIDDEN).roll(student.HIDDEN // 2, 1)
    vectors[:, 0] = 1e-3
    loss = float(losses.contrast(vectors, vectors, NOTHING_EXCLUDED))
    assert loss == pytest.approx(2 / 3 * np.log(32), rel=1e-3)


def test_distance_is_that_of_directions_with_a_target() -> None:
    states = torch.from_numpy(unit_rows(8, student.HIDDEN))
    targets = 2 * states
    assert float(losses.distance(states, targets)) == pytest.approx(0, abs=1e-6)
    assert float(losses.distance(states, -targets)) == pytest.approx(2, abs=1e-6)
    targets[::2] = 0
    assert float(losses.distance(states, targets)) == pytest.approx(0, abs=1e-6)
    assert float(losses.distance(states, torch.zeros_like(states))) == 0


def test_documents_of_one_meaning_or_group_are_no_negatives() -> None:
    pairs = [Pair("debian", group, "query", "document") for group in ("a", "b", "a", "c", "d")]
    documents = torch.eye(5, TEACHER)
    documents[4] = functional.normalize(documents[3] + 0.2 * documents[4], dim=0)
    expected = torch.zeros(5, 5, dtype=torch.bool)
    for one, other in ((0, 2), (3, 4)):
        expected[one, other] = expected[other, one] = True
    assert torch.equal(losses.no_negatives(pairs, documents), expected)


def test_without_teacher_vectors_only_groups_are_excluded() -> None:
    pairs = make_pairs(5, "debian-de")
    assert not losses.no_negatives(pairs, torch.zeros(5, TEACHER)).any()
    assert losses.no_negatives([pairs[0]] * 5, torch.zeros(5, TEACHER)).sum() == 20


def test_measuring_names_every_source_at_three_lengths(started: Any) -> None:
    letters = "abcdefghijklmnop"
    pairs = [Pair(s, f"{s}/{c}", c * 200, c * 150) for s in ("debian", "wordnet") for c in letters]
    found = embedding.measure(started, byte_tokenizer(), pairs)
    assert min(found.values()) > 0.95, "an average of tokens finds the text of the same letter"
    assert set(found) == {f"{source}@{size}" for source in ("debian", "wordnet") for size in losses.DIMENSIONS}


class Bag(nn.Module):
    """Means of table rows, through a matrix and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.norm = nn.LayerNorm(8)
        self.matrix = nn.Linear(8, 4, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.matrix(self.norm(self.embed(ids).mean(dim=1)))
        return found


def test_every_parameter_has_one_optimizer(started: Any) -> None:
    for model in (Bag(), started):
        muon, adam = (
            [p for group in one.param_groups for p in group["params"]] for one in optimizers(model, 1e-3, 1e-3)
        )
        ids = [id(parameter) for parameter in (*muon, *adam)]
        assert sorted(ids) == sorted(map(id, model.parameters()))
        assert all(parameter.ndim == 2 for parameter in muon)
        tables = {id(parameter) for name, parameter in model.named_parameters() if "embed" in name}
        assert tables <= set(map(id, adam))


@pytest.mark.parametrize("measurements", [1, 4, 100])
def test_a_course_lowers_the_loss_and_writes_its_curve(tmp_path: Path, measurements: int) -> None:
    torch.manual_seed(0)
    model = Bag()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    ids, labels = torch.randint(20, (12, 5)), torch.randint(4, (12,))
    course = Course(
        40, rate=0.03, table_rate=0.03, warm_up=5, measurements=measurements, curve=tmp_path / "curve.jsonl", seed=0
    )

    def loss() -> Tensor:
        return functional.cross_entropy(model(ids), labels)

    first = loss().item()
    follow(course, model, loss, lambda: {"measured": 0.5})
    assert loss().item() < 0.7 * first
    assert all(not torch.equal(before[name], parameter) for name, parameter in model.named_parameters())

    lines = [json.loads(line) for line in course.curve.read_text().splitlines()]
    assert [line["step"] for line in lines] == [*range(0, 40, max(1, 40 // measurements)), 40]
    assert lines[0]["loss"] is None
    assert all(line["loss"] > 0 for line in lines[1:])
    assert all(line["measured"] == 0.5 for line in lines)
