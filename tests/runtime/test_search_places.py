"""`quoit search` over trees, documents and stored vectors: where a hit stands, and that it is the nearest."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from command_line import Quoit, read_jsonl
from quoit import Embedder
from quoit.engine.pooling import calibration_ranges
from quoit.files.packages import ROWS_AT_A_TIME
from quoit.files.stored import open_stored
from quoit.search import TEXTS_AT_ONCE, VectorCache, grouped, nearest_stored

QUERY = "What is gravity?"
TEXTS = [f"Text number {n} is about {word}." for n in range(30) for word in ("cats", "gravity", "rivers", "bread")]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "page.md").write_text(
        "# Physics\n\nWhat gravity is: gravity attracts two bodies.\n\n# Pets\n\nCats sleep.\n"
    )
    (folder / "sub" / "fall.py").write_text("\n\ndef fall():\n    return 'What is gravity'\n")
    (folder / "rows.txt").write_text("Bread is baked.\nRivers flow.\n")
    (folder / "broken.txt").write_bytes(b"\xff\n")
    (folder / "secret.md").write_text("What is gravity?\n")
    (folder / ".gitignore").write_text("secret.md\n")
    return folder


def test_a_hit_of_a_document_names_its_line_and_shows_the_passage(
    quoit: Quoit, model: list[str], tree: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ranking.jsonl"
    code, shown, report = quoit("search", QUERY, tree, "--no-cache", "-o", out, *model)
    assert code == 0
    lines = shown.splitlines()
    assert re.fullmatch(r"rank +cosine  file", lines[0])
    assert re.search(rf"  {tree}/page\.md:3  Physics\n      What gravity is: gravity attracts two bodies\.\n", shown)
    assert re.search(rf"  {tree}/sub/fall\.py:3\n      def fall\(\):\n          return 'What is gravity'\n", shown)
    assert "secret" not in shown
    assert "5 texts of 3 files in" in report
    assert f"1 file was left out, the first since {tree}/broken.txt, line 1 is not UTF-8" in report
    ranking = read_jsonl(out)
    assert [record["rank"] for record in ranking] == [1, 2, 3, 4, 5]
    places = {(Path(record["file"]).name, record["line"]) for record in ranking}
    assert places == {("page.md", 3), ("page.md", 7), ("fall.py", 3), ("rows.txt", 1), ("rows.txt", 2)}


def test_what_git_ignores_can_be_searched_and_what_is_named_must_be_readable(
    quoit: Quoit, model: list[str], tree: Path
) -> None:
    code, shown, _ = quoit("search", QUERY, tree, "--no-cache", "--no-ignore", *model)
    assert (code, "secret.md:1" in shown) == (0, True)
    code, _, report = quoit("search", QUERY, tree / "broken.txt", "--no-cache", *model)
    assert (code, "broken.txt, line 1 is not UTF-8" in report) == (2, True)


def test_a_tree_without_a_readable_file_is_refused(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "broken.txt").write_bytes(b"\xff\n")
    code, _, report = quoit("search", QUERY, tmp_path / "only", *model)
    assert (code, "broken.txt, line 1 is not UTF-8" in report) == (2, True)


def test_documents_are_cut_by_default_and_rows_when_asked(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    words = "Gravity pulls every stone towards the ground below it. " * 60
    (tmp_path / "a.md").write_text(f"# Physics\n\n{words}\n")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": words}) + "\n")
    for options, texts in (([], 4), (["--chunk", "0"], 2), (["--chunk", "128", "--overlap", "16"], 12)):
        command = ["search", QUERY, tmp_path / "a.md", tmp_path / "b.jsonl", "--no-cache", *options, *model]
        code, _, report = quoit(*command)
        found = int(re.search(r"(\d+) texts of 2 files", report)[1])  # type: ignore[index]
        assert (code, found >= texts if options[1:] != ["0"] else found == texts) == (0, True), (options, report)


def test_only_changed_files_are_embedded_again(embedder: Embedder, tmp_path: Path, monkeypatch: Any) -> None:
    cache = VectorCache(tmp_path)
    files = [["one", "two"], [], ["three"]]
    expected = [embedder.encode_document(texts) for texts in files]
    asked: list[list[str]] = []
    real = Embedder.encode_document

    def watched(self: Embedder, texts: Any, **options: Any) -> Any:
        asked.append(list(texts))
        return real(self, texts, **options)

    monkeypatch.setattr(Embedder, "encode_document", watched)
    for found, wanted in zip(cache.files(embedder, files), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert asked == [["one", "two", "three"]], "files are embedded together"
    again = cache.files(embedder, [["one", "two"], ["four"], ["three"]])
    assert asked[1:] == [["four"]]
    np.testing.assert_array_equal(again[2], expected[2])


def test_files_are_embedded_in_bounded_groups() -> None:
    sizes = [1, TEXTS_AT_ONCE, 5, TEXTS_AT_ONCE - 5, 7]
    assert list(grouped(range(5), sizes)) == [[0, 1], [2, 3], [4]]
    assert list(grouped([], sizes)) == []


# Stored vectors


@pytest.fixture
def vectors(embedder: Embedder) -> Any:
    return embedder.encode_document(TEXTS)


def exact(embedder: Embedder, vectors: Any, count: int, dim: int | None = None) -> list[int]:
    """Ids of the nearest texts by the float32 vectors."""
    query = embedder.encode_query(QUERY, dim=dim)
    rows = vectors if dim is None else embedder.encode_document(TEXTS, dim=dim)
    order: list[int] = np.argsort(-(rows @ query), kind="stable")[:count].tolist()
    return order


def rescored(query: Any, bits: Any, count: int) -> list[int]:
    """Ids of the rows nearest by the query's values, among the four times as many that are nearest by their bits."""
    apart = (bits != (query > 0)).sum(axis=1)
    some = np.argsort(apart, kind="stable")[: 4 * count]
    order: list[int] = some[np.argsort(-(np.where(bits[some], 1, -1) @ query), kind="stable")][:count].tolist()
    return order


@pytest.mark.parametrize("suffix", [".parquet", ".lance"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "binary", "ubinary"])
def test_stored_vectors_are_searched_without_embedding_texts_again(
    quoit: Quoit, model: list[str], embedder: Embedder, vectors: Any, tmp_path: Path, suffix: str, dtype: str
) -> None:
    """float32 finds the nearest in their order, types of 16 and 8 bits most of them, and bits what they can tell."""
    source, stored, out = tmp_path / "t.jsonl", tmp_path / f"v{suffix}", tmp_path / "ranking.jsonl"
    source.write_text("".join(json.dumps({"text": text, "n": n}) + "\n" for n, text in enumerate(TEXTS)))
    np.save(tmp_path / "ranges.npy", calibration_ranges(vectors))
    ranges = ["--ranges", tmp_path / "ranges.npy"] if dtype in ("int8", "uint8") else []
    assert (
        quoit("embed", source, "-o", stored, "--id", "n", "--keep", "text", "--dtype", dtype, *ranges, *model)[0] == 0
    )
    source.unlink()
    code, shown, report = quoit("search", QUERY, stored, "-o", out, *model)
    assert code == 0
    assert f"the vectors of {stored} in" in report
    ranking = read_jsonl(out)
    wanted = exact(embedder, vectors, 10)
    assert [record["text"] for record in ranking] == [TEXTS[record["index"]] for record in ranking]
    found = [record["index"] for record in ranking]
    if dtype == "float32":
        assert found == wanted
        assert TEXTS[wanted[0]] in shown.splitlines()[1]
    elif "binary" in dtype:
        assert found == rescored(embedder.encode_query(QUERY), vectors > 0, 10)
    else:
        assert len(set(found) & set(wanted)) >= 9
    if dtype in ("int8", "uint8", "float16"):
        query = embedder.encode_query(QUERY)
        np.testing.assert_allclose([row["cosine"] for row in ranking], vectors[found] @ query, atol=0.02)


def test_fewer_dimensions_and_lengths_that_are_not_one_are_compared_by_cosine(
    quoit: Quoit, model: list[str], embedder: Embedder, vectors: Any, tmp_path: Path
) -> None:
    source, out = tmp_path / "t.jsonl", tmp_path / "ranking.jsonl"
    source.write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    for options, dim in ((["--dim", "40"], 40), (["--no-normalize"], None)):
        stored = tmp_path / f"v{dim}.parquet"
        assert quoit("embed", source, "-o", stored, *options, *model)[0] == 0
        assert quoit("search", QUERY, stored, "-o", out, *model)[0] == 0
        ranking = read_jsonl(out)
        assert [record["index"] for record in ranking] == exact(embedder, vectors, 10, dim)
        assert max(record["cosine"] for record in ranking) <= 1


def store(file: Path, rows: Any, embedder: Embedder, **columns: Any) -> None:
    """Writes vectors [n, dim] as `quoit embed` does."""
    about = {"model": embedder.pipeline.artifact.manifest.source.id, "dim": rows.shape[1], "dtype": "float32"}
    values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.ravel()), rows.shape[1])
    table = pyarrow.table({"id": range(len(rows)), **columns, "vector": values})
    metadata = {"quoit": json.dumps(about | {"normalize": True, "precision": "fp32"})}
    parquet.write_table(table.replace_schema_metadata(metadata), file)


def test_the_best_of_all_batches_are_found(quoit: Quoit, model: list[str], embedder: Embedder, tmp_path: Path) -> None:
    """One in the last row, beyond a batch of rows; and equal ones keep their order."""
    rows = np.zeros((ROWS_AT_A_TIME + 1, embedder.dim), np.float32)
    rows[:, 0] = 1
    rows[-1] = embedder.encode_query(QUERY)
    store(tmp_path / "v.parquet", rows, embedder)
    out = tmp_path / "ranking.jsonl"
    assert quoit("search", QUERY, tmp_path / "v.parquet", "--top", "3", "-o", out, *model)[0] == 0
    assert [record["index"] for record in read_jsonl(out)] == [ROWS_AT_A_TIME, 0, 1]


@pytest.mark.parametrize("top", [1, 12, 300])
def test_the_nearest_of_many_rows_are_those_of_a_sort(embedder: Embedder, tmp_path: Path, top: int) -> None:
    """Over several batches, each with many of them."""
    generator = np.random.default_rng(top)
    rows = generator.normal(size=(2 * ROWS_AT_A_TIME + 100, embedder.dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    store(tmp_path / "v.parquet", rows, embedder)
    stored = open_stored(str(tmp_path / "v.parquet"))
    assert stored is not None
    query = embedder.encode_query(QUERY)
    found = [hit.index for hit, _ in nearest_stored(query, stored, top)]
    assert found == np.argsort(-(rows @ query), kind="stable")[:top].tolist()


def test_vectors_that_are_searched_are_not_written_over(
    quoit: Quoit, model: list[str], embedder: Embedder, tmp_path: Path, monkeypatch: Any
) -> None:
    file = tmp_path / "v.parquet"
    store(file, embedder.encode_document(["Gravity.", "Cats."]), embedder)
    before = file.read_bytes()
    monkeypatch.chdir(tmp_path)
    for out in (file, "v.parquet", "./v.parquet"):
        code, _, report = quoit("search", QUERY, file, "-o", out, *model)
        assert (code, f"{Path(out)} is the output, and vectors that are searched" in report) == (2, True)
    assert file.read_bytes() == before


def test_a_source_that_is_named_twice_is_searched_once(
    quoit: Quoit, model: list[str], embedder: Embedder, tmp_path: Path, monkeypatch: Any
) -> None:
    store(tmp_path / "v.parquet", embedder.encode_document(["Gravity.", "Cats."]), embedder)
    (tmp_path / "a.txt").write_text("one\n")
    monkeypatch.chdir(tmp_path)
    code, shown, _ = quoit("search", QUERY, "v.parquet", "./v.parquet", "a.txt", "./a.txt", "--no-cache", *model)
    assert (code, len(shown.splitlines())) == (0, 1 + 3)


def test_a_hit_has_its_id(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    source, stored, out = tmp_path / "t.jsonl", tmp_path / "v.parquet", tmp_path / "ranking.jsonl"
    source.write_text('{"text": "Gravity.", "key": "g-1"}\n')
    assert quoit("embed", source, "-o", stored, "--id", "key", *model)[0] == 0
    code, shown, _ = quoit("search", QUERY, stored, "-o", out, *model)
    assert (code, "g-1" in shown) == (0, True)
    (hit,) = read_jsonl(out)
    assert (hit["id"], hit["index"], hit["file"]) == ("g-1", 0, str(stored))


@pytest.mark.parametrize("line", [2**63, -1, True, "7", None])
def test_columns_of_the_users_own_are_no_places(quoit: Quoit, model: list[str], tmp_path: Path, line: object) -> None:
    source, stored = tmp_path / "t.jsonl", tmp_path / "v.parquet"
    source.write_text(json.dumps({"text": "Gravity.", "file": "a\x1b[31m\nb", "line": line, "page": line}) + "\n")
    assert quoit("embed", source, "-o", stored, "--keep", "text", "file", "line", "page", *model)[0] == 0
    code, shown, _ = quoit("search", QUERY, stored, "-o", tmp_path / "h.parquet", *model)
    assert (code, "Gravity." in shown, "\x1b" in shown) == (0, True, False)


def test_values_that_python_cannot_represent_are_passed_over(
    quoit: Quoit, model: list[str], embedder: Embedder, tmp_path: Path
) -> None:
    far = pyarrow.array([1 << 50], pyarrow.timestamp("ms"))
    store(tmp_path / "v.parquet", embedder.encode_document(["Gravity."]), embedder, when=far)
    code, shown, _ = quoit("search", QUERY, tmp_path / "v.parquet", *model)
    assert (code, "when: (timestamp[ms] beyond Python)" in shown) == (0, True)


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        (b"{", "does not say what its vectors are in its schema's key 'quoit'"),
        (b"[]", "does not say what its vectors are"),
        (b"\xff", "does not say what its vectors are"),
        (b'{"dtype": "int4"}', "does not say what its vectors are"),
        (b'{"dim": "many"}', "does not say what its vectors are"),
        (b'{"dim": 1024}', "has vectors of 96 values, and its schema says 1024"),
    ],
)
def test_a_damaged_description_is_one_line(
    quoit: Quoit, model: list[str], embedder: Embedder, tmp_path: Path, about: bytes, expected: str
) -> None:
    file = tmp_path / "v.parquet"
    store(file, embedder.encode_document(["Gravity."]), embedder)
    table = parquet.read_table(file)
    whole = json.loads(table.schema.metadata[b"quoit"])
    try:
        described = json.dumps(whole | json.loads(about)).encode()
    except (ValueError, TypeError):
        described = about
    parquet.write_table(table.replace_schema_metadata({b"quoit": described}), file)
    code, _, report = quoit("search", QUERY, file, *model)
    assert (code, report.count("\n"), expected in report) == (2, 1, True), report


def test_vectors_that_are_not_finite_are_refused(
    quoit: Quoit, model: list[str], embedder: Embedder, tmp_path: Path
) -> None:
    store(tmp_path / "v.parquet", np.full((2, embedder.dim), np.nan, np.float32), embedder)
    code, _, report = quoit("search", QUERY, tmp_path / "v.parquet", *model)
    assert (code, "has vectors that are not finite; embed the texts anew" in report) == (2, True)


def test_a_file_of_a_tree_that_cannot_be_opened_is_left_out(quoit: Quoit, model: list[str], tree: Path) -> None:
    (tree / "away.md").symlink_to("absent")
    (tree / "x.parquet.gz").write_bytes(b"\x1f\x8b")
    code, _, report = quoit("search", QUERY, tree, "--no-cache", *model)
    assert (code, "3 files were left out" in report) == (0, True)


def test_stored_parts_of_documents_keep_their_places(
    quoit: Quoit, model: list[str], tree: Path, tmp_path: Path
) -> None:
    """Beside texts that are embedded now, and their files' lines come from the stored columns."""
    stored = tmp_path / "v.parquet"
    keep = ["text", "title", "file", "line"]
    assert quoit("embed", tree / "page.md", "-o", stored, "--keep", *keep, *model)[0] == 0
    code, shown, report = quoit("search", QUERY, stored, tree / "rows.txt", "--no-cache", *model)
    assert code == 0
    assert f"{tree}/page.md:3  Physics" in shown
    assert f"{tree}/rows.txt:1" in shown
    assert f"2 texts of 1 files and the vectors of {stored} in" in report


def test_a_reranker_judges_stored_texts(quoit: Quoit, model: list[str], judge: list[str], tmp_path: Path) -> None:
    source, stored = tmp_path / "t.jsonl", tmp_path / "v.lance"
    source.write_text("".join(json.dumps({"text": text, "body": text}) + "\n" for text in TEXTS))
    artifact = judge[judge.index("-m") + 1] if "-m" in judge else judge[judge.index("--model") + 1]
    assert quoit("embed", source, "-o", stored, "--keep", "body", *model)[0] == 0
    code, shown, _ = quoit("search", QUERY, stored, "--rerank", artifact, "--column", "body", *model)
    assert (code, shown.splitlines()[0].split()[:3]) == (0, ["rank", "p_yes", "cosine"])
    code, _, report = quoit("search", QUERY, stored, "--rerank", artifact, *model)
    assert code == 2
    assert "has no column 'text' for the reranker, but id, body; embed the texts with --keep text" in report


def test_a_row_without_a_text_shows_its_columns(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    source, stored = tmp_path / "t.jsonl", tmp_path / "v.parquet"
    source.write_text('{"text": "Gravity.", "title": "On gravity", "year": 2001}\n')
    assert quoit("embed", source, "-o", stored, "--keep", "title", "year", *model)[0] == 0
    code, shown, _ = quoit("search", QUERY, stored, *model)
    assert (code, "title: On gravity, year: 2001" in shown) == (0, True)


def test_vectors_of_another_model_are_refused(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    source, stored = tmp_path / "t.jsonl", tmp_path / "v.parquet"
    source.write_text('"Gravity."\n')
    assert quoit("embed", source, "-o", stored, *model)[0] == 0
    table = parquet.read_table(stored)
    about = json.loads(table.schema.metadata[b"quoit"])
    for change, expected in (
        ({"model": "other"}, "has vectors of other, 96 dimensions, and the model is"),
        ({"dtype": "int8"}, "does not say the ranges of its int8 vectors"),
    ):
        changed = table.replace_schema_metadata({"quoit": json.dumps(about | change)})
        parquet.write_table(changed, stored)
        code, _, report = quoit("search", QUERY, stored, *model)
        assert (code, expected in report) == (2, True)


def test_a_parquet_file_of_texts_is_still_read_as_texts(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": ["Gravity.", "Cats."]}), tmp_path / "t.parquet")
    code, shown, report = quoit("search", QUERY, tmp_path / "t.parquet", "--no-cache", *model)
    assert (code, "2 texts of 1 files" in report, "Gravity." in shown) == (0, True, True)


@pytest.mark.parametrize("name", ["absent.lance", "empty.lance"])
def test_a_dataset_that_cannot_be_read_is_one_line(quoit: Quoit, model: list[str], tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.lance").mkdir()
    code, _, report = quoit("search", QUERY, tmp_path / name, *model)
    assert (code, report.count("\n")) == (2, 1)
    assert f"{tmp_path / name} is no readable Lance dataset" in report


def test_an_overlap_needs_chunks(quoit: Quoit, model: list[str], tree: Path) -> None:
    code, _, report = quoit("search", QUERY, tree, "--chunk", "0", "--overlap", "4", *model)
    assert (code, "--overlap 4 has no effect with --chunk 0; leave it out" in report) == (2, True)
