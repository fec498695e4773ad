"""sentence-transformers behind FastAPI with a batcher: texts that come within 5 ms of the first run together.

python fastapi_batcher.py CHECKPOINT PORT THREADS
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from sentence_transformers import SentenceTransformer

WAIT_SECONDS = 0.005
MOST_TEXTS = 32

queue: asyncio.Queue[tuple[str, asyncio.Future[Any]]] = asyncio.Queue()
torch.set_num_threads(int(sys.argv[3]))
model = SentenceTransformer(sys.argv[1], device="cpu")


async def batches() -> None:
    """Take a text, wait, take what has come since, and compute."""
    while True:
        taken = [await queue.get()]
        await asyncio.sleep(WAIT_SECONDS)
        while len(taken) < MOST_TEXTS and not queue.empty():
            taken.append(queue.get_nowait())
        texts = [text for text, _ in taken]
        vectors = await asyncio.to_thread(model.encode, texts, show_progress_bar=False)
        for (_, future), vector in zip(taken, vectors, strict=True):
            if not future.cancelled():
                future.set_result(vector.tolist())


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Run the batcher while the server runs."""
    task = asyncio.create_task(batches())
    yield
    task.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/v1/embeddings")
async def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    given = body["input"]
    texts = [given] if isinstance(given, str) else given
    futures = [asyncio.get_running_loop().create_future() for _ in texts]
    for pair in zip(texts, futures, strict=True):
        queue.put_nowait(pair)
    vectors = await asyncio.gather(*futures)
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    return {"object": "list", "data": data, "model": body.get("model", ""), "usage": {"prompt_tokens": 0}}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
