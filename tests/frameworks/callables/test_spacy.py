"""spaCy: documents get quoit's vectors, alone, in batches, and after a pipeline was saved."""

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import spacy
from quoit_integrations.spacy import FACTORY, make
from spacy.language import Language
from spacy.tokens import Doc, DocBin

from frameworks.harness import EMBEDDER, OPTIONS, PACKAGES, RERANKER, example_of
from quoit import Embedder

TEXTS = ["Gravity attracts two bodies.", "The capital of China is Beijing.", "line one\nline two", ""]
QUERY = "the capital of China"


def pipeline(**config: object) -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe(FACTORY, config={"model": EMBEDDER, "options": OPTIONS} | config)
    return nlp


def vectors(documents: list[Doc]) -> np.ndarray:
    return np.stack([document.vector for document in documents])


def test_vectors_are_quoits(embedder: Embedder) -> None:
    nlp = pipeline()
    expected = embedder.encode_document(TEXTS)
    assert np.array_equal(vectors([nlp(text) for text in TEXTS]), expected)
    for batch_size in (1, 3, 256):
        assert np.array_equal(vectors(list(nlp.pipe(TEXTS, batch_size=batch_size))), expected)
    assert list(nlp.pipe([])) == []
    small = pipeline(prompt="query", instruction="Cluster", dim=64)
    assert np.array_equal(vectors(list(small.pipe(TEXTS))), embedder.encode_query(TEXTS, instruction="Cluster", dim=64))


def test_texts_come_in_batches() -> None:
    nlp = pipeline()
    lazy, seen = nlp.get_pipe(FACTORY).lazy, []
    whole = lazy.encode

    def counting(texts: list[str]) -> np.ndarray:
        seen.append(len(texts))
        result: np.ndarray = whole(texts)
        return result

    lazy.encode = counting
    assert len(list(nlp.pipe([f"text {number}" for number in range(10)], batch_size=4))) == 10
    assert seen == [4, 4, 2]


@pytest.mark.filterwarnings("error:.*:UserWarning")
def test_the_answer_is_the_most_similar() -> None:
    nlp = pipeline()
    documents, query = list(nlp.pipe(TEXTS)), nlp(QUERY)
    assert max(documents, key=query.similarity).text == TEXTS[1]
    assert all(document.has_vector for document in documents)
    assert query.similarity(query) == pytest.approx(1)
    assert documents[0].similarity(documents[1]) == pytest.approx(float(documents[0].vector @ documents[1].vector))


def test_a_saved_pipeline_gives_the_same_vectors(tmp_path: Path) -> None:
    nlp = pipeline(dim=64)
    nlp.to_disk(tmp_path)
    again = spacy.load(tmp_path)
    assert again.pipe_names == [FACTORY]
    assert np.array_equal(again(QUERY).vector, nlp(QUERY).vector)


def test_spacy_finds_the_factory_of_an_installed_package() -> None:
    project = tomllib.loads((PACKAGES / "quoit-integrations" / "pyproject.toml").read_text(encoding="utf-8"))
    points = project["project"]["entry-points"]["spacy_factories"]
    assert {name: EntryPoint(name, target, "").load() for name, target in points.items()} == {FACTORY: make}


@pytest.mark.filterwarnings("ignore:.*W109:UserWarning")
def test_vectors_outlive_serialisation(embedder: Embedder) -> None:
    nlp = pipeline()
    kept = DocBin(store_user_data=True, docs=list(nlp.pipe(TEXTS)))
    read = list(DocBin().from_bytes(kept.to_bytes()).get_docs(nlp.vocab))
    expected = embedder.encode_document(TEXTS)
    assert np.array_equal(np.stack([document._.quoit_vector for document in read]), expected)
    unloaded = pipeline(options={"provider": "cpu", "threads": 1})
    workers = unloaded.pipe(TEXTS, n_process=2, batch_size=2)
    assert np.array_equal(np.stack([document._.quoit_vector for document in workers]), expected)


def test_a_reranker_and_an_unknown_prompt_are_refused() -> None:
    with pytest.raises(TypeError, match="is a reranker"):
        pipeline(model=RERANKER)(QUERY)
    with pytest.raises(ValueError, match="prompt"):
        pipeline(prompt="passage")


def test_the_example_finds_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    exec(example_of("spacy"), {})
    assert capsys.readouterr().out == "The capital of China is Beijing.\n"
