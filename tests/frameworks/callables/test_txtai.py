"""txtai: an index finds with a prompt for each side, also after it was saved and loaded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quoit_integrations.txtai import METHOD
from txtai import Embeddings

from frameworks.harness import EMBEDDER, OPTIONS, RERANKER, example_of
from quoit import Embedder

TEXTS = ["Gravity attracts two bodies.", "The capital of China is Beijing.", "line one\nline two"]
QUERY = "What is the capital of China?"
MANY = [f"text number {number}" for number in range(50)]
"""Enough texts that scaling their vectors to unit length again would change bits of some."""


def index(**config: Any) -> Embeddings:
    return Embeddings({"method": METHOD, "path": EMBEDDER, "vectors": OPTIONS} | config)


def test_vectors_are_quoits_with_a_prompt_for_each_side(embedder: Embedder) -> None:
    embeddings = index()
    assert np.array_equal(embeddings.batchtransform(MANY, "data"), embedder.encode_document(MANY))
    assert np.array_equal(embeddings.batchtransform([QUERY], "query"), embedder.encode_query([QUERY]))
    assert np.array_equal(embeddings.transform(QUERY), embedder.encode_query(QUERY))
    assert np.array_equal(
        index(dimensionality=64).batchtransform(TEXTS, "data"), embedder.encode_document(TEXTS, dim=64)
    )
    assert len(embeddings.batchtransform([], "data")) == 0


def test_instructions_of_txtai_stand_in_the_place_of_prompts(embedder: Embedder) -> None:
    embeddings = index(instructions={"query": "search: "})
    assert np.array_equal(embeddings.transform(QUERY), embedder.encode(QUERY, prompt="search: "))
    assert np.array_equal(embeddings.batchtransform(TEXTS, "data"), embedder.encode_document(TEXTS))


@pytest.mark.parametrize("archive", ["index", "index.tar.gz"])
def test_an_index_finds_the_answer_and_is_saved(tmp_path: Path, embedder: Embedder, archive: str) -> None:
    embeddings = index(content=True)
    embeddings.index(TEXTS)
    (found,) = embeddings.search(QUERY, 1)
    assert found["text"] == TEXTS[1]
    assert found["score"] == pytest.approx(
        float(embedder.encode_query(QUERY) @ embedder.encode_document(TEXTS[1])), abs=1e-6
    )
    embeddings.save(str(tmp_path / archive))
    again = Embeddings()
    again.load(str(tmp_path / archive))
    assert again.search(QUERY, 1) == [found]
    again.upsert([("new", "What is the capital of China?", None)])
    assert again.search(QUERY, 1)[0]["id"] == "new"


def test_similarity_ranks_texts() -> None:
    assert index().similarity(QUERY, TEXTS)[0][0] == 1


def test_a_reranker_is_refused() -> None:
    with pytest.raises(TypeError, match="is a reranker"):
        index(path=RERANKER).index(TEXTS)


def test_the_example_finds_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    exec(example_of("txtai"), {})
    assert "The capital of China is Beijing." in capsys.readouterr().out
