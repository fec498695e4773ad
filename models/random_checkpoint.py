"""Writes a Qwen3-Embedding or Qwen3-Reranker checkpoint with random weights and the genuine Qwen3 tokenizer.

    python models/random_checkpoint.py OUT [--task embedding|rerank] [--shape tiny|0.6b|4b|8b] [--seed 0]

Random weights show that everything fits together, and how fast and large it is. They mean nothing: the
similarities and scores of such a model say nothing about the texts. One shard and one tensor are in memory at a time.
"""

import argparse
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import ml_dtypes
import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from quoit.artifact import Task
from quoit.text.prompts import DEFAULT_TASK, INSTRUCTION_TEMPLATE, RERANK_PREFIX, RERANK_SUFFIX
from quoit_export.families.qwen3.config import Config
from quoit_export.families.qwen3.tensors import tensor_shapes
from qwen3_tokenizer import build_tokenizer

PROMPTS = {"query": INSTRUCTION_TEMPLATE.format(instruction=DEFAULT_TASK), "document": ""}
CONTENT = '{{{{ messages | selectattr("role", "eq", "{role}") | map(attribute="content") | first{default} }}}}'
RERANK_TEMPLATE = (
    RERANK_PREFIX
    + "<Instruct>: "
    + CONTENT.format(role="system", default=f' | default("{DEFAULT_TASK}")')
    + "\n<Query>: "
    + CONTENT.format(role="query", default="")
    + "\n<Document>: "
    + CONTENT.format(role="document", default="")
    + RERANK_SUFFIX
    + "\n"
)
"""Qwen3-Reranker's chat_template.jinja; a template's last line break is not rendered."""
SHARD_BYTES = 500 << 20
MAX_TOKENS: dict[Task, int] = {"embedding": 32_768, "rerank": 40_960}
"""`max_position_embeddings` of the official 0.6B checkpoints."""
TOKEN_SPREAD = 0.02
"""Of the token table: `initializer_range` of the official checkpoints. A reranker's logits then have single digits."""
LAYERS_SPREAD: dict[Task, float] = {"embedding": 0.04, "rerank": 0.64}
"""What all layers together add to the stream where what they read is of size one: as it is, for embedding about a
token's row. A reranker's pairs all end alike, so their scores differ by what layers add to the last token alone."""
NORM_SPREAD = 0.2
BLOCK_VALUES = 1 << 24
"""Random numbers are drawn so many at a time; how many does not change them."""

Tensors = Iterator[tuple[str, NDArray[np.generic]]]
Change = Callable[[Tensors, Tokenizer], Tensors]
"""What is made of the tensors before they are written, one by one; the checkpoint's tokenizer names tokens."""

SMALLEST = Config(
    hidden_size=1024,
    intermediate_size=3072,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    vocab_size=151_669,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
)
"""The official 0.6B shape; the larger ones differ from it in what is named."""
LARGE = {"vocab_size": 151_665, "num_hidden_layers": 36, "num_attention_heads": 32}
SHAPES = {
    "tiny": Config(
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        vocab_size=151_669,
        rms_norm_eps=1e-6,
        rope_theta=1e6,
    ),
    "0.6b": SMALLEST,
    "4b": msgspec.structs.replace(SMALLEST, hidden_size=2560, intermediate_size=9728, **LARGE),
    "8b": msgspec.structs.replace(SMALLEST, hidden_size=4096, intermediate_size=12_288, **LARGE),
}


def spread(name: str, shape: tuple[int, ...], layers: int, task: Task) -> float:
    """The standard deviation of a tensor's values, by which a deep model bears rounding as a trained one does.

    Where every layer adds more than the stream holds, each amplifies the errors of those before: with 36 layers of one
    spread, int8 has a cosine of 0.986 to float32. So layers keep the size of what they read (LeCun's initialisation,
    a variance of one over the number of inputs), and those that write to the stream, 2 in each layer, are smaller by
    the root of their number, as in GPT-2 (Radford et al. 2019, section 2.3).
    """
    if len(shape) == 1:
        return NORM_SPREAD
    if name.endswith("embed_tokens.weight"):
        return TOKEN_SPREAD
    unit = 1 / math.sqrt(shape[1])
    if name.endswith(("o_proj.weight", "down_proj.weight")):
        return unit * LAYERS_SPREAD[task] / math.sqrt(2 * layers)
    return unit


def make_tensors(config: Config, seed: int, task: Task = "embedding") -> Tensors:
    """Every tensor in bfloat16: linear layers around nought, norm weights around one, each with its `spread`."""
    generator = np.random.default_rng(seed)
    for name, shape in tensor_shapes(config).items():
        deviation = spread(name, shape, config.num_hidden_layers, task)
        centre = 0.0 if len(shape) == 2 else 1.0
        found = np.empty(shape, ml_dtypes.bfloat16)
        flat = found.reshape(-1)
        for start in range(0, flat.size, BLOCK_VALUES):
            some = generator.standard_normal(min(BLOCK_VALUES, flat.size - start), dtype=np.float32)
            flat[start : start + BLOCK_VALUES] = some * np.float32(deviation) + np.float32(centre)
        yield name, found


def write_shards(folder: Path, tensors: Tensors) -> None:
    """Writes shards of about SHARD_BYTES and their index, holding one shard at a time."""
    weight_map: dict[str, str] = {}
    shard: dict[str, NDArray[np.generic]] = {}
    total = 0

    def flush() -> None:
        file = f"model-{len(set(weight_map.values())) + 1:05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, file))
        shard.clear()

    for name, values in tensors:
        shard[name] = values
        total += values.nbytes
        if sum(tensor.nbytes for tensor in shard.values()) >= SHARD_BYTES:
            flush()
    if shard:
        flush()
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def write_checkpoint(
    folder: Path, config: Config, task: Task = "embedding", seed: int = 0, change: Change | None = None
) -> None:
    """Writes a whole checkpoint: configuration, shards, tokenizer, and the task's own files."""
    folder.mkdir(parents=True)
    embedding = task == "embedding"
    sizes = msgspec.structs.asdict(config)
    document = {
        "architectures": ["Qwen3Model" if embedding else "Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_act": "silu",
        "attention_bias": False,
        "max_position_embeddings": MAX_TOKENS[task],
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": True,
        **sizes,
    }
    write_json(folder / "config.json", document)
    if embedding:
        write_sentence_transformers_files(folder, config.hidden_size)
    else:
        write_rerank_template(folder)
    tokenizer = build_tokenizer(end_token=embedding, size=config.vocab_size)
    tokenizer.save(str(folder / "tokenizer.json"))
    prefix = "" if embedding else "model."
    tensors = make_tensors(config, seed, task)
    changed = tensors if change is None else change(tensors, tokenizer)
    write_shards(folder, ((prefix + name, values) for name, values in changed))


def write_sentence_transformers_files(folder: Path, hidden_size: int) -> None:
    """The prompts and the pooling that sentence-transformers reads."""
    write_json(folder / "config_sentence_transformers.json", {"prompts": PROMPTS, "similarity_fn_name": "cosine"})
    module = "sentence_transformers.models"
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": f"{module}.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{module}.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{module}.Normalize"},
    ]
    write_json(folder / "modules.json", modules)
    (folder / "1_Pooling").mkdir()
    # Older versions take the mean too where it is not said that they shall not.
    others = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens")
    pooling = {"word_embedding_dimension": hidden_size, **{f"pooling_mode_{name}": False for name in others}}
    pooling |= {"pooling_mode_lasttoken": True, "include_prompt": True}
    write_json(folder / "1_Pooling" / "config.json", pooling)
    tokenizer = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
    }
    write_json(folder / "tokenizer_config.json", tokenizer)


def write_rerank_template(folder: Path) -> None:
    """The chat template that says how pairs are written, and so that the checkpoint is a reranker."""
    (folder / "chat_template.jinja").write_text(RERANK_TEMPLATE, encoding="utf-8")


def write_json(file: Path, content: object) -> None:
    """Writes indented JSON."""
    file.write_text(json.dumps(content, indent=2))


def write_once(out: Path, parser: argparse.ArgumentParser, write: Callable[[Path], None]) -> None:
    """Writes a checkpoint beside its folder and then renames it; an existing checkpoint stays as it is."""
    if not out.exists():
        draft = out.with_name(f".{out.name}.partial")
        shutil.rmtree(draft, ignore_errors=True)
        write(draft)
        draft.rename(out)
    elif not (out / "config.json").is_file():
        parser.error(f"{out} exists and is no checkpoint; name another folder")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write a checkpoint with random weights.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--task", choices=get_args(Task), default="embedding")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_once(
        options.out,
        parser,
        lambda draft: write_checkpoint(draft, SHAPES[options.shape], options.task, options.seed),
    )
    print(
        f"{options.out}: a checkpoint for {options.task} with RANDOM weights; similarities and scores will mean NOTHING"
    )


if __name__ == "__main__":
    main()
