"""Errors of the tokenizer files of a checkpoint."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer, normalizers, processors

from messages.harness import LONG, Case, Trigger, World
from messages.triggers import replaced, with_checkpoint
from quoit.artifact import TOKENIZER
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.errors import CheckpointError


def with_tokenizer(change: Callable[[Tokenizer], object]) -> Trigger:
    """Opening a copy of the checkpoint with another tokenizer."""

    def trigger(folder: Path) -> None:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        change(tokenizer)
        tokenizer.save(str(folder / TOKENIZER))

    return with_checkpoint(trigger)


def leave_an_added_token_out(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.add_tokens(["[MORE]"])
    tokenizer.save(str(folder / TOKENIZER))
    token = {"content": "<|endoftext|>", "special": True, "normalized": False}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {"256": token}}))


def drop_tokens_by_chance(folder: Path) -> None:
    document = json.loads((folder / TOKENIZER).read_text())
    document["model"]["dropout"] = 0.1
    (folder / TOKENIZER).write_text(json.dumps(document))


def rerank_without_a_token_for_yes(world: World) -> object:
    folder = world.copy(world.sources.rerank_checkpoint)
    shutil.copyfile(world.sources.checkpoint / TOKENIZER, folder / TOKENIZER)
    return open_checkpoint(str(folder))


CASES = [
    Case(
        "an ordinary token as an added one",
        replaced("tokenizer_config.json", json.dumps({"added_tokens_decoder": {"97": {"content": "a"}}})),
        CheckpointError,
        "adds the token 'a', which is an ordinary one",
        "save the tokenizer again",
    ),
    Case(
        "an added token with another flag",
        replaced(
            "tokenizer_config.json",
            json.dumps({"added_tokens_decoder": {"256": {"content": "<|endoftext|>", "rstrip": True}}}),
        ),
        CheckpointError,
        "sets rstrip of the token '<|endoftext|>' to True",
        "save the tokenizer again",
    ),
    Case(
        "an added token left out",
        with_checkpoint(leave_an_added_token_out),
        CheckpointError,
        "leaves '[MORE]' out of added_tokens_decoder",
        "save the tokenizer again",
    ),
    Case(
        "an ordinary token as a special one",
        replaced("tokenizer_config.json", json.dumps({"extra_special_tokens": ["a"]})),
        CheckpointError,
        "names 'a' as extra_special_tokens",
        "save the tokenizer again",
    ),
    Case(
        "a special token in a prompt",
        replaced("config_sentence_transformers.json", json.dumps({"prompts": {"query": "<|endoftext|>"}})),
        CheckpointError,
        "has the special token '<|endoftext|>' in a prompt",
        "remove it if",
    ),
    Case(
        "a tokenizer with chance in it",
        with_checkpoint(drop_tokens_by_chance),
        CheckpointError,
        "sets dropout of its model to 0.1",
        "use Qwen3's tokenizer files",
    ),
    Case(
        "no end token",
        with_tokenizer(lambda found: setattr(found, "post_processor", processors.ByteLevel())),
        CheckpointError,
        "appends 0 tokens",
        "use its tokenizer.json",
    ),
    Case(
        "no token for yes",
        rerank_without_a_token_for_yes,
        CheckpointError,
        "3 tokens of 'yes'",
        "use Qwen3-Reranker's tokenizer.json",
    ),
    Case("no tokenizer in a checkpoint", replaced(TOKENIZER, None), CheckpointError, "/tokenizer.json", "fetch it"),
    Case(
        "more tokens than embeddings",
        with_tokenizer(lambda found: found.add_tokens([f"word{number}" for number in range(300)])),
        CheckpointError,
        "token ids up to 556",
        "fetch",
    ),
    Case("an empty tokenizer", replaced(TOKENIZER, "{}"), CheckpointError, "/tokenizer.json is no", "fetch it again"),
    Case(
        "a tokenizer's limit that is a word",
        replaced("tokenizer_config.json", '{"model_max_length": "64"}'),
        CheckpointError,
        "model_max_length '64'",
        "set it to a number of tokens",
    ),
    Case(
        "a token that the tokenizer lacks",
        replaced("added_tokens.json", json.dumps({LONG: 300})),
        CheckpointError,
        "adds the token 'xxx",
        "save the tokenizer again",
    ),
    Case(
        "a prompt of a special token that the tokenizer lacks",
        replaced("config_sentence_transformers.json", '{"prompts": {"query": "<|im_end|>"}}'),
        CheckpointError,
        "lacks '<|im_end|>'",
        "save the tokenizer again",
    ),
    Case(
        "texts cut at their beginning",
        with_tokenizer(lambda found: found.enable_truncation(9, direction="left")),
        CheckpointError,
        "truncation direction 'Left'",
        "set its truncation to null",
    ),
    Case(
        "another splitting",
        with_tokenizer(lambda found: setattr(found, "normalizer", normalizers.Lowercase())),
        CheckpointError,
        "otherwise than transformers' Qwen2Tokenizer",
        "use Qwen3's tokenizer.json",
    ),
]
