"""The measures of a variant: fixed texts and pairs, and floors that damage does not pass."""

import shutil
import sys
from pathlib import Path
from typing import Any, cast, get_args

import msgspec
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from architectures import with_records
from quoit.artifact import Artifact, Measure, Parity, Precision, Variant, read_artifact, record_file, write_manifest
from quoit.ort.session import Answers
from quoit_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from quoit_export.errors import ParityError
from quoit_export.precisions.table import PRECISIONS
from quoit_export.verify.parity import (
    DOCUMENTS,
    QUERIES,
    Comparison,
    Sample,
    centred,
    compare,
    held_out,
    neighbours,
    overlap,
    parity_pairs,
    parity_rows,
    parity_texts,
    transformers_answers,
    variant_answers,
)
from support import Embedders, Rerankers, Vectors

COMPARED: tuple[Precision, ...] = ("fp32", "fp16", "int8")
RERANK_MEASURES: tuple[Measure, ...] = ("agreement", "spearman")


@pytest.fixture(scope="module")
def reference(embedders: Embedders) -> Vectors:
    vectors: Vectors = embedders("fp32").encode(parity_texts())
    return vectors


@pytest.fixture(scope="module")
def logits(rerank_artifact: Artifact) -> Answers:
    """The logits of the fixed pairs in fp32."""
    return variant_answers(rerank_artifact, "fp32", [held_out()])[0]


def measure_of(name: Measure, found: Answers, reference: Answers, precision: Precision) -> bool:
    """Whether scores pass one measure of rerankers."""
    (parity,) = [
        one for one in compare(found, reference, Comparison(precision, "rerank", "fp32")) if one.measure == name
    ]
    return parity.passes


def damage(artifact: Artifact, precision: Precision, tensor: str, target: Path) -> Artifact:
    """A copy of an artifact in which one tensor of a variant went wrong before its file was hashed."""
    shutil.copytree(artifact.folder, target)
    model = onnx.load(str(target / precision / "model.onnx"), load_external_data=False)
    (found,) = [stored for stored in model.graph.initializer if stored.name == tensor]
    place = {entry.key: entry.value for entry in found.external_data}
    with (target / precision / place["location"]).open("r+b") as file:
        file.seek(int(place["offset"]))
        file.write(np.random.default_rng(0).bytes(int(place["length"])))
    manifest = artifact.manifest
    variant = manifest.variants[precision]
    changed = with_records(variant, lambda record: record_file(target, target / record.path))
    variants = manifest.variants | {precision: changed}
    write_manifest(target, msgspec.structs.replace(manifest, variants=variants))
    return read_artifact(target)


def test_there_are_enough_texts_and_none_twice() -> None:
    texts = parity_texts()
    assert len(texts) >= 60
    assert len(set(texts)) == len(texts)
    assert all(text.strip() == text != "" for text in texts)


def test_the_texts_are_of_many_scripts() -> None:
    letters = "".join(parity_texts())
    for start, end in [
        ("а", "я"),
        ("α", "ω"),
        ("א", "ת"),
        ("ا", "ي"),
        ("अ", "ह"),
        ("ก", "ฮ"),
        ("가", "힣"),
        ("一", "龥"),
    ]:
        assert any(start <= letter <= end for letter in letters), f"no letter from {start} to {end}"


def test_the_texts_are_of_many_lengths(embedders: Embedders) -> None:
    lengths = [len(row) for row in embedders("fp32").pipeline.tokenizer.encode(parity_texts()).ids]
    assert min(lengths) == 2
    assert max(lengths) >= 30


def test_every_precision_has_a_floor_for_each_measure() -> None:
    assert tuple(PRECISIONS) == get_args(Precision)
    for measure, least in {"cosine": 0.94, "centred": 0.65, "agreement": 0.75, "spearman": 0.65}.items():
        floors = [PRECISIONS[precision].floors[cast("Measure", measure)] for precision in PRECISIONS]
        assert floors == sorted(floors, reverse=True)
        assert all(least < floor < 1 for floor in floors)
    for measure, least in {"centred": 0.85, "top10": 0.65}.items():
        floors = [PRECISIONS[precision].mean_floors[cast("Measure", measure)] for precision in PRECISIONS]
        assert floors == sorted(floors, reverse=True)
        assert all(least < floor < 1 for floor in floors)
    assert all(set(spec.floors) == {"cosine", "centred", *RERANK_MEASURES} for spec in PRECISIONS.values())
    assert all(set(spec.mean_floors) - {"cosine"} == {"centred", "top10"} for spec in PRECISIONS.values())
    assert (PRECISIONS["int4"].mean_floors["cosine"], PRECISIONS["int4"].floors["cosine"]) == (0.98, 0.95), (
        "as the README says"
    )


def test_the_pairs_are_every_query_with_every_document() -> None:
    pairs = parity_pairs()
    queries, documents = (list(dict.fromkeys(side)) for side in zip(*pairs, strict=True))
    assert (len(queries), len(documents)) == (QUERIES, DOCUMENTS)
    assert pairs == [(query, document) for query in queries for document in documents]
    assert {*queries, *documents} <= set(parity_texts())


def test_an_artifacts_rows_are_what_its_answers_are_made_of(
    artifact: Artifact, rerank_artifact: Artifact, embedders: Embedders, rerankers: Rerankers
) -> None:
    """Texts with their end token, or pairs in the whole template."""
    tokenizer = embedders("fp32").pipeline.tokenizer
    assert [row.tolist() for row in parity_rows(artifact, held_out())] == [
        row.tolist() for row in tokenizer.encode(parity_texts()).ids
    ]
    reranker = rerankers("fp32")
    rows, pair = parity_rows(rerank_artifact, held_out()), parity_pairs()[7]
    assert len(rows) == QUERIES * DOCUMENTS
    contract = reranker.contract
    body = f"<Instruct>: {contract.instruction}\n<Query>: {pair[0]}\n<Document>: {pair[1]}"
    decode = reranker.pipeline.tokenizer.tokenizer.decode
    assert decode(rows[7].tolist(), skip_special_tokens=False) == contract.prefix + body + contract.suffix


def test_cosine_is_that_of_each_row() -> None:
    angles = np.array([0, 0.1, 0.2, np.pi / 2])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    reference = np.tile(np.array([[1, 0]], np.float32), (4, 1))
    parity, *_ = compare(vectors, reference, Comparison("int8", "embedding", "somewhere"))
    assert (parity.measure, parity.reference, parity.samples) == ("cosine", "somewhere", 4)
    assert parity.floor == PRECISIONS["int8"].floors["cosine"]
    assert parity.minimum == pytest.approx(0, abs=1e-6)
    assert parity.mean == pytest.approx(np.cos(angles).mean(), abs=1e-6)


def test_neighbours_are_those_of_similarity_to_all_other_texts() -> None:
    """The third text moves from the first two texts' side to the fourth's."""
    angles, moved = np.array([0, 0.1, 0.3, 1.0]), np.array([0, 0.1, 0.9, 1.0])
    found, reference = (np.stack([np.cos(each), np.sin(each)], axis=1) for each in (moved, angles))
    near, far = neighbours(found), neighbours(reference)
    assert near.shape == (4, 3)
    np.testing.assert_allclose(near[1], np.cos([0.1, 0.8, 0.9]))
    assert overlap(near, far, 1).tolist() == [1, 1, 0, 1]
    assert overlap(near, far, 2).tolist() == [1, 1, 0.5, 1]
    assert overlap(near, far, 10).tolist() == [1, 1, 1, 1]


def test_all_measures_but_the_ranking_have_floors(reference: Vectors) -> None:
    noisy = reference + np.float32(0.01) * np.random.default_rng(0).standard_normal(reference.shape).astype(np.float32)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    cosine, middle, top10, ranking = compare(noisy, reference, Comparison("int8", "embedding", texts="some"))
    assert (cosine.floor, cosine.mean_floor) == (
        PRECISIONS["int8"].floors["cosine"],
        PRECISIONS["int8"].mean_floors["cosine"],
    )
    assert (middle.floor, middle.mean_floor) == (
        PRECISIONS["int8"].floors["centred"],
        PRECISIONS["int8"].mean_floors["centred"],
    )
    assert (top10.floor, top10.mean_floor) == (None, PRECISIONS["int8"].mean_floors["top10"]), "of single texts, luck"
    assert ranking.recorded
    assert [one.measure for one in (middle, top10, ranking)] == ["centred", "top10", "ranking"]
    assert {one.texts for one in (cosine, middle, top10, ranking)} == {"some"}
    for one in (middle, top10, ranking):
        assert one.minimum <= one.p1 < one.mean < 1


def shared_and_own(own: NDArray[np.float64], shared: float) -> NDArray[np.float64]:
    """Unit vectors of one large coordinate that all have, and of their own other coordinates."""
    states = np.concatenate([np.full((len(own), 1), shared), own], axis=1)
    unit: NDArray[np.float64] = states / np.linalg.norm(states, axis=1, keepdims=True)
    return unit


def test_centred_is_the_cosine_without_what_all_texts_share() -> None:
    generator = np.random.default_rng(0)
    own, noise = generator.standard_normal((2, 40, 16))
    left, right = shared_and_own(own + 0.2 * noise, 3), shared_and_own(own, 3)
    near, far = left - left.mean(axis=0), right - right.mean(axis=0)
    expected = [one @ other / np.linalg.norm(one) / np.linalg.norm(other) for one, other in zip(near, far, strict=True)]
    np.testing.assert_allclose(centred(left, right), expected, atol=1e-8)


def test_what_a_plain_cosine_does_not_see_fails_by_the_centred_one() -> None:
    """All that tells texts apart is turned around, and the plain cosine is above 0.995."""
    own = np.random.default_rng(0).standard_normal((64, 16))
    found, reference = (shared_and_own(each, 100).astype(np.float32) for each in (-own, own))
    cosine, middle, *_ = compare(found, reference, Comparison("int8", "embedding"))
    assert cosine.passes
    assert middle.measure == "centred"
    assert middle.mean < -0.9
    assert not middle.passes


def test_texts_without_difference_are_alike_only_if_they_are_so_on_both_sides() -> None:
    """And nothing is divided by zero: a warning is an error here."""
    same, other = np.tile(shared_and_own(np.ones((1, 3)), 2), (9, 1)), shared_and_own(np.eye(9), 2)[:, :4]
    assert centred(same, same) == pytest.approx(1)
    assert centred(same[:1], same[:1]) == pytest.approx(1)
    assert np.abs(centred(same, other)).max() < 1e-3
    assert np.abs(centred(other, same)).max() < 1e-3


def test_a_single_text_at_the_mean_is_as_good_as_any() -> None:
    vectors = np.array([[1.0, 0], [-1, 0], [0, 0], [0, 1], [0, -1]])
    assert centred(vectors, vectors) == pytest.approx(1)


def test_few_texts_have_a_centred_cosine_too(reference: Vectors) -> None:
    few = reference[:2].astype(np.float64)
    assert centred(few, few) == pytest.approx(1)
    assert centred(few[::-1], few) == pytest.approx(-1)


def test_a_mean_below_its_floor_fails_where_no_single_text_does(reference: Vectors) -> None:
    """Every text a little off: cosine 0.99, above the floor of the least and below that of the mean."""
    generator = np.random.default_rng(0)
    away = generator.standard_normal(reference.shape)
    away -= np.sum(away * reference, axis=1, keepdims=True) * reference
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    found = (0.99 * reference + np.sqrt(1 - 0.99**2) * away).astype(np.float32)
    cosine, *_ = compare(found, reference, Comparison("int8", "embedding"))
    assert cosine.floor is not None
    assert cosine.minimum > cosine.floor
    assert not cosine.passes


def test_pairs_of_few_texts_are_every_query_with_every_text() -> None:
    texts = [f"text {number}" for number in range(9)]
    pairs = Sample("few", texts).pairs
    assert len(pairs) == QUERIES * len(texts)
    assert list(dict.fromkeys(query for query, _ in pairs)) == ["text 0", "text 2", "text 4", "text 6"]


def test_agreement_is_that_of_probabilities_and_spearman_that_of_ranks() -> None:
    reference = np.array([[0.0, 1, 2, 3], [5, -5, 100, -100]], np.float32)
    found = np.array([[0.0, 2, 1, 3], [7, -7, 90, -110]], np.float32)
    agreement, spearman = compare(found, reference, Comparison("fp16", "rerank", "somewhere"))
    assert (agreement.measure, agreement.reference, agreement.samples) == ("agreement", "somewhere", 8)
    expected = 1 - np.abs(1 / (1 + np.exp(-found.astype(float))) - 1 / (1 + np.exp(-reference.astype(float))))
    assert agreement.minimum == pytest.approx(expected.min(), abs=1e-6)
    assert agreement.mean == pytest.approx(expected.mean(), abs=1e-6)
    assert agreement.floor == PRECISIONS["fp16"].floors["agreement"]
    assert (spearman.measure, spearman.reference, spearman.samples) == ("spearman", "somewhere", 2)
    assert spearman.minimum == pytest.approx(1 - 6 * 2 / (4 * 15)), "two neighbours of four have changed places"
    assert spearman.mean == pytest.approx((spearman.minimum + 1) / 2)
    assert spearman.floor == PRECISIONS["fp16"].floors["spearman"]


def test_equal_answers_are_one(reference: Vectors, logits: Answers) -> None:
    for parity in (
        *compare(reference, reference, Comparison("fp32", "embedding", "itself")),
        *compare(logits, logits, Comparison("fp32", "rerank", "itself")),
    ):
        assert parity.minimum == pytest.approx(1, abs=2e-7)
        assert parity.passes


def test_one_bad_text_is_enough_to_fail(reference: Vectors) -> None:
    vectors = reference.copy()
    vectors[17] *= -1
    parity, *_ = compare(vectors, reference, Comparison("int8", "embedding", "fp32"))
    assert parity.mean > 0.95
    assert not parity.passes


def test_one_bad_pair_is_enough_to_fail(logits: Answers) -> None:
    scores = logits.copy()
    scores[1, 17] -= 4
    agreement, _ = compare(scores, logits, Comparison("int8", "rerank", "fp32"))
    assert agreement.mean > 0.99
    assert not agreement.passes


def test_one_bad_query_is_enough_to_fail(logits: Answers) -> None:
    """Its documents in the opposite order, by differences too small to be seen in P(yes)."""
    scores = logits * np.float32(1e-3)
    other = scores.copy()
    other[2] *= -1
    agreement, spearman = compare(other, scores, Comparison("int8", "rerank", "fp32"))
    assert agreement.passes
    assert spearman.minimum == pytest.approx(-1)
    assert not spearman.passes


def test_scores_without_difference_do_not_pass(logits: Answers) -> None:
    """A model that gives every pair the same score is no reranker."""
    assert not measure_of("spearman", np.zeros_like(logits), logits, "int8")


@pytest.mark.parametrize(("precision", "noise"), [("fp32", 0.01), ("fp16", 0.05), ("int8", 0.3)])
def test_noisy_vectors_are_below_the_floor(reference: Vectors, precision: Precision, noise: float) -> None:
    generator = np.random.default_rng(0)
    spread = noise / np.sqrt(reference.shape[1])
    noisy = (reference + spread * generator.standard_normal(reference.shape)).astype(np.float32)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    parity, *_ = compare(noisy, reference, Comparison(precision, "embedding", "fp32"))
    assert not parity.passes


@pytest.mark.parametrize("measure", RERANK_MEASURES)
@pytest.mark.parametrize(("precision", "noise"), [("fp32", 0.05), ("fp16", 0.2), ("int8", 1)])
def test_noisy_scores_are_below_the_floor(
    logits: Answers, precision: Precision, noise: float, measure: Measure
) -> None:
    noisy = (logits + noise * np.random.default_rng(0).standard_normal(logits.shape)).astype(np.float32)
    assert not measure_of(measure, noisy, logits, precision)


def held_out_of(variant: Variant) -> tuple[Parity, ...]:
    """What was measured of a variant's first graph on the held-out texts."""
    return tuple(one for one in variant.parity if (one.texts, one.graph) == ("held-out", "cpu"))


def test_the_artifacts_parity_is_what_measuring_it_again_gives(
    artifact: Artifact, checkpoint: Checkpoint, reference: Vectors
) -> None:
    variants = artifact.manifest.variants
    for precision in ("fp16", "int8"):
        measured = compare(
            variant_answers(artifact, precision, [held_out()])[0], reference, Comparison(precision, "embedding", "fp32")
        )
        assert held_out_of(variants[precision]) == measured
    verified, *_ = variants["fp32"].parity
    oracle = transformers_answers(checkpoint, artifact, held_out())
    again, *_ = compare(reference, oracle, Comparison("fp32", "embedding", "transformers fp32"))
    assert verified.reference == again.reference
    assert verified.minimum == pytest.approx(again.minimum, abs=2e-7)


def test_a_rerankers_parity_is_what_measuring_it_again_gives(
    rerank_artifact: Artifact, rerank_checkpoint_folder: Path, logits: Answers
) -> None:
    variants = rerank_artifact.manifest.variants
    assert logits.shape == (QUERIES, DOCUMENTS)
    for precision in ("fp16", "int8"):
        measured = compare(
            variant_answers(rerank_artifact, precision, [held_out()])[0],
            logits,
            Comparison(precision, "rerank", "fp32"),
        )
        assert held_out_of(variants[precision]) == measured
    oracle = transformers_answers(open_checkpoint(str(rerank_checkpoint_folder)), rerank_artifact, held_out())
    again = compare(logits, oracle, Comparison("fp32", "rerank", "transformers fp32"))
    first = [parity for parity in variants["fp32"].parity if parity.graph == "cpu"]
    for verified, measured_again in zip(first, again, strict=True):
        assert (verified.measure, verified.reference) == (measured_again.measure, measured_again.reference)
        assert verified.minimum == pytest.approx(measured_again.minimum, abs=1e-6)


@pytest.mark.parametrize(
    ("precision", "tensor"),
    [("int8", "layers.1.self_attn.v_proj.weight_int8"), ("int8", "layers.0.mlp.down_proj.weight_int8")],
)
def test_a_damaged_variant_is_below_its_floor(
    tmp_path: Path, artifact: Artifact, reference: Vectors, precision: Precision, tensor: str
) -> None:
    damaged = damage(artifact, precision, tensor, tmp_path / "damaged")
    parity, *_ = compare(
        variant_answers(damaged, precision, [held_out()])[0], reference, Comparison(precision, "embedding", "fp32")
    )
    assert not parity.passes


def test_a_damaged_reranker_is_below_its_floor(tmp_path: Path, rerank_artifact: Artifact, logits: Answers) -> None:
    damaged = damage(rerank_artifact, "int8", "layers.1.self_attn.v_proj.weight_int8", tmp_path / "damaged")
    found = compare(variant_answers(damaged, "int8", [held_out()])[0], logits, Comparison("int8", "rerank", "fp32"))
    assert not all(parity.passes for parity in found)


def test_without_transformers_verification_says_what_to_install(
    artifact: Artifact, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", cast("Any", None))
    with pytest.raises(ParityError, match=r"--verify needs torch and transformers .*quoit\[verify\]"):
        transformers_answers(checkpoint, artifact, held_out())
