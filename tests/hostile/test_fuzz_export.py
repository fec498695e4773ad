"""Any checkpoint: what its files say is exported, or refused with a CheckpointError."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE

from fuzzing import JSON_VALUES, TEXTS, damaged, fuzz, mutated_json
from quoit.artifact import TOKENIZER
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.checkpoint.configuration import is_classifier, read_position_limit
from quoit_export.checkpoint.contracts import CheckpointFiles, read_contract, read_files, read_max_tokens
from quoit_export.checkpoint.json_files import read_json
from quoit_export.checkpoint.modules import Modules, read_modules
from quoit_export.checkpoint.templates import read_template
from quoit_export.errors import CheckpointError
from quoit_export.families import read_architecture
from quoit_export.graph.architecture import Architecture
from random_checkpoint import RERANK_TEMPLATE

ROPE = {"rope_type": "default", "rope_theta": 1e6}
VALUES = JSON_VALUES | st.sampled_from(
    ["Qwen3ForCausalLM", ["Qwen3ForCausalLM"], "default", ROPE, [ROPE], "silu", math.inf, math.nan, 1e-320]
)


MAX_LAYERS = 10_000


def read_numbers(config: dict[str, Any], folder: Path) -> Architecture:
    """The architecture, of a size that is no attack on memory: there are eleven tensors a layer."""
    numbers = read_architecture(config, folder)
    assert numbers.attention.num_hidden_layers <= MAX_LAYERS
    assert 2 <= read_position_limit(config, folder) < 2**63
    return numbers


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, byte_checkpoint_folder: Path) -> Path:
    """A copy of the byte checkpoint."""
    copy = tmp_path_factory.mktemp("damaged") / "checkpoint"
    shutil.copytree(byte_checkpoint_folder, copy)
    return copy


@pytest.fixture(scope="module")
def config(byte_checkpoint_folder: Path) -> dict[str, Any]:
    """The sound config.json."""
    found: dict[str, Any] = json.loads((byte_checkpoint_folder / "config.json").read_text())
    return found | {"rope_scaling": None, "tie_word_embeddings": True, "architectures": ["Qwen3Model"]}


@fuzz(1500)
@given(st.data())
def test_a_configuration_gives_positive_finite_numbers_or_is_refused(
    config: dict[str, Any], data: st.DataObject
) -> None:
    mutated = data.draw(mutated_json(config, VALUES))
    if not isinstance(mutated, dict):
        return
    try:
        numbers = read_numbers(mutated, Path("checkpoint"))
        is_classifier(mutated)
    except CheckpointError as error:
        assert "checkpoint" in str(error)  # noqa: PT017
        return
    values = [value for value in numbers.family.config.values() if not isinstance(value, str)]
    assert all(value > 0 and math.isfinite(value) for value in values)
    assert len(values) == 9
    assert len(numbers.tensors) == 2 + 11 * numbers.attention.num_hidden_layers


@pytest.mark.parametrize(
    "changes",
    [
        {"rms_norm_eps": 10**400},
        {"rms_norm_eps": math.inf},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10**400}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": math.inf}},
        {"architectures": 5, "rms_norm_eps": 0},
        {"max_position_embeddings": 10**400},
        {"num_hidden_layers": 10**9},
    ],
    ids=lambda changes: f"{changes!s:.60}",
)
def test_numbers_beyond_measure_are_refused_at_once(folder: Path, config: dict[str, Any], changes: Any) -> None:
    """Before anything is made of them, such as the names of a billion layers."""
    with pytest.raises(CheckpointError):
        read_numbers(config | changes, folder)


@pytest.mark.parametrize("architectures", [5, 0.5, True, "Qwen3ForCausalLM"])
def test_architectures_that_are_no_list_are_refused(
    folder: Path, config: dict[str, Any], architectures: object
) -> None:
    with pytest.raises(CheckpointError, match="architectures"):
        read_architecture(config | {"architectures": architectures}, folder)


@fuzz(300)
@given(st.data())
def test_a_checkpoint_with_any_configuration_is_opened_or_refused(
    folder: Path, config: dict[str, Any], data: st.DataObject
) -> None:
    document = data.draw(mutated_json(config, VALUES | st.integers(0, 40)))
    (folder / "config.json").write_text(json.dumps(document))
    task: Any = data.draw(st.sampled_from(["embedding", "rerank", None]))
    try:
        if isinstance(document, dict):
            read_numbers(document, folder)
        checkpoint = open_checkpoint(str(folder), task=task)
    except CheckpointError as error:
        assert str(folder) in str(error)  # noqa: PT017
        return
    assert checkpoint.tensor("norm.weight").shape == (checkpoint.architecture.dimension,)


MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]
ODD_PATHS = st.sampled_from(["..", "/", "\0", "a" * 300, "/etc", "1_Pooling/", "."])


TEMPLATES = [
    RERANK_TEMPLATE,
    RERANK_TEMPLATE.replace("first", "last"),
    "{{ messages[0].content * 10**9 }}",
    "{% for i in range(10**9) %}{% endfor %}",
    "{{ raise_exception('no') }}",
    "{{ ''.__class__.__mro__ }}",
    "{% include '/etc/passwd' %}",
]


@fuzz(700)
@given(st.data())
def test_modules_and_prompts_are_understood_or_refused(
    folder: Path, config: dict[str, Any], data: st.DataObject
) -> None:
    modules = data.draw(mutated_json(MODULES, VALUES | ODD_PATHS))
    prompts = data.draw(mutated_json({"prompts": {"query": "a", "document": ""}, "default_prompt_name": "a"}, VALUES))
    settings = data.draw(mutated_json({"max_seq_length": 64, "do_lower_case": False}, VALUES))
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    try:
        found = read_modules(folder)
        assert all(isinstance(text, str) for text in found.prompts.values())
        assert found.default_prompt_name is None or found.default_prompt_name in found.prompts
        assert folder in (found.transformer, found.transformer.parent)
        assert read_max_tokens(CheckpointFiles(found, config, Tokenizer(BPE()), {}, None)) >= 2
    except CheckpointError as error:
        assert str(folder) in str(error)  # noqa: PT017


@fuzz(300)
@given(st.text(alphabet="{}%|" + "abc \n'\"", max_size=40) | st.sampled_from(TEMPLATES), JSON_VALUES)
def test_any_template_renders_pairs_or_is_none(folder: Path, template: str, settings: object) -> None:
    (folder / "chat_template.jinja").write_text(template)
    found = read_template(folder, {"chat_template": settings, "eos_token": settings}, {})
    assert found is None or found.official


@fuzz(400)
@given(st.binary(max_size=60) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_json_object_or_refused(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    try:
        assert isinstance(read_json(folder / "config.json"), dict)
    except CheckpointError as error:
        assert "config.json" in str(error)  # noqa: PT017


@pytest.mark.parametrize("depth", [1_000, 100_000])
@pytest.mark.parametrize("name", ["config.json", "modules.json", TOKENIZER, "config_sentence_transformers.json"])
def test_deep_nesting_is_refused(folder: Path, name: str, depth: int) -> None:
    (folder / name).write_text("[" * depth + "]" * depth)
    with pytest.raises(CheckpointError, match=name):
        open_checkpoint(str(folder))


@fuzz(600)
@given(st.data())
def test_any_tokenizer_is_read_or_refused(folder: Path, config: dict[str, Any], data: st.DataObject) -> None:
    sound = (folder.parent / "sound.json") if (folder.parent / "sound.json").exists() else folder / TOKENIZER
    content = sound.read_bytes()
    if sound.name != "sound.json":
        (folder.parent / "sound.json").write_bytes(content)
    texts = mutated_json(json.loads(content), VALUES | TEXTS).map(lambda value: json.dumps(value).encode())
    (folder / TOKENIZER).write_bytes(data.draw(damaged(content) | texts | texts))
    for task in ("embedding", "rerank"):
        try:
            files = read_files(Modules(folder, folder), config, task)
            read_contract(files, task, dimension=96, max_tokens=2048)
        except CheckpointError as error:
            assert TOKENIZER in str(error)  # noqa: PT017


@fuzz(400)
@given(st.data())
def test_damaged_weights_are_read_as_finite_numbers_or_refused(
    folder: Path, byte_checkpoint_folder: Path, data: st.DataObject
) -> None:
    """Damage lies in the header as often as in the tensors; a header tells the truth, or is refused."""
    sound = (byte_checkpoint_folder / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(sound[:8], "little")
    if data.draw(st.booleans()):
        content = data.draw(damaged(sound[:header])) + sound[header:]
    else:
        content = data.draw(damaged(sound))
    (folder / "model.safetensors").write_bytes(content)
    try:
        checkpoint = open_checkpoint(str(folder))
        for name, shape in checkpoint.architecture.tensors.items():
            values = checkpoint.tensor(name)
            assert values.shape == shape
            assert np.isfinite(values.astype(np.float32)).all()
    except CheckpointError as error:
        assert str(folder) in str(error)  # noqa: PT017


@fuzz(300)
@given(st.data())
def test_any_index_of_shards_is_followed_within_the_folder_or_refused(folder: Path, data: st.DataObject) -> None:
    shards = st.sampled_from(["b.safetensors", "../b.safetensors", "", ".", "\0", "a" * 300, "/etc/passwd"])
    sound = {"metadata": {}, "weight_map": {"norm.weight": "b.safetensors", "a": "b.safetensors"}}
    index = data.draw(mutated_json(sound, JSON_VALUES | shards))
    if (folder / "model.safetensors").exists():
        (folder / "model.safetensors").rename(folder / "b.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    try:
        checkpoint = open_checkpoint(str(folder))
    except CheckpointError as error:
        assert str(folder) in str(error)  # noqa: PT017
        return
    assert all(stored.file.parent == folder for stored in checkpoint.files.values())
