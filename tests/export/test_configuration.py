"""What a checkpoint's JSON files may say, and how a refusal names what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, processors

from quoit.artifact import TOKENIZER, Task
from quoit.text.prompts import DEFAULT_TASK
from quoit_export.checkpoint.configuration import is_classifier, read_position_limit
from quoit_export.checkpoint.contracts import CheckpointFiles, recognise_task
from quoit_export.checkpoint.json_files import read_json
from quoit_export.checkpoint.modules import read_modules
from quoit_export.checkpoint.templates import read_template
from quoit_export.checkpoint.tokenizer_files import read_answer_id, read_end_token_id, read_tokenizer
from quoit_export.errors import CheckpointError
from quoit_export.families import read_architecture
from quoit_export.families.qwen3.tokenizer import TOKENIZER_RULES
from qwen3_tokenizer import END_TOKEN
from random_checkpoint import PROMPTS, write_rerank_template, write_sentence_transformers_files
from support import SMALL, byte_tokenizer, edit_json

FOLDER = Path("some/checkpoint")


@pytest.fixture
def config(checkpoint_folder: Path) -> dict[str, Any]:
    """config.json as transformers 5 writes it."""
    return read_json(checkpoint_folder / "config.json")


@pytest.fixture
def older_config(config: dict[str, Any]) -> dict[str, Any]:
    """The same model's config.json as transformers 4 writes it."""
    del config["rope_parameters"]
    config["torch_dtype"] = config.pop("dtype")
    return config | {"rope_theta": 1_000_000, "rope_scaling": None}


@pytest.fixture
def modules_folder(tmp_path: Path) -> Path:
    """A folder with sentence-transformers' files only."""
    write_sentence_transformers_files(tmp_path, 64)
    return tmp_path


def edit_modules(folder: Path, *modules: dict[str, Any]) -> None:
    (folder / "modules.json").write_text(json.dumps(modules))


def test_both_styles_of_config_give_the_same_architecture(config: dict[str, Any]) -> None:
    newer = read_architecture(dict(config), FOLDER)
    assert "rope_theta" in config["rope_parameters"]
    assert "rope_theta" not in config
    assert newer == read_architecture(_as_older(config), FOLDER)
    assert newer.family.config == {name: value for name, value in SMALL.items() if name in newer.family.config}
    assert newer.family.name == "qwen3"


def _as_older(config: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in config.items() if key != "rope_parameters"}
    return rest | {"rope_theta": config["rope_parameters"]["rope_theta"], "rope_scaling": None}


def test_a_whole_number_is_as_good_a_theta_as_a_fraction(older_config: dict[str, Any]) -> None:
    assert older_config["rope_theta"] == 1_000_000
    found = read_architecture(older_config, FOLDER).attention.rope_theta
    assert found == 1e6
    assert type(found) is float


def test_another_theta_is_read_in_both_styles(config: dict[str, Any], older_config: dict[str, Any]) -> None:
    newer = read_architecture(older_config | {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, FOLDER)
    assert newer.attention.rope_theta == 5e5
    assert read_architecture(older_config | {"rope_theta": 10_000.0}, FOLDER).attention.rope_theta == 1e4


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_default_rope_scaling_is_no_scaling(older_config: dict[str, Any], key: str) -> None:
    assert read_architecture(older_config | {key: {"rope_type": "default"}}, FOLDER).attention.rope_theta == 1e6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "qwen2"}, r"some/checkpoint has model_type 'qwen2'; .*'qwen3'"),
        ({"model_type": "qwen3_moe"}, "model_type 'qwen3_moe'"),
        ({"model_type": None}, "model_type None"),
        ({"hidden_act": "gelu"}, "sets hidden_act to 'gelu'"),
        ({"attention_bias": True}, "sets attention_bias to True"),
        ({"use_sliding_window": True}, "sets use_sliding_window to True"),
        ({"quantization_config": {"quant_method": "gptq"}}, "sets quantization_config to .*gptq"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "asks for 'yarn' RoPE scaling"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "asks for 'linear' RoPE scaling"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}}, "asks for 'yarn' RoPE scaling"),
        ({"num_key_value_heads": 3}, r"num_attention_heads \(4\) .*multiple of num_key_value_heads \(3\)"),
        ({"head_dim": 20}, r"head_dim \(20\) of 16"),
    ],
)
def test_what_the_graph_cannot_represent_is_refused(
    config: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_architecture(config | changes, FOLDER)


@pytest.mark.parametrize(
    "name",
    [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
    ],
)
@pytest.mark.parametrize("value", [None, 0, -1, True, 64.0, "64", [64]])
def test_a_size_that_is_no_positive_whole_number_is_named(config: dict[str, Any], name: str, value: object) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_architecture(config | {name: value}, FOLDER)
    assert f"{name}={value!r}" in str(caught.value)


@pytest.mark.parametrize("name", ["rms_norm_eps", "rope_theta"])
@pytest.mark.parametrize("value", [None, 0, -1e-6, True, float("nan"), "1e6"])
def test_a_constant_that_is_no_positive_number_is_named(older_config: dict[str, Any], name: str, value: object) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_architecture(older_config | {name: value}, FOLDER)
    assert f"{name}={value!r}" in str(caught.value)


def test_all_wrong_numbers_are_named_at_once(config: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"hidden_size=None, head_dim=-32, rms_norm_eps=None"):
        read_architecture(config | {"hidden_size": None, "head_dim": -32, "rms_norm_eps": None}, FOLDER)


@pytest.mark.parametrize("key", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("value", ["yarn", ["yarn"]])
def test_rope_settings_of_another_kind_are_refused(config: dict[str, Any], key: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=key):
        read_architecture(config | {key: value}, FOLDER)


def test_the_context_length_is_read(config: dict[str, Any]) -> None:
    assert read_position_limit(config, FOLDER) == 32_768


@pytest.mark.parametrize("value", [None, 1, -5, True, 32_768.0, "32768"])
def test_a_context_length_that_is_none_is_named(config: dict[str, Any], value: object) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_position_limit(config | {"max_position_embeddings": value}, FOLDER)
    assert f"max_position_embeddings {value!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"model_type": "qwen3"', "is not valid JSON"),
        (b"\xff\xfe", "is not valid JSON"),
        (b"[]", "holds no JSON object"),
        (None, "is missing"),
    ],
)
def test_a_json_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_json(file)
    assert str(file) in str(caught.value)


def test_prompts_are_the_checkpoints_own(modules_folder: Path) -> None:
    found = read_modules(modules_folder)
    assert found.prompts == PROMPTS
    assert found.prompts["query"] == f"Instruct: {DEFAULT_TASK}\nQuery:"
    assert found.default_prompt_name is None


def test_a_file_without_prompts_says_that_there_are_none(modules_folder: Path) -> None:
    """As in sentence-transformers; without the file, a query has the official prompt."""
    file = modules_folder / "config_sentence_transformers.json"
    file.write_text('{"similarity_fn_name": "cosine"}')
    assert read_modules(modules_folder).prompts == {"query": "", "document": ""}
    file.unlink()
    assert read_modules(modules_folder).prompts == {}


@pytest.mark.parametrize("prompts", [{"query": 5}, {"query": ["a"]}, ["query"], "query"])
def test_prompts_that_are_not_text_are_refused(modules_folder: Path, prompts: object) -> None:
    edit_json(modules_folder / "config_sentence_transformers.json", prompts=prompts)
    found = read_modules(modules_folder)
    with pytest.raises(CheckpointError, match="prompts that are not text"):
        _ = found.prompts


def test_last_token_pooling_is_accepted_in_both_spellings(modules_folder: Path) -> None:
    assert read_modules(modules_folder).task == "embedding"
    (modules_folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "lasttoken"}')
    assert read_modules(modules_folder).task == "embedding"


def test_a_checkpoint_without_modules_has_nothing_to_check(tmp_path: Path) -> None:
    assert read_modules(tmp_path).task is None


def test_a_dense_module_is_refused(modules_folder: Path) -> None:
    modules = json.loads((modules_folder / "modules.json").read_text())
    dense: dict[str, Any] = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    edit_modules(modules_folder, *modules, dense)
    with pytest.raises(CheckpointError, match="has a Dense module"):
        read_modules(modules_folder)


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_mean_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_lasttoken": False},
        {"pooling_mode": "mean"},
        {},
        {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": True},
    ],
    ids=["mean", "cls", "mean-by-name", "unsaid", "lasttoken-and-mean"],
)
def test_any_other_pooling_is_refused(modules_folder: Path, pooling: dict[str, object]) -> None:
    """Two modes at once mean two vectors side by side, which is another pooling too."""
    (modules_folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    with pytest.raises(CheckpointError, match="does not pool the last token"):
        read_modules(modules_folder)


def test_a_pooling_module_without_its_configuration_is_refused(modules_folder: Path) -> None:
    (modules_folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"1_Pooling.config\.json is missing"):
        read_modules(modules_folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not valid JSON"), ("{}", "no list of modules"), ('["Pooling"]', "no list of modules")],
)
def test_modules_that_cannot_be_read_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        read_modules(tmp_path)


def recognise(folder: Path, architectures: list[str] | None, *, appends: bool, asked: Task | None = None) -> Task:
    """The task of a folder with a tokenizer that appends an end token, or none."""
    tokenizer = byte_tokenizer()
    if not appends:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    config = {"architectures": architectures}
    files = CheckpointFiles(read_modules(folder), config, tokenizer, {}, read_template(folder, {}, {}))
    return recognise_task(files, asked)


@pytest.mark.parametrize("appends", [True, False])
@pytest.mark.parametrize("architecture", ["Qwen3Model", "Qwen3ForCausalLM"])
def test_pooling_makes_an_embedding_model(modules_folder: Path, architecture: str, *, appends: bool) -> None:
    """Qwen3-Embedding's own config.json says Qwen3ForCausalLM."""
    assert recognise(modules_folder, [architecture], appends=appends) == "embedding"
    with pytest.raises(CheckpointError, match="leave --task out"):
        recognise(modules_folder, [architecture], appends=appends, asked="rerank")


@pytest.mark.parametrize("architectures", [["Qwen3Model"], ["Qwen3ForCausalLM"], [], None])
def test_an_appended_end_token_makes_an_embedding_model(tmp_path: Path, architectures: list[str] | None) -> None:
    assert recognise(tmp_path, architectures, appends=True) == "embedding"


@pytest.mark.parametrize("appends", [True, False])
@pytest.mark.parametrize("architecture", ["Qwen3ForCausalLM", "Qwen3ForSequenceClassification"])
def test_the_official_template_makes_a_reranker(tmp_path: Path, architecture: str, *, appends: bool) -> None:
    write_rerank_template(tmp_path)
    assert recognise(tmp_path, [architecture], appends=appends) == "rerank"


@pytest.mark.parametrize(
    "architectures", [["Qwen3Model"], ["Qwen3ForCausalLM"], ["Qwen3ForSequenceClassification"], [], None]
)
def test_an_ambiguous_checkpoint_asks_for_its_task(tmp_path: Path, architectures: list[str] | None) -> None:
    with pytest.raises(
        CheckpointError, match=r"use --task embedding, or --task rerank, and see in its warning which template"
    ):
        recognise(tmp_path, architectures, appends=False)
    assert recognise(tmp_path, architectures, appends=False, asked="rerank") == "rerank"
    assert recognise(tmp_path, architectures, appends=False, asked="embedding") == "embedding"


def test_the_end_token_is_what_the_tokenizer_appends(checkpoint_folder: Path, tokenizer: Tokenizer) -> None:
    assert read_end_token_id(tokenizer, checkpoint_folder) == tokenizer.token_to_id(END_TOKEN) == 151_643


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(checkpoint_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="token ids up to 151668, but the model has 151668 embeddings"):
        read_tokenizer(checkpoint_folder, 151_668, {}, TOKENIZER_RULES)


def test_a_tokenizer_smaller_than_the_vocabulary_is_accepted(checkpoint_folder: Path) -> None:
    """The official checkpoints pad their table to 151,936 rows."""
    assert read_tokenizer(checkpoint_folder, 151_936, {}, TOKENIZER_RULES).token_to_id(END_TOKEN) == 151_643


def small_tokenizer(template: str | None) -> Tokenizer:
    """The genuine tokenizer's kind with a handful of ids, and the post-processor asked for."""
    content: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [],
        "model": {"type": "BPE", "vocab": {"a": 0, END_TOKEN: 1}, "merges": []},
    }
    tokenizer = Tokenizer.from_str(json.dumps(content))
    if template is not None:
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=[(END_TOKEN, 1)])
    return tokenizer


def test_a_small_tokenizer_that_appends_an_end_token_is_read() -> None:
    assert read_end_token_id(small_tokenizer(f"$A {END_TOKEN}"), FOLDER) == 1


@pytest.mark.parametrize(
    ("template", "count"),
    [(None, 0), ("$A", 0), (f"$A {END_TOKEN} {END_TOKEN}", 2), (f"{END_TOKEN} $A {END_TOKEN}", 2)],
)
def test_a_tokenizer_that_appends_no_single_end_token_is_refused(template: str | None, count: int) -> None:
    with pytest.raises(CheckpointError, match=f"appends {count} tokens to a text instead of one") as caught:
        read_end_token_id(small_tokenizer(template), FOLDER)
    assert str(FOLDER / TOKENIZER) in str(caught.value)


def test_a_tokenizer_that_puts_its_token_first_is_refused() -> None:
    """The last token would be the text's own, which the model was not trained to pool."""
    with pytest.raises(CheckpointError, match="end token"):
        read_end_token_id(small_tokenizer(f"{END_TOKEN} $A"), FOLDER)


@pytest.mark.parametrize(("word", "number"), [("yes", 9693), ("no", 2152)])
def test_an_answer_is_the_id_of_the_bare_word(tokenizer: Tokenizer, word: str, number: int) -> None:
    """Neither with a space before it, nor with what the tokenizer appends."""
    assert read_answer_id(tokenizer, FOLDER, word) == tokenizer.token_to_id(word) == number


def test_an_answer_that_is_not_a_single_token_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json makes 2 tokens of 'yes no'"):
        read_answer_id(tokenizer, FOLDER, "yes no")


@pytest.mark.parametrize(
    ("architectures", "classifies"),
    [(["Qwen3ForSequenceClassification"], True), (["Qwen3ForCausalLM"], False), ([], False), (None, False)],
)
def test_a_classifier_is_known_by_its_architecture(architectures: list[str] | None, classifies: bool) -> None:
    assert is_classifier({"architectures": architectures}) is classifies


@pytest.mark.parametrize(("content", "message"), [("{}", "no readable tokenizer"), (None, "is missing")])
def test_a_tokenizer_that_cannot_be_read_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / TOKENIZER).write_text(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_tokenizer(tmp_path, 2, {}, TOKENIZER_RULES)
    assert str(tmp_path / TOKENIZER) in str(caught.value)
