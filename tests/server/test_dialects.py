"""What clients send, what they get, and that it is what `Embedder` and `Reranker` say.

Bodies are as the clients of `tests/clients` sent them; that folder runs the clients themselves.
"""

import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from quoit import Embedder, Reranker
from quoit.artifact import Artifact
from quoit.engine.scheduler import Scheduler
from quoit.server.service import Models
from server.calls import MAX_TOKENS, Client, Clients
from support import Embedders, Rerankers

TEXTS = ["The capital of China is Beijing.", "Gravity pulls.", "北京 😀\nline", ""]
QUERY = "What is the capital of China?"
DOCUMENTS = TEXTS[:3]
INSTRUCTION = "Find a duplicate"
LONG = "word " * MAX_TOKENS
EMBEDDINGS = "/v1/embeddings"


@pytest.fixture(scope="module")
def embedder(embedders: Embedders) -> Embedder:
    return embedders("fp32")


@pytest.fixture(scope="module")
def reranker(rerankers: Rerankers) -> Reranker:
    return rerankers("fp32")


def same(found: Any, expected: Any) -> bool:
    """Whether numbers are these vectors, to the bit."""
    return np.array_equal(np.array(found, np.float32), expected)


def unpacked(found: list[str], dtype: str = "<f4") -> list[Any]:
    return [np.frombuffer(base64.b64decode(text), dtype) for text in found]


def embedded(client: Client, body: Any, path: str = EMBEDDINGS, **headers: str) -> list[Any]:
    """The vectors of an answer of OpenAI's shape."""
    answer = client.post(path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    assert answer.status == 200, answer.content
    return [item["embedding"] for item in answer.json["data"]]


def ranked(entries: list[dict[str, Any]]) -> list[tuple[int, float]]:
    return [(entry["index"], entry["score"] if "score" in entry else entry["relevance_score"]) for entry in entries]


def ranking(reranker: Reranker, documents: list[str] = DOCUMENTS, **options: Any) -> list[tuple[int, float]]:
    return [(entry["index"], entry["score"]) for entry in reranker.rank(QUERY, documents, **options)]


# ---------------------------------------------------------------------------------------------------- OpenAI's shape


@pytest.mark.parametrize("path", [EMBEDDINGS, "/embeddings", "/openai/deployments/emb/embeddings"])
def test_openai_has_exactly_this_shape(client: Client, embedder: Embedder, path: str) -> None:
    answer = client.post(path, {"model": "emb", "input": TEXTS}).json
    tokens = answer["usage"]["prompt_tokens"]
    vectors = [{"object": "embedding", "index": i, "embedding": answer["data"][i]["embedding"]} for i in range(4)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    assert answer == {"object": "list", "data": vectors, "model": "emb", "usage": usage}
    assert same([item["embedding"] for item in vectors], embedder.encode_document(TEXTS))
    rows = [client.post("/tokenize", {"inputs": text}).json[0] for text in TEXTS]
    assert tokens == sum(map(len, rows))


@pytest.mark.parametrize(
    "body",
    [
        '{"input":%s,"model":"emb","encoding_format":"base64"}',
        '{"model": "emb", "input": %s, "encoding_format": "base64", "user": "someone"}',
    ],
)
def test_base64_is_float32(client: Client, embedder: Embedder, body: str) -> None:
    """openai's clients of Python and JavaScript, LlamaIndex, Azure, AnythingLLM."""
    found = embedded(client, (body % json.dumps(TEXTS)).encode())
    assert same(unpacked(found), embedder.encode_document(TEXTS))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"encoding_format": "float", "user": "someone"},
        {"encoding_format": "float", "drop_params": True},
        {"model": "emb:document"},
        {"model": None, "encoding_format": None, "dimensions": None, "input_type": None, "truncate": None},
        {"input": [{"text": text} for text in TEXTS], "truncate": "true", "normalized": "true"},
        {"priority": "1", "truncate_prompt_tokens": -1},
        {"input_type": "passage", "truncate": "END"},
        {"input_type": "search_document"},
        {"task": "retrieval.passage"},
        {"prompt": ""},
    ],
    ids=str,
)
def test_numbers_are_those_of_embedder(client: Client, embedder: Embedder, more: dict[str, Any]) -> None:
    """AI SDK, haystack, RAGFlow, LiteLLM, Open WebUI and Jina; nulls and strings for other values."""
    assert same(embedded(client, {"model": "emb", "input": TEXTS} | more), embedder.encode_document(TEXTS))


def test_one_string_and_one_empty_one(client: Client, embedder: Embedder) -> None:
    assert same(embedded(client, {"input": QUERY}), embedder.encode_document([QUERY]))
    assert same(embedded(client, {"input": ""}), embedder.encode_document([""]))


def test_many_vectors_are_made_in_a_thread(client: Client, embedder: Embedder) -> None:
    texts = [f"text {number}" for number in range(700)]
    expected = embedder.encode_document(texts)
    assert same(embedded(client, {"input": texts}), expected)
    assert same(unpacked(embedded(client, {"input": texts, "encoding_format": "base64"})), expected)


@pytest.mark.parametrize("name", ["dimensions", "output_dimension"])
def test_fewer_dimensions_are_the_prefix_at_unit_length(client: Client, embedder: Embedder, name: str) -> None:
    found = embedded(client, {"input": TEXTS, name: 64})
    assert same(found, embedder.encode_document(TEXTS, dim=64))
    longer = embedded(client, {"input": TEXTS, name: 64, "normalized": False})
    assert same(longer, embedder.encode_document(TEXTS, dim=64, normalize=False))


@pytest.mark.parametrize("name", ["encoding_format", "embedding_type", "output_dtype"])
def test_small_types(client: Client, embedder: Embedder, name: str) -> None:
    expected = embedder.encode_document(TEXTS)
    packed = np.packbits(expected > 0, axis=1)
    found = {kind: np.array(embedded(client, {"input": TEXTS, name: kind})) for kind in ("ubinary", "binary")}
    assert np.array_equal(found["ubinary"], packed)
    assert np.array_equal(found["binary"], packed.astype(int) - 128)
    levels = np.array(embedded(client, {"input": TEXTS, name: "int8"}))
    assert np.abs(levels).max(axis=1).tolist() == [127] * len(TEXTS)
    assert ((levels * expected).sum(1) / np.linalg.norm(levels, axis=1)).min() > 0.999
    assert np.array_equal(np.array(embedded(client, {"input": TEXTS, name: "uint8"})) - 128, levels)


def test_small_types_in_base64(client: Client) -> None:
    """Voyage's client asks for base64 beside a type, and reads bytes of that type."""
    for kind, dtype in (("int8", "i1"), ("uint8", "u1"), ("binary", "i1"), ("ubinary", "u1")):
        plain = embedded(client, {"input": TEXTS, "output_dtype": kind})
        packed = embedded(client, {"input": TEXTS, "output_dtype": kind, "encoding_format": "base64"})
        assert [row.tolist() for row in unpacked(packed, dtype)] == plain
    assert embedded(client, {"input": QUERY, "embedding_type": ["base64"]}) == embedded(
        client, {"input": QUERY, "encoding_format": "base64", "output_dtype": "float"}
    )


# ----------------------------------------------------------------------------------------------------------- prompts


@pytest.mark.parametrize(
    ("more", "headers"),
    [
        ({"input_type": "query"}, {}),
        ({"input_type": "search_query"}, {}),
        ({"prompt_name": "query"}, {}),
        ({"task": "retrieval.query"}, {}),
        ({"task": "code.query"}, {}),
        ({"model": "emb:query"}, {}),
        ({"model": "another:query"}, {}),
        ({}, {"x_quoit_prompt": "query"}),
        ({"model": "emb:document"}, {"x_quoit_prompt": "query"}),
        ({"task": "retrieval.query", "model": "emb:document"}, {"x_quoit_prompt": "document"}),
        ({"input_type": "query", "task": "retrieval.passage"}, {"x_quoit_prompt": "document"}),
        ({"prompt_name": "query", "input_type": "document"}, {}),
    ],
    ids=str,
)
def test_a_query_is_asked_for(
    client: Client, embedder: Embedder, more: dict[str, Any], headers: dict[str, str]
) -> None:
    """By body, header and name, in this order."""
    assert same(embedded(client, {"input": TEXTS} | more, **headers), embedder.encode_query(TEXTS))


@pytest.mark.parametrize(
    "more",
    [
        {"instruction": INSTRUCTION},
        {"instruct": INSTRUCTION},
        {"instruction": INSTRUCTION, "instruct": "other", "prompt_name": "query", "input_type": "document"},
        {"prompt": f"Instruct: {INSTRUCTION}\nQuery:", "instruction": "other"},
    ],
    ids=str,
)
def test_an_instruction_stands_before_names(client: Client, embedder: Embedder, more: dict[str, Any]) -> None:
    found = embedded(client, {"input": TEXTS, "model": "emb:query"} | more)
    assert same(found, embedder.encode_query(TEXTS, instruction=INSTRUCTION))


def test_the_default_prompt_is_for_texts_that_say_nothing(clients: Clients, embedder: Embedder) -> None:
    client = clients(default_prompt="query")
    assert same(embedded(client, {"input": TEXTS}), embedder.encode_query(TEXTS))
    assert same(embedded(client, {"input": TEXTS, "model": "emb:document"}), embedder.encode_document(TEXTS))


# ------------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("more", "param", "words"),
    [
        ({"input": []}, "input", "empty"),
        ({"input": None}, "input", "not understood"),
        ({"input": ["a", 1]}, "input", "mixes"),
        ({"input": [{"text": 1}]}, "input", "mixes"),
        ({"input": [{"image": "a"}]}, "input", "mixes"),
        ({"input": [15339, 1917]}, "input", "check_embedding_ctx_length=False"),
        ({"input": [[15339, 1917], [0]]}, "input", "check_embedding_ctx_length=False"),
        ({"input": ["a"] * 2049}, "input", "2,048"),
        ({"input": LONG, "truncate": False}, "input", "shorten"),
        ({"input": LONG, "truncation": "false"}, "input", "shorten"),
        ({"input": LONG, "truncate": "NONE"}, "input", "shorten"),
        ({"truncate": "START"}, "truncate", "use END, NONE, true or false"),
        ({"dimensions": 8}, "dimensions", "bounds"),
        ({"dimensions": 100_000}, "dimensions", "bounds"),
        ({"dimensions": "many"}, "dimensions", "not understood"),
        ({"encoding_format": "hex"}, "encoding_format", "not understood"),
        ({"embedding_type": ["int8", "float"]}, "embedding_type", "name one"),
        ({"input_type": "clustering"}, "input_type", "search_query"),
        ({"task": "separation"}, "task", "retrieval.query"),
        ({"late_chunking": True}, "late_chunking", "not supported"),
        ({"priority": 1 << 40}, "priority", "bounds"),
    ],
    ids=str,
)
def test_openai_errors_name_the_field(client: Client, more: dict[str, Any], param: str, words: str) -> None:
    answer = client.post(EMBEDDINGS, {"model": "emb", "input": QUERY} | more)
    error = answer.json["error"]
    assert (answer.status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert words in error["message"]
    assert isinstance(error["code"], str)
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"input": NaN}',
        b"[" * 100_000,
        b'{"a":' + b"[" * 100_000,
        b'{"input":"\xff"}',
        b'{"input":"\\ud800"}',
    ],
)
def test_what_is_no_json_is_refused(client: Client, content: bytes) -> None:
    for path, key in (
        (EMBEDDINGS, "error"),
        ("/embed", "error_type"),
        ("/v2/embed", "message"),
        ("/api/embed", "error"),
    ):
        answer = client.post(path, content)
        assert answer.status == 400 or (path == "/embed" and answer.status == 422)
        assert key in answer.json


@pytest.mark.parametrize(
    ("path", "body", "status", "expected"),
    [
        ("/embed", {"inputs": []}, 400, {"error_type": "Empty"}),
        ("/embed", {"inputs": LONG, "truncate": False}, 422, {"error_type": "Validation"}),
        ("/embed", {"inputs": QUERY, "truncation_direction": "Left"}, 422, {"error_type": "Validation"}),
        ("/embed", {"inputs": [1, 2]}, 422, {"error_type": "Validation"}),
        ("/embed", {"inputs": QUERY, "prompt_name": "other"}, 422, {"error_type": "Validation"}),
        ("/", {}, 422, {"error_type": "Validation"}),
        ("/rerank", {"query": QUERY, "texts": []}, 400, {"error_type": "Empty"}),
        ("/rerank", {"query": QUERY, "texts": ["a"] * 1001}, 422, {"error_type": "Validation"}),
        ("/v2/embed", {"texts": []}, 400, {}),
        ("/v2/embed", {"texts": ["a"], "truncate": "START"}, 400, {}),
        ("/v2/embed", {"texts": [LONG], "truncate": "NONE"}, 400, {}),
        ("/v2/embed", {"inputs": [{"content": [{"type": "image_url"}]}]}, 400, {}),
        ("/v2/rerank", {"query": QUERY, "documents": []}, 400, {}),
        ("/v2/rerank", {"query": QUERY, "documents": ["a"], "top_n": -1}, 400, {}),
        ("/v2/rerank", {"query": QUERY, "documents": [{"title": "a"}]}, 400, {}),
        ("/v2/rerank", {"query": QUERY, "documents": ["a"], "max_tokens_per_doc": 0}, 400, {}),
        ("/api/embed", {"input": [1]}, 400, {}),
        (
            "/api/embed",
            {"input": LONG, "truncate": False},
            400,
            {"error": "the input length exceeds the context length"},
        ),
        ("/api/show", {"model": "other"}, 404, {"error": "model 'other' not found"}),
    ],
    ids=str,
)
def test_errors_have_the_form_of_their_dialect(
    client: Client, path: str, body: Any, status: int, expected: dict[str, str]
) -> None:
    answer = client.post(path, body)
    assert answer.status == status, answer.content
    keys = {"/v2/embed": {"message", "id"}, "/v2/rerank": {"message", "id"}}
    other = {"error"} if path.startswith("/api/") else {"error", "error_type"}
    assert set(answer.json) == keys.get(path, other)
    assert answer.json.items() >= expected.items()


def test_a_ranking_has_documents_or_texts(client: Client) -> None:
    for body in ({"query": QUERY}, {"query": QUERY, "texts": ["a"], "documents": ["a"]}):
        answer = client.post("/rerank", body)
        assert answer.status == 422
        assert "Text Embeddings Inference" in answer.json["error"]["message"]


def test_a_model_that_is_not_there(models: tuple[Models, Scheduler], clients: Clients, reranker: Reranker) -> None:
    """Each dialect says it in its own way; the server that has only a reranker predicts at `/`."""
    client = clients(replace(models[0], embedder=None, embedder_name=""))
    asked = {EMBEDDINGS: {"input": "a"}, "/embed": {"inputs": "a"}, "/v2/embed": {"texts": ["a"]}}
    statuses = {path: client.post(path, body).status for path, body in asked.items()}
    assert statuses == {EMBEDDINGS: 400, "/embed": 424, "/v2/embed": 400}
    assert client.post("/", {"inputs": [[QUERY, DOCUMENTS[0]]]}).json[0][0]["score"] == dict(ranking(reranker))[0]
    assert list(client.get("/info").json["model_type"]) == ["reranker"]
    assert [model["id"] for model in client.get("/v1/models").json["data"]] == ["org/rer"]
    without = clients(replace(models[0], reranker=None, reranker_name=""))
    assert without.post("/rerank", {"query": QUERY, "texts": ["a"]}).status == 424
    assert without.post("/v2/rerank", {"query": QUERY, "documents": ["a"]}).status == 400


# ------------------------------------------------------------------------------------------------------------- names


def test_models_are_listed_and_found(client: Client) -> None:
    listed = client.get("/v1/models").json
    names = ["emb", "emb:query", "emb:document", "org/rer"]
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == names
    assert [client.get(f"/v1/models/{name}").json["id"] for name in names] == names
    absent = client.get("/v1/models/org/other")
    assert (absent.status, absent.json["error"]["code"]) == (404, "model_not_found")
    tags = client.get("/api/tags").json["models"]
    assert [tag["name"] for tag in tags] == names
    assert tags[0]["details"]["quantization_level"] == "fp32"
    shown = [client.post("/api/show", {"model": name}).json["capabilities"] for name in (*names, "emb:latest")]
    assert shown == [["embedding"]] * 3 + [["rerank"], ["embedding"]]


def test_another_name_is_answered_and_told(client: Client) -> None:
    answer = client.post(EMBEDDINGS, {"model": "text-embedding-3-small", "input": QUERY})
    assert (answer.status, answer.json["model"]) == (200, "text-embedding-3-small")
    assert answer.headers["x-quoit-model"] == "emb"
    assert "x-quoit-model" not in client.post(EMBEDDINGS, {"model": "emb:query", "input": QUERY}).headers
    assert client.post("/openai/deployments/dep/embeddings", {"input": QUERY}).json["model"] == "dep"


def test_another_name_is_refused_where_names_count(clients: Clients) -> None:
    client = clients(strict_model=True)
    answer = client.post(EMBEDDINGS, {"model": "other", "input": QUERY})
    assert answer.status == 404
    assert (answer.json["error"]["code"], answer.json["error"]["param"]) == ("model_not_found", "model")
    assert client.post("/v2/rerank", {"model": "emb", "query": QUERY, "documents": ["a"]}).status == 404
    assert client.post("/v2/embed", {"model": "other", "texts": ["a"]}).status == 404
    assert client.post("/api/embed", {"model": "other", "input": "a"}).status == 404
    assert client.post("/openai/deployments/other/embeddings", {"input": QUERY}).status == 404
    for name in ("emb", "emb:query", None):
        assert client.post(EMBEDDINGS, {"model": name, "input": QUERY}).status == 200
    assert client.post("/api/embed", {"model": "emb:latest", "input": "a"}).json["model"] == "emb:latest"
    assert client.post("/rerank", {"model": "org/rer", "query": QUERY, "documents": ["a"]}).status == 200


def test_a_path_that_is_not_here_says_what_is(client: Client) -> None:
    answer = client.post("/v1/chat/completions", {"model": "emb", "messages": []})
    assert answer.status == 404
    assert "/v1/embeddings" in answer.json["error"]["message"]
    assert client.get(EMBEDDINGS).status == 405


# --------------------------------------------------------------------------------------------------------- token ids


def test_token_ids_are_those_of_the_models_tokenizer(clients: Clients, embedder: Embedder) -> None:
    """With the end token, as many tokenizers give it, or without; also behind a prompt, which may join the first."""
    client = clients(token_ids=True)
    for special in (True, False):
        given = client.post("/tokenize", {"inputs": TEXTS, "add_special_tokens": special}).json
        rows = [[token["id"] for token in row] for row in given]
        assert same(embedded(client, {"input": rows}), embedder.encode_document(TEXTS))
        assert same(client.post("/embed", {"inputs": rows}).json, embedder.encode_document(TEXTS))
        assert same(embedded(client, {"input": rows[0]}), embedder.encode_document(TEXTS[:1]))
        assert same(embedded(client, {"input": rows, "input_type": "query"}), embedder.encode_query(TEXTS))
    wrong = client.post(EMBEDDINGS, {"input": [1 << 40]})
    assert (wrong.status, wrong.json["error"]["param"]) == (400, "input")
    long = client.post(EMBEDDINGS, {"input": [1] * (MAX_TOKENS + 1), "truncate": False})
    assert (long.status, long.json["error"]["code"]) == (400, "too_long")


# ----------------------------------------------------------------------------------------- Text Embeddings Inference


def test_an_answer_says_what_it_took(client: Client) -> None:
    """As Text Embeddings Inference does; its load test reads these headers."""
    headers = client.post("/embed", {"inputs": QUERY}).headers
    times = ["x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time"]
    assert all(headers[name].isdigit() for name in times)
    assert int(headers["x-compute-tokens"]) > 1


@pytest.mark.parametrize("path", ["/embed", "/", "/invocations"])
def test_embed_has_two_levels(client: Client, embedder: Embedder, path: str) -> None:
    """huggingface_hub, @huggingface/inference, LlamaIndex and RAGFlow."""
    assert same(client.post(path, {"inputs": QUERY}).json, embedder.encode_document([QUERY]))
    assert same(client.post(path, {"inputs": TEXTS, "truncate": True}).json, embedder.encode_document(TEXTS))
    options = {"normalize": False, "prompt_name": "query", "truncate": True, "truncation_direction": "right"}
    found = client.post(path, {"inputs": QUERY, **options, "dimensions": 64, "encoding_format": "float"}).json
    assert same(found, embedder.encode_query([QUERY], normalize=False, dim=64))
    nulls = {"normalize": None, "prompt_name": None, "truncate": None, "truncation_direction": None, "dimensions": None}
    assert same(client.post(path, {"inputs": TEXTS, **nulls}).json, embedder.encode_document(TEXTS))
    assert same(
        unpacked(client.post(path, {"inputs": TEXTS, "encoding_format": "base64"}).json), embedder.encode(TEXTS)
    )


@pytest.mark.parametrize("path", ["/similarity", "/", "/invocations"])
@pytest.mark.parametrize("more", [{}, {"parameters": {}}, {"parameters": None}])
def test_similarities_are_cosines(client: Client, embedder: Embedder, path: str, more: dict[str, Any]) -> None:
    found = client.post(path, {"inputs": {"source_sentence": QUERY, "sentences": TEXTS}, **more}).json
    vectors = embedder.encode_document([QUERY, *TEXTS])
    np.testing.assert_allclose(found, vectors[1:] @ vectors[0], atol=1e-6)


@pytest.mark.parametrize(
    "more",
    [
        {"raw_scores": False, "truncate": True},
        {"raw_scores": False, "truncation_direction": "Right", "top_n": 3, "return_text": True},
        {"return_text": "true", "raw_scores": None, "truncate": None, "truncation_direction": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/rerank", "/"])
def test_texts_are_ranked_in_a_list(client: Client, reranker: Reranker, path: str, more: dict[str, Any]) -> None:
    """RAGFlow, LiteLLM and Dify."""
    found = client.post(path, {"query": QUERY, "texts": DOCUMENTS, **more}).json
    assert ranked(found) == ranking(reranker)
    if more.get("return_text"):
        assert [entry["text"] for entry in found] == [DOCUMENTS[entry["index"]] for entry in found]
    else:
        assert all(set(entry) == {"index", "score"} for entry in found)


def test_pairs_are_predicted(client: Client, reranker: Reranker) -> None:
    scores = dict(ranking(reranker))
    pairs = [[QUERY, document] for document in DOCUMENTS]
    found = client.post("/predict", {"inputs": pairs}).json
    assert [entry[0]["score"] for entry in found] == [scores[index] for index in range(len(DOCUMENTS))]
    assert client.post("/predict", {"inputs": pairs[0]}).json[0]["score"] == scores[0]


def test_tokens_have_places_and_ids_a_text(client: Client) -> None:
    (tokens,) = client.post("/tokenize", {"inputs": TEXTS[0], "add_special_tokens": None}).json
    assert "".join(token["text"] for token in tokens[:-1]) == TEXTS[0]
    assert tokens[-1]["special"]
    ids = [token["id"] for token in tokens]
    assert client.post("/decode", {"ids": ids, "skip_special_tokens": None}).json == TEXTS[:1]
    assert client.post("/decode", {"ids": [ids, ids]}).json == TEXTS[:1] * 2


def test_info_has_what_clients_read(client: Client) -> None:
    found = client.get("/info").json
    assert next(iter(found["model_type"])) == "embedding"
    assert (found["model_id"], found["max_input_length"], found["max_client_batch_size"]) == ("emb", MAX_TOKENS, 2048)


def test_vertex_takes_several_bodies(client: Client, embedder: Embedder, reranker: Reranker) -> None:
    bodies = [{"inputs": TEXTS}, {"query": QUERY, "texts": DOCUMENTS}]
    first, second = client.post("/vertex", {"instances": bodies}).json["predictions"]
    assert same(first, embedder.encode_document(TEXTS))
    assert ranked(second) == ranking(reranker)


def test_vertex_has_errors_of_one_dialect(client: Client) -> None:
    bodies = [{"query": QUERY, "documents": []}, {"inputs": TEXTS}]
    answer = client.post("/vertex", {"instances": bodies})
    assert (answer.status, set(answer.json)) == (400, {"error", "error_type"})


# ------------------------------------------------------------------------------------------------------------ Cohere


def test_cohere_first_version(client: Client, embedder: Embedder) -> None:
    found = client.post("/v1/embed", {"texts": TEXTS, "model": "m", "input_type": "search_document"}).json
    assert found["response_type"] == "embeddings_floats"
    assert same(found["embeddings"], embedder.encode_document(TEXTS))
    assert found["meta"]["billed_units"]["input_tokens"] > 0
    assert found["texts"] == TEXTS
    langchain = {"input_type": "search_query", "embedding_types": ["float"], "truncate": None}
    found = client.post("/v1/embed", {"texts": TEXTS, "model": "m", **langchain}).json
    assert found["response_type"] == "embeddings_by_type"
    assert same(found["embeddings"]["float"], embedder.encode_query(TEXTS))


def test_cohere_second_version(client: Client, embedder: Embedder) -> None:
    types = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    body = {"texts": TEXTS, "model": "m", "input_type": "search_query", "embedding_types": types}
    found = client.post("/v2/embed", body).json["embeddings"]
    assert list(found) == types
    assert same(found["float"], embedder.encode_query(TEXTS))
    assert same(unpacked(found["base64"]), embedder.encode_query(TEXTS))
    inputs = [{"content": [{"type": "text", "text": text}]} for text in TEXTS]
    parts = client.post("/v2/embed", {"inputs": inputs, "model": "m", "output_dimension": 64, "truncate": "END"}).json
    assert same(parts["embeddings"]["float"], embedder.encode_document(TEXTS, dim=64))


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v2/rerank", {"top_n": 3}),
        ("/v2/rerank", {"top_n": 3, "max_tokens_per_doc": None}),
        ("/v1/rerank", {"documents": [{"text": text, "title": "unused"} for text in DOCUMENTS]}),
        ("/v1/rerank", {"documents": [{"body": text} for text in DOCUMENTS], "rank_fields": ["body"]}),
        ("/v1/rerank", {"return_documents": "true", "return_len": "true"}),
        ("/rerank", {"top_n": 0, "truncate_prompt_tokens": -1, "max_tokens_per_query": None}),
        ("/reranking", {"top_n": 10}),
        ("/v1/reranking", {"priority": 1}),
        ("/", {}),
    ],
    ids=str,
)
def test_one_ranking_is_for_all_clients(client: Client, reranker: Reranker, path: str, more: dict[str, Any]) -> None:
    """Cohere, LangChain, LlamaIndex, LiteLLM, Jina, vLLM, Xinference, llama.cpp and Open WebUI."""
    found = client.post(path, {"model": "rer", "query": QUERY, "documents": DOCUMENTS} | more).json
    assert ranked(found["results"]) == ranking(reranker)
    assert [entry["document"]["text"] for entry in found["results"]] == [
        DOCUMENTS[entry["index"]] for entry in found["results"]
    ]
    assert found["usage"]["total_tokens"] == found["usage"]["prompt_tokens"] == found["meta"]["tokens"]["input_tokens"]
    assert found["meta"]["billed_units"] == {"search_units": 1}


def test_a_ranking_is_cut_and_plain(client: Client, reranker: Reranker) -> None:
    body = {"query": QUERY, "documents": DOCUMENTS, "top_n": 1, "return_documents": False}
    (entry,) = client.post("/rerank", body).json["results"]
    assert (set(entry), [(entry["index"], entry["relevance_score"])]) == (
        {"index", "relevance_score"},
        ranking(reranker)[:1],
    )


def test_a_ranking_is_cut_to_the_tokens_that_vllm_names(client: Client, rerank_artifact: Artifact) -> None:
    pairs = [(QUERY, document * 9) for document in DOCUMENTS]
    with Reranker(rerank_artifact, precision="fp32", provider="cpu", max_tokens=100) as cut:
        expected = [float(score) for score in cut.predict(pairs)]
    body = {"query": QUERY, "documents": [document for _, document in pairs], "truncate_prompt_tokens": 100}
    found = client.post("/rerank", body).json["results"]
    assert [entry["relevance_score"] for entry in sorted(found, key=lambda each: each["index"])] == expected
    scored = client.post("/score", {"text_1": QUERY, "text_2": body["documents"], "truncate_prompt_tokens": 100}).json
    assert [entry["score"] for entry in scored["data"]] == expected
    answer = client.post("/rerank", body | {"truncate_prompt_tokens": 3})
    assert (answer.status, answer.json["error"]["param"]) == (400, "documents")


@pytest.mark.parametrize("name", ["instruction", "instruct"])
def test_a_ranking_has_an_instruction(client: Client, reranker: Reranker, name: str) -> None:
    expected = ranking(reranker, instruction=INSTRUCTION)
    documents = client.post("/rerank", {"query": QUERY, "documents": DOCUMENTS, name: INSTRUCTION}).json
    texts = client.post("/rerank", {"query": QUERY, "texts": DOCUMENTS, name: INSTRUCTION}).json
    assert ranked(documents["results"]) == ranked(texts) == expected


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
def test_pairs_are_scored(client: Client, reranker: Reranker, path: str) -> None:
    expected = [score for _, score in sorted(ranking(reranker))]
    for left, right in (("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2")):
        for first in (QUERY, [QUERY], [QUERY] * 3):
            found = client.post(path, {left: first, right: DOCUMENTS}).json
            assert [entry["score"] for entry in found["data"]] == expected
            assert [entry["index"] for entry in found["data"]] == [0, 1, 2]
    assert client.post(path, {"text_1": [QUERY] * 2, "text_2": DOCUMENTS}).status == 400


# ------------------------------------------------------------------------------------------------------------ Ollama

NULLS = dict.fromkeys(
    ("mirostat", "mirostat_eta", "num_ctx", "num_gpu", "num_thread", "repeat_penalty", "temperature", "stop", "top_k")
)


@pytest.mark.parametrize(
    "more",
    [
        {"options": NULLS},
        {"options": {"use_mmap": True}, "keep_alive": -1},
        {"truncate": None, "dimensions": None, "keep_alive": "5m", "options": None},
        {"model": "emb:latest"},
    ],
    ids=str,
)
def test_ollama_embeds(client: Client, embedder: Embedder, more: dict[str, Any]) -> None:
    """ollama's clients, LangChain, LlamaIndex, LiteLLM, RAGFlow and Open WebUI."""
    found = client.post("/api/embed", {"model": "emb", "input": TEXTS} | more).json
    assert same(found["embeddings"], embedder.encode_document(TEXTS))
    assert found["prompt_eval_count"] > 0
    assert found["model"] == more.get("model", "emb")


def test_ollama_has_queries_no_texts_and_an_older_route(client: Client, embedder: Embedder) -> None:
    for more in ({"model": "emb:query"}, {"input_type": "query"}):
        found = client.post("/api/embed", {"input": QUERY} | more).json
        assert same(found["embeddings"], embedder.encode_query([QUERY]))
    assert client.post("/api/embed", {"model": "emb", "input": []}).json["embeddings"] == []
    assert client.post("/api/embed", {"model": "emb"}).json["embeddings"] == []
    old = client.post("/api/embeddings", {"model": "emb:latest", "prompt": QUERY}).json
    assert same(old["embedding"], embedder.encode_document([QUERY], normalize=False)[0])
    assert client.post("/api/embeddings", {"model": "emb", "prompt": None}).status == 200
    assert "version" in client.get("/api/version").json
