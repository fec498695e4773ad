"""Opening a checkpoint: what is the same model, and what is refused before a byte is written."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from hub import COMMIT, Hub, files_of, point_at
from oracle import make_classifier, make_model, make_reranker, save_checkpoint, save_rerank_checkpoint
from quoit.artifact import Artifact, EmbeddingContract, RerankContract
from quoit.text.prompts import DEFAULT_TASK, RERANK_PREFIX, RERANK_SUFFIX
from quoit_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from quoit_export.errors import CheckpointError
from random_checkpoint import PROMPTS
from support import edit_json, without_modules

Tensors = dict[str, NDArray[Any]]
SHARD = "model.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def model() -> Any:
    """A model that is small but for its genuine vocabulary."""
    return make_model(hidden_size=32, num_hidden_layers=2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path, model: Any) -> Path:
    """The model in one file. Read-only."""
    return save_checkpoint(tmp_path_factory.mktemp("whole") / "model", tokenizer_file, model)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path, model: Any) -> Path:
    """The model in several files and an index. Read-only."""
    folder = tmp_path_factory.mktemp("sharded") / "model"
    return save_checkpoint(folder, tokenizer_file, model, shard_size="50KB")


def copy_checkpoint(source: Path, target: Path) -> Path:
    """A copy to change; its tokenizer and shards are links, to be replaced and never written to."""

    def copy(file: str, to: str) -> None:
        if file.endswith((".safetensors", "tokenizer.json")):
            os.link(file, to)
        else:
            shutil.copyfile(file, to)

    shutil.copytree(source, target, copy_function=copy)
    return target


def rewrite(source: Path, target: Path, change: Callable[[Tensors], object]) -> Path:
    """A copy of an unsharded checkpoint with other tensors."""
    copy_checkpoint(source, target)
    tensors = load_file(source / SHARD)
    change(tensors)
    (target / SHARD).unlink()
    save_file(tensors, target / SHARD, metadata={"format": "pt"})
    return target


def assert_same_tensors(found: Checkpoint, expected: Checkpoint) -> None:
    assert set(expected.files) <= set(found.files)
    for name in expected.files:
        values, wanted = found.tensor(name), expected.tensor(name)
        assert values.dtype == wanted.dtype
        np.testing.assert_array_equal(values.view(np.uint16), wanted.view(np.uint16))


def test_every_tensor_is_there_in_its_stored_dtype(whole: Path, model: Any) -> None:
    checkpoint = open_checkpoint(str(whole))
    stored = dict(model.named_parameters())
    assert set(checkpoint.files) == set(checkpoint.architecture.tensors) == set(stored)
    for name, parameter in stored.items():
        values = checkpoint.tensor(name)
        assert values.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(values.astype(np.float32), parameter.detach().float().numpy())


def test_what_the_files_say_is_on_the_record(whole: Path) -> None:
    checkpoint = open_checkpoint(str(whole))
    assert checkpoint.source.id == "model"
    assert checkpoint.source.revision is None
    assert checkpoint.max_tokens == 32_768
    assert checkpoint.contract == EmbeddingContract(prompts=PROMPTS, end_token_id=151_643, min_dim=32)
    assert checkpoint.contract.default_prompt_name is None
    assert checkpoint.score_tensor is None
    assert checkpoint.tokenizer_file == whole / "tokenizer.json"


def test_shards_do_not_change_the_tensors(whole: Path, sharded: Path) -> None:
    assert len(list(sharded.glob("*.safetensors"))) > 2
    assert not (sharded / SHARD).exists()
    assert_same_tensors(open_checkpoint(str(sharded)), open_checkpoint(str(whole)))


@pytest.mark.parametrize("tied", [True, False])
def test_the_prefix_of_names_does_not_change_the_tensors(
    tmp_path: Path, whole: Path, tokenizer_file: Path, model: Any, tied: bool
) -> None:
    """A language model calls its decoder `model.`, and may have a head that an embedding does not need."""
    config = Qwen3Config(**{**model.config.to_dict(), "tie_word_embeddings": tied})
    outer: Any = Qwen3ForCausalLM(config)
    outer.to(torch.bfloat16)
    outer.model.load_state_dict(model.state_dict())
    folder = save_checkpoint(tmp_path / "outer", tokenizer_file, outer)
    stored = set(load_file(folder / SHARD))
    assert ("lm_head.weight" in stored) is not tied
    assert all(name.startswith("model.") for name in stored - {"lm_head.weight"})
    found = open_checkpoint(str(folder))
    assert isinstance(found.contract, EmbeddingContract)
    assert_same_tensors(found, open_checkpoint(str(whole)))


def test_the_source_is_the_weights_not_the_folder(tmp_path: Path, whole: Path) -> None:
    moved = copy_checkpoint(whole, tmp_path / "moved")
    other = rewrite(whole, tmp_path / "other", lambda tensors: tensors["norm.weight"].__imul__(2))
    first = open_checkpoint(str(whole)).source.weights_sha256
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert open_checkpoint(str(moved)).source.weights_sha256 == first
    assert open_checkpoint(str(other)).source.weights_sha256 != first


def test_a_missing_shard_is_named(tmp_path: Path, sharded: Path) -> None:
    folder = copy_checkpoint(sharded, tmp_path / "copy")
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"{shard} is missing; .* is not a complete checkpoint"):
        open_checkpoint(str(folder))


def test_a_folder_without_weights_is_refused(tmp_path: Path, whole: Path) -> None:
    folder = copy_checkpoint(whole, tmp_path / "copy")
    (folder / SHARD).unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_folder_without_a_needed_file_is_refused(tmp_path: Path, whole: Path, name: str) -> None:
    folder = copy_checkpoint(whole, tmp_path / "copy")
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        open_checkpoint(str(folder))


def test_missing_tensors_are_named(tmp_path: Path, whole: Path) -> None:
    gone = ("layers.1.mlp.up_proj.weight", "layers.0.self_attn.q_norm.weight")
    folder = rewrite(whole, tmp_path / "copy", lambda tensors: [tensors.pop(name) for name in gone])
    with pytest.raises(CheckpointError, match="lacks 2 of 24 tensors") as caught:
        open_checkpoint(str(folder))
    assert all(name in str(caught.value) for name in gone)


def test_many_missing_tensors_are_counted_and_abbreviated(tmp_path: Path, whole: Path) -> None:
    folder = copy_checkpoint(whole, tmp_path / "copy")
    edit_json(folder / "config.json", num_hidden_layers=4)
    with pytest.raises(CheckpointError, match=r"lacks 22 of 46 tensors: layers\.2\..*, …; is it complete\?"):
        open_checkpoint(str(folder))


def test_a_wrong_shape_is_named_with_both_shapes(tmp_path: Path, whole: Path) -> None:
    folder = copy_checkpoint(whole, tmp_path / "copy")
    edit_json(folder / "config.json", intermediate_size=208)
    with pytest.raises(CheckpointError, match=r"mlp\.gate_proj\.weight has shape \[224, 32\].*\[208, 32\]"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(
    "name", ["layers.0.self_attn.q_proj.lora_A.weight", "layers.2.mlp.up_proj.weight", "layers.0.self_attn.q_proj.bias"]
)
def test_extra_tensors_are_named(tmp_path: Path, whole: Path, name: str) -> None:
    extra = np.ones(4, ml_dtypes.bfloat16)
    folder = rewrite(whole, tmp_path / "copy", lambda tensors: tensors.update({name: extra}))
    with pytest.raises(CheckpointError, match=f"holds 1 tensors that .* does not have: {re.escape(name)}"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(("dtype", "stored"), [(np.int8, "I8"), (np.int32, "I32"), (np.float64, "F64")])
def test_another_dtype_is_named(tmp_path: Path, whole: Path, dtype: Any, stored: str) -> None:
    name = "layers.1.mlp.down_proj.weight"
    folder = rewrite(
        whole, tmp_path / "copy", lambda tensors: tensors.update({name: np.ones_like(tensors[name], dtype)})
    )
    with pytest.raises(CheckpointError, match=f"{name} is stored as {stored}; quoit reads BF16, F16, F32"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_other_floats_are_read_as_stored(tmp_path: Path, whole: Path, dtype: Any) -> None:
    folder = rewrite(
        whole,
        tmp_path / "copy",
        lambda tensors: tensors.update({name: values.astype(dtype) for name, values in tensors.items()}),
    )
    assert open_checkpoint(str(folder)).tensor("norm.weight").dtype == dtype


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_tensor_that_is_not_finite_is_named(tmp_path: Path, whole: Path, value: float) -> None:
    name = "layers.0.mlp.up_proj.weight"

    def damage(tensors: Tensors) -> None:
        tensors[name][3, 5] = value

    checkpoint = open_checkpoint(str(rewrite(whole, tmp_path / "copy", damage)))
    assert np.isfinite(checkpoint.tensor("norm.weight").astype(np.float32)).all()
    with pytest.raises(CheckpointError, match=f"{name} in .* holds NaN or infinity"):
        checkpoint.tensor(name)


def test_a_signaling_nan_is_named_and_warns_of_nothing(tmp_path: Path, whole: Path) -> None:
    """Its bits are 0x7f81 in bfloat16; a processor may report an invalid operation where it is looked at."""
    name = "layers.0.mlp.up_proj.weight"

    def damage(tensors: Tensors) -> None:
        tensors[name] = tensors[name].astype(ml_dtypes.bfloat16)
        tensors[name].view(np.uint16)[3, 5] = 0x7F81

    checkpoint = open_checkpoint(str(rewrite(whole, tmp_path / "copy", damage)))
    with pytest.raises(CheckpointError, match=f"{name} in .* holds NaN or infinity"):
        checkpoint.tensor(name)


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_a_truncated_file_is_named(tmp_path: Path, whole: Path, keep: int) -> None:
    folder = copy_checkpoint(whole, tmp_path / "copy")
    content = (whole / SHARD).read_bytes()[:keep]
    (folder / SHARD).unlink()
    (folder / SHARD).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{folder / SHARD} is no readable safetensors file"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("shard", ["../x.safetensors", "/x.safetensors", "inner/x.safetensors", ".."])
def test_an_index_cannot_name_files_outside_its_folder(tmp_path: Path, sharded: Path, shard: str) -> None:
    folder = copy_checkpoint(sharded, tmp_path / "copy")
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    edit_json(folder / INDEX, weight_map=weight_map | {"norm.weight": shard})
    shutil.copyfile(sorted(folder.glob("*.safetensors"))[0], tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"names shards outside|is missing"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("weight_map", [None, [], {"norm.weight": 1}])
def test_an_index_without_a_map_is_refused(tmp_path: Path, sharded: Path, weight_map: object) -> None:
    folder = copy_checkpoint(sharded, tmp_path / "copy")
    edit_json(folder / INDEX, weight_map=weight_map)
    with pytest.raises(CheckpointError, match="has no weight_map"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(
    "name", ["no/such/folder", "no-such-folder", "/no/such", "a b/c", "./model", "../model", "~/model", ".models/model"]
)
def test_a_name_that_is_no_folder_and_no_hub_id_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"^{re.escape(name)} is no folder, and no hub id"):
        open_checkpoint(name)


def test_a_name_below_a_folder_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `models/typo` has the form of a hub id, so the hub would be asked for it."""
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    message = (
        r"^models/typo is no folder, and is not looked up on the hub because the folder models exists here; correct "
        r"the path, or run the command in another folder$"
    )
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint("models/typo")


def test_a_file_is_no_checkpoint(whole: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is no folder, .* \(it is a file; name the folder that it lies in\)"):
        open_checkpoint(str(whole / SHARD))


def test_an_artifact_is_no_checkpoint(byte_artifact: Artifact) -> None:
    folder = byte_artifact.folder
    with pytest.raises(CheckpointError, match=f"{folder} is an artifact already.*; run it with `quoit info {folder}`"):
        open_checkpoint(str(folder))


def test_a_local_folder_has_no_revision(whole: Path) -> None:
    with pytest.raises(CheckpointError, match="is a local folder, which has no revision 'main'"):
        open_checkpoint(str(whole), revision="main")


def test_an_offline_hub_is_an_error_with_a_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"cannot fetch some/model from the hub .*path of a local folder"):
        open_checkpoint("some/model")


def test_a_hub_that_refuses_connections_is_an_error_with_a_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The discard port of this machine stands for an unreachable hub."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="cannot fetch some/model from the hub"):
        open_checkpoint("some/model")


@pytest.fixture
def fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Checkpoint]]:
    """Opens what tmp_path / "repository" holds, through a hub on this machine."""
    hub = Hub()
    with hub.serving() as endpoint:
        point_at(endpoint, monkeypatch.setattr, tmp_path / "cache")

        def opened() -> Checkpoint:
            hub.add(files_of(tmp_path / "repository"))
            return open_checkpoint("some/model")

        yield opened


def test_a_checkpoint_of_the_hub_is_fetched(tmp_path: Path, whole: Path, fetch: Callable[[], Checkpoint]) -> None:
    folder = without_modules(copy_checkpoint(whole, tmp_path / "repository"))
    shutil.rmtree(folder / "1_Pooling", ignore_errors=True)
    (folder / "README.md").write_text("not needed")
    checkpoint = fetch()
    assert (checkpoint.source.id, checkpoint.source.revision) == ("some/model", COMMIT)
    assert not (checkpoint.folder / "README.md").exists()


def test_a_repository_without_safetensors_says_what_to_do(
    tmp_path: Path, whole: Path, fetch: Callable[[], Checkpoint]
) -> None:
    folder = without_modules(copy_checkpoint(whole, tmp_path / "repository"))
    (folder / SHARD).rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"where the hub has no safetensors of it, convert it with transformers'"):
        fetch()


def test_a_repository_with_the_older_tokenizer_files_says_what_to_do(
    tmp_path: Path, whole: Path, fetch: Callable[[], Checkpoint]
) -> None:
    folder = without_modules(copy_checkpoint(whole, tmp_path / "repository"))
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text("{}")
    (folder / "merges.txt").write_text("")
    with pytest.raises(CheckpointError, match=r"has vocab\.json and merges\.txt, and no tokenizer\.json; make it with"):
        fetch()


def test_a_task_that_the_files_leave_open_can_be_said(tmp_path: Path, plain_tokenizer_file: Path, whole: Path) -> None:
    folder = without_modules(copy_checkpoint(whole, tmp_path / "copy"))
    assert isinstance(open_checkpoint(str(folder)).contract, EmbeddingContract), "its tokenizer appends the end token"
    assert isinstance(open_checkpoint(str(folder), task="rerank").contract, RerankContract)
    (folder / "tokenizer.json").unlink()
    os.link(plain_tokenizer_file, folder / "tokenizer.json")
    with pytest.raises(CheckpointError, match="use --task embedding, or --task rerank"):
        open_checkpoint(str(folder))
    assert isinstance(open_checkpoint(str(folder), task="rerank").contract, RerankContract)


SMALLER = {"hidden_size": 32, "num_hidden_layers": 1}
YES, NO = 9693, 2152
"""The ids of `yes` and `no` in the genuine vocabulary."""


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory, plain_tokenizer_file: Path) -> Path:
    """A reranker whose head is its embeddings. Read-only."""
    folder = tmp_path_factory.mktemp("reranker") / "tied"
    return save_rerank_checkpoint(folder, plain_tokenizer_file, make_reranker(**SMALLER))


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory, plain_tokenizer_file: Path) -> Path:
    """A reranker whose head is not its embeddings. Read-only."""
    folder = tmp_path_factory.mktemp("reranker") / "untied"
    model = make_reranker(**SMALLER, tie_word_embeddings=False)
    return save_rerank_checkpoint(folder, plain_tokenizer_file, model)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory, plain_tokenizer_file: Path) -> Path:
    """A reranker with one label. Read-only."""
    folder = tmp_path_factory.mktemp("reranker") / "classifier"
    return save_rerank_checkpoint(folder, plain_tokenizer_file, make_classifier(**SMALLER))


def stored_tensor(folder: Path, name: str) -> NDArray[np.float32]:
    values: NDArray[np.float32] = load_file(folder / SHARD)[name].astype(np.float32)
    return values


def test_a_rerankers_contract_is_the_official_template_and_its_answers(reranker: Path) -> None:
    checkpoint = open_checkpoint(str(reranker))
    assert checkpoint.contract == RerankContract(RERANK_PREFIX, RERANK_SUFFIX, DEFAULT_TASK, YES, NO)
    assert checkpoint.max_tokens == 40_960


def test_a_tied_head_scores_with_the_difference_of_two_embeddings(reranker: Path) -> None:
    """As in the official checkpoints, whose head is not stored."""
    assert "lm_head.weight" not in load_file(reranker / SHARD)
    embeddings = stored_tensor(reranker, "model.embed_tokens.weight")
    score = open_checkpoint(str(reranker)).score_weight()
    assert score.dtype == np.float32
    assert score.any()
    np.testing.assert_array_equal(score, embeddings[YES] - embeddings[NO])


def test_a_stored_head_counts_where_the_configuration_calls_it_tied(tmp_path: Path, untied: Path) -> None:
    """As in transformers, which then does not tie them."""
    folder = copy_checkpoint(untied, tmp_path / "copy")
    edit_json(folder / "config.json", tie_word_embeddings=True)
    head = stored_tensor(untied, "lm_head.weight")
    np.testing.assert_array_equal(open_checkpoint(str(folder)).score_weight(), head[YES] - head[NO])


def test_an_untied_head_scores_with_its_own_rows(untied: Path) -> None:
    head, embeddings = (stored_tensor(untied, name) for name in ("lm_head.weight", "model.embed_tokens.weight"))
    score = open_checkpoint(str(untied)).score_weight()
    np.testing.assert_array_equal(score, head[YES] - head[NO])
    assert np.abs(score - (embeddings[YES] - embeddings[NO])).max() > 0.1


def test_a_config_that_does_not_say_tied_is_untied(tmp_path: Path, reranker: Path) -> None:
    """transformers' own default: the head would be missing, and its place is not taken by the embeddings."""
    folder = copy_checkpoint(reranker, tmp_path / "copy")
    edit_json(folder / "config.json", tie_word_embeddings=None)
    with pytest.raises(CheckpointError, match=r"lacks the tensor lm_head\.weight"):
        open_checkpoint(str(folder))


def test_a_classifier_scores_with_its_one_row(classifier: Path) -> None:
    checkpoint = open_checkpoint(str(classifier))
    np.testing.assert_array_equal(checkpoint.score_weight(), stored_tensor(classifier, "score.weight")[0])
    contract = checkpoint.contract
    assert isinstance(contract, RerankContract)
    assert contract.yes_token_id is contract.no_token_id is None


def test_a_classifier_with_two_labels_is_refused(tmp_path: Path, plain_tokenizer_file: Path) -> None:
    folder = save_rerank_checkpoint(tmp_path / "two", plain_tokenizer_file, make_classifier(labels=2, **SMALLER))
    with pytest.raises(CheckpointError, match=r"score\.weight has shape \[2, 32\], .*\[1, 32\]"):
        open_checkpoint(str(folder))


def test_a_head_of_another_vocabulary_is_refused(tmp_path: Path, untied: Path) -> None:
    def shorten(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = tensors["lm_head.weight"][:-1].copy()

    folder = rewrite(untied, tmp_path / "copy", shorten)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight has shape \[151668, 32\]"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("row", [YES, NO])
def test_a_head_that_is_not_finite_is_named(tmp_path: Path, untied: Path, row: int) -> None:
    def damage(tensors: Tensors) -> None:
        tensors["lm_head.weight"][row, 3] = np.nan

    checkpoint = open_checkpoint(str(rewrite(untied, tmp_path / "copy", damage)))
    with pytest.raises(CheckpointError, match=r"lm_head\.weight in .* holds NaN or infinity"):
        checkpoint.score_weight()


@pytest.mark.parametrize(("word", "tokens"), [("yes", 3), ("no", 2)])
def test_an_answer_that_is_not_a_single_token_is_refused(
    tmp_path: Path, reranker: Path, plain_tokenizer_file: Path, word: str, tokens: int
) -> None:
    """Without its merges and its own entry, the word falls apart."""
    content = json.loads(plain_tokenizer_file.read_text())
    letters = list(word)
    content["model"]["merges"] = [
        merge for merge in content["model"]["merges"] if not set(merge) <= {*letters, word, word[1:], word[:2]}
    ]
    folder = copy_checkpoint(reranker, tmp_path / "copy")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=f"makes {tokens} tokens of '{word}', and a reranker answers with one"):
        open_checkpoint(str(folder))


def test_an_embedding_checkpoint_has_no_score(whole: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is for embedding and has no score"):
        open_checkpoint(str(whole)).score_weight()


def test_an_embedding_checkpoint_can_be_opened_as_a_reranker_when_tied(tmp_path: Path, whole: Path) -> None:
    """It has the decoder and, in its embeddings, the head; what its scores are worth is the caller's business."""
    folder = without_modules(copy_checkpoint(whole, tmp_path / "copy"))
    checkpoint = open_checkpoint(str(folder), task="rerank")
    embeddings = stored_tensor(whole, "embed_tokens.weight")
    np.testing.assert_array_equal(checkpoint.score_weight(), embeddings[YES] - embeddings[NO])


def test_an_embedding_checkpoint_without_a_head_is_no_reranker(tmp_path: Path, whole: Path) -> None:
    folder = without_modules(copy_checkpoint(whole, tmp_path / "copy"))
    edit_json(folder / "config.json", tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=r"lacks the tensor lm_head\.weight"):
        open_checkpoint(str(folder), task="rerank")


def test_a_rerankers_tokenizer_makes_no_embedding_checkpoint(reranker: Path) -> None:
    with pytest.raises(CheckpointError, match="appends 0 tokens to a text instead of one end token"):
        open_checkpoint(str(reranker), task="embedding")
