"""Haystack's embedders of OpenAI's shape."""

from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret

from clients.harness import QUERY, TEXTS, Answers, Server, same


def test_documents_and_a_query(server: Server, answers: Answers) -> None:
    key = Secret.from_token("any")
    documents = OpenAIDocumentEmbedder(api_key=key, model="emb", api_base_url=server.openai, progress_bar=False)
    found = documents.run(documents=[Document(content=text) for text in TEXTS])
    assert same([document.embedding for document in found["documents"]], answers.document(TEXTS))
    assert found["meta"]["usage"]["prompt_tokens"]
    query = OpenAITextEmbedder(api_key=key, model="emb:query", api_base_url=server.openai)
    assert same(query.run(text=QUERY)["embedding"], answers.query([QUERY])[0])
