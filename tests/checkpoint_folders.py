"""Checkpoint folders as they occur: how they are made, and what transformers and sentence-transformers make of them."""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import AutoTokenizer, Qwen3ForCausalLM, Qwen3Model

from oracle import make_classifier, make_model, make_reranker
from quoit.text.prompts import DEFAULT_TASK, INSTRUCTION_TEMPLATE, Pair
from qwen3_tokenizer import END_TOKEN, byte_characters
from random_checkpoint import write_rerank_template, write_sentence_transformers_files
from support import byte_tokenizer, edit_json

Values = NDArray[np.float32]
Change = Callable[[Path], object]
Tensors = dict[str, torch.Tensor]

SHARD = "model.safetensors"
INDEX = "model.safetensors.index.json"
SIZES = {"vocab_size": 512, "num_hidden_layers": 2, "max_position_embeddings": 2048}
TEXTS = ("The capital of China is Beijing.", "naïve ẞ 北京, 12 × 345", "", "a long text, word by word " * 20)
PAIRS = [
    ("capital of China?", "Beijing is."),
    ("capital of China?", ""),
    ("yes", "no"),
    ("gravity", "two bodies " * 60),
]
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def rerank_tokenizer() -> Tokenizer:
    """Bytes, `yes` and `no`, and the special tokens of the official template; it appends nothing."""
    vocabulary = {character: byte for byte, character in byte_characters().items()}
    vocabulary |= {word: 256 + number for number, word in enumerate(("ye", "yes", "no"))}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[("y", "e"), ("ye", "s"), ("n", "o")]))
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    special = (END_TOKEN, "<|im_start|>", "<|im_end|>")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ("<think>", "</think>")])
    return tokenizer


@dataclass(frozen=True)
class Kit:
    """Models, saved once, of which every folder is made. Read-only."""

    embedding: Path
    causal_embedding: Path
    reranker: Path
    classifier: Path

    @classmethod
    def make(cls, folder: Path) -> "Kit":
        model, outer = make_model(**SIZES), make_reranker(3, **SIZES)
        model.save_pretrained(folder / "embedding")
        outer.model.load_state_dict(model.state_dict())
        outer.save_pretrained(folder / "causal")
        make_reranker(**SIZES).save_pretrained(folder / "reranker")
        make_classifier(**SIZES, pad_token_id=256).save_pretrained(folder / "classifier")
        for name in ("embedding", "causal"):
            byte_tokenizer().save(str(folder / name / "tokenizer.json"))
            write_sentence_transformers_files(folder / name, SMALL_HIDDEN)
        for name in ("reranker", "classifier"):
            rerank_tokenizer().save(str(folder / name / "tokenizer.json"))
            write_rerank_template(folder / name)
        return cls(*(folder / name for name in ("embedding", "causal", "reranker", "classifier")))


SMALL_HIDDEN = 96


# The judges.


@contextmanager
def undisturbed() -> Iterator[None]:
    """Other libraries' warnings are theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load_sentence_transformer(folder: Path) -> Any:
    with undisturbed():
        return SentenceTransformer(
            str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
        )


def load_cross_encoder(folder: Path) -> Any:
    with undisturbed():
        return CrossEncoder(str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32})


@dataclass(frozen=True)
class Judged:
    """Unit vectors [n, hidden] of TEXTS: as they are, as queries, as documents; raw where they are not normalised."""

    plain: Values
    queries: Values
    documents: Values


def by_sentence_transformers(folder: Path) -> Judged:
    """One text at a time: its batches are padded, and so differ in the last bits."""
    model = load_sentence_transformer(folder)

    def collect(encode: Callable[..., Values]) -> Values:
        with undisturbed():
            return np.concatenate([encode([text]) for text in TEXTS])

    return Judged(collect(model.encode), collect(model.encode_query), collect(model.encode_document))


def by_transformers(folder: Path) -> Judged:
    """The model card's own way: the last token's state; queries behind the official prompt."""
    with undisturbed():
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = Qwen3Model.from_pretrained(folder, dtype=torch.float32)

    def collect(prompt: str) -> Values:
        rows = [tokenizer(prompt + text, return_tensors="pt") for text in TEXTS]
        with torch.inference_mode():
            states = torch.stack([model(**row).last_hidden_state[0, -1] for row in rows])
        found: Values = torch.nn.functional.normalize(states).numpy()
        return found

    return Judged(collect(""), collect(INSTRUCTION_TEMPLATE.format(instruction=DEFAULT_TASK)), collect(""))


def by_cross_encoder(folder: Path) -> Values:
    """The logits of PAIRS."""
    model = load_cross_encoder(folder)
    with undisturbed():
        return np.concatenate([model.predict([pair], activation_fn=torch.nn.Identity()) for pair in PAIRS])


def by_causal_model(folder: Path, render: Callable[[Pair], str]) -> Values:
    """The logits of PAIRS by transformers, each rendered to a text."""
    with undisturbed():
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    with torch.inference_mode():
        rows = [model(**tokenizer(render(pair), return_tensors="pt")).logits[0, -1] for pair in PAIRS]
    return np.array([float(row[yes] - row[no]) for row in rows], np.float32)


# What makes one folder of another.


def sets(name: str, **changes: Any) -> Change:
    """Sets keys of a JSON file, which may be new; None removes a key."""

    def change(folder: Path) -> None:
        file = folder / name
        if not file.exists():
            file.write_text("{}")
        edit_json(file, **changes)

    return change


def writes(name: str, content: object) -> Change:
    """Writes a file: JSON, unless the content is a text."""

    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))

    return change


def removes(*names: str) -> Change:
    def change(folder: Path) -> None:
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def tensors(edit: Callable[[Tensors], object], *, file: str = SHARD) -> Change:
    """Changes the stored tensors."""

    def change(folder: Path) -> None:
        found = load_file(folder / SHARD)
        edit(found)
        save_file({name: value.contiguous() for name, value in found.items()}, folder / file, metadata={"format": "pt"})

    return change


def renames(rename: Callable[[str], str]) -> Change:
    """Gives each tensor another name."""

    def edit(found: Tensors) -> None:
        for name in list(found):
            found[rename(name)] = found.pop(name)

    return tensors(edit)


def tokenizer(edit: Callable[[Tokenizer], object]) -> Change:
    """Changes tokenizer.json."""

    def change(folder: Path) -> None:
        found = Tokenizer.from_file(str(folder / "tokenizer.json"))
        edit(found)
        found.save(str(folder / "tokenizer.json"))

    return change


def assigns(name: str, value: Any) -> Change:
    """Sets an attribute of the tokenizer."""
    return tokenizer(lambda found: setattr(found, name, value))


def older_config(folder: Path) -> None:
    """config.json as transformers 4.51 wrote it."""
    found = json.loads((folder / "config.json").read_text())
    theta = found.pop("rope_parameters")["rope_theta"]
    found |= {"rope_theta": int(theta), "rope_scaling": None, "torch_dtype": found.pop("dtype"), "use_cache": True}
    found |= {"bos_token_id": 151_643, "eos_token_id": 151_645, "transformers_version": "4.51.3"}
    found.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(found))


def whole_config(folder: Path) -> None:
    """config.json with every attribute, as `to_dict` of transformers 4.57 gives it."""
    older_config(folder)
    sets(
        "config.json",
        **dict(return_dict=True, output_hidden_states=False, torchscript=False, pruned_heads={}, is_decoder=False),
        **dict(chunk_size_feed_forward=0, is_encoder_decoder=False, add_cross_attention=False, use_bfloat16=False),
        **dict(tie_encoder_decoder=False, id2label={"0": "LABEL_0", "1": "LABEL_1"}, tf_legacy_loss=False),
        **dict(label2id={"LABEL_0": 0, "LABEL_1": 1}, max_length=20, min_length=0, do_sample=False, num_beams=1),
        **dict(early_stopping=False, num_beam_groups=1, diversity_penalty=0.0, temperature=1.0, top_k=50, top_p=1.0),
        **dict(typical_p=1.0, repetition_penalty=1.0, length_penalty=1.0, no_repeat_ngram_size=0),
        **dict(encoder_no_repeat_ngram_size=0, num_return_sequences=1, output_scores=False, _name_or_path="some/model"),
        **dict(return_dict_in_generate=False, remove_invalid_values=False, output_attentions=False),
    )(folder)


def resave(folder: Path, *, used: bool = False, cross: bool = False) -> None:
    """Loads the folder with sentence-transformers and saves it there.

    Args:
        folder: the folder.
        used: encode a text first, which leaves padding and truncation in the tokenizer.
        cross: it is a reranker.
    """
    model = load_cross_encoder(folder) if cross else load_sentence_transformer(folder)
    with undisturbed():
        if used:
            model.encode(["some text"])
        shutil.rmtree(folder)
        model.save_pretrained(str(folder), create_model_card=False)


def shards(folder: Path) -> None:
    """Replaces model.safetensors by shards and their index."""
    model: Any = Qwen3Model.from_pretrained(folder)
    (folder / SHARD).unlink()
    model.save_pretrained(folder, max_shard_size="50KB")


def move_transformer(folder: Path) -> None:
    """The layout of old sentence-transformers: the Transformer module has a folder of its own."""
    inner = folder / "0_Transformer"
    inner.mkdir()
    for name in ("config.json", SHARD, "tokenizer.json", "tokenizer_config.json"):
        (folder / name).rename(inner / name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = inner.name
    (folder / "modules.json").write_text(json.dumps(modules))
