"""The pages say what is so: commands run, and CI runs them, tables are the measured ones, links lead somewhere."""

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from bench.pages import PAGES, REGIONS, filled, marked
from bench.side_by_side.report import page
from bench.side_by_side.result import SIDE_BY_SIDE
from quoit import Embedder
from quoit.artifact import Artifact
from quoit.cli.main import make_parser
from quoit.cli.serve import run_serve
from support import Embedders, Rerankers

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REPORT = SIDE_BY_SIDE.with_suffix("") / "REPORT.md"


def code_blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [block.strip() for block in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)]


def test_the_first_commands_run(tmp_path: Path) -> None:
    """The README's main job, from after the installation on, and the searches after it."""
    first, second, third, last = (block for block in code_blocks("sh") if "embedding-onnx" in block)
    steps = first.replace("\\\n", " ").split(" && ")
    assert steps[0] == "python3 -m venv .venv"
    assert steps[1].strip() == ".venv/bin/pip install -e '.[export,documents]'"

    def run(command: str) -> str:
        command = command.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
        command = re.sub(r"models/(\w+-onnx)", rf"{tmp_path}/\1", command)
        return subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    shown = run(" && ".join(steps[2:]))
    assert len(re.findall(r"int8 .*MB\n +cosine to fp32", shown)) == 1
    ranked = re.findall(r"^ +(\d) +(-?\d\.\d{3}) +\d+  (.+)$", shown, re.MULTILINE)
    assert [rank for rank, *_ in ranked] == [str(number) for number in range(1, 8)]
    assert ranked[0][2] == "The capital of China is Beijing."
    found = run(second.replace("\\\n", " ")).splitlines()
    assert found[0].split() == ["rank", "cosine", "file"]
    assert re.search(r"README\.md:\d+  ", found[1])
    assert "are cut" in "".join(found[1:5])
    judged = run(third.replace("\\\n", " "))
    assert "are cut" in judged[judged.index("rank ") :]
    install, serve = last.replace("\\\n", " ").strip().split(" && ")
    assert install.strip() == ".venv/bin/pip install -e '.[cpu,server]'"
    program, *arguments = shlex.split(serve)
    assert program == ".venv/bin/quoit"
    assert make_parser().parse_args(arguments).run is run_serve  # `tests/server` runs servers


def test_the_python_examples_run(
    artifact: Artifact, rerank_artifact: Artifact, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = code_blocks("python")
    for name, folder in (("embedding", artifact.folder), ("reranker", rerank_artifact.folder)):
        example = example.replace(f'"models/{name}-onnx"', repr(str(folder)))
    exec(example, {})
    *matrix, ranked = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\[\[.*\]\s+\[.*\]\]\s*", "\n".join(matrix), re.DOTALL)
    (best,) = ast.literal_eval(ranked)
    assert list(best) == ["index", "corpus_id", "score"]
    assert 0 < best["score"] < 1


MIGRATION = [
    tuple(cell.strip() for cell in line.strip("|").split(" | "))
    for line in (ROOT / "runtime" / "README.md")
    .read_text(encoding="utf-8")
    .partition("## Coming from another library")[2]
    .partition("\n## ")[0]
    .splitlines()
    if line.startswith("| ") and not line.startswith("| there")
]
RUN_THERE = ("model.", "SentenceTransformer(", "setattr(model")
"""How cells begin that sentence-transformers runs."""


@pytest.fixture(scope="module")
def names(
    artifact: Artifact, rerank_artifact: Artifact, checkpoint_folder: Path, embedders: Embedders, rerankers: Rerankers
) -> dict[str, Any]:
    """What the cells of the migration table mean."""
    embedder, texts = embedders("fp32"), ["one", "two words", "a text of several words"]
    return {
        "path": artifact.folder,
        "checkpoint": str(checkpoint_folder),
        "Embedder": Embedder,
        "torch": torch,
        "embedder": embedder,
        "reranker": rerankers("fp32"),
        "SentenceTransformer": SentenceTransformer,
        "model": SentenceTransformer(str(checkpoint_folder), device="cpu", model_kwargs={"dtype": "float32"}),
        "vectors": embedder.encode(texts),
        "texts": texts,
        "query": texts[0],
        "documents": texts,
        "pairs": [(texts[0], text) for text in texts],
    }


@pytest.mark.parametrize(("there", "here"), MIGRATION)
def test_every_cell_of_the_migration_table_runs(names: dict[str, Any], there: str, here: str) -> None:
    """Where both sides give vectors, they are the same."""
    found = [eval(code, dict(names)) for code in re.findall("`(.+?)`", here)]
    assert found
    (theirs, *_) = re.findall("`(.+?)`", there)
    if not theirs.startswith(RUN_THERE):
        return
    expected = eval(theirs, dict(names))
    for value in found:
        if isinstance(expected, torch.Tensor | np.ndarray) and isinstance(value, torch.Tensor | np.ndarray):
            np.testing.assert_allclose(np.asarray(value), np.asarray(expected), atol=2e-6)


def test_every_generated_region_is_as_it_is_made() -> None:
    """Every figure between two markers comes from bench/results; `python -m bench pages` writes them."""
    regions = [name for file in PAGES for name in marked(ROOT / file)]
    assert sorted(regions) == sorted(set(REGIONS))
    for file in map(ROOT.joinpath, PAGES):
        text = file.read_text(encoding="utf-8")
        assert text.count("<!-- begin ") == text.count("<!-- end ") == len(marked(file))
        assert filled(text) == text, f"{file} is not as `python -m bench pages` writes it"


@pytest.mark.skipif(not SIDE_BY_SIDE.is_file(), reason="no full run of `python -m bench` is in bench/results yet")
def test_the_report_is_that_of_the_result() -> None:
    """The report is that of the result beside it."""
    result = json.loads(SIDE_BY_SIDE.read_text())
    plots = {title: name for title, name in re.findall(r"!\[(.+)\]\((.+\.png)\)", REPORT.read_text(encoding="utf-8"))}
    assert plots
    assert all((REPORT.parent / name).is_file() for name in plots.values())
    assert REPORT.read_text(encoding="utf-8") == page(result, plots)


@pytest.mark.parametrize("name", [*PAGES, "bench/results/README.md", "bench/log/README.md"])
def test_links_lead_to_what_exists(name: str) -> None:
    """Files and folders, and headings of pages; addresses on the network are not opened."""
    file = ROOT / name
    links = re.findall(r"\]\(([^)\s]+)\)", file.read_text(encoding="utf-8"))
    for link in links:
        path, _, heading = link.partition("#")
        if "://" in link:
            continue
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, link
