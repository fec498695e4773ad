"""Applications without a package to install: bodies as they send them, and answers as they read them.

Open WebUI, Dify, RAGFlow, AnythingLLM and LibreChat. Each reader is their rule in other words: what it asks of an
answer, and nothing more.
"""

import base64
from typing import Any

import numpy as np
import pytest

from clients.harness import QUERY, TEXTS, Answers, Server, same

DOCUMENTS = [text for text in TEXTS if text]
DIFY_WORDS = ["kasumi is a girl's name", "her best friend is called Arisa", "they play in a band"]


def post(server: Server, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
    """The JSON of an answer, which has to be a success."""
    status, found = server.post(path, body, headers)
    assert status == 200, found
    return found


# ------------------------------------------------------------------------------------------------------- Open WebUI


def test_open_webui_embeds_with_the_openai_engine(server: Server, answers: Answers) -> None:
    """It takes the vectors in the order of the answer. Its prefix may come in a field of its own."""
    headers = {"Authorization": "Bearer ", "X-OpenWebUI-User-Name": "Some%20One", "X-OpenWebUI-User-Id": "1"}
    found = post(server, "/v1/embeddings", {"input": TEXTS, "model": "emb"}, headers)
    assert "data" in found
    assert same([item["embedding"] for item in found["data"]], answers.document(TEXTS))
    prefix = "Instruct: Find a duplicate\nQuery:"
    found = post(server, "/v1/embeddings", {"input": TEXTS, "model": "emb", "prompt": prefix}, headers)
    expected = answers.query(TEXTS, instruction="Find a duplicate")
    assert same([item["embedding"] for item in found["data"]], expected)


def test_open_webui_embeds_with_the_ollama_engine(server: Server, answers: Answers) -> None:
    """It puts `:latest` behind a name without a tag."""
    found = post(server, "/api/embed", {"input": TEXTS, "model": "emb:latest"})
    assert "embeddings" in found
    assert same(found["embeddings"], answers.document(TEXTS))


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_open_webui_ranks(server: Server, answers: Answers, path: str) -> None:
    """It needs the scores of all documents, and puts them back in order by their indices."""
    body = {"model": "rer", "query": QUERY, "documents": DOCUMENTS, "top_n": len(DOCUMENTS)}
    found = post(server, path, body, {"Authorization": "Bearer none"})
    scores = [entry["relevance_score"] for entry in sorted(found["results"], key=lambda entry: entry["index"])]
    assert dict(enumerate(scores)) == dict(answers.rank(QUERY, DOCUMENTS))


# ------------------------------------------------------------------------------------------------------------- Dify


def test_dify_probes_text_embeddings_inference(server: Server) -> None:
    """The first key of `model_type` says what the server is; two limits have to be numbers."""
    found = server.get("/info")
    kinds = list(found["model_type"])
    assert kinds[0] == "embedding"
    assert found["max_input_length"] > 0
    assert found["max_client_batch_size"] > 0


def test_dify_embeds_by_text_embeddings_inference(server: Server, answers: Answers) -> None:
    """There is no model in the body, and an empty key in the header. It checks with one word."""
    for texts in (["ping"], TEXTS):
        found = post(server, "/v1/embeddings", {"input": texts}, {"Authorization": ""})
        assert same([item["embedding"] for item in found["data"]], answers.document(texts))
        assert found["usage"]["total_tokens"] > 0


def test_dify_ranks_by_text_embeddings_inference(server: Server, answers: Answers) -> None:
    """It asks for the texts, and reads them."""
    body = {"query": "Who is kasumi?", "texts": DIFY_WORDS, "return_text": True}
    found = post(server, "/rerank", body)
    assert [(entry["index"], entry["score"]) for entry in found] == answers.rank("Who is kasumi?", DIFY_WORDS)
    assert [entry["text"] for entry in found] == [DIFY_WORDS[entry["index"]] for entry in found]


def test_dify_embeds_by_the_openai_shape(server: Server, answers: Answers) -> None:
    """One text a request. It counts tokens as the answer says."""
    vectors = []
    for text in TEXTS:
        found = post(server, "/v1/embeddings", {"model": "emb", "input": [text], "encoding_format": "float"})
        vectors += [item["embedding"] for item in found["data"]]
        assert found["usage"]["prompt_tokens"] == found["usage"]["total_tokens"] > 0
    assert same(vectors, answers.document(TEXTS))


def test_dify_ranks_by_the_openai_shape(server: Server, answers: Answers) -> None:
    """A document's text is in `document.text`, and a threshold is laid on the scores."""
    body = {"model": "rer", "query": "Who is kasumi?", "documents": DIFY_WORDS, "top_n": 3, "return_documents": True}
    found = post(server, "/v1/rerank", body)
    expected = answers.rank("Who is kasumi?", DIFY_WORDS)
    assert [(entry["index"], entry["relevance_score"]) for entry in found["results"]] == expected
    assert [entry["document"]["text"] for entry in found["results"]] == [DIFY_WORDS[index] for index, _ in expected]
    assert all(0 <= entry["relevance_score"] <= 1 for entry in found["results"])


# ---------------------------------------------------------------------------------------------------------- RAGFlow


def test_ragflow_embeds_by_text_embeddings_inference(server: Server, answers: Answers) -> None:
    """Sixteen texts a request; no `truncate`, so that long ones have to be cut; no key."""
    texts = [*TEXTS, "word " * 3000, *[f"text {number}" for number in range(10)]]
    assert same(post(server, "/embed", {"inputs": texts}), answers.document(texts))


def test_ragflow_asks_text_embeddings_inference_a_query(server: Server, answers: Answers) -> None:
    """One string goes in, and the first vector of a list is taken."""
    assert same(post(server, "/embed", {"inputs": QUERY})[0], answers.document([QUERY])[0])


def test_ragflow_ranks_by_text_embeddings_inference(server: Server, answers: Answers) -> None:
    """Eight texts a request; scores go where the indices say."""
    texts = [f"{text} {number}" for number in range(2) for text in DOCUMENTS]
    scores: dict[int, float] = {}
    for start in range(0, len(texts), 8):
        body = {"query": QUERY, "texts": texts[start : start + 8], "raw_scores": False, "truncate": True}
        for entry in post(server, "/rerank", body):
            scores[start + entry["index"]] = entry["score"]
    assert scores == dict(answers.rank(QUERY, texts))


def test_ragflow_embeds_by_the_openai_client(server: Server, answers: Answers) -> None:
    """It sorts by `index`."""
    body = {"input": TEXTS, "model": "emb", "encoding_format": "float", "drop_params": True}
    found = post(server, "/v1/embeddings", body)
    ordered = sorted(found["data"], key=lambda item: item["index"])
    assert same([item["embedding"] for item in ordered], answers.document(TEXTS))
    assert found["usage"]["total_tokens"] > 0


def test_ragflow_ranks_by_xinference(server: Server, answers: Answers) -> None:
    """Booleans are strings."""
    body = {"model": "rer", "query": QUERY, "return_documents": "true", "return_len": "true", "documents": DOCUMENTS}
    scores = {entry["index"]: entry["relevance_score"] for entry in post(server, "/v1/rerank", body)["results"]}
    assert scores == dict(answers.rank(QUERY, DOCUMENTS))


def test_ragflow_embeds_by_ollama(server: Server, answers: Answers) -> None:
    """A query goes to the older route, whose vector has another length and the same direction."""
    options = {"options": {"use_mmap": True}, "keep_alive": -1}
    assert same(
        post(server, "/api/embed", {"input": TEXTS, "model": "emb"} | options)["embeddings"], answers.document(TEXTS)
    )
    vector = np.array(post(server, "/api/embeddings", {"prompt": QUERY, "model": "emb"} | options)["embedding"])
    np.testing.assert_allclose(vector / np.linalg.norm(vector), answers.document([QUERY])[0], atol=1e-6)


def test_ragflow_embeds_by_jina(server: Server, answers: Answers) -> None:
    """Texts are objects."""
    body = {
        "model": "jina-v3",
        "input": [{"text": text} for text in TEXTS],
        "task": "retrieval.query",
        "truncate": True,
    }
    found = post(server, "/v1/embeddings", body)
    assert same([item["embedding"] for item in found["data"]], answers.query(TEXTS))


# -------------------------------------------------------------------------------------- AnythingLLM and LibreChat


def test_anythingllm_embeds_500_texts_at_once(server: Server, answers: Answers) -> None:
    """openai's JavaScript client asks for base64; the vectors are taken in the order of the answer."""
    texts = [f"chunk number {number}" for number in range(500)]
    found = post(server, "/v1/embeddings", {"model": "emb", "input": texts, "encoding_format": "base64"})
    vectors = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in found["data"]]
    assert same(vectors, answers.document(texts))


def test_librechat_is_told_which_variable_to_set(server: Server, answers: Answers) -> None:
    """By default LangChain's class turns texts into another model's token ids; with the check off it sends texts."""
    body: dict[str, Any] = {"model": "emb", "input": [[15339, 1917]] * 200, "encoding_format": "base64"}
    status, found = server.post("/v1/embeddings", body)
    assert status == 400
    assert "check_embedding_ctx_length=False" in found["error"]["message"]
    texts = [f"chunk {number}" for number in range(200)]
    found = post(server, "/v1/embeddings", body | {"input": texts})
    assert same(
        [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in found["data"]], answers.document(texts)
    )
