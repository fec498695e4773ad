"""sentence-transformers behind FastAPI with a lock: one request computes at a time.

python fastapi_lock.py CHECKPOINT PORT THREADS
"""

import sys
from threading import Lock
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from sentence_transformers import SentenceTransformer

app = FastAPI()
lock = Lock()
torch.set_num_threads(int(sys.argv[3]))
model = SentenceTransformer(sys.argv[1], device="cpu")


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/v1/embeddings")
def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    given = body["input"]
    texts = [given] if isinstance(given, str) else given
    with lock:
        vectors = model.encode(texts, show_progress_bar=False)
    data = [{"object": "embedding", "index": i, "embedding": vector.tolist()} for i, vector in enumerate(vectors)]
    return {"object": "list", "data": data, "model": body.get("model", ""), "usage": {"prompt_tokens": 0}}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
