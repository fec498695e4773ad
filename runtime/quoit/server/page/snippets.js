// Examples for other programs, with this server's address and model in them.

const KEY = "QUOIT_API_KEY";

/** Return the examples by the name of the program. `here` has origin, model and reranker (or null), and hasKey. */
export function snippets(here) {
  const { origin, model, reranker, hasKey } = here;
  const base = `${origin}/v1`;
  const pythonKey = hasKey ? `os.environ["${KEY}"]` : '"none"';
  const liteKey = hasKey ? `os.environ/${KEY}` : "none";
  const words = hasKey ? "the key" : "none";
  const os = hasKey ? "import os\n\n" : "";
  const header = hasKey ? `  -H "Authorization: Bearer $${KEY}" \\\n` : "";
  const post = (path, body) => `curl ${origin}${path} \\\n${header}  -H "Content-Type: application/json" \\\n  -d '${JSON.stringify(body)}'`;
  const found = {
    curl: post("/v1/embeddings", { model, input: ["how tall is Mount Everest"], input_type: "query" }),
    OpenAI: `${os}from openai import OpenAI

client = OpenAI(base_url="${base}", api_key=${pythonKey})
query = client.embeddings.create(
    model="${model}", input=["how tall is Mount Everest"], extra_body={"input_type": "query"}
)
documents = client.embeddings.create(
    model="${model}", input=["Everest is 8,849 m high."], extra_body={"input_type": "document"}
)`,
    LangChain: `${os}from langchain_openai import OpenAIEmbeddings

# Without check_embedding_ctx_length=False, LangChain sends token ids of another tokenizer.
shared = dict(base_url="${base}", api_key=${pythonKey}, check_embedding_ctx_length=False)
documents = OpenAIEmbeddings(model="${model}:document", **shared)
queries = OpenAIEmbeddings(model="${model}:query", **shared)`,
    LiteLLM: `# config.yaml of the proxy
model_list:
  - model_name: ${model}
    litellm_params:
      model: openai/${model}
      api_base: ${base}
      api_key: ${liteKey}`,
    "Open WebUI": `# Admin Panel > Settings > Documents, or as environment variables
RAG_EMBEDDING_ENGINE=openai
RAG_OPENAI_API_BASE_URL=${base}
RAG_OPENAI_API_KEY=${words}
RAG_EMBEDDING_MODEL=${model}`,
  };
  if (!model) for (const name of Object.keys(found)) found[name] = "# This server has no embedding model.";
  if (reranker) {
    const body = { model: reranker, query: "how tall is Mount Everest", documents: ["It is 8,849 m high.", "It is cold."] };
    found.curl += `\n\n${post("/rerank", body)}`;
    found.LiteLLM += `
  - model_name: ${reranker}
    litellm_params:
      model: hosted_vllm/${reranker}
      api_base: ${origin}
      api_key: ${liteKey}`;
    found["Open WebUI"] += `
ENABLE_RAG_HYBRID_SEARCH=true
RAG_RERANKING_ENGINE=external
RAG_EXTERNAL_RERANKER_URL=${base}/rerank
RAG_EXTERNAL_RERANKER_API_KEY=${words}
RAG_RERANKING_MODEL=${reranker}`;
  }
  return found;
}
