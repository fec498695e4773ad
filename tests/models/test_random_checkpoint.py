"""Random checkpoints are drawn in blocks, and the blocks do not show."""

import json
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers.models import BPE

import random_checkpoint
from quoit.artifact import Task
from quoit_export.families.qwen3.tensors import tensor_shapes
from qwen3_tokenizer import PLAIN_ADDED_TOKENS, SIZE, SPECIAL_TOKENS, assemble, plain_tokens
from random_checkpoint import SHAPES, make_tensors, spread, write_shards

NUMBERS = msgspec.structs.replace(SHAPES["tiny"], vocab_size=500)


def bits() -> dict[str, list[int]]:
    return {name: values.view(np.uint16).ravel().tolist() for name, values in make_tensors(NUMBERS, 1)}


def test_the_numbers_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bits()
    monkeypatch.setattr(random_checkpoint, "BLOCK_VALUES", 777)
    assert bits() == whole


@pytest.mark.parametrize("task", get_args(Task))
def test_tensors_are_spread_as_their_part_asks_for(task: Task) -> None:
    for name, values in make_tensors(NUMBERS, 2, task):
        single = values.astype(np.float32)
        deviation = spread(name, single.shape, NUMBERS.num_hidden_layers, task)
        assert single.mean() == pytest.approx(2.0 - single.ndim, abs=6 * deviation / np.sqrt(single.size)), name
        assert single.std() == pytest.approx(deviation, rel=0.4 if single.ndim == 1 else 0.05), name
        assert len(np.unique(single)) > min(single.size, 1000) / 4, name


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_all_layers_together_add_about_as_much_as_a_row_of_the_token_table_is(shape: str) -> None:
    numbers = SHAPES[shape]
    layers = numbers.num_hidden_layers
    deviation = {name: spread(name, size, layers, "embedding") for name, size in tensor_shapes(numbers).items()}
    assert deviation["layers.1.mlp.up_proj.weight"] ** 2 * numbers.hidden_size == pytest.approx(1)
    written = [
        deviation[f"layers.{layer}.{name}.weight"] ** 2 * width
        for layer in range(layers)
        for name, width in (
            ("mlp.down_proj", numbers.intermediate_size),
            ("self_attn.o_proj", numbers.num_attention_heads * numbers.head_dim),
        )
    ]
    assert sum(written) ** 0.5 == pytest.approx(2 * deviation["embed_tokens.weight"])


def test_shards_are_closed_when_they_are_large_enough_and_the_index_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random_checkpoint, "SHARD_BYTES", 50_000)
    write_shards(tmp_path, make_tensors(NUMBERS, 1))
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) > 3
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        tensors = load_file(file)
        assert all(index["weight_map"][name] == file.name for name in tensors)
        shapes |= {name: values.shape for name, values in tensors.items()}
    assert shapes == tensor_shapes(NUMBERS)
    assert index["metadata"]["total_size"] == sum(2 * np.prod(shape) for shape in shapes.values())


@pytest.mark.parametrize("shape", ["tiny", "4b", "8b"])
def test_every_token_has_a_row(shape: str) -> None:
    """The official tables of 4B and 8B are four rows shorter."""
    size = SHAPES[shape].vocab_size
    tokenizer = assemble(BPE(vocab={"a": 0}, merges=[]), end_token=True, added=plain_tokens(size))
    assert tokenizer.get_vocab_size() == size - SIZE + 1 + len(SPECIAL_TOKENS) + len(PLAIN_ADDED_TOKENS)
    assert (tokenizer.token_to_id("</think>") is None) is (size < SIZE)
