"""Cached vectors are the embedder's own, bit for bit, or are made anew."""

import hashlib
import io
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as with_fields

from architectures import with_records
from quoit import Embedder, InputError, Reranker
from quoit.artifact import Artifact
from quoit.search import Hit, VectorCache, cache_key, nearest, rerank
from support import Embedders, Vectors

TEXTS = ["The capital of China is Beijing.", "", "Gravity is a force.", "日本語 text", "Cats sleep."]
PATIENCE = 120
"""Seconds that a process may take on a busy machine."""


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    return VectorCache(tmp_path / "not yet" / "vectors")


def without_model(embedder: Embedder) -> Embedder:
    """The same embedder, unable to compute anything."""
    session = copy(embedder.pipeline.session)
    del session._session
    other = copy(embedder)
    other.pipeline = replace(embedder.pipeline, session=session)
    with pytest.raises(AttributeError):
        other.encode("any text")
    return other


def files_of(cache: VectorCache) -> list[Path]:
    return sorted(cache.folder.iterdir())


def test_the_second_call_reads_the_file_and_does_not_run_the_model(cache: VectorCache, embedder: Embedder) -> None:
    first = cache.documents(embedder, TEXTS)
    np.testing.assert_array_equal(first, embedder.encode_document(TEXTS))
    assert [file.name for file in files_of(cache)] == [f"{cache_key(embedder, TEXTS)}.npz"]
    second = cache.documents(without_model(embedder), TEXTS)
    assert second.dtype == first.dtype == np.float32
    np.testing.assert_array_equal(second, first)


def test_another_cache_has_nothing(cache: VectorCache, embedder: Embedder) -> None:
    cache.documents(embedder, TEXTS)
    with pytest.raises(AttributeError):
        VectorCache(cache.folder.with_name("other")).documents(without_model(embedder), TEXTS)


def test_no_texts_are_cached_too(cache: VectorCache, embedder: Embedder) -> None:
    assert cache.documents(embedder, []).shape == (0, 96)
    assert cache.documents(without_model(embedder), []).shape == (0, 96)


def test_what_is_no_text_is_refused_by_its_index(cache: VectorCache, embedder: Embedder) -> None:
    wrong: Any = ["good", 5]
    with pytest.raises(TypeError, match="text 1 is int 5"):
        cache.documents(embedder, wrong)
    with pytest.raises(InputError, match="text 1 has the lone surrogate"):
        cache.documents(embedder, ["good", "\ud800"])
    assert not cache.folder.exists()


@pytest.mark.parametrize(
    "other",
    [
        [*TEXTS, "more"],
        TEXTS[:-1],
        TEXTS[::-1],
        [*TEXTS[:-1], "Cats sleep"],
        ["".join(TEXTS)],
        [TEXTS[0], TEXTS[2], "", *TEXTS[3:]],
        ["\n".join(TEXTS)],
        [],
    ],
    ids=["longer", "shorter", "reordered", "changed", "joined", "moved", "lines", "none"],
)
def test_other_texts_have_another_key(cache: VectorCache, embedder: Embedder, other: list[str]) -> None:
    assert cache_key(embedder, other) != cache_key(embedder, TEXTS)
    cache.documents(embedder, TEXTS)
    np.testing.assert_array_equal(cache.documents(embedder, other), embedder.encode_document(other))


def test_where_one_text_ends_is_part_of_the_key(embedder: Embedder) -> None:
    assert cache_key(embedder, ["ab", "c"]) != cache_key(embedder, ["a", "bc"])


def with_prompt(embedder: Embedder, prompt: str) -> Embedder:
    other = copy(embedder)
    other.contract = with_fields(embedder.contract, prompts=embedder.contract.prompts | {"document": prompt})
    return other


def test_whatever_decides_a_vector_is_part_of_the_key(
    cache: VectorCache, artifact: Artifact, embedders: Embedders
) -> None:
    """Precision, token limit and document prompt: no cached vectors are taken for another's."""
    fp32 = embedders("fp32")
    others = {
        "fp32": fp32,
        "fp16": embedders("fp16"),
        "int8": embedders("int8"),
        "max_tokens": Embedder(artifact.folder, precision="fp32", provider="cpu", max_tokens=4),
        "prompt": with_prompt(fp32, "Passage: "),
    }
    assert len({cache_key(other, TEXTS) for other in others.values()}) == len(others)
    for other in others.values():
        np.testing.assert_array_equal(cache.documents(other, TEXTS), other.encode_document(TEXTS))
    assert len(files_of(cache)) == len(others)
    for other in others.values():
        found = cache.documents(without_model(other), TEXTS)
        np.testing.assert_array_equal(found, other.encode_document(TEXTS))


def test_another_graph_of_the_same_variant_has_another_key(
    cache: VectorCache, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a CPU whose sums saturate, which runs the graph with 7-bit activations: its vectors are others."""
    monkeypatch.setenv("QUOIT_KERNELS", "0")
    found: dict[str, Vectors] = {}
    keys = set()
    for exact in (True, False, True):
        monkeypatch.setattr("quoit.ort.probe.int8_is_exact", lambda exact=exact: exact)
        embedder = Embedder(artifact.folder, precision="int8", provider="cpu")
        graph = embedder.pipeline.session.graph
        assert graph == ("cpu" if exact else "saturating")
        keys.add(cache_key(embedder, TEXTS))
        vectors = cache.documents(embedder, TEXTS)
        np.testing.assert_array_equal(vectors, found.setdefault(graph, embedder.encode_document(TEXTS)))
    assert len(keys) == len(files_of(cache)) == 2
    assert not np.array_equal(found["cpu"], found["saturating"])


def test_other_weights_have_another_key(embedder: Embedder) -> None:
    """A model of the same shape and tokenizer, whose files have other hashes."""
    pipeline = embedder.pipeline
    manifest = pipeline.artifact.manifest
    variant = manifest.variants["fp32"]
    changed = with_fields(
        manifest,
        variants=manifest.variants
        | {"fp32": with_records(variant, lambda record: with_fields(record, sha256="0" * 64))},
    )
    other = copy(embedder)
    other.pipeline = replace(pipeline, artifact=replace(pipeline.artifact, manifest=changed))
    assert cache_key(other, TEXTS) != cache_key(embedder, TEXTS)


def test_what_does_not_decide_a_vector_is_not_part_of_the_key(artifact: Artifact, embedder: Embedder) -> None:
    other = Embedder(artifact.folder, precision="fp32", provider="cpu", threads=1, batch_tokens=64)
    assert cache_key(other, TEXTS) == cache_key(embedder, TEXTS)


class Mark:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.file,)


def archive(**arrays: Any) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def lone_array(vectors: Vectors) -> bytes:
    content = io.BytesIO()
    np.save(content, vectors)
    return content.getvalue()


Damage = Callable[[Vectors, bytes, Path], bytes]

DAMAGES: dict[str, Damage] = {
    "empty": lambda vectors, whole, mark: b"",
    "one byte": lambda vectors, whole, mark: whole[:1],
    "half": lambda vectors, whole, mark: whole[: len(whole) // 2],
    "last byte missing": lambda vectors, whole, mark: whole[:-1],
    "text": lambda vectors, whole, mark: b"these are no vectors\n" * 50,
    "a bit of a value": lambda vectors, whole, mark: whole.replace(vectors[0].tobytes(), (-vectors[0]).tobytes()),
    "fewer rows": lambda vectors, whole, mark: archive(vectors=vectors[:-1]),
    "more rows": lambda vectors, whole, mark: archive(vectors=np.concatenate([vectors, vectors])),
    "fewer columns": lambda vectors, whole, mark: archive(vectors=vectors[:, :-1]),
    "flat": lambda vectors, whole, mark: archive(vectors=vectors.ravel()),
    "transposed": lambda vectors, whole, mark: archive(vectors=np.ascontiguousarray(vectors.T)),
    "no rows": lambda vectors, whole, mark: archive(vectors=vectors[:0]),
    "float64": lambda vectors, whole, mark: archive(vectors=vectors.astype(np.float64)),
    "another name": lambda vectors, whole, mark: archive(rows=vectors),
    "no array": lambda vectors, whole, mark: archive(),
    "NaN": lambda vectors, whole, mark: archive(vectors=np.where(vectors == vectors[1, 1], np.nan, vectors)),
    "infinity": lambda vectors, whole, mark: archive(vectors=np.where(vectors == vectors[1, 1], np.inf, vectors)),
    "objects": lambda vectors, whole, mark: archive(vectors=np.array([Mark(mark)] * len(vectors))),
    "pickled": lambda vectors, whole, mark: pickle.dumps(Mark(mark)),
    "an array outside an archive": lambda vectors, whole, mark: lone_array(vectors),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_file_that_is_not_whole_is_made_anew(
    cache: VectorCache, embedder: Embedder, tmp_path: Path, name: str
) -> None:
    vectors = cache.documents(embedder, TEXTS)
    (file,) = files_of(cache)
    whole, mark = file.read_bytes(), tmp_path / "was unpickled"
    damaged = DAMAGES[name](vectors, whole, mark)
    assert damaged != whole
    file.write_bytes(damaged)
    np.testing.assert_array_equal(cache.documents(embedder, TEXTS), vectors)
    assert not mark.exists()
    np.testing.assert_array_equal(cache.documents(without_model(embedder), TEXTS), vectors)
    assert files_of(cache) == [file]


def test_a_damaged_byte_anywhere_never_changes_a_vector(cache: VectorCache, embedder: Embedder) -> None:
    """Every byte of the archive around the values, one at a time: the right vectors come, whatever it says."""
    vectors = cache.documents(embedder, TEXTS[:1])
    (file,) = files_of(cache)
    whole = file.read_bytes()
    values = whole.index(vectors.tobytes())
    around = [*range(values + 4), *range(values + vectors.nbytes - 4, len(whole))]
    assert len(around) > 250
    for at in around:
        for flip in (0x01, 0xFF):
            damaged = bytearray(whole)
            damaged[at] ^= flip
            file.write_bytes(damaged)
            np.testing.assert_array_equal(cache.documents(embedder, TEXTS[:1]), vectors, err_msg=f"byte {at}")


def test_a_damaged_file_is_a_warning_and_an_absent_one_is_not(
    cache: VectorCache, embedder: Embedder, caplog: pytest.LogCaptureFixture
) -> None:
    cache.documents(embedder, TEXTS)
    cache.documents(embedder, TEXTS)
    assert caplog.records == []
    (file,) = files_of(cache)
    file.write_bytes(file.read_bytes()[:100])
    cache.documents(embedder, TEXTS)
    ((logger, level, message),) = caplog.record_tuples
    assert (logger, level) == ("quoit", logging.WARNING)
    assert message.startswith(f"{file} is damaged (")
    assert message.endswith(") and is made anew")


def lists_of_texts(count: int) -> list[list[str]]:
    """Lists whose cache files have one size."""
    return [[f"text {number}", "another"] for number in range(count)]


def fill(cache: VectorCache, embedder: Embedder, lists: Sequence[list[str]]) -> list[Path]:
    """A file for each list, each a minute younger than the one before, all in the past."""
    files = []
    for number, texts in enumerate(lists):
        cache.documents(embedder, texts)
        file = cache.folder / f"{cache_key(embedder, texts)}.npz"
        os.utime(file, (1e9 + 60 * number, 1e9 + 60 * number))
        files.append(file)
    return files


def test_what_was_used_longest_ago_is_pruned(cache: VectorCache, embedder: Embedder) -> None:
    *old, new = lists_of_texts(6)
    files = fill(cache, embedder, old)
    size = files[0].stat().st_size
    small = replace(cache, max_bytes=3 * size)
    small.documents(embedder, new)
    kept = {*files[3:], cache.folder / f"{cache_key(embedder, new)}.npz"}
    assert set(files_of(cache)) == kept


def test_reading_a_file_makes_it_the_newest(cache: VectorCache, embedder: Embedder) -> None:
    *old, new = lists_of_texts(4)
    files = fill(cache, embedder, old)
    cache.documents(without_model(embedder), old[0])
    replace(cache, max_bytes=2 * files[0].stat().st_size).documents(embedder, new)
    assert set(files_of(cache)) == {files[0], cache.folder / f"{cache_key(embedder, new)}.npz"}


@pytest.mark.parametrize("max_bytes", [0, 1, 100])
def test_the_file_just_written_is_never_pruned(cache: VectorCache, embedder: Embedder, max_bytes: int) -> None:
    """Not even where others are newer, by a clock that was ahead."""
    *old, new = lists_of_texts(3)
    for file in fill(cache, embedder, old):
        os.utime(file, (4e9, 4e9))
    small = replace(cache, max_bytes=max_bytes)
    vectors = small.documents(embedder, new)
    assert [file.stem for file in files_of(cache)] == [cache_key(embedder, new)]
    np.testing.assert_array_equal(small.documents(without_model(embedder), new), vectors)


def test_nothing_is_pruned_below_the_limit_and_no_other_file_ever(cache: VectorCache, embedder: Embedder) -> None:
    *old, new = lists_of_texts(4)
    files = fill(cache, embedder, old)
    note = cache.folder / "note.txt"
    note.write_bytes(b"x" * 10_000)
    os.utime(note, (1, 1))
    replace(cache, max_bytes=4 * files[0].stat().st_size).documents(embedder, new)
    assert len(files_of(cache)) == 5
    replace(cache, max_bytes=0).documents(embedder, ["yet", "another"])
    assert {file.suffix for file in files_of(cache)} == {".npz", ".txt"}
    assert len(files_of(cache)) == 2


def test_the_cache_of_the_user_is_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    cache = VectorCache.of_user()
    assert cache.folder.is_relative_to(tmp_path)
    assert cache.folder.parts[-2:] == ("quoit", "vectors")
    assert list(tmp_path.iterdir()) == [], "made when first written"


WRITER = """
import hashlib, sys
from pathlib import Path
from quoit import Embedder
from quoit.search import VectorCache, cache_key

folder, artifact, *texts = sys.argv[1:]
embedder = Embedder(artifact, precision="fp32", provider="cpu", threads=1)
cache = VectorCache(Path(folder))
file = cache.folder / f"{cache_key(embedder, texts)}.npz"
print("ready", flush=True)
sys.stdin.readline()
digests = set()
for _ in range(60):
    file.unlink(missing_ok=True)
    digests.add(hashlib.sha256(cache.documents(embedder, texts).tobytes()).hexdigest())
print(*digests)
"""


def test_processes_that_write_one_file_at_once_leave_it_whole(
    cache: VectorCache, artifact: Artifact, embedder: Embedder, caplog: pytest.LogCaptureFixture
) -> None:
    """Two processes remove and write it again and again, while this one reads: no one ever sees half a file."""
    command = [sys.executable, "-c", WRITER, str(cache.folder), str(artifact.folder), *TEXTS]
    pipe = subprocess.PIPE
    writers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    vectors = embedder.encode_document(TEXTS)
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        while any(writer.poll() is None for writer in writers):
            np.testing.assert_array_equal(cache.documents(embedder, TEXTS), vectors)
        outcomes = [writer.communicate(timeout=PATIENCE) for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    for writer, (printed, report) in zip(writers, outcomes, strict=True):
        assert (writer.returncode, report) == (0, "")
        assert printed.split() == [hashlib.sha256(vectors.tobytes()).hexdigest()]
    assert caplog.records == [], "no file was ever damaged"
    cache.documents(embedder, TEXTS)
    np.testing.assert_array_equal(cache.documents(without_model(embedder), TEXTS), vectors)
    assert [file.name for file in files_of(cache)] == [f"{cache_key(embedder, TEXTS)}.npz"]


def unit_rows(count: int) -> Vectors:
    rows = np.random.default_rng(3).standard_normal((count, 8)).astype(np.float32)
    unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def test_the_nearest_come_first() -> None:
    documents = unit_rows(30)
    query = documents[17]
    cosines = documents @ query
    expected = sorted(range(30), key=lambda index: -cosines[index])
    found = nearest(query, documents, 30)
    assert found == [Hit(index, float(cosines[index])) for index in expected]
    assert found[0].index == 17
    assert found[0].cosine == pytest.approx(1)
    assert nearest(query, documents, 4) == found[:4]
    assert nearest(query, documents, 500) == found


def test_equally_near_documents_keep_their_order() -> None:
    one, other = np.eye(2, dtype=np.float32)
    assert [hit.index for hit in nearest(one, np.stack([other, one, other, one]), 4)] == [1, 3, 0, 2]


def test_nothing_is_near_where_there_is_nothing() -> None:
    assert nearest(np.ones(8, np.float32), np.empty((0, 8), np.float32), 5) == []


def test_hits_come_in_the_rerankers_order_with_their_own_cosine_and_index(reranker: Reranker) -> None:
    texts = [f"{word} {text}" for word in ("Well,", "No:", "Indeed") for text in TEXTS]
    hits = [Hit(index, 1 - index / 100) for index in (3, 1, 14, 7, 8, 2)]
    query = "What is gravity?"
    found = rerank(query, texts, hits, reranker, 6)
    scores = reranker.predict([(query, texts[hit.index]) for hit in hits])
    expected = [
        Hit(hits[position].index, hits[position].cosine, float(scores[position]))
        for position in np.argsort(-scores, kind="stable")
    ]
    assert found == expected
    assert [hit.index for hit in found] != [hit.index for hit in hits]
    assert rerank(query, texts, hits, reranker, 2) == expected[:2]


def test_reranking_takes_an_instruction_and_keeps_ties(reranker: Reranker) -> None:
    texts = ["same", "other", "same"]
    hits = [Hit(2, 0.5), Hit(0, 0.5), Hit(1, 0.4)]
    found = rerank("a", texts, hits, reranker, 3, instruction="Find a rhyme")
    scores = reranker.predict([("a", "same"), ("a", "other")], instruction="Find a rhyme")
    assert {hit.index: hit.score for hit in found} == {0: scores[0], 2: scores[0], 1: scores[1]}
    assert [hit.index for hit in found if hit.index != 1] == [2, 0]
    assert scores[0] != reranker.predict([("a", "same")])[0]
    assert rerank("a", texts, [], reranker, 3) == []


def test_a_file_that_cannot_be_pruned_is_passed_over(
    cache: VectorCache, embedder: Embedder, caplog: pytest.LogCaptureFixture
) -> None:
    """The vectors are cached, so nothing says that they are not, and the other files are pruned all the same."""
    cache.documents(embedder, ["old"])
    (old,) = files_of(cache)
    os.utime(old, (1, 1))
    unremovable = cache.folder / "a folder.npz"
    unremovable.mkdir()
    os.utime(unremovable, (0, 0))
    with caplog.at_level(logging.WARNING, logger="quoit"):
        replace(cache, max_bytes=0).documents(embedder, TEXTS)
    assert caplog.messages == []
    assert files_of(cache) == sorted([unremovable, cache.folder / f"{cache_key(embedder, TEXTS)}.npz"])
    np.testing.assert_array_equal(cache.documents(without_model(embedder), TEXTS), embedder.encode_document(TEXTS))
