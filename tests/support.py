"""What tests have in common and what needs no torch: the types of the fixtures, a small tokenizer, edits of files."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from quoit import Embedder, Reranker
from quoit.artifact import Artifact, Precision, Variant
from qwen3_tokenizer import END_TOKEN, byte_characters

Vectors = NDArray[np.float32]
Ids = Sequence[int]
Oracle = Callable[[Sequence[Ids]], Vectors]
Embedders = Callable[[Precision], Embedder]
Rerankers = Callable[[Precision], Reranker]

# hidden_size is not num_attention_heads * head_dim, as in the 0.6B and 4B checkpoints.
SMALL = {
    "vocab_size": 151_669,
    "hidden_size": 96,
    "intermediate_size": 224,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
}


def without_modules(folder: Path) -> Path:
    """Removes sentence-transformers' files: only the tokenizer says then that it is an embedding model."""
    for name in ("modules.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    return folder


def edit_json(file: Path, **changes: Any) -> None:
    """Sets keys of a JSON object on disk; a value of None removes the key."""
    found = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def byte_tokenizer() -> Tokenizer:
    """A tokenizer whose tokens are the 256 bytes and an appended end token: with it, everything is small and quick."""
    vocabulary = {character: byte for byte, character in byte_characters().items()}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(END_TOKEN, special=True, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END_TOKEN}",
        pair=f"$A {END_TOKEN} $B {END_TOKEN}",
        special_tokens=[(END_TOKEN, tokenizer.token_to_id(END_TOKEN))],
    )
    return tokenizer


def with_variants(artifact: Artifact, **changes: Variant | None) -> Artifact:
    """The artifact with variants replaced, or removed where None."""
    variants = {name: changes.get(name, variant) for name, variant in artifact.manifest.variants.items()}
    kept = {name: variant for name, variant in variants.items() if variant is not None}
    return Artifact(artifact.folder, replace(artifact.manifest, variants=kept))
