"""Every recipe of runtime/recipes.md finds the five nearest texts with their ids, titles and cosines.

The page's own command makes the file of vectors. The page's programs run as they stand, each in its own process.
"""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frameworks.harness import EMBEDDER
from quoit import Embedder

PAGE = (Path(__file__).parents[3] / "runtime" / "recipes.md").read_text(encoding="utf-8")
REQUIREMENTS = (Path(__file__).parent / "requirements.txt").read_text(encoding="utf-8")
QUERY = "What is the capital of China?"
FOUND = 5
TITLES_AND_TEXTS = [
    ("Shanghai", "Shanghai is the largest city of China by population."),
    ("Paris", "Paris is the capital of France."),
    ("Canberra", "Canberra, and not Sydney, is the capital of Australia."),
    ("Great Wall", "The Great Wall of China is thousands of kilometres long."),
    ("Capital letters", "A sentence begins with a capital letter."),
    ("Share capital", "Owners bring the capital of a company."),
    ("China", "Plates of fine china break when they fall."),
    ("Tokyo", "Tokyo has more people than any other city of Japan."),
    ("Gravity", "Gravity attracts two bodies towards each other."),
    ("Bread", "Knead the dough for ten minutes and let it rise."),
    ("Rain", "Rain falls when drops are too heavy for their cloud."),
    ("Bees", "Bees tell each other by a dance where flowers are."),
    ("Chess", "The bishop moves along the diagonals."),
    ("Tides", "The moon raises tides twice a day."),
    ("Coffee", "Water that is too hot makes coffee bitter."),
    ("Bicycles", "A chain passes the force of the pedals to the wheel."),
    ("Sleep", "Adults need seven to nine hours of sleep."),
    ("Glass", "Glass is made of sand, soda and lime."),
    ("Volcanoes", "Lava that cools quickly has small crystals."),
    ("Rice", "Rice fields are flooded to keep weeds away."),
    ("Clocks", "A pendulum swings as long as its length says."),
    ("Whales", "Whales are mammals and breathe air."),
    ("Printing", "Movable type made books cheap."),
    ("Salt", "Salt lowers the freezing point of water."),
    ("Trains", "Steel wheels on steel rails lose little energy."),
    ("Honey", "Honey keeps for years because it has little water."),
    ("Maps", "A map of the whole earth distorts areas or angles."),
    ("Snow", "Snow crystals have six arms."),
    ("Violins", "A violin has four strings, a fifth apart."),
]


def blocks(language: str, text: str = PAGE) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


SECTIONS = {section.partition("\n")[0]: section for section in PAGE.split("\n## ")[1:]}
RECIPES = [pytest.param(block, id=title) for title, section in SECTIONS.items() for block in blocks("python", section)]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the page's command has made vectors.parquet."""
    folder = tmp_path_factory.mktemp("recipes")
    others = [
        {"key": f"other texts/{number}", "title": title, "text": text}
        for number, (title, text) in enumerate(TITLES_AND_TEXTS)
    ]
    (example,) = blocks("json")
    rows = [*others[:17], json.loads(example), *others[17:]]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (command,) = blocks("sh")
    program, *arguments = shlex.split(command.replace("models/embedding-onnx", EMBEDDER))
    assert program == "quoit"
    subprocess.run([sys.executable, "-m", "quoit", *arguments], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def table(embedded: Path) -> pa.Table:
    return pq.read_table(embedded / "vectors.parquet")


def nearest(table: pa.Table, embedder: Embedder) -> list[tuple[str, float, str]]:
    """Return ids, cosines and titles of the nearest texts, by exact search with numpy."""
    vectors = np.array(table["vector"].to_pylist())
    cosines = vectors @ embedder.encode_query(QUERY) / np.linalg.norm(vectors, axis=1)
    best = np.argsort(-cosines)[:FOUND].tolist()
    return [(table["id"][row].as_py(), float(cosines[row]), table["title"][row].as_py()) for row in best]


def run(recipe: str, folder: Path) -> list[tuple[str, float, str]]:
    """Run a recipe and return the ids, cosines and titles that it prints."""
    program = recipe.replace("models/embedding-onnx", EMBEDDER)
    finished = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    lines = [re.fullmatch(r"(.+) (-?\d\.\d{3}) (.+)", line) for line in finished.stdout.splitlines()]
    assert None not in lines, finished.stdout
    return [(line[1], float(line[2]), line[3]) for line in lines if line]


def same(found: list[tuple[str, float, str]], expected: list[tuple[str, float, str]]) -> bool:
    """Whether ids and titles are equal, and cosines to the three digits that are printed."""
    return [(key, title) for key, _, title in found] == [(key, title) for key, _, title in expected] and np.allclose(
        [cosine for _, cosine, _ in found], [cosine for _, cosine, _ in expected], atol=6e-4
    )


def test_the_file_is_as_the_page_says(embedded: Path, table: pa.Table, embedder: Embedder) -> None:
    rows = [json.loads(line) for line in (embedded / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert table.schema.names == ["id", "title", "text", "vector"]
    assert table["id"].to_pylist() == [row["key"] for row in rows]
    assert table.select(["title", "text"]).to_pylist() == [{"title": row["title"], "text": row["text"]} for row in rows]
    assert table.schema.field("vector").type == pa.list_(pa.field("element", pa.float32()), embedder.dim)
    assert len(rows) == len(TITLES_AND_TEXTS) + 1
    about = json.loads(table.schema.metadata[b"quoit"])
    assert {"model", "dim", "dtype", "prompt"} <= about.keys()
    assert about["dim"] == embedder.dim
    vectors = np.array(table["vector"].to_pylist())
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors, embedder.encode_document(table["text"].to_pylist()), atol=1e-6)


def test_the_nearest_are_apart(table: pa.Table, embedder: Embedder) -> None:
    """Cosines of the nearest differ by more than any store rounds, so their order is certain."""
    cosines = [cosine for _, cosine, _ in nearest(table, embedder)]
    assert min(-np.diff(cosines)) > 1e-3


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_finds_the_nearest(recipe: str, embedded: Path, table: pa.Table, embedder: Embedder) -> None:
    """A second run of the recipe, on a file with other titles, replaces what the first one wrote."""
    expected = nearest(table, embedder)
    (example,) = blocks("json")
    assert expected[0][0] == json.loads(example)["key"]
    pq.write_table(table, embedded / "vectors.parquet")
    assert same(run(recipe, embedded), expected)

    titles = pa.array([title.upper() for title in table["title"].to_pylist()])
    changed = table.set_column(table.schema.get_field_index("title"), "title", titles)
    pq.write_table(changed, embedded / "vectors.parquet")
    assert same(run(recipe, embedded), [(key, cosine, title.upper()) for key, cosine, title in expected])


@pytest.mark.parametrize("title", SECTIONS)
def test_packages_to_install_are_the_checked_ones(title: str) -> None:
    named = [name for install in re.findall(r"`pip install (.+?)`", SECTIONS[title]) for name in shlex.split(install)]
    assert named
    assert blocks("python", SECTIONS[title])
    assert all(f"\n{name}==" in REQUIREMENTS for name in named)
