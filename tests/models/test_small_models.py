"""The small real pair in models/: what quoit keeps of models that mean something, on held-out texts."""

import gzip
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import Qwen3ForCausalLM, Qwen3Model

from quoit import Embedder, Reranker
from quoit.artifact import Artifact, Precision
from quoit.cli.main import main
from quoit.text.prompts import DEFAULT_TASK, INSTRUCTION_TEMPLATE, RERANK_PREFIX, RERANK_SUFFIX
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.export import Request, publish
from support import Embedders, Rerankers, Vectors
from train.encode import ndcg_at_10

ROOT = Path(__file__).parent.parent.parent
EMBEDDING, RERANKER = (ROOT / "models" / name for name in ("quoit-embedding-9m", "quoit-reranker-6m"))
SETS = ("debian", "docstrings", "wordnet")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
MAX_BYTES = 30_000_000
ALL_WORKING = "Ünïcödé, 漢字, 🦉 and\ttabs\nlines <|im_start|> "


def read_pairs(name: str, most: int) -> list[tuple[str, str]]:
    """Queries and documents of a held-out set."""
    with gzip.open(ROOT / "bench" / "corpora" / "heldout" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for line, _ in zip(lines, range(most), strict=False)]
    return [(pair["query"], pair["document"]) for pair in found]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The embedding model, all variants, fp32 verified against transformers."""
    out = tmp_path_factory.mktemp("small-models") / "embedding"
    return publish(open_checkpoint(str(EMBEDDING)), Request(out, PRECISIONS, verify=True))


@pytest.fixture(scope="module")
def small_reranker(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The reranker, all variants, fp32 verified against transformers."""
    out = tmp_path_factory.mktemp("small-models") / "reranker"
    return publish(open_checkpoint(str(RERANKER)), Request(out, PRECISIONS, verify=True))


@pytest.fixture(scope="module")
def embed(small: Artifact) -> Embedders:
    return cache(lambda precision: Embedder(small.folder, precision=precision, provider="cpu"))


@pytest.fixture(scope="module")
def judge(small_reranker: Artifact) -> Rerankers:
    return cache(lambda precision: Reranker(small_reranker.folder, precision=precision, provider="cpu"))


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Held-out texts of all sets, a long one, and odd ones."""
    pairs = [pair for name in SETS for pair in read_pairs(name, 36)]
    long = " ".join(document for _, document in pairs[:30])
    return [text for pair in pairs for text in pair] + ["", "a", ALL_WORKING, ALL_WORKING * 20, long]


@pytest.mark.parametrize("folder", [EMBEDDING, RERANKER], ids=["embedding", "reranker"])
def test_the_checkpoint_is_of_the_official_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "qwen3"
    assert config["architectures"] == ["Qwen3Model" if folder == EMBEDDING else "Qwen3ForCausalLM"]
    assert config["hidden_size"] != config["num_attention_heads"] * config["head_dim"]
    assert config["num_key_value_heads"] < config["num_attention_heads"]
    assert config["tie_word_embeddings"]
    assert config["max_position_embeddings"] >= 512
    assert 16_384 <= config["vocab_size"] <= 32_768
    assert config["vocab_size"] == Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()


def test_the_embedding_model_has_the_files_of_an_official_one_and_the_reranker_its_own() -> None:
    def files(folder: Path) -> set[str]:
        return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}

    common = {"config.json", "model.safetensors", "tokenizer.json"}
    modules = {"config_sentence_transformers.json", "modules.json", "1_Pooling/config.json", "tokenizer_config.json"}
    assert files(EMBEDDING) == common | modules
    assert files(RERANKER) == common | {"chat_template.jinja"}
    both = [file for folder in (EMBEDDING, RERANKER) for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in both) < MAX_BYTES


def test_vectors_are_those_of_transformers(embed: Embedders, texts: list[str]) -> None:
    tokenizer = Tokenizer.from_file(str(EMBEDDING / "tokenizer.json"))
    model: Any = Qwen3Model.from_pretrained(EMBEDDING, dtype=torch.float32)
    prompt = INSTRUCTION_TEMPLATE.format(instruction=DEFAULT_TASK)
    limit = embed("fp32").pipeline.tokenizer.max_tokens
    encodings = tokenizer.encode_batch([text.replace("<|im_start|>", "") for text in (*texts, prompt + texts[0])])
    rows = [ids if len(ids := e.ids) <= limit else [*ids[: limit - 1], ids[-1]] for e in encodings]
    with torch.inference_mode():
        states = [model(input_ids=torch.tensor([row])).last_hidden_state[0, -1] for row in rows]
    expected: Vectors = torch.nn.functional.normalize(torch.stack(states)).numpy()
    plain = [text.replace("<|im_start|>", "") for text in texts]
    np.testing.assert_allclose(embed("fp32").encode_document(plain), expected[:-1], atol=1e-5)
    np.testing.assert_allclose(embed("fp32").encode_query([plain[0]]), expected[-1:], atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_text_does_not_see_its_batch(embed: Embedders, texts: list[str], precision: Precision) -> None:
    together = embed(precision).encode_document(texts)
    turned = embed(precision).encode_document(texts[::-1])[::-1]
    alone = np.concatenate([embed(precision).encode_document([text]) for text in texts[::7]])
    np.testing.assert_array_equal(together, turned)
    np.testing.assert_array_equal(together[::7], alone)


@pytest.mark.parametrize(("precision", "mean", "least"), [("fp16", 0.99999, 0.9999), ("int8", 0.999, 0.99)])
def test_real_activations_survive(
    embed: Embedders, texts: list[str], precision: Precision, mean: float, least: float
) -> None:
    cosines = np.sum(embed(precision).encode_document(texts) * embed("fp32").encode_document(texts), axis=1)
    assert cosines.mean() > mean
    assert cosines.min() > least


@pytest.mark.parametrize(("name", "floor"), [("debian", 0.88), ("docstrings", 0.7), ("wordnet", 0.6)])
def test_documents_are_found_by_their_queries(embed: Embedders, name: str, floor: float) -> None:
    """Among 500; half and quarter prefixes and int8 lose little. The whole sets: bench/studies/quality.py."""
    queries, documents = (list(side) for side in zip(*read_pairs(name, 500), strict=True))

    def ndcg(precision: Precision, dim: int) -> float:
        found = [
            encode(side, dim=dim)
            for encode, side in zip(
                (embed(precision).encode_query, embed(precision).encode_document), (queries, documents), strict=True
            )
        ]
        return ndcg_at_10(found[0] @ found[1].T)

    whole = ndcg("fp32", 384)
    assert whole > floor
    assert ndcg("int8", 384) > 0.985 * whole
    assert ndcg("fp32", 192) > 0.98 * whole
    assert ndcg("fp32", 96) > 0.9 * whole


def pair_rows(pairs: list[tuple[str, str]]) -> list[list[int]]:
    """Token ids in the official template."""
    tokenizer = Tokenizer.from_file(str(RERANKER / "tokenizer.json"))
    texts = [f"<Instruct>: {DEFAULT_TASK}\n<Query>: {query}\n<Document>: {document}" for query, document in pairs]
    return [encoding.ids for encoding in tokenizer.encode_batch([RERANK_PREFIX + t + RERANK_SUFFIX for t in texts])]


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    """Right and wrong pairs."""
    found = [pair for name in SETS for pair in read_pairs(name, 16)]
    return found + [(query, found[index - 1][1]) for index, (query, _) in enumerate(found)]


def test_scores_are_those_of_transformers(judge: Rerankers, pairs: list[tuple[str, str]]) -> None:
    tokenizer = Tokenizer.from_file(str(RERANKER / "tokenizer.json"))
    model: Any = Qwen3ForCausalLM.from_pretrained(RERANKER, dtype=torch.float32)
    yes, no = (tokenizer.token_to_id(answer) for answer in ("yes", "no"))
    with torch.inference_mode():
        logits = [model(input_ids=torch.tensor([row])).logits[0, -1] for row in pair_rows(pairs)]
    expected = [torch.sigmoid(row[yes] - row[no]).item() for row in logits]
    np.testing.assert_allclose(judge("fp32").predict(pairs), expected, atol=2e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_right_pairs_are_told_from_wrong_ones(
    judge: Rerankers, pairs: list[tuple[str, str]], precision: Precision
) -> None:
    scores = judge(precision).predict(pairs)
    right, wrong = scores[: len(pairs) // 2], scores[len(pairs) // 2 :]
    assert np.mean(right > wrong) > 0.9
    assert abs(scores - judge("fp32").predict(pairs)).max() < (0.005 if precision != "int8" else 0.1)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_reranker_improves_the_order(embed: Embedders, judge: Rerankers, precision: Precision) -> None:
    """Of the embedding's best 20 among 500, for queries of all sets; all of it: bench/studies/quality.py."""
    before, after = list[float](), list[float]()
    for name in SETS:
        found = read_pairs(name, 500)
        queries, documents = [query for query, _ in found[:60]], [document for _, document in found]
        cosines = embed("fp32").encode_query(queries) @ embed("fp32").encode_document(documents).T
        for index, row in enumerate(cosines):
            best = np.argsort(-row, kind="stable")[:20].tolist()
            if index not in best:
                continue
            ranked = judge(precision).rank(queries[index], [documents[i] for i in best])
            places = (best.index(index), [best[hit["index"]] for hit in ranked].index(index))
            for gains, place in zip((before, after), places, strict=True):
                gains.append(1 / math.log2(place + 2) if place < 10 else 0.0)
    assert np.mean(after) > np.mean(before)


PAGES = ("README.md", *(f"{room}/README.md" for room in ("bench", "export", "models", "runtime")))
QUESTIONS = [
    ("What happens to texts that are too long?", "are cut"),
    ("Does it run on CUDA?", "CUDA"),
    ("How much resident memory does int8 take?", "most resident memory"),
    ("Is int4 faster than int8?", "slower than int8"),
    ("How was the model trained?", "were made"),
    ("Which module turns token ids into batches?", "planner"),
]


def test_a_persons_question_about_china_finds_beijing(embed: Embedders) -> None:
    texts = (ROOT / "models" / "example_texts.txt").read_text(encoding="utf-8").splitlines()
    scores = embed("int8").encode_query(["What is the capital of China?"]) @ embed("int8").encode_document(texts).T
    assert texts[int(scores.argmax())] == "The capital of China is Beijing."


CHUNKED = ["--chunk", "256"]
PARAGRAPHS = ["--chunk", "0"]


@pytest.mark.parametrize(
    ("question", "wanted", "cut"),
    [
        *((*pair, PARAGRAPHS) for pair in QUESTIONS),
        *((*pair, CHUNKED) for pair in QUESTIONS if pair != ("How was the model trained?", "were made")),
    ],
)
def test_search_answers_questions_about_quoit(
    small: Artifact,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    question: str,
    wanted: str,
    cut: list[str],
) -> None:
    """One of the first three has the answer: of all paragraphs of the pages, and but for one question of all chunks."""
    files = [str(ROOT / name) for name in PAGES]
    out = tmp_path / "found.jsonl"
    command = ["search", question, *files, "--model", str(small.folder), "--no-cache", *cut, "--top", "3"]
    assert main([*command, "-o", str(out)]) == 0
    capsys.readouterr()
    found = [json.loads(line)["text"] for line in out.read_text().splitlines()]
    assert any(wanted in text for text in found), found
