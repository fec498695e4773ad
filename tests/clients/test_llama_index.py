"""LlamaIndex: Text Embeddings Inference, OpenAI's shape, Ollama and Cohere's ranking."""

from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from llama_index.postprocessor.cohere_rerank import CohereRerank

from clients.harness import QUERY, TEXTS, Answers, Server, same

DOCUMENTS = [text for text in TEXTS if text]
MANY = [f"text {number}" for number in range(25)]


def test_text_embeddings_inference(server: Server, answers: Answers) -> None:
    embedding = TextEmbeddingsInference(model_name="Qwen/Qwen3-Embedding-0.6B", base_url=server.url)
    assert same(embedding.get_text_embedding_batch(MANY), answers.document(MANY))


def test_openai_like(server: Server, answers: Answers) -> None:
    """It puts a space where a text has a line break, and sends empty texts too."""
    embedding = OpenAILikeEmbedding(model_name="emb", api_base=server.openai, api_key="any")
    sent = [text.replace("\n", " ") for text in TEXTS]
    assert same(embedding.get_text_embedding_batch(TEXTS), answers.document(sent))
    queries = OpenAILikeEmbedding(model_name="emb:query", api_base=server.openai, api_key="any")
    assert same(queries.get_query_embedding(QUERY), answers.query([QUERY])[0])


def test_ollama(server: Server, answers: Answers) -> None:
    embedding = OllamaEmbedding(model_name="emb", base_url=server.url)
    assert same(embedding.get_text_embedding_batch(DOCUMENTS), answers.document(DOCUMENTS))


def test_cohere_rerank(server: Server, answers: Answers) -> None:
    reranker = CohereRerank(model="rer", api_key="any", base_url=server.url, top_n=3)
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in DOCUMENTS]
    found = reranker.postprocess_nodes(nodes, query_str=QUERY)
    expected = answers.rank(QUERY, DOCUMENTS)[:3]
    assert [(node.text, node.score) for node in found] == [(DOCUMENTS[index], score) for index, score in expected]
