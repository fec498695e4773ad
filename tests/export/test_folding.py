"""Folds leave a checkpoint's function as it is, and undo rescalings of it to the last bit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import Qwen3Config, Qwen3Model

from quoit_export.families.qwen3 import architecture_of
from quoit_export.families.qwen3.config import Config
from quoit_export.precisions.int8 import quantize_outputs
from quoit_export.quantize.calibration import Activations
from quoit_export.quantize.folding import (
    Folding,
    Rotation,
    make_rotation,
    share_among_heads,
    smoothing_scales,
)
from quoit_export.quantize.methods import Method, fold

Tensors = dict[str, NDArray[np.float32]]

CONFIG = Config(
    hidden_size=48,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=16,
    vocab_size=50,
    rms_norm_eps=1e-12,
    rope_theta=1e4,
)
ARCHITECTURE = architecture_of(CONFIG)
TOKEN_TABLE = ARCHITECTURE.token_table
METHODS = [
    Method(alpha, rotated, heads)
    for alpha in (None, 0.0, 0.5, 1.0)
    for rotated in (False, True)
    for heads in (False, True)
]


def name_of(method: Method) -> str:
    return method.name


@pytest.fixture
def tensors() -> Tensors:
    """Weights whose norms are not one, and of which one channel has no norm weight at all."""
    generator = np.random.default_rng(0)
    found = {
        name: (generator.standard_normal(shape) * (0.2 if len(shape) > 1 else 0.3) + (len(shape) == 1)).astype(
            np.float32
        )
        for name, shape in ARCHITECTURE.tensors.items()
    }
    found["layers.1.input_layernorm.weight"][3] = 0
    return found


@pytest.fixture
def activations() -> Activations:
    """Some for every input, their channels of very different sizes."""
    generator = np.random.default_rng(1)
    widths = {"q_proj": 48, "o_proj": 96, "gate_proj": 48, "down_proj": 40}
    rows = {
        name: (generator.standard_normal((20, width)) * 10 ** generator.uniform(-2, 2, width)).astype(np.float32)
        for name in ARCHITECTURE.input
        for width in [widths[name.rpartition(".")[2]]]
    }
    return Activations({name: np.abs(some).max(axis=0).astype(np.float64) for name, some in rows.items()}, rows)


def states(tensors: Tensors) -> NDArray[np.float64]:
    """transformers' states of a few tokens, in float64."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {name: getattr(CONFIG, name) for name in CONFIG.__struct_fields__}
    model: Any = Qwen3Model(Qwen3Config(**sizes))
    model.double().eval()
    model.load_state_dict({name: torch.from_numpy(values.astype(np.float64)) for name, values in tensors.items()})
    with torch.inference_mode():
        found: NDArray[np.float64] = (
            model(input_ids=torch.tensor([[7, 3, 3, 41, 0, 12, 9]])).last_hidden_state[0].numpy()
        )
    return found


def folded(folding: Folding, tensors: Tensors) -> Tensors:
    read = folding.reader(tensors.__getitem__)
    return {name: read(name) for name in tensors}


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_a_fold_leaves_the_function_as_it_is(tensors: Tensors, activations: Activations, method: Method) -> None:
    read = tensors.__getitem__
    folding = fold(read, ARCHITECTURE, activations, method, ARCHITECTURE.input)
    changed = folded(folding, tensors)
    assert (method == Method()) is all(np.array_equal(changed[name], tensors[name]) for name in tensors)
    expected, found = states(tensors), states(changed)
    if method.rotated:
        assert np.abs(found - expected).max() > 0.1, "the states themselves are turned"
    np.testing.assert_allclose(found @ folding.output(read), expected, atol=5e-4)


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_a_score_of_folded_states_is_that_of_the_states(
    tensors: Tensors, activations: Activations, method: Method
) -> None:
    read = tensors.__getitem__
    folding = fold(read, ARCHITECTURE, activations, method, ARCHITECTURE.input)
    vector = np.random.default_rng(2).standard_normal(CONFIG.hidden_size).astype(np.float32)
    found = states(folded(folding, tensors)) @ folding.score(read, vector)
    np.testing.assert_allclose(found, states(tensors) @ vector, atol=2e-3)


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_a_linear_layer_makes_the_same_of_folded_activations(
    tensors: Tensors, activations: Activations, method: Method
) -> None:
    """What it reads and its columns fit together, before anything is done to what it writes."""
    read = tensors.__getitem__
    folding = fold(read, ARCHITECTURE, activations, method, ARCHITECTURE.input)
    for name, linear in [
        ("layers.0.self_attn.q_proj", "layers.0.self_attn.k_proj"),
        ("layers.0.self_attn.o_proj", "layers.0.self_attn.o_proj"),
        ("layers.1.mlp.gate_proj", "layers.1.mlp.up_proj"),
        ("layers.1.mlp.down_proj", "layers.1.mlp.down_proj"),
    ]:
        rows = activations.rows[name]
        expected = rows.astype(np.float64) @ tensors[f"{linear}.weight"].T
        found = folding.activations(read, name, rows).astype(np.float64) @ folding.columns(read, linear).T
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


# Rescalings of a checkpoint that leave its function as it is.


def rescale(tensors: Tensors, activations: Activations, factors: Callable[[int], NDArray[np.float64]]) -> None:
    """Every norm, product and value times c, and what reads them divided by it."""
    for layer in range(CONFIG.num_hidden_layers):
        prefix = f"layers.{layer}"
        for norm, name, linears in (
            ("input_layernorm", "self_attn.q_proj", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
            ("post_attention_layernorm", "mlp.gate_proj", ("mlp.gate_proj", "mlp.up_proj")),
        ):
            factor = factors(CONFIG.hidden_size)
            tensors[f"{prefix}.{norm}.weight"] *= factor
            for linear in linears:
                tensors[f"{prefix}.{linear}.weight"] /= factor
            multiply(activations, f"{prefix}.{name}", factor)
        inner, values = factors(CONFIG.intermediate_size), factors(CONFIG.num_key_value_heads * CONFIG.head_dim)
        tensors[f"{prefix}.mlp.up_proj.weight"] *= inner[:, None]
        tensors[f"{prefix}.mlp.down_proj.weight"] /= inner
        multiply(activations, f"{prefix}.mlp.down_proj", inner)
        heads = np.repeat(values.reshape(2, 1, 16), 3, axis=1).ravel()
        tensors[f"{prefix}.self_attn.v_proj.weight"] *= values[:, None]
        tensors[f"{prefix}.self_attn.o_proj.weight"] /= heads
        multiply(activations, f"{prefix}.self_attn.o_proj", heads)


def multiply(activations: Activations, name: str, factor: NDArray[np.float64]) -> None:
    activations.largest[name] *= factor
    activations.rows[name] *= factor


def powers_of_two(count: int) -> NDArray[np.float64]:
    factors: NDArray[np.float64] = np.exp2(np.random.default_rng(count).integers(-6, 11, count).astype(np.float64))
    return factors


def any_factors(count: int) -> NDArray[np.float64]:
    factors: NDArray[np.float64] = 1000 ** np.random.default_rng(count).random(count)
    return factors


def quantized(tensors: Tensors, activations: Activations, method: Method) -> dict[str, NDArray[Any]]:
    """The int8 weights and scales of all linear layers, and the norms."""
    folding = fold(tensors.__getitem__, ARCHITECTURE, activations, method, ARCHITECTURE.input)
    found: dict[str, NDArray[Any]] = {}
    for name, values in folded(folding, tensors).items():
        if "_proj" in name:
            found[f"{name}_int8"], found[f"{name}_scale"] = quantize_outputs(values)
        else:
            found[name] = values
    return found


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_a_rescaled_checkpoint_folds_to_the_identical_int8_model(
    tensors: Tensors, activations: Activations, alpha: float, rotated: bool, heads: bool
) -> None:
    """Bit by bit, where the rescaling itself rounds nothing."""
    method = Method(alpha, rotated, heads)
    expected = quantized(tensors, activations, method)
    plain = quantized(tensors, activations, Method())
    rescale(tensors, activations, powers_of_two)
    found = quantized(tensors, activations, method)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    other = quantized(tensors, activations, Method())
    assert (plain["layers.0.mlp.up_proj.weight_int8"] != other["layers.0.mlp.up_proj.weight_int8"]).mean() > 0.5


@pytest.mark.parametrize("method", [Method(0.5), Method(0.5, rotated=True)], ids=name_of)
def test_any_other_factors_cost_a_rounding_here_and_there(
    tensors: Tensors, activations: Activations, method: Method
) -> None:
    expected = quantized(tensors, activations, method)
    rescale(tensors, activations, any_factors)
    found = quantized(tensors, activations, method)
    integers = [name for name in expected if name.endswith("_int8")]
    apart = [np.abs(found[name].astype(int) - expected[name]) for name in integers]
    assert max(steps.max() for steps in apart) <= 1
    assert np.mean(np.concatenate([steps.ravel() for steps in apart])) < 1e-3


# Smoothing scales.


def test_scales_balance_what_is_read_and_what_reads_it() -> None:
    activations, weights = np.array([1.0, 100.0, 4.0]), np.array([1.0, 1.0, 0.25])
    for alpha in (0.0, 0.25, 0.5, 1.0):
        scales = smoothing_scales(activations, weights, alpha)
        assert np.max(activations / scales) == pytest.approx(1)
        product = activations * weights
        np.testing.assert_allclose(
            (activations / scales) / (activations / scales)[0], (product / product[0]) ** (1 - alpha)
        )


def test_channels_without_anything_are_left_alone() -> None:
    scales = smoothing_scales(np.array([0.0, 3.0, 2.0, 0.0]), np.array([1.0, 0.0, 0.5, 0.0]), 0.5)
    np.testing.assert_allclose(scales, [1, 1, 2, 1])
    assert smoothing_scales(np.zeros(3), np.ones(3), 0.5).tolist() == [1, 1, 1]


def test_query_heads_of_one_value_head_share_their_scales() -> None:
    channels = np.arange(96.0)
    shared = share_among_heads(channels, ARCHITECTURE).reshape(2, 3, 16)
    np.testing.assert_array_equal(shared, np.broadcast_to(channels.reshape(2, 3, 16)[:, 2:], (2, 3, 16)))


# Rotations.

HADAMARD = [2, 16, 20, 32, 48, 64, 96, 128, 224, 256, 1024, 2560, 4096]
OTHERS = [1, 3, 7, 36, 100]


@pytest.mark.parametrize("size", HADAMARD + OTHERS)
def test_a_rotation_is_orthogonal_and_applies_as_its_matrix(size: int) -> None:
    rotation = make_rotation(size, 0)
    rows = np.random.default_rng(0).standard_normal((5, size)).astype(np.float32)
    turned = rotation.apply(rows)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(rows, axis=1), rtol=1e-5)
    if size <= 1024:
        matrix = rotation.matrix
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=3e-6)
        np.testing.assert_allclose(turned, rows @ matrix, atol=1e-5)


@pytest.mark.parametrize("size", HADAMARD)
def test_a_hadamard_rotation_spreads_one_channel_over_all_alike(size: int) -> None:
    """The official sizes among them: 1024, 2560 with Paley's matrix of order 20, and 4096."""
    rotation = make_rotation(size, 0)
    one = np.zeros((1, size), np.float32)
    one[0, size // 3] = 1
    np.testing.assert_allclose(np.abs(rotation.apply(one)), size**-0.5, rtol=1e-5)


def test_other_seeds_are_other_rotations() -> None:
    same, again, other = (make_rotation(64, seed).matrix for seed in (1, 1, 2))
    np.testing.assert_array_equal(same, again)
    assert np.abs(same - other).max() > 0.1


def test_rows_are_rotated_alike_in_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    rotation = make_rotation(96, 0)
    rows = np.random.default_rng(0).standard_normal((50, 3, 96)).astype(np.float32)
    whole = rotation.apply(rows)
    monkeypatch.setattr("quoit_export.precisions.chunks.CHUNK_VALUES", 96 * 7)
    np.testing.assert_allclose(rotation.apply(rows), whole, atol=1e-6)
    assert isinstance(rotation, Rotation)


def test_the_token_table_is_rotated_row_by_row(tensors: Tensors) -> None:
    rotation = make_rotation(CONFIG.hidden_size, 0)
    table = Folding(ARCHITECTURE, stream=rotation).reader(tensors.__getitem__)(TOKEN_TABLE)
    np.testing.assert_allclose(table, tensors[TOKEN_TABLE] @ rotation.matrix, atol=1e-5)
