"""Errors of sentence-transformers' files of a checkpoint, and of a reranker's chat template."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, processors

from messages.harness import LONG, Case, Command, Trigger, World
from messages.triggers import put, replaced, with_checkpoint
from quoit.artifact import TOKENIZER, Task
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.errors import CheckpointError
from support import edit_json


def leave_the_task_open(folder: Path) -> None:
    for name in ("modules.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.post_processor = processors.ByteLevel()
    tokenizer.save(str(folder / TOKENIZER))
    edit_json(folder / "config.json", architectures=[])


def with_reranker(change: Callable[[Path], object], *, task: Task | None = None) -> Trigger:
    """Opening a changed copy of the reranker's checkpoint."""

    def trigger(world: World) -> object:
        folder = world.copy(world.sources.rerank_checkpoint)
        change(folder)
        return open_checkpoint(str(folder), task=task)

    return trigger


def as_cross_encoder(template: str | None = None, **answers: Any) -> Trigger:
    """A reranker as sentence-transformers saves it, with another template or other answers."""
    forward = {"method": "forward", "method_output_name": "logits"}
    modalities = {"text": forward, "message": {**forward, "format": "flat"}}

    def change(folder: Path) -> None:
        kinds = {"": "base.modules.transformer.Transformer", "1_LogitScore": "cross_encoder.modules.LogitScore"}
        modules = [{"path": path, "type": f"sentence_transformers.{kind}"} for path, kind in kinds.items()]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_LogitScore").mkdir()
        (folder / "1_LogitScore" / "config.json").write_text(
            json.dumps({"true_token_id": 257, "false_token_id": 258} | answers)
        )
        settings = {"transformer_task": "text-generation", "modality_config": modalities}
        (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
        if template is not None:
            (folder / "chat_template.jinja").write_text(template)

    return with_reranker(change)


def join_the_template(folder: Path) -> None:
    """The text's end and the suffix's beginning become one token."""
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.add_tokens(["that<|"])
    tokenizer.save(str(folder / TOKENIZER))


def without_settings(folder: Path) -> None:
    """A CrossEncoder whose Transformer module says nothing."""
    module = {"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    (folder / "modules.json").write_text(json.dumps([module]))
    (folder / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')


def lose_the_modules(folder: Path) -> None:
    (folder / "modules.json").unlink()


def open_a_module(world: World) -> object:
    """The Transformer's own folder of a checkpoint in the old layout."""
    folder = world.copy(world.sources.checkpoint)
    inner = shutil.copytree(folder, world.folder / "copy")
    inner.rename(folder / "0_Transformer")
    (folder / "0_Transformer" / "modules.json").unlink()
    return open_checkpoint(str(folder / "0_Transformer"))


CASES = [
    Case(
        "an open task",
        with_checkpoint(leave_the_task_open),
        CheckpointError,
        "architectures []",
        "use --task embedding, or --task rerank",
    ),
    Case("half the modules", replaced("modules.json", "["), CheckpointError, "/modules.json", "fetch the checkpoint"),
    Case("modules of words", replaced("modules.json", "[1]"), CheckpointError, "/modules.json", "fetch the checkpoint"),
    Case(
        "a dense module",
        replaced("modules.json", '[{"type": "sentence_transformers.models.Dense"}]'),
        CheckpointError,
        "a Dense module",
        "use a checkpoint of Transformer, Pooling and Normalize",
    ),
    Case(
        "a pooling outside the folder",
        replaced(
            "modules.json",
            '[{"type": "sentence_transformers.models.Transformer"}, '
            '{"type": "sentence_transformers.models.Pooling", "path": "../1_Pooling"}]',
        ),
        CheckpointError,
        "'../1_Pooling'",
        "do not use it",
    ),
    Case(
        "another pooling",
        replaced("1_Pooling/config.json", '{"pooling_mode_mean_tokens": true}'),
        CheckpointError,
        "pooling_mode_mean_tokens",
        "use a checkpoint",
    ),
    Case(
        "a pooling of many settings",
        replaced("1_Pooling/config.json", json.dumps({"pooling_mode": "mean", "settings": LONG})),
        CheckpointError,
        "'mean'",
        "use a checkpoint",
    ),
    Case(
        "a prompt that is a number",
        replaced("config_sentence_transformers.json", '{"prompts": {"query": 5}}'),
        CheckpointError,
        "{'query': 5}",
        "correct it",
    ),
    Case(
        "many prompts, and one a number",
        replaced("config_sentence_transformers.json", json.dumps({"prompts": {"query": 5, "document": LONG}})),
        CheckpointError,
        "'query': 5",
        "correct it",
    ),
    Case(
        "no pooling settings",
        replaced("1_Pooling/config.json", None),
        CheckpointError,
        "config.json is",
        "fetch it again",
    ),
    Case(
        "no Pooling",
        replaced("modules.json", '[{"path": "", "type": "sentence_transformers.models.Transformer"}]'),
        CheckpointError,
        "has the modules Transformer",
        "use a checkpoint of those",
    ),
    Case(
        "modules.json is lost",
        with_checkpoint(lose_the_modules),
        CheckpointError,
        "/modules.json is missing beside config_sentence_transformers.json",
        "fetch the checkpoint again",
    ),
    Case("one module alone", open_a_module, CheckpointError, "is one module of /", "export /"),
    Case(
        "a default that is no prompt",
        replaced("config_sentence_transformers.json", json.dumps({"default_prompt_name": LONG})),
        CheckpointError,
        "default_prompt_name 'xxx",
        "set default_prompt_name to null",
    ),
    Case(
        "another similarity",
        replaced("config_sentence_transformers.json", '{"similarity_fn_name": "manhattan"}'),
        CheckpointError,
        "similarity_fn_name 'manhattan'",
        "set it to 'cosine'",
    ),
    Case(
        "short vectors",
        replaced("config_sentence_transformers.json", '{"truncate_dim": 32}'),
        CheckpointError,
        "truncate_dim 32",
        "give dim=32",
    ),
    Case(
        "a limit of one token",
        replaced("sentence_bert_config.json", '{"max_seq_length": 1}'),
        CheckpointError,
        "max_seq_length 1",
        "set it to a number of tokens",
    ),
    Case(
        "an embedding model as a reranker",
        Command(
            "quoit-export",
            lambda world: [str(world.sources.checkpoint), str(world.folder / "out"), "--task", "rerank"],
        ),
        CheckpointError,
        "--task rerank was asked for",
        "leave --task out",
    ),
    Case(
        "answers by one token", as_cross_encoder(false_token_id=None), CheckpointError, "false_token_id None", "use a"
    ),
    Case("answers beyond the model", as_cross_encoder(true_token_id=512), CheckpointError, "(512, 258)", "correct the"),
    Case(
        "a chat model's template",
        as_cross_encoder("{{ messages[0].content }}"),
        CheckpointError,
        "has no chat template that puts a query",
        "add the chat_template.jinja of Qwen3-Reranker",
    ),
    Case(
        "a CrossEncoder without settings",
        with_reranker(without_settings),
        CheckpointError,
        "transformer_task None",
        "save it with Qwen3-Reranker's chat_template.jinja",
    ),
    Case(
        "a template that melts into the text",
        with_reranker(join_the_template),
        CheckpointError,
        "/tokenizer.json makes one token from the end of the template's prefix",
        "begin the suffix with a special token",
    ),
    Case(
        "less than the template",
        with_reranker(lambda folder: put(folder / "tokenizer_config.json", '{"model_max_length": 9}')),
        CheckpointError,
        "limits pairs to 9 tokens",
        "raise max_seq_length",
    ),
]
