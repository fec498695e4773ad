"""sentence-transformers behind LitServe, which batches what has come while the model was busy.

python litserve_api.py CHECKPOINT PORT THREADS
"""

import sys
from typing import Any

import litserve
import torch
from sentence_transformers import SentenceTransformer

MOST_REQUESTS = 32
WAIT_SECONDS = 0.005


class EmbeddingApi(litserve.LitAPI):
    """A request is a list of texts; the texts of a batch of requests are computed together."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe gives it
        torch.set_num_threads(int(sys.argv[3]))
        self.model = SentenceTransformer(sys.argv[1], device="cpu")

    def decode_request(self, request: dict[str, Any]) -> list[str]:
        given = request["input"]
        return [given] if isinstance(given, str) else list(given)

    def predict(self, inputs: list[list[str]]) -> list[Any]:
        vectors = self.model.encode([text for texts in inputs for text in texts], show_progress_bar=False)
        ends = [sum(map(len, inputs[: number + 1])) for number in range(len(inputs))]
        return [vectors[end - len(texts) : end] for texts, end in zip(inputs, ends, strict=True)]

    def encode_response(self, output: Any) -> dict[str, Any]:
        data = [{"object": "embedding", "index": i, "embedding": vector.tolist()} for i, vector in enumerate(output)]
        return {"object": "list", "data": data, "model": "model", "usage": {"prompt_tokens": 0}}


if __name__ == "__main__":
    api = EmbeddingApi(max_batch_size=MOST_REQUESTS, batch_timeout=WAIT_SECONDS, api_path="/v1/embeddings")
    server = litserve.LitServer(api, accelerator="cpu", timeout=600)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
