"""The checkpoints and artifacts that cases use."""

from pathlib import Path
from typing import Any

import msgspec
import torch
from tokenizers import processors

from messages.harness import Sources
from oracle import make_model, make_reranker, save_checkpoint, save_rerank_checkpoint
from quoit.artifact import TOKENIZER, write_manifest
from quoit_export.build.staging import Staging, bare_manifest
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.export import Request, publish
from support import byte_tokenizer

BYTE_SIZES = {"vocab_size": 512, "num_hidden_layers": 2, "max_position_embeddings": 2048}


def make_sources(folder: Path) -> Sources:
    """Makes all of them in an empty folder."""
    checkpoint = save_byte_checkpoint(folder / "checkpoint")
    rerank_checkpoint = save_byte_reranker(folder / "rerank-checkpoint")
    overflowing = save_byte_checkpoint(folder / "overflowing-checkpoint", overflows=True)
    overflowing_reranker = save_byte_reranker(folder / "overflowing-rerank-checkpoint", overflows=True)
    publish(open_checkpoint(str(checkpoint)), Request(folder / "artifact", ("fp32", "int8")))
    publish(open_checkpoint(str(checkpoint)), Request(folder / "half", ("fp32", "fp16")))
    publish(open_checkpoint(str(rerank_checkpoint)), Request(folder / "reranker", ("fp32",)))
    return Sources(
        checkpoint=checkpoint,
        artifact=folder / "artifact",
        half=folder / "half",
        rerank_checkpoint=rerank_checkpoint,
        reranker=folder / "reranker",
        overflowing_checkpoint=overflowing,
        overflowing=write_ungated(overflowing, folder / "overflowing"),
        overflowing_reranker=write_ungated(overflowing_reranker, folder / "overflowing-reranker"),
    )


def save_byte_checkpoint(folder: Path, *, overflows: bool = False) -> Path:
    model = make_model(**BYTE_SIZES)
    overflow(model, "", overflows=overflows)
    byte_tokenizer().save(str(folder.parent / TOKENIZER))
    return save_checkpoint(folder, folder.parent / TOKENIZER, model)


def save_byte_reranker(folder: Path, *, overflows: bool = False) -> Path:
    """Its tokenizer has a token for each answer, and appends nothing."""
    model = make_reranker(**BYTE_SIZES)
    overflow(model, "model.", overflows=overflows)
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["yes", "no"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.save(str(folder.parent / TOKENIZER))
    return save_rerank_checkpoint(folder, folder.parent / TOKENIZER, model)


def overflow(model: Any, prefix: str, *, overflows: bool) -> None:
    """Weights that are finite, and whose product is not."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in ("up_proj", "down_proj") if overflows else ():
            parameters[f"{prefix}layers.1.mlp.{name}.weight"].mul_(1e30)


def write_ungated(checkpoint_folder: Path, folder: Path) -> Path:
    """An artifact whose fp32 variant nobody measured."""
    checkpoint = open_checkpoint(str(checkpoint_folder))
    staging = Staging.open(folder, checkpoint, bare_manifest(checkpoint))
    staging.write_variant(checkpoint, "fp32")
    manifest = bare_manifest(checkpoint)
    manifest.variants["fp32"] = msgspec.structs.replace(staging.partial.variants["fp32"], accepted=True)
    write_manifest(folder, manifest)
    return folder
