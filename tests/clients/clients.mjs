// Run one case of a JavaScript client and print what it answers as JSON: node clients.mjs CASE '{"url": …}'.
// conftest.py copies this file beside the packages of package.json.

const [, , name, json] = process.argv;
const { url, texts, query, model = "emb", key = "any", dimensions, options = {} } = JSON.parse(json);

const cases = {
  async openai() {
    const { default: OpenAI } = await import("openai");
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
    const response = await client.embeddings.create({ model, input: texts, dimensions, ...options });
    return { vectors: response.data.map((item) => Array.from(item.embedding)), usage: response.usage };
  },

  async openaiError() {
    const { default: OpenAI } = await import("openai");
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
    try {
      await client.embeddings.create({ model, input: texts, ...options });
    } catch (error) {
      return { type: error.constructor.name, status: error.status, code: error.code, param: error.param };
    }
    return null;
  },

  async aiOpenai() {
    const { embedMany } = await import("ai");
    const { createOpenAI } = await import("@ai-sdk/openai");
    const provider = createOpenAI({ baseURL: `${url}/v1`, apiKey: key });
    const { embeddings, usage } = await embedMany({ model: provider.embedding(model), values: texts });
    return { vectors: embeddings, tokens: usage.tokens };
  },

  async aiCompatible() {
    const { embedMany } = await import("ai");
    const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
    const headers = options.headers;
    const provider = createOpenAICompatible({ name: "quoit", baseURL: `${url}/v1`, headers });
    const { embeddings, usage } = await embedMany({
      model: provider.textEmbeddingModel(model),
      values: texts,
      providerOptions: { quoit: { dimensions, user: "someone" } },
    });
    return { vectors: embeddings, tokens: usage.tokens };
  },

  async cohere() {
    const { CohereClient, CohereClientV2 } = await import("cohere-ai");
    const given = { token: key, environment: url };
    const [first, second] = [new CohereClient(given), new CohereClientV2(given)];
    const embedded = await second.embed({
      model,
      texts,
      inputType: "search_query",
      embeddingTypes: ["float", "int8"],
    });
    const old = await first.embed({ model, texts, inputType: "search_document" });
    const ranked = await second.rerank({ model: "rer", query, documents: texts, topN: 2 });
    const before = await first.rerank({ model: "rer", query, documents: texts, returnDocuments: true });
    return {
      float: embedded.embeddings.float,
      int8: embedded.embeddings.int8,
      old: old.embeddings,
      ranked: ranked.results,
      before: before.results,
    };
  },

  async ollama() {
    const { Ollama } = await import("ollama");
    const client = new Ollama({ host: url });
    const { embeddings } = await client.embed({ model, input: texts, keep_alive: -1, options: { use_mmap: true } });
    const { models } = await client.list();
    const { embedding } = await client.embeddings({ model, prompt: texts[0] });
    let error = null;
    try {
      await client.embed({ model, input: "word ".repeat(2000), truncate: false });
    } catch (caught) {
      error = { status: caught.status_code, message: caught.message };
    }
    return { vectors: embeddings, models: models.map((each) => each.name), first: embedding, error };
  },

  async huggingFace() {
    const { InferenceClient } = await import("@huggingface/inference");
    const client = new InferenceClient();
    const here = client.endpoint(`${url}${options.path}`);
    const vectors = await here.featureExtraction({ inputs: texts });
    const one = await here.featureExtraction({ inputs: query, normalize: false, prompt_name: "query" });
    const other = client.endpoint(`${url}${options.path === "/embed" ? "/similarity" : options.path}`);
    const cosines = await other.sentenceSimilarity({ inputs: { source_sentence: query, sentences: texts } });
    return { vectors, one, cosines };
  },
};

console.log(JSON.stringify(await cases[name]()));
