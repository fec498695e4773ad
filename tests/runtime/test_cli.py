"""The command `quoit`: its results are the Embedder's, its errors are one line."""

import fcntl
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from command_line import PATIENCE, Quoit, run_process
from quoit import Embedder, calibration_ranges
from quoit.artifact import MANIFEST, Artifact, EmbeddingContract, Parity, RerankContract, write_manifest
from quoit.cli.main import main
from quoit.cli.options import MODEL_VARIABLE
from quoit.cli.process import is_interrupt
from quoit_export.cli import main as export_main
from support import Embedders

TEXTS = ["The capital of China is Beijing.", "", "Gravity is a force.", "日本語 text", "Cats sleep."]


@pytest.fixture
def texts_file(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    return file


def test_embed_writes_the_embedders_vectors(
    quoit: Quoit, model: list[str], embedder: Embedder, texts_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "vectors.npy"
    code, printed, report = quoit("embed", texts_file, "-o", out, *model)
    assert (code, printed) == (0, "")
    np.testing.assert_array_equal(np.load(out), embedder.encode_document(TEXTS))
    tokens = sum(map(len, embedder.pipeline.tokenizer.encode(TEXTS).ids))
    pattern = rf"{re.escape(str(out))}: 5 vectors, of {tokens} tokens, in [\d.]+ s \([\d,]+ tokens/s, fp32 on cpu\)\n"
    assert re.fullmatch(pattern, report)
    assert sorted(tmp_path.iterdir()) == [texts_file, out]


EMBED_OPTIONS: dict[str, Callable[[Embedder], Any]] = {
    "--query": lambda embedder: embedder.encode_query(TEXTS),
    "--instruction Rhyme": lambda embedder: embedder.encode_query(TEXTS, instruction="Rhyme"),
    "--query --instruction Rhyme": lambda embedder: embedder.encode_query(TEXTS, instruction="Rhyme"),
    "--plain": lambda embedder: embedder.encode(TEXTS),
    "--dim 32": lambda embedder: embedder.encode_document(TEXTS, dim=32),
    "--dtype binary": lambda embedder: embedder.encode_document(TEXTS, dtype="binary"),
    "--dtype float16": lambda embedder: embedder.encode_document(TEXTS, dtype="float16"),
    "--no-normalize": lambda embedder: embedder.encode_document(TEXTS, normalize=False),
}


@pytest.mark.parametrize("options", EMBED_OPTIONS)
def test_each_option_of_embed_is_the_embedders(
    quoit: Quoit, model: list[str], embedder: Embedder, texts_file: Path, options: str
) -> None:
    out = texts_file.with_name("vectors.npy")
    assert quoit("embed", texts_file, "-o", out, *options.split(), *model)[0] == 0
    found, wanted = np.load(out), EMBED_OPTIONS[options](embedder)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_embed_quantizes_over_the_ranges_of_a_file(
    quoit: Quoit, model: list[str], embedder: Embedder, texts_file: Path
) -> None:
    ranges = calibration_ranges(embedder.encode_document(TEXTS, dim=40))
    np.save(texts_file.with_name("ranges.npy"), ranges)
    out = texts_file.with_name("vectors.npy")
    options = ["--dim", "40", "--dtype", "int8", "--ranges", str(texts_file.with_name("ranges.npy"))]
    assert quoit("embed", texts_file, "-o", out, *options, *model)[0] == 0
    np.testing.assert_array_equal(np.load(out), embedder.encode_document(TEXTS, dim=40, dtype="int8", ranges=ranges))


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_embed_takes_a_column(quoit: Quoit, model: list[str], embedder: Embedder, tmp_path: Path, kind: str) -> None:
    file, out = tmp_path / "texts.data", tmp_path / "vectors.jsonl"
    content = '{"body": "a"}\n{"body": "b\\nc"}\n' if kind == "jsonl" else 'id,body\n1,a\n2,"b\nc"\n'
    file.write_text(content)
    assert quoit("embed", file, "-o", out, "--column", "body", "--input-format", kind, *model)[0] == 0
    found = [json.loads(line)["vector"] for line in out.read_text().splitlines()]
    np.testing.assert_array_equal(np.array(found, np.float32), embedder.encode_document(["a", "b\nc"]))


def test_embed_says_how_many_texts_were_cut(
    quoit: Quoit, model: list[str], embedder: Embedder, texts_file: Path
) -> None:
    out = texts_file.with_name("vectors.npy")
    code, _, report = quoit("embed", texts_file, "-o", out, "--max-tokens", "6", "--threads", "1", *model)
    assert code == 0
    tokens = len(embedder.pipeline.tokenizer.encode(TEXTS[:1]).ids[0])
    assert tokens > 6
    assert report.endswith(f"), 1 cut to 6 tokens, by {tokens - 6} at most and {tokens - 6} in all\n")


def test_what_a_text_lost_that_was_not_read_to_its_end_is_said_to_be_more(model: list[str], tmp_path: Path) -> None:
    """Of 10,000 words the first 512 characters are read: no four tokens of this vocabulary have more."""
    (tmp_path / "texts.txt").write_text("word " * 10_000)
    arguments = [tmp_path / "texts.txt", "-o", tmp_path / "vectors.npy", "--max-tokens", "4", *model]
    code, _, report = run_process("embed", *arguments)
    assert code == 0
    found = re.search(r"1 cut to 4 tokens, the longest by at least (\d+) and all by at least (\d+)\n$", report)
    assert found is not None, report
    assert 90 < int(found[1]) == int(found[2]) < 120


def test_embed_reads_standard_input_and_draws_no_bar_in_a_pipe(
    model: list[str], embedder: Embedder, tmp_path: Path
) -> None:
    out = tmp_path / "vectors.npy"
    code, printed, report = run_process("embed", "-o", out, *model, stdin="\n".join(TEXTS).encode())
    assert (code, printed) == (0, "")
    assert report.startswith(f"{out}: 5 vectors, of ")
    assert report.count("\n") == 1
    assert "\r" not in report
    np.testing.assert_array_equal(np.load(out), embedder.encode_document(TEXTS))


def test_embed_of_nothing_writes_nothing_but_a_file(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("")
    code, _, report = quoit("embed", tmp_path / "none.txt", "-o", tmp_path / "vectors.npy", *model)
    assert code == 0
    assert ": 0 vectors, of 0 tokens, in " in report
    assert len(np.load(tmp_path / "vectors.npy")) == 0


def test_the_environment_names_the_model(
    quoit: Quoit, artifact: Artifact, embedders: Embedders, texts_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODEL_VARIABLE, str(artifact.folder))
    out = texts_file.with_name("vectors.npy")
    code, _, report = quoit("embed", texts_file, "-o", out, "--provider", "cpu")
    assert code == 0
    assert "int8 on cpu" in report
    np.testing.assert_array_equal(np.load(out), embedders("int8").encode_document(TEXTS))


def test_the_option_comes_before_the_environment(
    quoit: Quoit, model: list[str], texts_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODEL_VARIABLE, str(texts_file.with_name("absent")))
    assert quoit("embed", texts_file, "-o", texts_file.with_name("vectors.npy"), *model)[0] == 0


LINE = re.compile(r" *(\d+)  ( *-?\d\.\d{3})  +(\d+)  (.*)")


def parse_table(printed: str) -> list[tuple[int, float, int, str]]:
    """Rank, score, line and text of each row of a ranked table."""
    head, *rows = printed.split("\n")[:-1]
    assert head == "rank   cosine  item  text"
    found = [LINE.fullmatch(row) for row in rows]
    return [(int(m[1]), float(m[2]), int(m[3]), m[4]) for m in found if m is not None or pytest.fail(printed)]


def test_similarity_ranks_by_the_embedders_scores(
    quoit: Quoit, model: list[str], embedder: Embedder, texts_file: Path
) -> None:
    texts_file = texts_file.with_suffix(".jsonl")
    texts_file.write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    code, printed, report = quoit("similarity", "What is gravity?", texts_file, *model)
    assert code == 0
    assert re.fullmatch(r"5 texts in [\d.]+ s\n", report)
    scores = embedder.encode_document(TEXTS) @ embedder.encode_query("What is gravity?")
    order = np.argsort(-scores, kind="stable")
    expected = [(rank, round(float(scores[index]), 3), index + 1, TEXTS[index]) for rank, index in enumerate(order, 1)]
    found = parse_table(printed)
    assert [row[0] for row in found] == [1, 2, 3, 4, 5]
    assert [row[2:] for row in found] == [row[2:] for row in expected]
    np.testing.assert_allclose([row[1] for row in found], [row[1] for row in expected], atol=6e-4)


def test_similarity_shows_the_top_and_takes_an_instruction(
    quoit: Quoit, model: list[str], embedder: Embedder, texts_file: Path
) -> None:
    arguments = ["--top", "2", "--instruction", "Find a rhyme"]
    found = parse_table(quoit("similarity", "hat", texts_file, *arguments, *model)[1])
    scores = embedder.encode_document(TEXTS) @ embedder.encode_query("hat", instruction="Find a rhyme")
    assert [row[2] - 1 for row in found] == np.argsort(-scores)[:2].tolist()


def test_similarity_shows_each_text_on_one_short_line(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text("\n".join(json.dumps(text) for text in ["a\nb\r\x1b[31mc\u2028d", "x" * 500]))
    shown = {line: text for _, _, line, text in parse_table(quoit("similarity", "a", file, *model)[1])}
    assert shown == {1: "a b  [31mc d", 2: "x" * 100 + "…"}


def test_similarity_of_no_texts_is_an_empty_table(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("")
    code, printed, _ = quoit("similarity", "a", tmp_path / "none.txt", *model)
    assert (code, parse_table(printed)) == (0, [])


def test_info_shows_the_manifest(quoit: Quoit, artifact: Artifact) -> None:
    code, printed, report = quoit("info", artifact.folder)
    assert (code, report) == (0, "")
    manifest = artifact.manifest
    assert printed.startswith(f"{artifact.folder}: embedding model from {manifest.source.id}")
    assert "  96 dimensions (use 32 to 96), 32,768 tokens, vocabulary 151,669\n" in printed
    config = ", ".join(f"{name} {value}" for name, value in manifest.family.config.items())
    assert f"  qwen3: {config}\n" in printed
    assert "hidden_size 96, " in config
    assert "num_hidden_layers 3, " in config
    for name, prompt in artifact.contract(EmbeddingContract).prompts.items():
        assert f"{name} prompt {json.dumps(prompt)}" in printed
    for name in manifest.variants:
        number = r"[01]\.\d{6}"
        cosines, nearest = (f"{what} {number} on average, {number} at least" for what in ("cosine", "ten nearest kept"))
        both = f"{cosines}; centred {cosines}"
        samples = {"": f"{both}; {nearest}"}
        if name == "int8":
            samples |= {" on snippet texts": both, " with 7-bit activations": f"{both}; {nearest}"}
        lines = "".join(rf"\n    to (transformers )?fp32{sample}: {values}" for sample, values in samples.items())
        assert re.search(rf"^  {name} +[\d.]+ MB{lines}$", printed, re.MULTILINE)
    record = manifest.variants["int8"].quantization
    assert record is not None
    assert f"  int8 is {record.describe()}\n" in printed
    assert f"{record.method}: predicted error " in printed
    counted = replace(record, second_pass={"layers.0.mlp.down_proj": 0.3}, second_pass_cost=0.123)
    assert ", 12.3% second passes: " in counted.describe()
    assert ", 1 inputs with second passes: " in replace(counted, second_pass_cost=0.0).describe(), "int4 counts none"
    assert "REJECTED" not in printed


def test_info_shows_the_manifest_of_a_reranker(quoit: Quoit, rerank_artifact: Artifact) -> None:
    code, printed, report = quoit("info", rerank_artifact.folder)
    assert (code, report) == (0, "")
    manifest, contract = rerank_artifact.manifest, rerank_artifact.contract(RerankContract)
    assert printed.startswith(f"{rerank_artifact.folder}: rerank model from {manifest.source.id}")
    assert "  96 dimensions, 40,960 tokens, vocabulary 151,669\n" in printed
    for name in ("prefix", "suffix", "instruction"):
        assert f"  {name} {json.dumps(getattr(contract, name))}\n" in printed
    number = r"[01]\.\d{6}"
    for name in manifest.variants:
        notes = ("", " with 7-bit activations") if name == "int8" else ("",)
        measures = "; ".join(
            rf"{measure} {number} on average, {number} at least" for measure in ("agreement", "spearman")
        )
        lines = "".join(rf"\n    to (transformers )?fp32{note}: {measures}" for note in notes)
        assert re.search(rf"^  {name} +[\d.]+ MB{lines}$", printed, re.MULTILINE)


@pytest.fixture
def copy(artifact: Artifact, tmp_path: Path) -> Artifact:
    """The artifact in a folder of the test's own; its files are links, to be replaced and not written into."""
    folder = tmp_path / "copy"
    shutil.copytree(artifact.folder, folder, copy_function=os.link)
    return Artifact(folder, artifact.manifest)


def test_info_marks_a_rejected_variant_and_names_the_floors_it_missed(quoit: Quoit, copy: Artifact) -> None:
    parity = (
        Parity("cosine", "fp32", "held-out", 68, 0.999, 0.99, 0.989, 0.985, 0.995),
        Parity("centred", "fp32", "held-out", 68, 0.8, 0.3, 0.27, 0.85, 0.95),
        Parity("top10", "fp32", "calibration", 64, 0.44, 0.1, 0.1, None, 0.85),
    )
    rejected = replace(copy.manifest.variants["int8"], accepted=False, parity=parity)
    (copy.folder / MANIFEST).unlink()
    write_manifest(copy.folder, replace(copy.manifest, variants=copy.manifest.variants | {"int8": rejected}))
    lines = quoit("info", copy.folder)[1].splitlines()
    (marked,) = [number for number, line in enumerate(lines) if line.endswith("REJECTED")]
    assert lines[marked].startswith("  int8 ")
    assert lines[marked + 1 : marked + 4] == [
        "    to fp32: cosine 0.999000 on average, 0.989000 at least; "
        "centred cosine 0.800000 on average, 0.270000 at least",
        "    missed: centred to fp32 on held-out texts least 0.27000, below 0.85 and mean 0.80000, below 0.95",
        "    missed: top10 to fp32 on calibration texts mean 0.44000, below 0.85",
    ]
    assert sum("missed" in line for line in lines) == 2


def test_doctor_finds_a_healthy_artifact_healthy(quoit: Quoit, artifact: Artifact) -> None:
    code, printed, report = quoit("doctor", artifact.folder, "--provider", "cpu")
    assert (code, report) == (0, "")
    lines = printed.splitlines()
    assert len(lines) == 11
    assert all(re.match(r"ok    [\w ]+: \S", line) for line in lines)


def test_doctor_finds_a_healthy_reranker_healthy(quoit: Quoit, rerank_artifact: Artifact) -> None:
    code, printed, report = quoit("doctor", rerank_artifact.folder, "--provider", "cpu")
    assert (code, report) == (0, "")
    assert len(printed.splitlines()) == 10
    assert "golden" not in printed


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    file.write_bytes(content)


def test_doctor_finds_a_damaged_artifact_damaged(quoit: Quoit, copy: Artifact) -> None:
    file = copy.folder / "fp32/model.onnx.data"
    damage(file)
    code, printed, report = quoit("doctor", copy.folder, "--provider", "cpu")
    assert (code, report) == (1, "")
    last = printed.splitlines()[-1]
    assert last.startswith(f"FAIL  files: {file} is damaged: its SHA-256")


ERRORS = {
    "missing file": (["embed", "{tmp}/absent.txt", "-o", "{tmp}/v.npy", "{model}"], "absent.txt is no file"),
    "missing artifact": (["embed", "{texts}", "-o", "{tmp}/v.npy", "-m", "{tmp}/absent"], "absent is not a folder"),
    "no artifact": (["embed", "{texts}", "-o", "{tmp}/v.npy", "-m", "{tmp}"], "has no quoit.json"),
    "no model": (["embed", "{texts}", "-o", "{tmp}/v.npy"], "no artifact was named; use --model FOLDER, or set QUOIT"),
    "bad dim": (
        ["embed", "{texts}", "-o", "{tmp}/v.npy", "--dim", "5", "{model}"],
        "dim 5 must be a whole number from 32 to 96",
    ),
    "no ranges": (["embed", "{texts}", "-o", "{tmp}/v.npy", "--dtype", "int8", "{model}"], "needs ranges"),
    "missing ranges": (
        ["embed", "{texts}", "-o", "{tmp}/v.npy", "--dtype", "int8", "--ranges", "{tmp}/absent.npy", "{model}"],
        "absent.npy is no readable .npy file",
    ),
    "ranges no npy": (
        ["embed", "{texts}", "-o", "{tmp}/v.npy", "--dtype", "int8", "--ranges", "{texts}", "{model}"],
        "texts.txt is no readable .npy file",
    ),
    "bad max tokens": (["embed", "{texts}", "-o", "{tmp}/v.npy", "--max-tokens", "1", "{model}"], "max_tokens 1 must"),
    "bad threads": (["embed", "{texts}", "-o", "{tmp}/v.npy", "--threads", "-1", "{model}"], "threads -1 must"),
    "unknown suffix": (["embed", "{texts}", "-o", "{tmp}/v.txt", "{model}"], "v.txt has the unknown suffix"),
    "missing folder": (["embed", "{texts}", "-o", "{tmp}/no/v.npy", "{model}"], "no is no folder that can be written"),
    "unknown kind": (["embed", "/proc/self/status", "-o", "{tmp}/v.npy", "{model}"], "has the unknown kind ''"),
    "similarity of a missing file": (["similarity", "a", "{tmp}/absent.txt", "{model}"], "absent.txt is no file"),
    "similarity without a model": (["similarity", "a", "{texts}"], "no artifact was named"),
    "info of nothing": (["info", "{tmp}/absent"], "absent is not a folder"),
    "doctor of nothing": (["doctor", "{tmp}/absent"], "absent is not a folder"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_line_and_exit_code_2(
    quoit: Quoit, model: list[str], texts_file: Path, tmp_path: Path, name: str
) -> None:
    template, message = ERRORS[name]
    arguments: list[str] = []
    for part in template:
        filled = part.format(tmp=tmp_path, texts=texts_file, model="")
        arguments += model if part == "{model}" else [filled]
    code, printed, report = quoit(*arguments)
    assert (code, printed) == (2, "")
    assert report.startswith("quoit: ")
    assert report.count("\n") == 1
    assert message in report
    assert list(tmp_path.iterdir()) == [texts_file], "no output, no draft"


def save_empty(file: Path) -> None:
    file.write_bytes(b"")


def save_words(file: Path) -> None:
    np.save(file, np.full((2, 96), "word"))


def save_half_an_archive(file: Path) -> None:
    file.write_bytes(b"PK\x03\x04 and no more")


@pytest.mark.parametrize("save", [save_empty, save_words, save_half_an_archive])
def test_a_ranges_file_that_is_no_array_of_numbers_is_one_line(
    quoit: Quoit, model: list[str], texts_file: Path, tmp_path: Path, save: Callable[[Path], None]
) -> None:
    ranges = tmp_path / "ranges.npy"
    save(ranges)
    options = ["--dtype", "int8", "--ranges", ranges]
    code, _, report = quoit("embed", texts_file, "-o", tmp_path / "vectors.npy", *options, *model)
    assert code == 2
    assert re.fullmatch(r"quoit: .*ranges.*\n", report)


def test_an_error_in_a_process_is_one_line_without_a_traceback(model: list[str], tmp_path: Path) -> None:
    code, printed, report = run_process("embed", "-o", tmp_path / "v.npy", *model, stdin=b"\xff\xfe\ngood\n")
    assert (code, printed) == (2, "")
    assert re.fullmatch(r"quoit: standard input, line 1 is not UTF-8: .*; convert it first\n", report)
    assert list(tmp_path.iterdir()) == []


def test_a_reranker_does_not_embed(quoit: Quoit, rerank_artifact: Artifact, texts_file: Path, tmp_path: Path) -> None:
    code, printed, report = quoit("embed", texts_file, "-o", tmp_path / "vectors.npy", "-m", rerank_artifact.folder)
    assert (code, printed) == (2, "")
    assert report.startswith(f"quoit: {rerank_artifact.folder} is made for rerank, and embedding was asked for")
    assert list(tmp_path.iterdir()) == [texts_file]


def test_a_bad_record_leaves_an_existing_destination(
    quoit: Quoit, model: list[str], embedder: Embedder, tmp_path: Path
) -> None:
    """And, in the draft, the texts before it: with the record corrected, the run goes on."""
    file, out = tmp_path / "texts.jsonl", tmp_path / "vectors.npy"
    file.write_text('"good"\n5\n')
    out.write_bytes(b"what was there")
    code, _, report = quoit("embed", file, "-o", out, *model)
    assert code == 2
    assert report.startswith(f"quoit: {file}, line 2 has no text")
    assert report.endswith("; 1 texts are done, and the same command with --resume goes on\n")
    assert report.count("\n") == 1
    assert out.read_bytes() == b"what was there"
    assert sorted(tmp_path.iterdir()) == [tmp_path / ".vectors.npy.partial", file, out]
    file.write_text('"good"\n"corrected"\n')
    code, _, report = quoit("embed", file, "-o", out, "--resume", *model)
    assert code == 0
    assert report.startswith(f"{out}: 2 vectors, 1 of them before, of ")
    np.testing.assert_array_equal(np.load(out), embedder.encode_document(["good", "corrected"]))
    assert sorted(tmp_path.iterdir()) == [file, out]


def begin(quoit: Quoit, tmp_path: Path, *options: object) -> Path:
    """A run that stops at its third record, which is then corrected; -> the file of texts."""
    file = tmp_path / "texts.jsonl"
    file.write_text('"one"\n"two"\n5\n')
    assert quoit("embed", file, "-o", tmp_path / "vectors.npy", *options)[0] == 2
    file.write_text('"one"\n"two"\n"three"\n')
    return file


@pytest.mark.parametrize(
    "options",
    ["--query", "--dim 40", "--dtype float16", "--no-normalize", "--max-tokens 9", "--precision fp16"],
)
def test_a_run_is_not_resumed_with_another_option(quoit: Quoit, model: list[str], tmp_path: Path, options: str) -> None:
    file = begin(quoit, tmp_path, *model)
    code, _, report = quoit("embed", file, "-o", tmp_path / "vectors.npy", "--resume", *model, *options.split())
    assert code == 2
    assert re.search(r"has 2 texts of a run with another model or other options .*; use --restart to start", report)
    assert "--resume" not in report
    assert not (tmp_path / "vectors.npy").exists()


def test_a_run_is_not_resumed_with_another_graph(
    quoit: Quoit, artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another machine, whose sums of int8 products saturate."""
    options = ["-m", str(artifact.folder), "--precision", "int8", "--provider", "cpu"]
    monkeypatch.setenv("QUOIT_KERNELS", "0")
    monkeypatch.setattr("quoit.ort.probe.int8_is_exact", lambda: True)
    file = begin(quoit, tmp_path, *options)
    monkeypatch.setattr("quoit.ort.probe.int8_is_exact", lambda: False)
    code, _, report = quoit("embed", file, "-o", tmp_path / "vectors.npy", "--resume", *options)
    assert code == 2
    assert re.search(r"has 2 texts of a run with another model or other options .*; use --restart to start", report)
    monkeypatch.setattr("quoit.ort.probe.int8_is_exact", lambda: True)
    assert quoit("embed", file, "-o", tmp_path / "vectors.npy", "--resume", *options)[0] == 0


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_a_run_is_resumed_with_the_same_ranges_in_another_type(
    quoit: Quoit, model: list[str], tmp_path: Path, dtype: type
) -> None:
    """They are read as float32."""
    dim = 96
    ranges = np.stack([-np.arange(1, dim + 1), np.arange(1, dim + 1)]).astype(np.float32) / 128
    np.save(tmp_path / "ranges.npy", ranges)
    options = ["--dtype", "int8", "--ranges", tmp_path / "ranges.npy", *model]
    file = begin(quoit, tmp_path, *options)
    np.save(tmp_path / "ranges.npy", ranges.astype(dtype))
    assert quoit("embed", file, "-o", tmp_path / "vectors.npy", "--resume", *options)[0] == 0
    file = begin(quoit, tmp_path, "--restart", *options)
    ranges[1, dim // 2] += 1 / 128
    np.save(tmp_path / "ranges.npy", ranges.astype(dtype))
    assert quoit("embed", file, "-o", tmp_path / "vectors.npy", "--resume", *options)[0] == 2


def test_a_run_is_not_resumed_with_other_ranges(
    quoit: Quoit, model: list[str], embedder: Embedder, tmp_path: Path
) -> None:
    """Their values count, and not the name of the file they are in."""
    ranges = calibration_ranges(embedder.encode_document(TEXTS))
    np.save(tmp_path / "ranges.npy", ranges)
    options = ["--dtype", "int8", "--ranges", tmp_path / "ranges.npy", *model]
    file = begin(quoit, tmp_path, *options)
    np.save(tmp_path / "ranges.npy", 2 * ranges)
    code, _, report = quoit("embed", file, "-o", tmp_path / "vectors.npy", "--resume", *options)
    assert code == 2
    assert "with another model or other options" in report
    (tmp_path / "ranges.npy").unlink()
    np.save(tmp_path / "moved.npy", ranges)
    options[3] = tmp_path / "moved.npy"
    assert quoit("embed", file, "-o", tmp_path / "vectors.npy", "--resume", *options)[0] == 0
    expected = embedder.encode_document(["one", "two", "three"], dtype="int8", ranges=ranges)
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), expected)


def test_a_run_is_resumed_with_other_threads(
    quoit: Quoit, model: list[str], embedder: Embedder, tmp_path: Path
) -> None:
    """They change no vector."""
    file = begin(quoit, tmp_path, *model)
    options = ["--resume", "--threads", "2", "--workers", "2", *model]
    assert quoit("embed", file, "-o", tmp_path / "vectors.npy", *options)[0] == 0
    expected = embedder.encode_document(["one", "two", "three"])
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), expected)


def test_a_forgotten_resume_discards_nothing(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    file, out = begin(quoit, tmp_path, *model), tmp_path / "vectors.npy"
    code, printed, report = quoit("embed", file, "-o", out, *model)
    assert (code, printed) == (2, "")
    assert report == (
        f"quoit: {tmp_path / '.vectors.npy.partial'} has 2 texts of a run that was not finished; use --resume to go on "
        "with it, or --restart to start anew\n"
    )
    code, _, report = quoit("embed", file, "-o", out, "--resume", *model)
    assert code == 0
    assert ": 3 vectors, 2 of them before, of " in report


def test_restart_starts_anew(quoit: Quoit, model: list[str], embedder: Embedder, tmp_path: Path) -> None:
    file, out = begin(quoit, tmp_path, *model), tmp_path / "vectors.npy"
    file.write_text('"other"\n')
    for _ in range(2):
        code, _, report = quoit("embed", file, "-o", out, "--restart", *model)
        assert code == 0
        assert ": 1 vectors, of " in report
        assert sorted(tmp_path.iterdir()) == [file, out]
        np.testing.assert_array_equal(np.load(out), embedder.encode_document(["other"]))


def test_resuming_what_is_finished_does_nothing_and_says_so(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    """The texts that it was made of are not recorded, so whatever they are now, the output stays."""
    file, out = begin(quoit, tmp_path, *model), tmp_path / "vectors.npy"
    assert quoit("embed", file, "-o", out, "--resume", *model)[0] == 0
    before = out.read_bytes()
    file.write_text('"changed"\n')
    code, printed, report = quoit("embed", file, "-o", out, "--resume", *model)
    assert (code, printed) == (0, "")
    assert report == (
        f"{out} exists, and there is no interrupted run to go on with; nothing was done; use --restart to make it "
        "anew\n"
    )
    assert out.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [file, out]


def test_an_input_that_changed_is_one_advice_and_not_two(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    file, out = begin(quoit, tmp_path, *model), tmp_path / "vectors.npy"
    file.write_text('"changed"\n"two"\n"three"\n')
    code, _, report = quoit("embed", file, "-o", out, "--resume", *model)
    assert code == 2
    assert report.endswith(" has vectors of; use --restart to start anew\n")
    assert "--resume" not in report
    assert not out.exists()


def test_resume_and_restart_exclude_each_other(quoit: Quoit, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        quoit("embed", "a.txt", "-o", "b.npy", "--resume", "--restart")
    assert caught.value.code == 2
    assert "--restart: not allowed with argument --resume" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["embed"], ["embed", "x", "-o", "y.npy", "--dtype", "int4"], ["fly"]])
def test_wrong_usage_is_exit_code_2(quoit: Quoit, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        quoit(*arguments)
    assert caught.value.code == 2
    assert "usage: quoit" in capsys.readouterr().err


def unread_bytes(pipe: int) -> int:
    """What a pipe holds that its reader has not taken."""
    (count,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))
    return int(count)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_interrupted_run_leaves_nothing_and_exits_130(model: list[str], tmp_path: Path) -> None:
    """The signal comes while the command waits for more lines of a slow standard input."""
    program = "import sys; from quoit.cli.main import main; sys.exit(main(sys.argv[1:]))"
    out = tmp_path / "vectors.npy"
    command = [sys.executable, "-c", program, "embed", "-o", str(out), *model]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"first line\nsecond line\n")
        process.stdin.flush()
        wait_for(lambda: unread_bytes(process.stdin.fileno()) == 0)  # type: ignore[union-attr]
        assert sorted(tmp_path.iterdir()) == [tmp_path / ".vectors.npy.lock", tmp_path / ".vectors.npy.partial"]
        process.send_signal(signal.SIGINT)
        code = process.wait(PATIENCE)
        report = process.stderr.read().decode()
    assert code == 130
    assert report == "quoit: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_arguments_are_read_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("argparse.ArgumentParser.parse_args", interrupt)
    for program, name in ((main, "quoit"), (export_main, "quoit-export")):
        assert program(["info", "a"]) == 130
        printed, report = capsys.readouterr()
        assert printed == ""
        assert re.fullmatch(rf"{name}: interrupted(; .*)?\n", report)


def test_an_interrupt_that_a_lock_swallowed_is_an_interrupt() -> None:
    """What Condition.wait does to a Ctrl-C between giving its lock away and leaving its block."""
    condition = threading.Condition()

    def interrupted_wait() -> None:
        with condition:
            condition.release()
            raise KeyboardInterrupt

    with pytest.raises(RuntimeError, match="un-acquired lock") as caught:
        interrupted_wait()
    assert is_interrupt(caught.value)
    assert is_interrupt(KeyboardInterrupt())
    assert not is_interrupt(None)
    assert not is_interrupt(RuntimeError("of another kind"))
