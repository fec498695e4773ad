"""The uneven checkpoint has the activations of a trained decoder, and int8 keeps its floors on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from quoit.artifact import HELD_OUT, read_artifact
from quoit.engine.limits import row_limits
from quoit.engine.planner import plan_batches
from quoit.text.tokenizer import Ids, TextTokenizer
from quoit_export.build.staging import bare_manifest, variant_model
from quoit_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from quoit_export.export import Request, publish
from quoit_export.quantize import calibration
from quoit_export.quantize.calibration import Activations, observe
from quoit_export.verify.layerwise import answers
from quoit_export.verify.parity import held_out
from random_checkpoint import SHAPES, Tensors, make_tensors, write_checkpoint
from uneven_checkpoint import (
    FREQUENT,
    MASSIVE,
    OCTAVES,
    change,
    excite,
    frequent_tokens,
    massive_layers,
    product_size,
    rescale,
)

SMALL = msgspec.structs.replace(
    SHAPES["tiny"],
    hidden_size=256,
    intermediate_size=1536,
    num_hidden_layers=4,
    head_dim=64,
)
"""Wide enough for rows whose largest magnitude is 12 times the root mean square, and for telling first tokens apart."""
TEXTS = 12
FUNCTION = msgspec.structs.replace(SMALL, vocab_size=400)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("uneven") / "checkpoint"
    write_checkpoint(folder, SMALL, change=change(SMALL))
    return open_checkpoint(str(folder))


@dataclass(frozen=True)
class Seen:
    """Every row of some texts."""

    tokenizer: TextTokenizer
    rows: list[Ids]
    activations: Activations

    def magnitudes(self, layer: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Every token's largest magnitude at a down_proj's input, and its ratio to the root mean square."""
        values = self.activations.rows[f"layers.{layer}.mlp.down_proj"].astype(np.float64)
        largest = np.abs(values).max(axis=1)
        return largest, largest / np.sqrt((values**2).mean(axis=1))

    def expected(self) -> NDArray[np.bool_]:
        """Whether each token is to be massive."""
        found = []
        for row in self.rows:
            names = [self.tokenizer.tokenizer.id_to_token(int(token)) for token in row]
            found += [place == 0 or name in FREQUENT for place, name in enumerate(names)]
        return np.array(found)


@pytest.fixture(scope="module")
def seen(checkpoint: Checkpoint) -> Seen:
    tokenizer = TextTokenizer.load(checkpoint.tokenizer_file, bare_manifest(checkpoint), max_tokens=64)
    rows = tokenizer.encode(held_out().texts[:TEXTS]).ids
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "SAMPLED_ROWS", 64 * TEXTS)
        activations, _ = observe(variant_model(checkpoint, "fp32"), checkpoint.architecture, rows)
    return Seen(tokenizer, rows, activations)


def test_the_first_token_and_frequent_ones_are_massive_and_no_others(seen: Seen) -> None:
    expected = seen.expected()
    assert TEXTS < expected.sum() < 0.3 * len(expected)
    for layer in massive_layers(SMALL) - {SMALL.num_hidden_layers - 1}:
        largest, _ = seen.magnitudes(layer)
        massive = largest > 4 * np.median(largest)
        assert (massive == expected).mean() > 0.98, layer


def test_the_massive_tokens_hold_thousands_in_one_channel_of_the_stream(seen: Seen) -> None:
    values = np.abs(seen.activations.rows["layers.2.self_attn.q_proj"])
    assert (values[seen.expected()].argmax(axis=1) == MASSIVE).mean() > 0.95
    assert (values[~seen.expected()].argmax(axis=1) == MASSIVE).mean() < 0.05


def test_about_half_of_the_rows_are_uneven_at_down_proj_and_most_in_outer_layers(seen: Seen) -> None:
    shares = [float((seen.magnitudes(layer)[1] > 12).mean()) for layer in range(SMALL.num_hidden_layers - 1)]
    assert all(0.2 < share < 0.95 for share in shares), shares
    medians = [float(np.median(seen.magnitudes(layer)[1])) for layer in range(SMALL.num_hidden_layers - 1)]
    assert all(9 < median < 20 for median in medians), medians


def test_int8_keeps_its_floors_without_layers_in_float32(checkpoint: Checkpoint, tmp_path: Path) -> None:
    publish(checkpoint, Request(tmp_path / "out", ("int8",)))
    variant = read_artifact(tmp_path / "out").variant("int8")
    assert variant.accepted
    assert variant.quantization is not None
    assert not variant.quantization.float32_layers
    cosine, *_ = (one for one in variant.parity if one.measure == "cosine" and one.texts == HELD_OUT)
    assert cosine.mean > 0.998


def only_excited(tensors: Tensors) -> Tensors:
    """The checkpoint without the uneven channels."""
    for name, values in tensors:
        excite(name, values, FUNCTION, [7])
        yield name, values


def products(tensors: dict[str, NDArray[Any]], layer: int) -> Iterator[NDArray[np.float64]]:
    """What a rescaling must leave as it is: a layer's norms times columns, and its products of two weights."""

    def read(part: str) -> NDArray[np.float64]:
        return tensors[f"layers.{layer}.{part}.weight"].astype(np.float64)

    before, behind = read("input_layernorm"), read("post_attention_layernorm")
    yield read("self_attn.q_proj") * before
    yield read("self_attn.k_proj") * before
    yield read("mlp.gate_proj") * behind
    yield read("mlp.down_proj") @ (read("mlp.up_proj") * behind)
    value = (read("self_attn.v_proj") * before).reshape(FUNCTION.num_key_value_heads, FUNCTION.head_dim, -1)
    heads = value.repeat(FUNCTION.num_attention_heads // FUNCTION.num_key_value_heads, axis=0)
    yield read("self_attn.o_proj") @ heads.reshape(-1, FUNCTION.hidden_size)


def test_uneven_channels_are_the_same_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OCTAVES, "products", 1.0)  # so that every layer has some
    excited = {name: values.copy() for name, values in only_excited(make_tensors(FUNCTION, 0))}
    uneven = {name: values.copy() for name, values in excited.items()}
    for name, values in uneven.items():
        rescale(name, values, FUNCTION, 3)
    unlike = [name for name in uneven if not np.array_equal(uneven[name], excited[name])]
    assert len(unlike) == 9 * FUNCTION.num_hidden_layers
    for layer in range(FUNCTION.num_hidden_layers):
        for found, expected in zip(products(uneven, layer), products(excited, layer), strict=True):
            assert np.allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_a_text_has_the_same_vector_with_even_and_uneven_channels(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """The decoder computes with the rescaled tensors what it computes without, in float32."""

    def even(tensors: Tensors, tokenizer: Tokenizer) -> Tensors:
        frequent = frequent_tokens(tokenizer)
        for name, values in tensors:
            excite(name, values, SMALL, frequent)
            yield name, values

    write_checkpoint(tmp_path / "even", SMALL, change=even)
    tokenizer = TextTokenizer.load(checkpoint.tokenizer_file, bare_manifest(checkpoint), max_tokens=64)
    rows = tokenizer.encode(held_out().texts[:TEXTS]).ids
    batches = list(plan_batches(rows, row_limits(rows)))
    found, expected = (
        np.concatenate(answers(variant_model(one, "fp32"), batches, "running"))
        for one in (checkpoint, open_checkpoint(str(tmp_path / "even")))
    )
    cosines = (found * expected).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.99999


def test_tensors_stay_bfloat16_and_are_changed_in_place() -> None:
    for name, values in make_tensors(FUNCTION, 0):
        before = values
        excite(name, values, FUNCTION, [7])
        rescale(name, values, FUNCTION, 0)
        assert values is before
        assert values.dtype == ml_dtypes.bfloat16
        assert np.isfinite(values.astype(np.float32)).all()


def test_the_size_of_products_is_that_of_samples() -> None:
    z, u = np.random.default_rng(0).standard_normal((2, 200_000))
    gate = 4 * (z - 0.5)
    sampled = np.sqrt(((gate / (1 + np.exp(-gate)) * u) ** 2).mean())
    assert product_size(4.0, 0.5) == pytest.approx(sampled, rel=0.02)
