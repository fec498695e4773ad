"""sentence-transformers on torch, as the model card of Qwen3-Embedding shows; it sorts and pads by itself.

For reranking, transformers as the model card of Qwen3-Reranker shows: yes against no at the last token, left padding,
eight pairs a batch, and no more of the logits than that.
"""

from typing import Any

import numpy as np

from bench.side_by_side.workers.padding import BATCH_TEXTS
from bench.side_by_side.workers.protocol import Vectors


class SentenceTransformers:
    def __init__(self, model: Any) -> None:
        self.model = model

    def encode(self, texts: list[str], *, query: bool) -> Vectors:
        encode = self.model.encode_query if query else self.model.encode_document
        vectors: Vectors = encode(texts, show_progress_bar=False, convert_to_numpy=True)
        return vectors

    def score(self, query: str, documents: list[str]) -> Vectors:
        raise NotImplementedError("an embedding model scores no pairs")


class CausalReranker:
    def __init__(self, model: Any, tokenizer: Any, pair: str) -> None:
        self.model, self.tokenizer, self.pair = model, tokenizer, pair
        self.answers = [tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes")]

    def encode(self, texts: list[str], *, query: bool) -> Vectors:
        raise NotImplementedError("a reranker makes no vectors")

    def score(self, query: str, documents: list[str]) -> Vectors:
        import torch

        texts = [self.pair.format(query=query, document=document) for document in documents]
        order = sorted(range(len(texts)), key=lambda position: -len(texts[position]))
        scores = np.empty(len(texts), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), BATCH_TEXTS):
                batch = order[start : start + BATCH_TEXTS]
                inputs = self.tokenizer([texts[position] for position in batch], padding=True, return_tensors="pt")
                logits = self.model(**inputs, logits_to_keep=1).logits[:, -1, self.answers]
                scores[batch] = torch.softmax(logits.float(), dim=1)[:, 1].numpy()
        return scores


def load(config: dict[str, Any]) -> SentenceTransformers | CausalReranker:
    """Config: `checkpoint`, `threads`, `task`, `dtype`; for reranking `rerank_pair`, a format string."""
    import torch

    torch.set_num_threads(config["threads"])
    dtype = getattr(torch, config["dtype"])
    if config["task"] == "rerank":
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(config["checkpoint"], padding_side="left")
        tokenizer.pad_token = tokenizer.pad_token or "<|endoftext|>"
        model: Any = AutoModelForCausalLM.from_pretrained(config["checkpoint"], dtype=dtype)
        model.eval()
        return CausalReranker(model, tokenizer, config["rerank_pair"])
    from sentence_transformers import SentenceTransformer

    return SentenceTransformers(SentenceTransformer(config["checkpoint"], device="cpu", model_kwargs={"dtype": dtype}))
