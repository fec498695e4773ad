"""Families: found by their folder, and in terms that the rest of export and the runtime understand."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from quoit.ort.cuda import token_bytes
from quoit_export import families
from quoit_export.checkpoint.checkpoint import Checkpoint
from quoit_export.errors import CheckpointError
from quoit_export.families import find_family, known_families, read_architecture
from quoit_export.families.qwen3 import architecture_of
from quoit_export.families.qwen3.config import Config
from quoit_export.families.qwen3.tensors import costs_of, linear_shapes
from random_checkpoint import SHAPES

FOLDER = Path("some/checkpoint")
OTHER_FAMILY = '''
"""A family that is Qwen3 under another name."""

from dataclasses import replace

from quoit_export.families import qwen3

FAMILY = replace(qwen3.FAMILY, title="other", model_types=("other", "another"))
'''


@pytest.mark.parametrize("config", SHAPES.values(), ids=list(SHAPES))
def test_costs_are_those_of_the_layers(config: Config) -> None:
    """By the formulas of T tokens in the stream, R sequences and S tokens in one of them."""
    costs, layers, hidden = costs_of(config), config.num_hidden_layers, config.hidden_size
    query, key = (heads * config.head_dim for heads in (config.num_attention_heads, config.num_key_value_heads))
    behind = query * hidden + 3 * hidden * config.intermediate_size
    for tokens, rows in ((1, 1), (512, 7), (2048, 300)):
        linear = 2 * tokens * layers * hidden * (query + 2 * key) + 2 * (tokens * (layers - 1) + rows) * behind
        assert tokens * costs.token_operations + rows * costs.answer_operations == linear
    for length in (1, 35, 512):
        pairs = length * (length + 1) // 2
        assert pairs * costs.pair_operations == 2 * layers * query * length * (length + 1)
    assert costs.weights == layers * sum(rows * columns for rows, columns in linear_shapes(config).values())
    assert costs.products == ((hidden, query), (hidden, config.intermediate_size), (config.intermediate_size, hidden))
    qkv = query + 2 * key
    assert token_bytes(costs) == 2 * (4 * hidden + max(2 * qkv + query, 3 * config.intermediate_size))


@pytest.mark.parametrize("config", SHAPES.values(), ids=list(SHAPES))
def test_every_linear_layer_reads_one_input_and_every_tensor_has_its_place(config: Config) -> None:
    found = architecture_of(config)
    linears = [linear for one in found.inputs for linear in one.linears]
    norms = [one.norm for one in found.inputs if one.norm is not None]
    producers = [one.producer for one in found.inputs if one.producer is not None]
    assert len(linears) == len(set(linears)) == 7 * config.num_hidden_layers
    assert set(producers) < set(linears)
    assert found.stream_writers < set(linears)
    assert all((one.norm is None) is (one.producer is not None) for one in found.inputs)
    head_norms = {name for name in found.tensors if name.endswith(("q_norm.weight", "k_norm.weight"))}
    named = {f"{name}.weight" for name in (*linears, *norms, found.final_norm)} | {found.token_table}
    assert named | head_norms == set(found.tensors)
    assert not named & head_norms
    assert [one.layer for one in found.gated] == list(range(config.num_hidden_layers))
    last, behind = config.num_hidden_layers - 1, ("self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
    assert [one.name for one in found.inputs if one.of_answers] == [f"layers.{last}.{part}" for part in behind]
    hidden, heads = config.hidden_size, config.num_attention_heads + 2 * config.num_key_value_heads
    assert found.linear_shape("layers.0.self_attn.qkv_proj") == (heads * config.head_dim, hidden)


@pytest.fixture
def other_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One more module in the folder of families."""
    (tmp_path / "other.py").write_text(OTHER_FAMILY)
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    known_families.cache_clear()
    yield known_families()
    known_families.cache_clear()


def test_a_family_is_one_more_file_in_their_folder(other_family: Any, checkpoint: Checkpoint) -> None:
    config = dict(checkpoint.architecture.family.config)
    assert [family.title for family in other_family] == ["other", "dense Qwen3"]
    for model_type in ("other", "another"):
        assert find_family({"model_type": model_type}, FOLDER).title == "other"
        assert read_architecture(config | {"model_type": model_type}, FOLDER) == checkpoint.architecture
    message = r"'llama'; quoit exports other models \(model_type 'other' or 'another'\) and dense Qwen3 models \(model_"
    with pytest.raises(CheckpointError, match=message):
        find_family({"model_type": "llama"}, FOLDER)


def test_the_config_is_carried_as_it_is_in_the_file(checkpoint: Checkpoint) -> None:
    found = checkpoint.architecture
    assert found.family.name == "qwen3"
    assert architecture_of(msgspec.convert(found.family.config, Config)) == found
