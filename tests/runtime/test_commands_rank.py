"""`quoit similarity`, `quoit search` and `quoit rerank`: their results are the library's, their errors one line."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from command_line import RUN, Quoit, Records, read_jsonl, run_process
from quoit import Embedder, Reranker
from quoit.artifact import Artifact
from quoit.cli.options import MODEL_VARIABLE, RERANKER_VARIABLE
from quoit.search import VectorCache, cache_key

TEXTS = ["The capital of China is Beijing.", "", "Gravity is a force.", "日本語 text", "Cats sleep.", "x " * 90]
MORE = ["Dogs bark.", "The sun is a star.", "Apples fall."]
QUERY = "What is gravity?"

pytestmark = pytest.mark.usefixtures("environment")


def write_texts(file: Path, texts: list[str]) -> Path:
    """A file of texts; in .jsonl an empty one is a text, and in .txt a blank line."""
    lines = map(json.dumps, texts) if file.suffix == ".jsonl" else texts
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


@pytest.fixture
def texts_file(tmp_path: Path) -> Path:
    return write_texts(tmp_path / "texts.jsonl", TEXTS)


@pytest.fixture
def more_file(tmp_path: Path) -> Path:
    return write_texts(tmp_path / "more.txt", MORE)


def read_records(file: Path) -> Records:
    """What `--output` wrote."""
    if file.suffix == ".jsonl":
        return read_jsonl(file)
    found: Records = parquet.read_table(file).to_pylist()
    return found


def table(*rows: Records, names: list[str], several: bool = False) -> str:
    """The table that a ranking is printed as."""
    head = "  ".join(["rank", *(f"{name:>7}" for name in names), *(["file"] if several else []), "item", "text"])
    lines = [head]
    for row in (row for some in rows for row in some):
        text = row["text"] if len(row["text"]) <= 100 else row["text"][:100] + "…"
        figures = [f"{row[name]:7.3f}" for name in names]
        where = [row["file"]] if several else []
        lines.append("  ".join([f"{row['rank']:4}", *figures, *where, f"{row['index'] + 1:4}", text]))
    return "\n".join(lines) + "\n"


def ranking(file: Path, name: str, scores: Any, texts: list[str]) -> Records:
    """The records of one file's texts, best first."""
    order = np.argsort(-scores, kind="stable")
    return [
        {"rank": rank, "file": str(file), "index": int(index), name: float(scores[index]), "text": texts[index]}
        for rank, index in enumerate(order, 1)
    ]


def cosines(embedder: Embedder, texts: list[str], **options: Any) -> Any:
    return embedder.encode_document(texts) @ embedder.encode_query(QUERY, **options)


def similar(found: Records, wanted: Records) -> None:
    """The same records, the figures to the last bits."""
    assert [list(record) for record in found] == [list(record) for record in wanted]
    for one, other in zip(found, wanted, strict=True):
        for name, value in other.items():
            assert one[name] == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value)


SUFFIXES = pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])


@SUFFIXES
def test_rerank_is_the_rerankers_ranking(
    quoit: Quoit, judge: list[str], reranker: Reranker, texts_file: Path, suffix: str
) -> None:
    out = texts_file.with_name(f"ranking{suffix}")
    code, printed, report = quoit("rerank", texts_file, "--query", QUERY, "-o", out, *judge)
    assert code == 0
    expected = [
        {
            "rank": rank,
            "file": str(texts_file),
            "index": ranked["index"],
            "p_yes": ranked["score"],
            "text": TEXTS[ranked["index"]],
        }
        for rank, ranked in enumerate(reranker.rank(QUERY, TEXTS), 1)
    ]
    assert read_records(out) == expected
    assert printed == table(expected, names=["p_yes"])
    first, second = report.splitlines()
    assert first == f"{out}: 6 lines"
    (window,) = reranker.score_windows([(QUERY, text) for text in TEXTS])
    pattern = rf"6 texts, {window.tokens} tokens with the query, in [\d.]+ s \([\d,]+ tokens/s, fp32 on cpu\)"
    assert re.fullmatch(pattern, second)
    assert sorted(texts_file.parent.iterdir()) == sorted([texts_file, out])


RERANK_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "--logit": ("logit", {"activation": "logit"}),
    "--separator blank-line": ("p_yes", {"separator": "\n\n"}),
    "--separator line": ("p_yes", {"separator": "\n"}),
    "--instruction Rhyme": ("p_yes", {"instruction": "Rhyme"}),
    "--logit --separator blank-line --instruction Rhyme": (
        "logit",
        {"activation": "logit", "separator": "\n\n", "instruction": "Rhyme"},
    ),
}


@pytest.mark.parametrize("options", RERANK_OPTIONS)
def test_each_option_of_rerank_is_the_rerankers(
    quoit: Quoit, judge: list[str], reranker: Reranker, texts_file: Path, options: str
) -> None:
    out = texts_file.with_name("ranking.jsonl")
    name, settings = RERANK_OPTIONS[options]
    assert quoit("rerank", texts_file, "--query", QUERY, "-o", out, *options.split(), *judge)[0] == 0
    scores = reranker.predict([(QUERY, text) for text in TEXTS], **settings)
    assert read_jsonl(out) == ranking(texts_file, name, scores, TEXTS)


@pytest.mark.parametrize("command", ["rerank", "similarity", "search"])
def test_top_bounds_what_is_shown_and_written(
    quoit: Quoit, model: list[str], judge: list[str], texts_file: Path, command: str
) -> None:
    arguments = [command, texts_file, "--query", QUERY, *judge]
    if command != "rerank":
        arguments = [command, QUERY, texts_file, *model]
    out = texts_file.with_name("ranking.jsonl")
    assert quoit(*arguments, "-o", out)[0] == 0
    whole = read_jsonl(out)
    code, printed, _ = quoit(*arguments, "--top", "2", "-o", out)
    assert code == 0
    assert read_jsonl(out) == whole[:2]
    assert printed == table(whole[:2], names=[list(whole[0])[3]])
    assert quoit(*arguments, "--top", "500")[1] == table(whole, names=[list(whole[0])[3]])


@pytest.mark.parametrize("command", ["rerank", "similarity"])
def test_ten_are_shown_and_all_are_written(
    quoit: Quoit, model: list[str], judge: list[str], tmp_path: Path, command: str
) -> None:
    file, out = write_texts(tmp_path / "texts.jsonl", TEXTS * 3), tmp_path / "ranking.jsonl"
    arguments = ["rerank", file, "--query", QUERY, *judge] if command == "rerank" else [command, QUERY, file, *model]
    code, printed, _ = quoit(*arguments, "-o", out)
    assert code == 0
    assert len(read_jsonl(out)) == 18
    assert len(printed.splitlines()) == 1 + 10


@SUFFIXES
def test_similarity_is_the_embedders(
    quoit: Quoit, model: list[str], embedder: Embedder, texts_file: Path, suffix: str
) -> None:
    out = texts_file.with_name(f"ranking{suffix}")
    code, printed, report = quoit("similarity", QUERY, texts_file, "-o", out, *model)
    assert code == 0
    expected = ranking(texts_file, "cosine", cosines(embedder, TEXTS), TEXTS)
    assert read_records(out) == expected
    assert printed == table(expected, names=["cosine"])
    assert re.fullmatch(rf"{re.escape(str(out))}: 6 lines\n6 texts in [\d.]+ s\n", report)


@SUFFIXES
def test_search_in_one_file_is_similarity_with_a_cache(
    quoit: Quoit, model: list[str], embedder: Embedder, texts_file: Path, environment: Path, suffix: str
) -> None:
    out = texts_file.with_name(f"hits{suffix}")
    code, printed, report = quoit("search", QUERY, texts_file, "-o", out, *model)
    assert code == 0
    expected = ranking(texts_file, "cosine", cosines(embedder, TEXTS), TEXTS)
    assert read_records(out) == expected
    assert printed == table(expected, names=["cosine"])
    assert re.fullmatch(rf"{re.escape(str(out))}: 6 lines\n6 texts of 1 files in [\d.]+ s\n", report)
    (cached,) = (environment / "quoit" / "vectors").iterdir()
    assert cached.name == f"{cache_key(embedder, TEXTS)}.npz"


def test_search_takes_an_instruction(quoit: Quoit, model: list[str], embedder: Embedder, texts_file: Path) -> None:
    out = texts_file.with_name("hits.jsonl")
    assert quoit("search", QUERY, texts_file, "--instruction", "Find a rhyme", "-o", out, *model)[0] == 0
    scores = cosines(embedder, TEXTS, instruction="Find a rhyme")
    assert read_jsonl(out) == ranking(texts_file, "cosine", scores, TEXTS)


def test_search_in_several_files_says_which_file_a_text_is_of(
    quoit: Quoit, model: list[str], embedder: Embedder, texts_file: Path, more_file: Path
) -> None:
    out = texts_file.with_name("hits.jsonl")
    code, printed, report = quoit("search", QUERY, texts_file, more_file, "-o", out, *model)
    assert code == 0
    assert re.search(r"\n9 texts of 2 files in [\d.]+ s\n", report)
    origins = [(texts_file, index) for index in range(len(TEXTS))] + [(more_file, index) for index in range(len(MORE))]
    texts = TEXTS + MORE
    scores = cosines(embedder, texts)
    expected: Records = [
        {
            "rank": rank,
            "file": str(origins[position][0]),
            "index": origins[position][1],
            "cosine": float(scores[position]),
            "text": texts[position],
        }
        for rank, position in enumerate(np.argsort(-scores, kind="stable"), 1)
    ]
    similar(read_jsonl(out), expected)
    assert printed == table(read_jsonl(out), names=["cosine"], several=True)


def test_search_in_several_files_names_the_file_even_where_all_hits_are_of_one(
    quoit: Quoit, model: list[str], texts_file: Path, more_file: Path
) -> None:
    code, printed, _ = quoit("search", QUERY, texts_file, more_file, "--top", "1", *model)
    assert code == 0
    head, hit = printed.splitlines()
    assert head.split() == ["rank", "cosine", "file", "item", "text"]
    assert str(texts_file) in hit or str(more_file) in hit


def test_search_reranks_the_nearest(
    quoit: Quoit,
    model: list[str],
    rerank_artifact: Artifact,
    embedder: Embedder,
    reranker: Reranker,
    texts_file: Path,
) -> None:
    out = texts_file.with_name("hits.jsonl")
    judged = ["--rerank", rerank_artifact.folder]
    code, printed, _ = quoit("search", QUERY, texts_file, *judged, "-o", out, *model)
    assert code == 0
    near = cosines(embedder, TEXTS)
    expected = [
        {
            "rank": rank,
            "file": str(texts_file),
            "index": ranked["index"],
            "p_yes": ranked["score"],
            "cosine": float(near[ranked["index"]]),
            "text": TEXTS[ranked["index"]],
        }
        for rank, ranked in enumerate(reranker.rank(QUERY, TEXTS), 1)
    ]
    similar(read_jsonl(out), expected)
    assert printed == table(read_jsonl(out), names=["p_yes", "cosine"])
    assert [record["index"] for record in read_jsonl(out)] != np.argsort(-near).tolist()


def test_candidates_are_how_many_the_reranker_judges(
    quoit: Quoit, model: list[str], rerank_artifact: Artifact, embedder: Embedder, reranker: Reranker, texts_file: Path
) -> None:
    out = texts_file.with_name("hits.jsonl")
    arguments = ["search", QUERY, texts_file, "--rerank", rerank_artifact.folder, "-o", out, *model]
    nearest = np.argsort(-cosines(embedder, TEXTS), kind="stable")
    for candidates, top in ((3, 1), (3, 3), (1, 2)):
        assert quoit(*arguments, "--candidates", candidates, "--top", top)[0] == 0
        judged = [TEXTS[index] for index in nearest[: max(candidates, top)]]
        best = [nearest[ranked["index"]] for ranked in reranker.rank(QUERY, judged, top_k=top)]
        assert [record["index"] for record in read_jsonl(out)] == best


def test_a_second_search_reads_the_cache(
    quoit: Quoit, model: list[str], embedder: Embedder, texts_file: Path, tmp_path: Path
) -> None:
    """What lies in the cache decides the second ranking, so the texts are not embedded again."""
    out, folder = tmp_path / "hits.jsonl", tmp_path / "vectors"
    arguments = ["search", QUERY, texts_file, "--cache", folder, "-o", out, *model]
    assert quoit(*arguments)[0] == 0
    first = read_jsonl(out)
    assert quoit(*arguments)[0] == 0
    assert read_jsonl(out) == first
    (file,) = folder.iterdir()
    vectors = VectorCache(folder).documents(embedder, TEXTS)
    with file.open("wb") as opened:
        np.savez(opened, vectors=vectors[::-1])
    assert quoit(*arguments)[0] == 0
    assert [record["index"] for record in read_jsonl(out)] == [5 - record["index"] for record in first]
    assert quoit(*arguments, "--no-cache")[0] == 0
    assert read_jsonl(out) == first


def test_each_file_is_cached_for_itself(
    quoit: Quoit, model: list[str], embedder: Embedder, texts_file: Path, more_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "vectors"
    assert quoit("search", QUERY, texts_file, more_file, "--cache", folder, *model)[0] == 0
    expected = {f"{cache_key(embedder, texts)}.npz" for texts in (TEXTS, MORE)}
    assert {file.name for file in folder.iterdir()} == expected


def test_no_cache_keeps_no_vectors(
    quoit: Quoit, model: list[str], texts_file: Path, environment: Path, tmp_path: Path
) -> None:
    assert quoit("search", QUERY, texts_file, "--no-cache", *model)[0] == 0
    assert quoit("search", QUERY, texts_file, "--no-cache", "--cache", tmp_path / "vectors", *model)[0] == 0
    assert list(environment.iterdir()) == []
    assert not (tmp_path / "vectors").exists()


def test_a_cache_that_is_no_folder_is_refused_in_one_line(quoit: Quoit, model: list[str], texts_file: Path) -> None:
    code, printed, report = quoit("search", QUERY, texts_file, "--cache", texts_file, *model)
    assert (code, printed) == (2, "")
    assert report.startswith("quoit: ")
    assert report.count("\n") == 1
    assert str(texts_file) in report
    assert json.loads(texts_file.read_text().splitlines()[0]) == TEXTS[0]


@pytest.mark.parametrize("top", [[], ["--top", "3"]], ids=["all", "top"])
@SUFFIXES
@pytest.mark.parametrize("command", ["rerank", "similarity", "search", "search --rerank", "search in two"])
def test_a_file_without_texts_is_only_a_header(
    quoit: Quoit,
    model: list[str],
    judge: list[str],
    rerank_artifact: Artifact,
    tmp_path: Path,
    command: str,
    suffix: str,
    top: list[str],
) -> None:
    file, out = write_texts(tmp_path / "none.txt", []), tmp_path / f"ranking{suffix}"
    arguments: list[object] = ["rerank", file, "--query", QUERY, *judge]
    if command != "rerank":
        arguments = [command.split()[0], QUERY, file, *model]
    if command == "search --rerank":
        arguments += ["--rerank", rerank_artifact.folder]
    if command == "search in two":
        arguments.insert(3, write_texts(tmp_path / "none either.txt", []))
    code, printed, report = quoit(*arguments, *top, "-o", out)
    assert code == 0, report
    assert printed.count("\n") == 1
    assert printed.split()[0] == "rank"
    assert printed.split()[-2:] == ["item", "text"]
    assert "0 texts" in report
    assert read_records(out) == []


def test_an_empty_file_beside_another_changes_nothing(
    quoit: Quoit, model: list[str], texts_file: Path, tmp_path: Path
) -> None:
    empty, out = write_texts(tmp_path / "none.txt", []), tmp_path / "hits.jsonl"
    assert quoit("search", QUERY, texts_file, "-o", out, *model)[0] == 0
    alone = read_jsonl(out)
    assert quoit("search", QUERY, empty, texts_file, "-o", out, *model)[0] == 0
    assert read_jsonl(out) == alone


@pytest.mark.parametrize("command", ["rerank", "similarity", "search"])
def test_unprintable_text_stays_on_one_line_and_is_written_as_it_is(
    quoit: Quoit, model: list[str], judge: list[str], tmp_path: Path, command: str
) -> None:
    texts = ["a\nb\r\x1b[31mc\u2028d\u202ee\x00", "x" * 500, "\x85\u2029\x0b\x0c\x1c"]
    file, out = tmp_path / "texts.jsonl", tmp_path / "ranking.jsonl"
    file.write_text("\n".join(json.dumps(text) for text in texts))
    arguments = ["rerank", file, "--query", QUERY, *judge] if command == "rerank" else [command, QUERY, file, *model]
    code, printed, _ = quoit(*arguments, "-o", out)
    assert code == 0
    rows = printed.splitlines()
    assert len(rows) == 1 + 3
    shown = {int(row.split()[2]): row for row in rows[1:]}
    assert shown[1].endswith("  a b  [31mc d e ")
    assert shown[2].endswith("  " + "x" * 100 + "…")
    assert all(row.isprintable() for row in rows)
    written = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n") if line]
    assert {record["index"]: record["text"] for record in written} == dict(enumerate(texts))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_texts_come_from_a_column(
    quoit: Quoit, judge: list[str], reranker: Reranker, tmp_path: Path, suffix: str
) -> None:
    import pyarrow

    texts, file, out = ["a", 'b\n"c"'], tmp_path / f"texts.{suffix}", tmp_path / "ranking.jsonl"
    if suffix == "csv":
        file.write_text('id,body\n1,a\n2,"b\n""c"""\n')
    elif suffix == "jsonl":
        file.write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    else:
        parquet.write_table(pyarrow.table({"body": texts}), file)
    assert quoit("rerank", file, "--query", QUERY, "--column", "body", "-o", out, *judge)[0] == 0
    assert read_jsonl(out) == ranking(file, "p_yes", reranker.predict([(QUERY, text) for text in texts]), texts)


def test_a_ranking_can_be_searched_in(quoit: Quoit, model: list[str], texts_file: Path) -> None:
    """What one command writes, another reads."""
    for suffix in (".jsonl", ".parquet"):
        first, second = texts_file.with_name(f"first{suffix}"), texts_file.with_name("second.jsonl")
        assert quoit("search", QUERY, texts_file, "-o", first, *model)[0] == 0
        assert quoit("search", QUERY, first, "-o", second, *model)[0] == 0
        assert [record["text"] for record in read_jsonl(second)] == [record["text"] for record in read_records(first)]


def test_rerank_says_how_many_texts_were_cut(
    quoit: Quoit, judge: list[str], reranker: Reranker, texts_file: Path
) -> None:
    windows = list(reranker.score_windows([(QUERY, text) for text in TEXTS]))
    lengths = [next(iter(reranker.score_windows([(QUERY, text)]))).tokens for text in TEXTS]
    assert sum(lengths) == windows[0].tokens
    limit = sorted(lengths)[-2]
    lost = max(lengths) - limit
    code, _, report = quoit("rerank", texts_file, "--query", QUERY, "--max-tokens", limit, *judge)
    assert code == 0
    assert report.endswith(f", 1 cut to {limit} tokens, by {lost} at most and {lost} in all\n")
    assert f"{sum(lengths) - lost} tokens with the query" in report


def test_the_table_is_the_output_and_all_else_is_a_report_without_a_bar_in_a_pipe(
    model: list[str], judge: list[str], rerank_artifact: Artifact, texts_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ranking.jsonl"
    commands: list[tuple[list[object], str]] = [
        (["rerank", texts_file, "--query", QUERY, *judge], r"6 texts, \d+ tokens with the query, in .*"),
        (["similarity", QUERY, texts_file, *model], r"6 texts in .*"),
        (["search", QUERY, texts_file, "--rerank", rerank_artifact.folder, *model], r"6 texts of 1 files in .*"),
    ]
    for arguments, pattern in commands:
        code, printed, report = run_process(*arguments, "-o", out)
        assert code == 0
        assert printed.startswith("rank  ")
        assert printed.count("\n") == 1 + 6
        assert re.fullmatch(rf"{re.escape(str(out))}: 6 lines\n{pattern}\n", report), report
        assert "\r" not in report


def test_a_cut_is_reported_on_standard_error(model: list[str], texts_file: Path) -> None:
    code, printed, report = run_process("similarity", QUERY, texts_file, "--max-tokens", "30", *model)
    assert code == 0
    assert "cut to" not in printed
    assert re.search(r"^quoit: of 6 texts, 1 cut to 30 tokens, by (\d+) at most and \1 in all$", report, re.MULTILINE)


@pytest.mark.parametrize("command", ["rerank", "similarity", "search"])
def test_texts_come_from_standard_input(model: list[str], judge: list[str], tmp_path: Path, command: str) -> None:
    out = tmp_path / "ranking.jsonl"
    arguments = ["rerank", "-", "--query", QUERY, *judge] if command == "rerank" else [command, QUERY, "-", *model]
    code, _, report = run_process(*arguments, "-o", out, stdin="\n".join(TEXTS).encode())
    assert code == 0, report
    found = read_jsonl(out)
    assert {record["file"] for record in found} == {"-"}
    expected = {index: text for index, text in enumerate(TEXTS) if text}
    assert {record["index"]: record["text"] for record in found} == expected


def test_the_environment_names_the_artifacts(
    quoit: Quoit,
    artifact: Artifact,
    rerank_artifact: Artifact,
    texts_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(MODEL_VARIABLE, str(artifact.folder))
    monkeypatch.setenv(RERANKER_VARIABLE, str(rerank_artifact.folder))
    assert quoit("rerank", texts_file, "--query", QUERY, *RUN)[0] == 0
    assert quoit("similarity", QUERY, texts_file, *RUN)[0] == 0
    assert quoit("search", QUERY, texts_file, *RUN)[0] == 0


def test_the_option_comes_before_the_environment(
    quoit: Quoit, judge: list[str], texts_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RERANKER_VARIABLE, str(texts_file.with_name("absent")))
    assert quoit("rerank", texts_file, "--query", QUERY, *judge)[0] == 0


ABSENT = ["-m", "{tmp}/absent"]
ERRORS = {
    "rerank without an artifact": (
        ["rerank", "{texts}", "--query", "a"],
        "no artifact was named; use --model FOLDER, or set QUOIT_RERANKER",
    ),
    "similarity without an artifact": (
        ["similarity", "a", "{texts}"],
        "no artifact was named; use --model FOLDER, or set QUOIT_MODEL",
    ),
    "search without an artifact": (
        ["search", "a", "{texts}"],
        "no artifact was named; use --model FOLDER, or set QUOIT_MODEL",
    ),
    "rerank with an embedding artifact": (
        ["rerank", "{texts}", "--query", "a", "{model}"],
        "is made for embedding, and rerank was asked for",
    ),
    "search with a rerank artifact": (
        ["search", "a", "{texts}", "{judge}"],
        "is made for rerank, and embedding was asked for",
    ),
    "search reranked by an embedding artifact": (
        ["search", "a", "{texts}", "--rerank", "{artifact}", "{model}"],
        "is made for embedding, and rerank was asked for",
    ),
    "search reranked by nothing": (
        ["search", "a", "{texts}", "--rerank", "{tmp}/absent", "{model}"],
        "absent is not a folder",
    ),
    "rerank of a missing file": (["rerank", "{tmp}/absent.txt", "--query", "a", "{judge}"], "absent.txt is no file"),
    "search in a missing file": (["search", "a", "{texts}", "{tmp}/absent.txt", "{model}"], "absent.txt is no file"),
    "no room for the template": (
        ["rerank", "{texts}", "--query", "a", "--max-tokens", "20", "{judge}"],
        "max_tokens 20 must be a whole number from",
    ),
    # The rest name an artifact and a file that are absent: the refusal comes before anything is read.
    "no candidates": (["search", "a", "{tmp}/absent.txt", "--candidates", "0", *ABSENT], "--candidates 0 finds"),
} | {
    f"{command[0]} {name}": ([*command, *arguments, *ABSENT], message)
    for command in (
        ["rerank", "{tmp}/absent.txt", "--query", "a"],
        ["similarity", "a", "{tmp}/absent.txt"],
        ["search", "a", "{tmp}/absent.txt"],
    )
    for name, arguments, message in (
        ("top 0", ["--top", "0"], "--top 0 shows nothing; use a number from 1 on"),
        ("top -3", ["--top", "-3"], "--top -3 shows nothing"),
        ("to an unknown suffix", ["-o", "{tmp}/out.npy"], "out.npy has the unknown suffix '.npy'; end it in one of"),
        ("to no suffix", ["-o", "{tmp}/out"], "out has the unknown suffix ''"),
        ("to a missing folder", ["-o", "{tmp}/no/out.jsonl"], "no is no folder that can be written"),
        ("to a folder", ["-o", "{tmp}/folder.jsonl"], "folder.jsonl is a folder; name a file"),
    )
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_line_and_exit_code_2(
    quoit: Quoit,
    model: list[str],
    judge: list[str],
    artifact: Artifact,
    texts_file: Path,
    tmp_path: Path,
    environment: Path,
    name: str,
) -> None:
    template, message = ERRORS[name]
    folder = tmp_path / "folder.jsonl"
    folder.mkdir()
    options = {"{model}": model, "{judge}": judge}
    arguments: list[str] = []
    for part in template:
        filled = part.format(tmp=tmp_path, texts=texts_file, artifact=artifact.folder, model="", judge="")
        arguments += options.get(part, [filled])
    code, printed, report = quoit(*arguments)
    assert (code, printed) == (2, "")
    assert report.startswith("quoit: ")
    assert report.count("\n") == 1
    assert message in report
    assert sorted(tmp_path.iterdir()) == [folder, texts_file], "no output, no draft"
    assert list(environment.iterdir()) == []


def test_an_error_in_a_process_is_one_line_without_a_traceback(judge: list[str]) -> None:
    code, printed, report = run_process("rerank", "-", "--query", "a", *judge, stdin=b"good\n\xff\xfe\n")
    assert (code, printed) == (2, "")
    assert re.fullmatch(r"quoit: standard input, line 2 is not UTF-8: .*; convert it first\n", report)


@pytest.mark.parametrize(
    "arguments",
    [
        ["rerank", "x.txt"],
        ["rerank"],
        ["rerank", "x.txt", "--query", "a", "--separator", "space"],
        ["similarity", "a"],
        ["search", "a"],
        ["search", "a", "x.txt", "--top", "two"],
    ],
)
def test_wrong_usage_is_exit_code_2(quoit: Quoit, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        quoit(*arguments)
    assert caught.value.code == 2
    assert "usage: quoit" in capsys.readouterr().err
