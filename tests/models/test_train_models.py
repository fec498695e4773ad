"""models/train: what is learned from the pairs, and how."""

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

from quoit.artifact import EmbeddingContract, RerankContract
from quoit.prompts import DEFAULT_TASK, INSTRUCTION_TEMPLATE, RERANK_PREFIX, RERANK_SUFFIX, Separator, render_pairs
from quoit_export.checkpoint import open_checkpoint
from qwen3_tokenizer import END_TOKEN, PLAIN_ADDED_TOKENS, SPECIAL_TOKENS
from support import byte_tokenizer, make_model, make_reranker
from train import embedding, reranker, student, vocabulary
from train.course import Course, follow, optimizers
from train.encode import INSTRUCTIONS, TOKENS_PER_RUN, last_states, ndcg_at_10, render_query, tokenize
from train.pairs import Pair
from training import BFLOAT16, TEACHER, TINY, Vectors, make_pairs, make_taught, random_ids, rerank_tokenizer, unit_rows


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


@pytest.fixture(scope="module")
def token_table() -> Vectors:
    return unit_rows(vocabulary.VOCABULARY, student.HIDDEN)


@pytest.fixture(scope="module")
def started(token_table: Vectors) -> Any:
    """The embedding model before training. Read-only."""
    return student.start(token_table, seed=0)


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
    end = 0
    same, different = [], []
    for _ in range(10):
        first, second = (generator.choice(np.arange(1, vocabulary.VOCABULARY), 24, replace=False) for _ in range(2))
        rows = [[*row.tolist(), end] for row in (first, generator.permutation(first), second)]
        with torch.no_grad():
            found = cosines(started(input_ids=torch.tensor(rows)).last_hidden_state[:, -1])
        same.append(float(found[0, 1]))
        different.append(float(found[0, 2]))
    assert 2 * (1 - min(same)) < 1 - max(different)
    assert min(same) > 0.94


def test_the_start_is_about_the_mean_of_the_token_rows(started: Any, token_table: Vectors) -> None:
    generator = np.random.default_rng(0)
    rows = generator.integers(1, vocabulary.VOCABULARY, (30, 24))
    rows[:, -1] = 0
    with torch.no_grad():
        states = started(input_ids=torch.from_numpy(rows)).last_hidden_state[:, -1].numpy()
    for half in np.split(np.arange(student.HIDDEN), student.AVERAGING_LAYERS):
        means = token_table[rows[:, :-1]].mean(axis=1)[:, half]
        assert ndcg_at_10((states - states.mean(axis=0))[:, half] @ means.T) > 0.98, "each layer averages a half"


def test_the_seed_is_all_that_is_random(token_table: Vectors, started: Any) -> None:
    again, other = (student.start(token_table, seed).state_dict() for seed in (0, 1))
    assert all(torch.equal(tensor, again[name]) for name, tensor in started.state_dict().items())
    assert not torch.equal(again["layers.3.mlp.up_proj.weight"], other["layers.3.mlp.up_proj.weight"])
    assert torch.equal(again["embed_tokens.weight"], other["embed_tokens.weight"])


RERANK_FILES = {"config.json", "model.safetensors", "tokenizer.json"}
EMBEDDING_FILES = RERANK_FILES | {
    *("tokenizer_config.json", "config_sentence_transformers.json", "modules.json", "1_Pooling/config.json"),
}


@pytest.mark.parametrize(("task", "files"), [("embedding", EMBEDDING_FILES), ("rerank", RERANK_FILES)])
def test_a_checkpoint_has_the_official_files_and_loads_again(
    tmp_path: Path, started: Any, task: str, files: set[str]
) -> None:
    model: Any = started if task == "embedding" else reranker.start(started, rerank_tokenizer(), seed=0)
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
def test_quoit_export_recognises_a_checkpoint(tmp_path: Path, started: Any, task: str) -> None:
    tokenizer = byte_tokenizer() if task == "embedding" else rerank_tokenizer()
    model = started if task == "embedding" else reranker.start(started, rerank_tokenizer(), seed=0)
    student.write_checkpoint(tmp_path / "checkpoint", model, tokenizer)
    opened = open_checkpoint(str(tmp_path / "checkpoint"))
    assert isinstance(opened.contract, EmbeddingContract if task == "embedding" else RerankContract)
    assert opened.max_tokens == student.MAX_TOKENS
    assert opened.architecture.rope_theta == 1e6


NOTHING_EXCLUDED = torch.zeros(32, 32, dtype=torch.bool)


def test_matching_orthogonal_vectors_have_no_contrast_loss() -> None:
    vectors = torch.eye(32, student.HIDDEN)
    matching = float(embedding.contrast(vectors, 3 * vectors, NOTHING_EXCLUDED))
    shuffled = float(embedding.contrast(vectors, vectors.roll(1, 0), NOTHING_EXCLUDED))
    assert matching == pytest.approx(0, abs=1e-4)
    assert shuffled == pytest.approx(1 / embedding.TEMPERATURE, rel=0.1)


def test_excluded_pairs_are_no_negatives() -> None:
    vectors = torch.eye(32, student.HIDDEN)
    vectors[1] = vectors[0]
    excluded = NOTHING_EXCLUDED.clone()
    excluded[0, 1] = excluded[1, 0] = True
    with_twins = float(embedding.contrast(vectors, vectors, NOTHING_EXCLUDED))
    assert with_twins == pytest.approx(2 / 32 * np.log(2), rel=1e-3)
    assert float(embedding.contrast(vectors, vectors, excluded)) == pytest.approx(0, abs=1e-4)


def test_contrast_sees_every_prefix() -> None:
    """Vectors that differ only in their second halves are alike at the shorter lengths."""
    vectors = torch.eye(32, student.HIDDEN).roll(student.HIDDEN // 2, 1)
    vectors[:, 0] = 1e-3
    loss = float(embedding.contrast(vectors, vectors, NOTHING_EXCLUDED))
    assert loss == pytest.approx(3 / 4 * np.log(32), rel=1e-3)


def test_distance_is_that_of_directions_with_a_target() -> None:
    states = torch.from_numpy(unit_rows(8, student.HIDDEN))
    targets = 2 * states
    assert float(embedding.distance(states, targets)) == pytest.approx(0, abs=1e-6)
    assert float(embedding.distance(states, -targets)) == pytest.approx(2, abs=1e-6)
    targets[::2] = 0
    assert float(embedding.distance(states, targets)) == pytest.approx(0, abs=1e-6)
    assert float(embedding.distance(states, torch.zeros_like(states))) == 0


def test_documents_of_one_meaning_or_group_are_no_negatives() -> None:
    pairs = [Pair("debian", group, "query", "document") for group in ("a", "b", "a", "c", "d")]
    documents = torch.eye(5, TEACHER)
    documents[4] = functional.normalize(documents[3] + 0.2 * documents[4], dim=0)
    expected = torch.zeros(5, 5, dtype=torch.bool)
    for one, other in ((0, 2), (3, 4)):
        expected[one, other] = expected[other, one] = True
    assert torch.equal(embedding.no_negatives(pairs, documents), expected)


def test_without_teacher_vectors_only_groups_are_excluded() -> None:
    pairs = make_pairs(5, "debian-de")
    assert not embedding.no_negatives(pairs, torch.zeros(5, TEACHER)).any()
    assert embedding.no_negatives([pairs[0]] * 5, torch.zeros(5, TEACHER)).sum() == 20


def test_measuring_names_every_source_at_three_lengths(started: Any) -> None:
    letters = "abcdefghijklmnop"
    pairs = [Pair(s, f"{s}/{c}", c * 200, c * 150) for s in ("debian", "wordnet") for c in letters]
    found = embedding.measure(started, byte_tokenizer(), pairs)
    assert min(found.values()) > 0.95, "an average of tokens finds the text of the same letter"
    assert set(found) == {f"{source}@{size}" for source in ("debian", "wordnet") for size in (256, 128, 64)}


def test_the_reranker_starts_as_the_embedding_model_with_a_layer_more(started: Any) -> None:
    tokenizer = rerank_tokenizer()
    model: Any = reranker.start(started, tokenizer, seed=0)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    ids = torch.arange(1, 30)[None]
    with torch.no_grad():
        states = model.model(input_ids=ids, output_hidden_states=True).hidden_states[student.LAYERS]
        read = model.model.layers[student.LAYERS].input_layernorm(states)
        torch.testing.assert_close(read, started(input_ids=ids).last_hidden_state)

    changed = (model.model.embed_tokens.weight != started.embed_tokens.weight).any(dim=1).nonzero().flatten()
    assert set(changed.tolist()) == {tokenizer.token_to_id(text) for text in reranker.SUMMARIES}
    end = started.embed_tokens.weight[tokenizer.token_to_id(END_TOKEN)]
    assert torch.equal(model.model.embed_tokens.weight[changed], end.expand(len(changed), -1))


DOCUMENTS = ["a short document", "a short document", "a long document " * 50, "", "  leading", "\nnew line", "é日"]


@pytest.mark.parametrize("separator", ["\n", "\n\n"])
@pytest.mark.parametrize("count", [1, 2, len(DOCUMENTS)])
def test_a_rendered_row_is_the_official_template(separator: Separator, count: int) -> None:
    tokenizer = rerank_tokenizer()
    query, documents = "What is it?", DOCUMENTS[:count]
    shared, tails = reranker.render(tokenizer, query, documents, separator)
    suffix = tokenizer.encode(RERANK_SUFFIX).ids
    fixed = len(tokenizer.encode(RERANK_PREFIX + next(render_pairs([(query, "")], DEFAULT_TASK, separator))).ids)
    pairs = render_pairs([(query, document) for document in documents], DEFAULT_TASK, separator)
    for pair, tail in zip(pairs, tails, strict=True):
        ids = tokenizer.encode(RERANK_PREFIX + pair).ids
        assert shared + tail == ids[: fixed + reranker.DOCUMENT_TOKENS] + suffix
        assert tail, "the last token is never lent"
    if count == len(DOCUMENTS):
        assert len(shared) >= fixed - 1, "all but the documents is computed once"


def test_a_shared_prefix_does_not_change_scores() -> None:
    model: Any = make_reranker(**TINY, attn_implementation="eager").float()
    generator = np.random.default_rng(0)
    answers = [17, 301]
    rows = [
        (random_ids(generator, shared), [random_ids(generator, size) for size in generator.integers(1, 40, 6)])
        for shared in (1, 7, 30, 90)
    ]
    with torch.no_grad():
        found = reranker.score(model, rows, answers)
        alone = [
            [model(input_ids=torch.tensor([shared + tail])).logits[0, -1, answers] for tail in tails]
            for shared, tails in rows
        ]
    expected = torch.tensor([[float(yes - no) for yes, no in query] for query in alone])
    assert found.shape == (4, 6)
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max() / expected.abs().max()) < BFLOAT16


def test_nearest_are_the_best_of_the_same_source(started: Any) -> None:
    pairs = make_pairs(reranker.CANDIDATES + 20) + make_pairs(12, "docs")
    found = reranker.nearest(started, byte_tokenizer(), pairs)
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
                assert float(taught.documents[other] @ taught.documents[right]) < embedding.SAME_MEANING
    assert 7 not in asked, "too few candidates"
    assert len(asked) == 59


def test_lessons_follow_the_teachers_choice() -> None:
    taught = make_taught(make_pairs(20))
    taught.queries[:] = taught.documents
    wanted = reranker.wanted(taught, [[3, 4, 5], [6, 7, 8]])
    torch.testing.assert_close(wanted.sum(dim=1), torch.ones(2))
    assert wanted.argmax(dim=1).tolist() == [0, 0]
    assert (wanted[:, 1:] > 0).all()


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
        muon, adam = ([p for group in one.param_groups for p in group["params"]] for one in optimizers(model, 1e-3))
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
    course = Course(40, rate=0.03, warm_up=5, measurements=measurements, curve=tmp_path / "curve.jsonl", seed=0)

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
