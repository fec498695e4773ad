"""Makes the small models: `cd models && python -m train --work FOLDER`.

    texts       packages with text, from Debian 12 and PyPI, and pairs out of them
    teacher     the teacher's vectors of the training pairs
    table       the tokenizers, and a row and a weight for every token
    embedding   the embedding model, which starts as the table
    reranker    the reranker, which is the table too, and is not trained further

Each step leaves its result in the work folder and is skipped when it is there.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from qwen3_tokenizer import END_TOKEN
from train import clusters, curves, embedding, judge, splits, student, table, teacher, vocabulary
from train.course import Course
from train.fetch import fetch
from train.pairs import Pair, Taught, read_pairs

HERE = Path(__file__).parent
HELD_OUT = HERE.parent.parent / "bench" / "heldout"
EMBEDDING, RERANKER = "quoit-embedding-7m", "quoit-reranker-7m"
CURVE = HERE / "embedding.jsonl"
SEED = 20
EMBEDDING_COURSE = Course(steps=1_200, rate=1e-3, table_rate=4e-3, warm_up=60, measurements=6, curve=CURVE, seed=SEED)
TABLE = "table.npz"
TABLE_BATCH, EMBEDDING_BATCH = 1_024, 128


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


def directions_of(taught: Taught) -> NDArray[np.float32]:
    """`[384, 256]`, the projection of the teacher's vectors."""
    sample = [side[side.any(axis=1)][::8] for side in (taught.queries, taught.documents)]
    return student.principal_directions(np.concatenate(sample).astype(np.float32))


def make_table(work: Path, taught: Taught) -> None:
    """Trains the token table."""
    if not (work / TABLE).is_file():
        tokenizer, directions = load_tokenizer(work, EMBEDDING), directions_of(taught)
        texts = [tokenizer.decode([token]).strip() for token in range(tokenizer.get_vocab_size())]
        rows = student.token_rows(teacher.encode(teacher.load(), texts), directions)
        deal = clusters.batches(clusters.clusters(taught, directions, SEED), TABLE_BATCH, SEED)
        table.save(table.train(rows, tokenizer, taught, directions, deal, SEED), work / TABLE)


def make_embedding(work: Path, taught: Taught, development: list[Pair]) -> None:
    """Trains the embedding model from the table and writes its checkpoint."""
    tokenizer, directions = load_tokenizer(work, EMBEDDING), directions_of(taught)
    end_token = tokenizer.get_vocab()[END_TOKEN]
    model = student.start(table.load(work / TABLE), end_token, SEED)
    deal = clusters.batches(clusters.clusters(taught, directions, SEED), EMBEDDING_BATCH, SEED)
    embedding.train(model, tokenizer, taught, directions, deal, development, EMBEDDING_COURSE)
    student.write_checkpoint(work / EMBEDDING, model, tokenizer)


def make_reranker(work: Path) -> None:
    """Writes the checkpoint of a reranker that is made of the table."""
    tokenizer = load_tokenizer(work, RERANKER)
    student.write_checkpoint(work / RERANKER, judge.start(table.load(work / TABLE), tokenizer, SEED), tokenizer)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m train", description="Make the small models of models/.")
    parser.add_argument("--work", type=Path, required=True, help="folder for texts, vectors and checkpoints, 700 MB")
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
    make_table(work, taught)
    report("table")
    if not (work / EMBEDDING).is_dir():
        make_embedding(work, taught, development)
    report("embedding")
    if not (work / RERANKER).is_dir():
        make_reranker(work)
    report("reranker")
    curves.draw(CURVE, HERE / "curves.png")
    print(f"copy what is good of {work}/quoit-* to {HERE.parent}")


if __name__ == "__main__":
    main()
