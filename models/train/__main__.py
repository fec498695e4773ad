"""Trains and writes the small model: `cd models && python -m train --work FOLDER`.

    texts       packages with text, from Debian 12 and PyPI, and pairs out of them
    teacher     the teacher's vectors of the training pairs
    embedding   the tokenizers and the embedding model
    reranker    with --reranker: a reranker, starting from the embedding model

Each step leaves its result in the work folder and is skipped when it is there.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import Qwen3Model

from train import clusters, curves, embedding, reranker, splits, student, teacher, vocabulary
from train.course import Course
from train.fetch import fetch
from train.pairs import Pair, Taught, read_pairs

HERE = Path(__file__).parent
HELD_OUT = HERE.parent.parent / "bench" / "heldout"
EMBEDDING, RERANKER = "quoit-embedding-7m", "quoit-reranker-7m"
CURVES = {"embedding": HERE / "embedding.jsonl", "reranker": HERE / "reranker.jsonl"}
SEED = 20
EMBEDDING_COURSE = Course(steps=2_300, rate=2e-3, warm_up=100, measurements=12, curve=CURVES["embedding"], seed=SEED)
RERANKER_COURSE = Course(steps=260, rate=1e-3, warm_up=30, measurements=2, curve=CURVES["reranker"], seed=SEED)
RERANKER_PAIRS = 8_000


def make_texts(work: Path) -> None:
    """The pairs of training, development and measuring."""
    if not (work / "training.jsonl.gz").is_file():
        fetch(work / "raw")
        splits.split(work / "raw", work, HELD_OUT)


def make_tokenizers(work: Path, pairs: list[Pair]) -> None:
    """One vocabulary, with the end token for embedding and without for reranking."""
    if not (work / f"{RERANKER}.json").is_file():
        learned = vocabulary.learn(pairs)
        for name, end_token in ((EMBEDDING, True), (RERANKER, False)):
            vocabulary.build(learned, end_token=end_token).save(str(work / f"{name}.json"), pretty=False)


def load_tokenizer(work: Path, name: str) -> Tokenizer:
    """What `make_tokenizers` wrote."""
    return Tokenizer.from_file(str(work / f"{name}.json"))


def make_embedding(work: Path, taught: Taught, development: list[Pair]) -> None:
    """Trains the embedding model and writes its checkpoint."""
    tokenizer = load_tokenizer(work, EMBEDDING)
    sample = [side[side.any(axis=1)][::8] for side in (taught.queries, taught.documents)]
    directions = student.principal_directions(np.concatenate(sample).astype(np.float32))
    texts = [tokenizer.decode([token]).strip() for token in range(tokenizer.get_vocab_size())]
    model = student.start(student.token_rows(teacher.encode(teacher.load(), texts), directions), SEED)
    deal = clusters.batches(taught, SEED)
    embedding.train(model, tokenizer, taught, directions, deal, development, EMBEDDING_COURSE)
    student.write_checkpoint(work / EMBEDDING, model, tokenizer)


def make_reranker(work: Path, taught: Taught, development: list[Pair]) -> None:
    """Trains the reranker from the embedding model's checkpoint and writes its own."""
    first = Qwen3Model.from_pretrained(
        str(work / EMBEDDING), dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    tokenizers = [load_tokenizer(work, name) for name in (EMBEDDING, RERANKER)]
    lessons = taught.english(RERANKER_PAIRS)
    candidates, measured = (reranker.nearest(first, tokenizers[0], part) for part in (lessons.pairs, development))
    model = reranker.start(first, tokenizers[1], SEED)
    reranker.train(model, tokenizers[1], lessons, candidates, (development, measured), RERANKER_COURSE)
    student.write_checkpoint(work / RERANKER, model, tokenizers[1])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m train", description="Train the small model of models/.")
    parser.add_argument("--work", type=Path, required=True, help="folder for texts, vectors and checkpoints, 700 MB")
    parser.add_argument("--reranker", action="store_true", help="train a reranker too (not good enough to ship yet)")
    options = parser.parse_args()
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()

    def report(step: str) -> None:
        print(f"{step}: {(time.perf_counter() - began) / 60:.1f} minutes since the start", flush=True)

    make_texts(work)
    report("texts")
    pairs, development = (read_pairs(work / f"{name}.jsonl.gz") for name in ("training", "development"))
    taught = teacher.teach(pairs, work / "teacher.npz")
    report("teacher")
    make_tokenizers(work, pairs)
    for name, make in ((EMBEDDING, make_embedding), (RERANKER, make_reranker)):
        if name == EMBEDDING or options.reranker:
            if not (work / name).is_dir():
                make(work, taught, development)
            report(name)
    curves.draw(CURVES["embedding"], HERE / "curves.png")
    print(f"copy what is good of {work}/quoit-* to {HERE.parent}")


if __name__ == "__main__":
    main()
