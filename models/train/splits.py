"""Training, development and held-out pairs: whole families on one side, each document once.

Package descriptions and WordNet are split by a hash of the pair's group; docstrings by package, so that the
held-out ones describe libraries that training never saw.
"""

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from train.pairs import Pair, write_pairs
from train.sources import debian, docstrings, python_docs, usable, wordnet

SEED = 0
HELD_OUT_PACKAGES = frozenset(f"docstrings/{name}" for name in ("networkx", "scikit-image", "xarray"))
DEVELOPMENT_PACKAGES = frozenset(f"docstrings/{name}" for name in ("celery", "dask"))
HELD_OUT_PERCENT = 10
DEVELOPMENT_PERCENT = 2

HELD_OUT_DOCUMENTS = 3_000
DEVELOPMENT_DOCUMENTS = 1_000
PAIRS_PER_GROUP = 3
"""Of one source package in one language: `libfoo1`, `libfoo-dev` and `libfoo-doc` say nearly the same."""
DOCSTRINGS_PER_PACKAGE = 1_200
"""In training, so that no library sets the tone."""
RUN, SHARED_RUNS = 8, 0.3
"""A docstring that shares more than this part of its runs of so many words with held-out ones is not trained on:
libraries copy from each other."""
MAX_PAIRS = {
    "debian-it": 6_000,
    "debian-fr": 6_000,
    "debian-de": 6_000,
    "debian-pt_BR": 2_000,
    "debian-es": 1_000,
    "debian-en-it": 3_000,
    "debian-en-fr": 3_000,
    "debian-en-de": 3_000,
    "debian-en-pt_BR": 1_000,
    "debian-en-es": 500,
}
"""Translations are a small share: the teacher reads English alone."""

EVALUATED = ("debian", "wordnet", "docstrings")


def split_of(pair: Pair) -> str:
    """By the pair's group alone: "training", "development" or "held-out"."""
    if pair.source == "docs":
        return "training"
    if pair.source == "docstrings":
        named = {"held-out": HELD_OUT_PACKAGES, "development": DEVELOPMENT_PACKAGES}
        return next((split for split, packages in named.items() if pair.group in packages), "training")
    bucket = int.from_bytes(hashlib.sha256(pair.group.encode()).digest()[:4]) % 100
    if bucket < HELD_OUT_PERCENT:
        return "held-out"
    return "development" if bucket < HELD_OUT_PERCENT + DEVELOPMENT_PERCENT else "training"


def distinct(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Each document once, each query once, and at most PAIRS_PER_GROUP of a package in a language."""
    queries, documents, groups = set(), set(), Counter[str]()
    for pair in pairs:
        family = f"{pair.source} {pair.group}"
        full = pair.source.startswith("debian") and groups[family] >= PAIRS_PER_GROUP
        if not full and pair.document not in documents and pair.query not in queries:
            queries.add(pair.query)
            documents.add(pair.document)
            groups[family] += 1
            yield pair


def sample(pairs: list[Pair], most: int, key: Callable[[Pair], str] = lambda pair: pair.document) -> list[Pair]:
    """At most `most` pairs, one for each key, the same ones every time."""
    one_each = list({key(pair): pair for pair in reversed(pairs)}.values())
    return random.Random(SEED).sample(one_each, min(most, len(one_each)))


def words_of(text: str) -> tuple[str, ...]:
    """Its words in lower case."""
    return tuple(re.findall(r"\w+", text.lower()))


def runs(text: str) -> set[tuple[str, ...]]:
    """All RUN words in a row."""
    words = words_of(text)
    return {words[at : at + RUN] for at in range(len(words) - RUN + 1)}


def unlike(pairs: Iterable[Pair], known: Iterable[Pair]) -> Iterator[Pair]:
    """The pairs that no known pair resembles: neither in the query's words nor in SHARED_RUNS of the document's."""
    known = list(known)
    queries = {words_of(pair.query) for pair in known}
    documents = set().union(*(runs(pair.document) for pair in known))
    for pair in pairs:
        own = runs(pair.document)
        copied = len(own & documents) > SHARED_RUNS * len(own)
        if not copied and words_of(pair.query) not in queries:
            yield pair


def few_of_each(pairs: Iterable[Pair], most: int) -> list[Pair]:
    """At most `most` pairs of a group, the same ones every time."""
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.group, []).append(pair)
    return [pair for group in groups.values() for pair in sample(group, most)]


def family(pair: Pair) -> str:
    """One document for a Debian source package when measuring: its other packages would be right answers too."""
    return pair.group if pair.source == "debian" else pair.document


def split(raw: Path, work: Path, held_out: Path) -> None:
    """Writes `training.jsonl.gz` and `development.jsonl.gz` to `work`, one held-out file a source to `held_out`."""
    everything = [pair for read in (wordnet, python_docs, docstrings, debian) for pair in read(raw) if usable(pair)]
    parts: dict[str, dict[str, list[Pair]]] = {"training": {}, "development": {}, "held-out": {}}
    for source in dict.fromkeys(pair.source for pair in everything):
        for pair in distinct(pair for pair in everything if pair.source == source):
            parts[split_of(pair)].setdefault(source, []).append(pair)

    judged = [*parts["held-out"]["docstrings"], *parts["development"]["docstrings"]]
    taught = unlike(parts["training"]["docstrings"], judged)
    parts["training"]["docstrings"] = few_of_each(taught, DOCSTRINGS_PER_PACKAGE)

    held_out.mkdir(parents=True, exist_ok=True)
    for source in EVALUATED:
        chosen = sample(parts["held-out"][source], HELD_OUT_DOCUMENTS, family)
        write_pairs(held_out / f"{source}.jsonl.gz", chosen)
    development = [sample(parts["development"][source], DEVELOPMENT_DOCUMENTS, family) for source in EVALUATED]
    write_pairs(work / "development.jsonl.gz", (pair for part in development for pair in part))
    training = [sample(part, MAX_PAIRS.get(source, len(part))) for source, part in parts["training"].items()]
    write_pairs(work / "training.jsonl.gz", (pair for part in training for pair in part))
