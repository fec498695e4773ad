"""Checkpoint folders as they occur: each gives what its own libraries give, or is refused by its name.

The judge is sentence-transformers on the same folder, or transformers where sentence-transformers reads it otherwise
than the model card says. quoit's answers come from its own fp32 artifact of the folder.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from tokenizers import normalizers, pre_tokenizers

from checkpoint_folders import (
    INDEX,
    PAIRS,
    SHARD,
    TEXTS,
    Change,
    Judged,
    Kit,
    Values,
    assigns,
    by_causal_model,
    by_cross_encoder,
    by_sentence_transformers,
    by_transformers,
    move_transformer,
    older_config,
    removes,
    renames,
    resave,
    sets,
    shards,
    tensors,
    tokenizer,
    whole_config,
    writes,
)
from quoit import Embedder, Reranker
from quoit.artifact import Task
from quoit.cli.main import main
from quoit.text.prompts import DEFAULT_TASK, INSTRUCTION_TEMPLATE, RERANK_PREFIX, RERANK_SUFFIX, Pair
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.errors import CheckpointError
from quoit_export.export import Request, publish
from random_checkpoint import RERANK_TEMPLATE

Base = Literal["embedding", "causal_embedding", "reranker", "classifier"]
TOLERANCE = 1e-5
PROMPTS_FILE = "config_sentence_transformers.json"
SETTINGS = "sentence_bert_config.json"
OFFICIAL_PROMPT = INSTRUCTION_TEMPLATE.format(instruction=DEFAULT_TASK)
ROPE = {"rope_type": "default", "rope_theta": 1e6}
CHAT_TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
OTHER_TEMPLATE = (
    RERANK_TEMPLATE.replace("Judge whether", "Say if")
    .replace("retrieve relevant", "find")
    .replace("<think>\n\n", "<think>")
)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit.make(tmp_path_factory.mktemp("kit"))


def make_folder(kit: Kit, base: Base, changes: tuple[Change, ...], folder: Path) -> Path:
    shutil.copytree(getattr(kit, base), folder)
    for change in changes:
        change(folder)
    return folder


def explicit_null(name: str, key: str) -> Change:
    def change(folder: Path) -> None:
        found = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(found | {key: None}))

    return change


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


@dataclass(frozen=True)
class Same:
    """A folder that is exported.

    Attributes:
        name: of the case.
        changes: what makes it of its base.
        base: one of the kit's.
        task: given to the export.
        raw: its vectors are not normalised, and quoit's neither with `normalize=False`.
    """

    name: str
    changes: tuple[Change, ...] = ()
    base: Base = "embedding"
    task: Task | None = None
    raw: bool = False


def fresh_over_stale_shards(folder: Path) -> None:
    """save_pretrained of a small model into a folder that still has the shards of an earlier save."""
    fresh = (folder / SHARD).read_bytes()
    tensors(lambda found: [value.mul_(-1) for value in found.values()])(folder)
    shards(folder)
    (folder / SHARD).write_bytes(fresh)


def lost_shards(folder: Path) -> None:
    """The index still names shards that are gone."""
    fresh_over_stale_shards(folder)
    for file in folder.glob("model-*.safetensors"):
        file.unlink()


def as_dtype(dtype: torch.dtype) -> Change:
    return tensors(lambda found: found.update({name: value.to(dtype) for name, value in found.items()}))


def pads_and_cuts(found: Any) -> None:
    found.enable_padding(length=64, pad_id=256, pad_token="<|endoftext|>")
    found.enable_truncation(64)


def lowercases(found: Any) -> None:
    found.normalizer = normalizers.Lowercase()


def prompts(**config: Any) -> Change:
    return writes(PROMPTS_FILE, config)


def with_buffers(found: dict[str, torch.Tensor]) -> None:
    for layer in range(2):
        found[f"layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(16)
    found["rotary_emb.inv_freq"] = torch.zeros(16)


NO_MODULES = removes("modules.json", "1_Pooling", PROMPTS_FILE)


def lists_added_tokens(**flags: bool) -> Change:
    """tokenizer_config.json lists the end token, with some flags otherwise."""
    known = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    return sets("tokenizer_config.json", added_tokens_decoder={"256": {"content": "<|endoftext|>", **known, **flags}})


def sets_model(**changes: Any) -> Change:
    """Sets options of tokenizer.json's model."""

    def change(folder: Path) -> None:
        found = json.loads((folder / "tokenizer.json").read_text())
        found["model"].update(changes)
        (folder / "tokenizer.json").write_text(json.dumps(found))

    return change


EMBEDDINGS = [
    Same("transformers 5 and modules"),
    Same("transformers 4.51", (older_config,)),
    Same("transformers 4.57, every attribute", (whole_config,)),
    Same("sentence-transformers 6", (resave,)),
    Same("sentence-transformers 6, saved after use", (lambda folder: resave(folder, used=True),)),
    Same("sentence-transformers 6, of a causal model", (resave,), "causal_embedding"),
    Same("the Transformer in a folder of its own", (move_transformer,)),
    Same("shards", (shards,)),
    Same("a single file over stale shards", (fresh_over_stale_shards,)),
    Same("a single file, and an index of lost shards", (lost_shards,)),
    Same("names with model.", (), "causal_embedding"),
    Same(
        "an untied head that an embedding does not need",
        (
            sets("config.json", tie_word_embeddings=False),
            tensors(lambda found: found.update({"lm_head.weight": torch.ones(512, 96)})),
        ),
        "causal_embedding",
    ),
    Same("stored rotary buffers", (tensors(with_buffers),)),
    Same("float32", (as_dtype(torch.float32),)),
    Same("float16", (as_dtype(torch.float16),)),
    Same("max_seq_length", (writes(SETTINGS, {"max_seq_length": 64, "do_lower_case": False}),)),
    Same("max_seq_length in the last of the files", (writes("sentence_xlnet_config.json", {"max_seq_length": 64}),)),
    Same("added tokens listed as they are", (lists_added_tokens(),)),
    Same(
        "added tokens listed for a tokenizer that is taken as it is",
        (lists_added_tokens(), sets("tokenizer_config.json", tokenizer_class="TokenizersBackend")),
    ),
    Same("model_max_length", (sets("tokenizer_config.json", model_max_length=64),)),
    Same(
        "max_seq_length before model_max_length",
        (writes(SETTINGS, {"max_seq_length": 64}), sets("tokenizer_config.json", model_max_length=32)),
    ),
    Same(
        "max_seq_length beyond the positions",
        (writes(SETTINGS, {"max_seq_length": 192}), sets("config.json", max_position_embeddings=128)),
    ),
    Same(
        "positions below model_max_length",
        (sets("tokenizer_config.json", model_max_length=131_072), sets("config.json", max_position_embeddings=128)),
    ),
    Same(
        "no limit but the positions",
        (writes(SETTINGS, {"max_seq_length": None}), sets("config.json", max_position_embeddings=96)),
    ),
    Same("no query prompt", (prompts(prompts={"document": "passage: "}),)),
    Same("an empty file of prompts", (prompts(),)),
    Same("no prompts, and no default", (prompts(prompts={}, default_prompt_name=None),)),
    Same("a default prompt", (prompts(prompts={"search": "search: "}, default_prompt_name="search"),)),
    Same(
        "a default prompt beside the query's",
        (prompts(prompts={"search": "search: ", "query": "q: "}, default_prompt_name="search"),),
    ),
    Same("the query prompt as the default", (prompts(prompts={"query": "q: "}, default_prompt_name="query"),)),
    Same("a passage prompt", (prompts(prompts={"passage": "p: ", "corpus": "c: ", "query": "q: "}),)),
    Same("null prompts", (prompts(prompts={"query": None, "document": None}),)),
    Same("a default prompt that is null", (prompts(prompts={"a": None, "query": "q: "}, default_prompt_name="a"),)),
    Same(
        "no Normalize module",
        (
            writes(
                "modules.json",
                [
                    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
                ],
            ),
        ),
        raw=True,
    ),
    Same("the dot product of unit vectors", (sets(PROMPTS_FILE, similarity_fn_name="dot"),)),
    Same(
        "a list of one pooling mode",
        (writes("1_Pooling/config.json", {"embedding_dimension": 96, "pooling_mode": ["lasttoken"]}),),
    ),
    Same(
        "pooling_mode before the older keys",
        (sets("1_Pooling/config.json", pooling_mode="lasttoken", pooling_mode_mean_tokens=True),),
    ),
    Same("pooling without the prompt", (sets("1_Pooling/config.json", include_prompt=False),)),
    Same("padding and truncation in tokenizer.json", (tokenizer(pads_and_cuts),)),
    Same(
        "any configuration of generation",
        (writes("generation_config.json", {"temperature": 0.6, "repetition_penalty": 2.0, "use_cache": False}),),
    ),
    Same(
        "keys that say what is so",
        (
            sets("config.json", is_causal=True, use_bidirectional_attention=False, attention_dropout=0.5, num_labels=1),
            sets("config.json", hidden_act="swish", sliding_window=16, max_window_layers=0, pad_token_id=5),
            sets("config.json", layer_types=["full_attention"] * 2, _notes="mine", use_cache=False),
            explicit_null("config.json", "something_new"),
        ),
    ),
    Same("another theta in rope_parameters", (sets("config.json", rope_theta=1e3, rope_parameters=ROPE),)),
    Same(
        "rope_scaling before rope_parameters",
        (sets("config.json", rope_theta=1e3, rope_parameters=ROPE, rope_scaling={"rope_type": "default"}),),
    ),
    Same("theta in rope_scaling", (sets("config.json", rope_scaling={"type": "default", "rope_theta": 5e3}),)),
    Same(
        "a splitting of its own",
        (sets("tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast"), tokenizer(lowercases)),
    ),
    Same("no tokenizer_config.json", (removes("tokenizer_config.json"),)),
    Same(
        "where words end at digits, with TokenizersBackend",
        (
            sets("tokenizer_config.json", tokenizer_class="TokenizersBackend", add_eos_token=True, add_bos_token=True),
            assigns("pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=False)),
        ),
    ),
]

UNJUDGED = [
    Same("a fine-tune of a causal model without modules", (NO_MODULES,), "causal_embedding"),
    Same("a bare model without modules", (NO_MODULES,)),
    Same("a bare model without modules, and its task", (NO_MODULES,), task="embedding"),
]
"""sentence-transformers adds no prompt to these, and pools the mean of the second; the model card does as quoit."""

TEMPLATE_IN_CONFIG = both(removes("chat_template.jinja"), sets("tokenizer_config.json", chat_template=RERANK_TEMPLATE))


def cross(folder: Path) -> None:
    resave(folder, cross=True)


def other_head(found: dict[str, torch.Tensor]) -> None:
    found["lm_head.weight"] = found["model.embed_tokens.weight"].flip(0) * 0.5


RERANKERS = [
    Same("a causal model and the official template", (), "reranker"),
    Same("a causal model, transformers 4.51", (older_config,), "reranker"),
    Same("a causal model by sentence-transformers 6", (cross,), "reranker"),
    Same("a classifier and the official template", (), "classifier"),
    Same("a classifier by sentence-transformers 6", (cross,), "classifier"),
    Same("tied in the configuration, another head in the file", (tensors(other_head),), "reranker"),
    Same(
        "an untied head",
        (tensors(other_head), sets("config.json", tie_word_embeddings=False)),
        "reranker",
    ),
    Same("the template in tokenizer_config.json", (TEMPLATE_IN_CONFIG,), "reranker"),
    Same(
        "an instruction in the prompts",
        (cross, prompts(model_type="CrossEncoder", prompts={"ask": "Find a rhyme"}, default_prompt_name="ask")),
        "reranker",
    ),
    Same(
        "an empty default prompt",
        (cross, prompts(model_type="CrossEncoder", prompts={"ask": ""}, default_prompt_name="ask")),
        "reranker",
    ),
    Same("another template", (cross, writes("chat_template.jinja", OTHER_TEMPLATE)), "reranker"),
    Same("another template, and the task", (writes("chat_template.jinja", OTHER_TEMPLATE),), "reranker", "rerank"),
    Same("other answers", (cross, sets("1_LogitScore/config.json", true_token_id=65, false_token_id=66)), "reranker"),
    Same("a limit that cuts the document", (cross, sets(SETTINGS, max_seq_length=420)), "reranker"),
    Same("a limit of the tokenizer", (sets("tokenizer_config.json", model_max_length=420),), "reranker"),
    Same(
        "arguments of the template",
        (cross, sets(SETTINGS, processing_kwargs={"chat_template": {"add_generation_prompt": True}})),
        "reranker",
    ),
]


def export(folder: Path, out: Path, task: Task | None = None) -> Path:
    return publish(open_checkpoint(str(folder), task=task), Request(out, ("fp32",))).folder


def assert_same(found: Values, judged: Values) -> None:
    assert found.shape == judged.shape
    assert np.abs(found - judged).max() < TOLERANCE


def embed(folder: Path, case: Same) -> Judged:
    embedder = Embedder(folder, precision="fp32", provider="cpu")
    options: Any = {"normalize": not case.raw}
    encoders = (embedder.encode, embedder.encode_query, embedder.encode_document)
    return Judged(*(encode(list(TEXTS), **options) for encode in encoders))


def score(folder: Path) -> Values:
    return Reranker(folder, precision="fp32", provider="cpu").predict(PAIRS, activation="logit")


def compare(folder: Path, out: Path, case: Same, judge: Callable[[Path], Judged]) -> None:
    found, judged = embed(export(folder, out, case.task), case), judge(folder)
    assert_same(found.plain, judged.plain)
    assert_same(found.queries, judged.queries)
    assert_same(found.documents, judged.documents)


@pytest.mark.parametrize("case", EMBEDDINGS, ids=lambda case: case.name)
def test_an_embedding_is_sentence_transformers(kit: Kit, tmp_path: Path, case: Same) -> None:
    folder = make_folder(kit, case.base, case.changes, tmp_path / "checkpoint")
    compare(folder, tmp_path / "out", case, by_sentence_transformers)


@pytest.mark.parametrize("case", UNJUDGED, ids=lambda case: case.name)
def test_an_embedding_is_the_model_cards(kit: Kit, tmp_path: Path, case: Same) -> None:
    folder = make_folder(kit, case.base, case.changes, tmp_path / "checkpoint")
    compare(folder, tmp_path / "out", case, by_transformers)


@pytest.mark.parametrize("case", RERANKERS, ids=lambda case: case.name)
def test_a_score_is_the_cross_encoders(kit: Kit, tmp_path: Path, case: Same) -> None:
    folder = make_folder(kit, case.base, case.changes, tmp_path / "checkpoint")
    assert_same(score(export(folder, tmp_path / "out", case.task)), by_cross_encoder(folder))


def official(pair: Pair) -> str:
    query, document = pair
    return f"{RERANK_PREFIX}<Instruct>: {DEFAULT_TASK}\n<Query>: {query}\n<Document>: {document}{RERANK_SUFFIX}"


@pytest.mark.parametrize(
    "change", [removes("chat_template.jinja"), writes("chat_template.jinja", CHAT_TEMPLATE)], ids=["none", "chat"]
)
def test_a_causal_model_reranks_by_the_official_template_when_told(
    kit: Kit, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Change
) -> None:
    folder = make_folder(kit, "reranker", (change,), tmp_path / "checkpoint")
    found = score(export(folder, tmp_path / "out", "rerank"))
    assert_same(found, by_causal_model(folder, official))
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == (
        f"{folder} has no rerank template of its own: pairs use the official Qwen3-Reranker template, scores come from "
        "the tokens yes (257) and no (258)"
    )


WARNINGS: list[tuple[str, Base, tuple[Change, ...], str]] = [
    (
        "its own template",
        "reranker",
        (),
        "has Qwen3-Reranker's template: pairs use it, scores come from the tokens yes",
    ),
    (
        "another template",
        "reranker",
        (writes("chat_template.jinja", OTHER_TEMPLATE),),
        "has a template other than Qwen3-Reranker's: pairs use the template in {folder}, scores come from the tokens",
    ),
    (
        "a classifier without a template",
        "classifier",
        (removes("chat_template.jinja"),),
        "has no rerank template of its own: pairs use the official Qwen3-Reranker template, scores come from its "
        "classification head",
    ),
    (
        "a decoder with the template",
        "reranker",
        (sets("config.json", architectures=["Qwen3Model"]),),
        "has Qwen3-Reranker's template: pairs use it, scores come from the tokens yes (257) and no (258)",
    ),
]


@pytest.mark.parametrize(("name", "base", "changes", "says"), WARNINGS, ids=[case[0] for case in WARNINGS])
def test_a_reranker_by_the_callers_word_says_what_it_uses(
    kit: Kit,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    base: Base,
    changes: tuple[Change, ...],
    says: str,
) -> None:
    folder = make_folder(kit, base, changes, tmp_path / "checkpoint")
    open_checkpoint(str(folder), task="rerank")
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"{folder} {says.format(folder=folder)}")


def test_a_reranker_by_its_own_files_says_nothing(kit: Kit, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_checkpoint(str(make_folder(kit, "reranker", (), tmp_path / "plain")))
    open_checkpoint(str(make_folder(kit, "reranker", (cross,), tmp_path / "modules")), task="rerank")
    assert not caplog.records


@dataclass(frozen=True)
class Refused:
    """A folder that is refused, and what the message says."""

    name: str
    changes: tuple[Change, ...]
    says: str
    base: Base = "embedding"
    task: Task | None = None


def module(kind: str, path: str = "", package: str = "sentence_transformers.models") -> dict[str, Any]:
    return {"idx": 0, "name": path or "0", "path": path, "type": f"{package}.{kind}"}


def pipeline(*modules: dict[str, Any]) -> Change:
    return writes("modules.json", list(modules))


TRANSFORMER, POOLING = module("Transformer"), module("Pooling", "1_Pooling")
NORMALIZE = module("Normalize", "2_Normalize")


def config(name: str, says: str, **changes: Any) -> Refused:
    return Refused(name, (sets("config.json", **changes),), says)


def settings(name: str, says: str, **content: Any) -> Refused:
    return Refused(name, (writes(SETTINGS, content),), says)


def file_of_prompts(name: str, says: str, **content: Any) -> Refused:
    return Refused(name, (prompts(**content),), says)


def tokenizer_config(name: str, says: str, **changes: Any) -> Refused:
    return Refused(name, (sets("tokenizer_config.json", **changes),), says)


def prefixed(prefix: str, says: str) -> Refused:
    return Refused(f"tensors under {prefix}", (renames(lambda name: prefix + name),), says)


def add_left_truncation(found: Any) -> None:
    found.enable_truncation(64, direction="left")


def only_in(name: str) -> Change:
    """The whole checkpoint lies in a folder below."""

    def change(folder: Path) -> None:
        (folder / name).mkdir()
        for file in list(folder.iterdir()):
            if file.name != name:
                file.rename(folder / name / file.name)

    return change


def inner_only(folder: Path) -> None:
    """Only the old layout's Transformer folder remains, and its own file with it."""
    move_transformer(folder)
    writes("0_Transformer/sentence_bert_config.json", {"max_seq_length": 64})(folder)


NO_SAFETENSORS = removes(SHARD)
REFUSED = [
    # config.json
    config("not causal", "sets is_causal to False", is_causal=False),
    Refused(
        "is_causal null, which transformers reads as false", (explicit_null("config.json", "is_causal"),), "is_causal"
    ),
    config("bidirectional", "sets use_bidirectional_attention to True", use_bidirectional_attention=True),
    config("a class of its own", "sets auto_map to {", auto_map={"AutoModel": "modeling_mine.MyModel"}),
    config("an unknown key", "sets attention_temperature to 2.0, and quoit does not know", attention_temperature=2.0),
    config("an unknown key that is false", "sets something_new to False", something_new=False),
    config("sliding layers", "sets layer_types to [", layer_types=["full_attention", "sliding_attention"]),
    config("a sliding window", "sets use_sliding_window to True", use_sliding_window=True),
    config("half of each head turned", "sets partial_rotary_factor to 0.5", partial_rotary_factor=0.5),
    config("layers that differ", "sets per_layer_config to {", per_layer_config={"0": {"head_dim": 16}}),
    config("biases", "sets attention_bias to True", attention_bias=True),
    config("quantized", "sets quantization_config to {", quantization_config={"quant_method": "fp8"}),
    config(
        "theta of kinds of layers",
        "sets full_attention to {",
        rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 1e6}},
    ),
    # The weights.
    prefixed("module.", "under the prefix 'module.'; save `model.module`"),
    prefixed("_orig_mod.", "under the prefix '_orig_mod.'; save `model._orig_mod`"),
    prefixed("_orig_mod.model.", "under the prefix '_orig_mod.'"),
    prefixed("base_model.model.", "under the prefix 'base_model.model.'; merge the adapter"),
    prefixed("0.auto_model.", "under the prefix '0.auto_model.'; save it with SentenceTransformer"),
    prefixed("encoder.", "under the prefix 'encoder.'; save it without that prefix"),
    Refused(
        "a tensor under two names",
        (tensors(lambda found: found.update({"model.norm.weight": torch.ones(96)})),),
        "holds a tensor twice, ",
    ),
    Refused(
        "a pickle",
        (NO_SAFETENSORS, writes("pytorch_model.bin", "")),
        "has its weights in pytorch_model.bin, and quoit reads safetensors; convert them",
    ),
    Refused("an adapter alone", (removes("config.json", SHARD), writes("adapter_config.json", {})), "a PEFT adapter"),
    Refused("an adapter beside its model", (writes("adapter_config.json", {}),), "merge it into its base model"),
    Refused("llama.cpp's file", (NO_SAFETENSORS, writes("model-q8_0.gguf", "")), "holds model-q8_0.gguf"),
    Refused("a graph", (NO_SAFETENSORS, writes("onnx/model.onnx", "")), "holds model.onnx"),
    Refused(
        "shards without their index",
        (shards, removes(INDEX)),
        "and no model.safetensors.index.json; fetch that file too",
    ),
    Refused("another name", (lambda folder: (folder / SHARD).rename(folder / "weights.safetensors"),), "rename it to"),
    Refused(
        "no weights",
        (NO_SAFETENSORS,),
        "is not a complete checkpoint, fetch it again, or, where the hub has no safetensors of it, convert it",
    ),
    Refused("a folder that holds a checkpoint", (only_in("checkpoint-500"),), "its folder checkpoint-500 has one"),
    # The tokenizer.
    Refused(
        "a vocabulary and merges",
        (removes("tokenizer.json"), writes("vocab.json", {}), writes("merges.txt", "")),
        "has vocab.json and merges.txt, and no tokenizer.json; make it with AutoTokenizer.from_pretrained",
    ),
    Refused("another splitting", (tokenizer(lowercases),), "otherwise than transformers' Qwen2Tokenizer"),
    Refused("cut on the left, by itself", (tokenizer(add_left_truncation),), "truncation direction 'Left'"),
    tokenizer_config("cut on the left", "sets truncation_side to 'left'", truncation_side="left"),
    tokenizer_config("a space before each text", "sets add_prefix_space to True", add_prefix_space=True),
    tokenizer_config("a tokenizer class of its own", "sets auto_map to {", auto_map={"AutoTokenizer": ["a.B", None]}),
    tokenizer_config(
        "another tokenizer class", "sets tokenizer_class to 'LlamaTokenizer'", tokenizer_class="LlamaTokenizer"
    ),
    tokenizer_config("an unknown key of the tokenizer", "sets byte_dropout to 0.1", byte_dropout=0.1),
    tokenizer_config("a limit that is none", "model_max_length 1;", model_max_length=1),
    tokenizer_config(
        "a token that tokenizer.json lacks",
        "adds the token 'word' as id '300'",
        added_tokens_decoder={"300": {"content": "word", "special": False}},
    ),
    Refused(
        "an added token whose flag differs",
        (lists_added_tokens(rstrip=True),),
        "sets rstrip of the token '<|endoftext|>' to True, and tokenizer.json to False",
    ),
    Refused(
        "an added token that is not special there",
        (lists_added_tokens(special=False),),
        "sets special of the token '<|endoftext|>' to False, and tokenizer.json to True",
    ),
    Refused(
        "an added token that is not listed",
        (tokenizer(lambda found: found.add_tokens(["[MORE]"])), lists_added_tokens()),
        "leaves '[MORE]' out of added_tokens_decoder",
    ),
    tokenizer_config(
        "an ordinary token that is listed as added",
        "adds the token 'a', which is an ordinary one in tokenizer.json",
        added_tokens_decoder={"97": {"content": "a", "special": False}},
    ),
    tokenizer_config(
        "an ordinary token that is named as special",
        "names 'a' as extra_special_tokens, which is an ordinary token",
        extra_special_tokens=["a"],
    ),
    Refused(
        "a prompt of a token in a list of special ones",
        (sets("tokenizer_config.json", additional_special_tokens=["[QRY]"]), prompts(prompts={"query": "[QRY] "})),
        "lacks '[QRY]', which tokenizer_config.json names as additional_special_tokens",
    ),
    Refused(
        "a prompt of a token in a map of special ones",
        (sets("tokenizer_config.json", extra_special_tokens={"q": "[QRY]"}), prompts(prompts={"query": "[QRY] "})),
        "lacks '[QRY]', which tokenizer_config.json names as extra_special_tokens",
    ),
    Refused(
        "a prompt of a token in the map's own file",
        (
            writes("special_tokens_map.json", {"additional_special_tokens": [{"content": "[QRY]"}]}),
            prompts(prompts={"query": "[QRY] "}),
        ),
        "lacks '[QRY]', which special_tokens_map.json names as additional_special_tokens",
    ),
    Refused(
        "a prompt with a special token",
        (prompts(prompts={"query": "<|endoftext|>Q: "}),),
        "has the special token '<|endoftext|>' in a prompt",
    ),
    Refused(
        "ends of words", (sets_model(end_of_word_suffix="</w>"),), "sets end_of_word_suffix of its model to '</w>'"
    ),
    Refused(
        "a prefix of parts",
        (sets_model(continuing_subword_prefix="##"),),
        "sets continuing_subword_prefix of its model",
    ),
    Refused("chance", (sets_model(dropout=0.1),), "sets dropout of its model to 0.1"),
    Refused(
        "chance in a tokenizer that is taken as it is",
        (sets_model(dropout=0.1), sets("tokenizer_config.json", tokenizer_class="TokenizersBackend")),
        "sets dropout of its model to 0.1",
    ),
    Refused("an added token", (writes("added_tokens.json", {"word": 300}),), "adds the token 'word' as id 300"),
    Refused(
        "a prompt of a token that tokenizer.json lacks",
        (prompts(prompts={"query": "<|im_end|>"}),),
        "lacks '<|im_end|>', which tokenizer_config.json names as eos_token",
    ),
    # sentence-transformers' files.
    Refused("mean pooling", (sets("1_Pooling/config.json", pooling_mode="mean"),), "does not pool the last token"),
    Refused(
        "two poolings",
        (sets("1_Pooling/config.json", pooling_mode=["lasttoken", "mean"]),),
        "does not pool the last token",
    ),
    Refused("an unknown key of pooling", (sets("1_Pooling/config.json", weights=[1]),), "sets weights to [1]"),
    Refused(
        "normalised tokens",
        (writes("2_Normalize/config.json", {"module_input_name": "token_embeddings"}),),
        "sets module_input_name to 'token_embeddings'",
    ),
    Refused("a dense layer", (pipeline(TRANSFORMER, POOLING, module("Dense", "2_Dense")),), "a Dense module"),
    Refused("no pooling", (pipeline(TRANSFORMER),), "has the modules Transformer;"),
    Refused("no modules", (pipeline(),), "has the modules none"),
    Refused(
        "another order", (pipeline(TRANSFORMER, NORMALIZE, POOLING),), "the modules Transformer, Normalize, Pooling"
    ),
    Refused(
        "a module of its own",
        (pipeline(module("Transformer", package="custom_st"), POOLING),),
        "a custom_st.Transformer module",
    ),
    settings("lowercased", "sets do_lower_case to True", max_seq_length=64, do_lower_case=True),
    settings("a limit of queries", "sets query_length to 32", query_length=32),
    settings("expanded queries", "sets query_expansion to {", query_expansion={"strategy": "fixed", "length": 32}),
    settings("an unknown setting", "sets stride to 3", stride=3),
    settings("a limit of one token", "max_seq_length 1;", max_seq_length=1),
    Refused(
        "a limit in another of the Transformer's files",
        (writes("sentence_xlnet_config.json", {"max_seq_length": 1}),),
        "sentence_xlnet_config.json has max_seq_length 1;",
    ),
    Refused(
        "the last of the Transformer's files alone",
        (NO_MODULES, writes("sentence_xlnet_config.json", {"max_seq_length": 64})),
        "modules.json is missing beside sentence_xlnet_config.json; fetch the checkpoint again, or remove "
        "sentence_xlnet_config.json if this is a plain transformers checkpoint",
    ),
    settings("another tokenizer", "sets tokenizer_name_or_path to 'x'", tokenizer_name_or_path="x"),
    settings("the model's own arguments", "sets config_kwargs to {", config_kwargs={"is_causal": False}),
    settings("a chat template around texts", "sets modality_config to {", modality_config={"message": {}}),
    settings("another task", "sets transformer_task to 'fill-mask'", transformer_task="fill-mask"),
    file_of_prompts("short vectors", "truncate_dim 32; remove it, and give dim=32", truncate_dim=32),
    file_of_prompts("another similarity", "similarity_fn_name 'manhattan'", similarity_fn_name="manhattan"),
    file_of_prompts(
        "a default that is no prompt", "default_prompt_name 'a', and no such prompt", default_prompt_name="a"
    ),
    file_of_prompts("another kind of model", "sets model_type to 'SparseEncoder'", model_type="SparseEncoder"),
    file_of_prompts("an unknown key of the pipeline", "sets rescale to 2", rescale=2),
    Refused(
        "the dot product of other vectors",
        (pipeline(TRANSFORMER, POOLING), sets(PROMPTS_FILE, similarity_fn_name="dot")),
        "similarity_fn_name 'dot'",
    ),
    Refused("modules.json is lost", (removes("modules.json"),), f"modules.json is missing beside {PROMPTS_FILE}"),
    # What it is for.
    Refused(
        "an embedding model as a reranker", (), "one for embedding, and --task rerank was asked for", task="rerank"
    ),
    Refused(
        "a reranker as an embedding model",
        (cross,),
        "one for rerank, and --task embedding was asked for",
        "reranker",
        "embedding",
    ),
    Refused(
        "a causal model", (removes("chat_template.jinja"),), "or --task rerank, and see in its warning", "reranker"
    ),
    Refused(
        "a chat model",
        (writes("chat_template.jinja", CHAT_TEMPLATE),),
        "or --task rerank, and see in its warning",
        "reranker",
    ),
    Refused("a template that names no answers", (writes("chat_template.jinja", OTHER_TEMPLATE),), "--task", "reranker"),
    Refused(
        "a template of many",
        (
            removes("chat_template.jinja"),
            sets("tokenizer_config.json", chat_template=[{"name": "default", "template": RERANK_TEMPLATE}]),
        ),
        "--task rerank",
        "reranker",
    ),
    Refused("a classifier of unknown template", (removes("chat_template.jinja"),), "--task rerank", "classifier"),
    Refused(
        "the logit of one token",
        (
            cross,
            sets("1_LogitScore/config.json", true_token_id=65),
            explicit_null("1_LogitScore/config.json", "false_token_id"),
        ),
        "true_token_id 65 and false_token_id None",
        "reranker",
    ),
    Refused(
        "answers beyond the model",
        (cross, sets("1_LogitScore/config.json", true_token_id=512)),
        "(512, 258)",
        "reranker",
    ),
    Refused(
        "a reranker by a chat template",
        (cross, writes("chat_template.jinja", CHAT_TEMPLATE)),
        "has no chat template that puts a query and a document into",
        "reranker",
    ),
    Refused(
        "a template that trims",
        (
            cross,
            writes("chat_template.jinja", RERANK_TEMPLATE.replace("first }}<|im_end|>", "first | trim }}<|im_end|>")),
        ),
        "has no chat template that puts",
        "reranker",
    ),
    Refused(
        "pairs without a template",
        (cross, sets(SETTINGS, modality_config={"text": {"method": "forward", "method_output_name": "logits"}})),
        "modality_config",
        "reranker",
    ),
    Refused(
        "no settings of the Transformer",
        (cross, removes(SETTINGS)),
        "transformer_task None and modality_config None",
        "reranker",
    ),
    Refused(
        "processing that is not the template's",
        (cross, sets(SETTINGS, processing_kwargs={"text": {"max_length": 5}})),
        "sets processing_kwargs to {",
        "reranker",
    ),
    Refused(
        "less than the template",
        (sets("tokenizer_config.json", model_max_length=100),),
        "limits pairs to 100",
        "reranker",
    ),
    Refused(
        "a template that joins the text",
        (
            cross,
            tokenizer(lambda found: found.add_tokens(["that!"])),
            writes("chat_template.jinja", RERANK_TEMPLATE.replace(RERANK_SUFFIX, "!" + RERANK_SUFFIX)),
        ),
        "makes one token from the end of the template's prefix (or the start of its suffix)",
        "reranker",
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_a_folder_that_would_be_read_otherwise_is_refused_by_name(kit: Kit, tmp_path: Path, case: Refused) -> None:
    folder = make_folder(kit, case.base, case.changes, tmp_path / "checkpoint")
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(str(folder), task=case.task)
    assert case.says in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_module_of_a_checkpoint_names_the_whole(kit: Kit, tmp_path: Path) -> None:
    """The limit and the prompts of the folder above count too."""
    folder = make_folder(kit, "embedding", (inner_only,), tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match=f"is one module of {folder}, whose prompts count too; export {folder}"):
        open_checkpoint(str(folder / "0_Transformer"))
    assert open_checkpoint(str(folder)).max_tokens == 64


def shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `quoit info` prints."""
    capsys.readouterr()
    assert main(["info", str(folder)]) == 0
    return capsys.readouterr().out


INFO = [
    (
        Same("no file of prompts", (NO_MODULES,)),
        [
            f"  query prompt {json.dumps(OFFICIAL_PROMPT)} (Qwen3-Embedding's official one: the checkpoint has no "
            "config_sentence_transformers.json)\n",
            "  a vector is the state of end token 256 after the text; `encode` adds no prompt\n",
            ", 2,048 tokens, ",
        ],
    ),
    (
        Same("a file of prompts, and a limit", (prompts(), writes(SETTINGS, {"max_seq_length": 64}))),
        ['  query prompt "" (by the checkpoint\'s config_sentence_transformers.json)\n', ", 64 tokens, "],
    ),
    (
        Same("a default prompt", (prompts(prompts={"search": "s: ", "query": "q: "}, default_prompt_name="search"),)),
        ['  query prompt "q: " (by', '  search prompt "s: "\n', "`encode` adds the search prompt\n"],
    ),
    (Same("a reranker", (), "reranker"), ["  scores are the logit of token 257 minus that of token 258\n"]),
    (Same("a classifier", (), "classifier"), ["  scores come from the checkpoint's classification head\n"]),
]


@pytest.mark.parametrize(("case", "lines"), INFO, ids=lambda value: getattr(value, "name", ""))
def test_info_says_where_prompts_and_limits_come_from(
    kit: Kit, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: Same, lines: list[str]
) -> None:
    folder = make_folder(kit, case.base, case.changes, tmp_path / "checkpoint")
    printed = shown(export(folder, tmp_path / "out"), capsys)
    for line in lines:
        assert line in printed


def test_there_are_at_least_forty_folders() -> None:
    assert len(EMBEDDINGS) + len(UNJUDGED) + len(RERANKERS) >= 40
    assert len(REFUSED) >= 40
