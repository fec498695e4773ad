"""Read the files of sentence-transformers: modules.json, the modules' configurations, and the prompts.

The files have the same effect as in sentence-transformers 6. A setting that quoit cannot follow is refused by its name.
This module does not know about tensors or tokens.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quoit.artifact import Task, is_file
from quoit.errors import brief, shown
from quoit_export.checkpoint.json_files import read_json, read_json_list, read_optional_json
from quoit_export.errors import CheckpointError
from quoit_export.known_keys import (
    EMBEDDING_PIPELINE,
    EMBEDDING_TRANSFORMER,
    LOGIT_SCORE,
    MODULE,
    NORMALIZE,
    POOLING,
    RERANK_PIPELINE,
    RERANK_TRANSFORMER,
    check_keys,
)

MODULES = "modules.json"
PIPELINE = "config_sentence_transformers.json"
TRANSFORMER_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""Possible names of the Transformer module's own file, in the order in which sentence-transformers looks for them."""
PACKAGE = "sentence_transformers."
REMEDY = "use a checkpoint without it"

TASKS: dict[tuple[str, ...], Task] = {
    ("Transformer", "Pooling"): "embedding",
    ("Transformer", "Pooling", "Normalize"): "embedding",
    ("Transformer", "LogitScore"): "rerank",
    ("Transformer",): "rerank",
}
"""Task of each list of modules that quoit exports; a lone Transformer is a CrossEncoder with a classification head."""
SIMILARITIES = {True: (None, "cosine", "dot", "euclidean"), False: (None, "cosine")}
"""Similarities that order vectors as cosine does, with a Normalize module (True) and without one (False)."""


@dataclass(frozen=True)
class Modules:
    """Contents of sentence-transformers' files in a checkpoint.

    Attributes:
        folder: the folder of modules.json.
        transformer: the folder of config.json, the weights and the tokenizer.
        task: the task of the modules; None if there is no modules.json.
        settings: the content of the Transformer module's own file.
        settings_name: name of that file.
        pipeline: the content of config_sentence_transformers.json; None if there is no such file.
        answers: token ids of a LogitScore module, "yes" first, then "no"; None without such a module.
    """

    folder: Path
    transformer: Path
    task: Task | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    settings_name: str = TRANSFORMER_FILES[0]
    pipeline: dict[str, Any] | None = None
    answers: tuple[int, int] | None = None

    @property
    def classifies(self) -> bool:
        """True if the Transformer module itself gives the score."""
        return self.task == "rerank" and self.answers is None

    @property
    def template_options(self) -> dict[str, Any]:
        """Arguments that sentence-transformers passes to the chat template."""
        options = (self.settings.get("processing_kwargs") or {}).get("chat_template") or {}
        return options if isinstance(options, dict) else {}

    @property
    def prompts(self) -> dict[str, str]:
        """The prompts by name, as in `SentenceTransformer.prompts` after loading; {} without a file.

        Raises:
            CheckpointError: a prompt is no text.
        """
        if self.pipeline is None:
            return {}
        found = {} if self.pipeline.get("prompts") is None else self.pipeline["prompts"]
        if not isinstance(found, dict) or not all(text is None or isinstance(text, str) for text in found.values()):
            raise CheckpointError(f"{self.folder / PIPELINE} has prompts that are not text: {shown(found)}; correct it")
        given = {name: text or "" for name, text in found.items()}
        return given if self.task == "rerank" else {"query": "", "document": ""} | given

    @property
    def default_prompt_name(self) -> str | None:
        """Name of the prompt that is used if the caller names none; None if that prompt is empty.

        Raises:
            CheckpointError: there is no such prompt.
        """
        name, prompts = (self.pipeline or {}).get("default_prompt_name"), self.prompts
        if name is None:
            return None
        if not isinstance(name, str) or name not in prompts:
            raise CheckpointError(
                f"{self.folder / PIPELINE} has default_prompt_name {shown(name)}, and no such prompt; add the prompt, "
                "or set default_prompt_name to null"
            )
        return name if prompts[name] else None


def read_modules(folder: Path) -> Modules:
    """Read sentence-transformers' files in a checkpoint's folder.

    Raises:
        CheckpointError: the files are damaged or incomplete, or ask for something that quoit cannot do.
    """
    file = folder / MODULES
    if not is_file(file):
        _check_complete(folder)
        return Modules(folder, folder)
    listed = read_json_list(file)
    for module in listed:
        check_keys(module, MODULE, file, REMEDY)
    kinds = tuple(_kind(module, file) for module in listed)
    pipeline = read_json(folder / PIPELINE) if is_file(folder / PIPELINE) else None
    if kinds not in TASKS or (kinds == ("Transformer",) and (pipeline or {}).get("model_type") != "CrossEncoder"):
        raise CheckpointError(
            f"{file} has the modules {brief(', '.join(kinds)) or 'none'}; quoit exports Transformer with Pooling of "
            "the last token and perhaps Normalize, or Transformer with LogitScore: use a checkpoint of those"
        )
    paths, task = [_path(module, folder) for module in listed], TASKS[kinds]
    settings_name, settings = _read_transformer_settings(paths[0], task)
    found = Modules(
        folder=folder,
        transformer=paths[0],
        task=task,
        settings=settings,
        settings_name=settings_name,
        pipeline=pipeline,
        answers=_read_answers(paths[1]) if kinds[-1] == "LogitScore" else None,
    )
    if task == "embedding":
        _check_pooling(paths[1], folder)
        _check_normalize(paths[2:], folder)
    _check_pipeline(found, normalized=kinds[-1] == "Normalize")
    return found


def _check_complete(folder: Path) -> None:
    """Refuse a folder without modules.json that has other files of sentence-transformers.

    sentence-transformers would silently ignore those files.
    """
    parent = folder.resolve().parent
    for name in (PIPELINE, *TRANSFORMER_FILES):
        if not is_file(folder / name):
            continue
        if is_file(parent / MODULES) and is_file(folder / "config.json"):
            raise CheckpointError(f"{folder} is one module of {parent}, whose prompts count too; export {parent}")
        raise CheckpointError(
            f"{folder / MODULES} is missing beside {name}; fetch the checkpoint again, or remove {name} if this is a "
            "plain transformers checkpoint"
        )


def _kind(module: dict[str, Any], file: Path) -> str:
    """Return the bare name of a module's class.

    Raises:
        CheckpointError: the class is not one of sentence-transformers' own that quoit knows.
    """
    name = str(module.get("type", ""))
    kind = name.rpartition(".")[2]
    if not name.startswith(PACKAGE):
        kind = name
    if kind not in ("Transformer", "Pooling", "Normalize", "LogitScore"):
        raise CheckpointError(
            f"{file} has a {brief(kind, 80)} module, which quoit does not export; use a checkpoint of "
            "Transformer, Pooling and Normalize"
        )
    return kind


def _path(module: dict[str, Any], folder: Path) -> Path:
    path = module.get("path", "")
    if not isinstance(path, str) or path == ".." or Path(path).name != path:
        raise CheckpointError(f"{folder / MODULES} names a folder elsewhere, {shown(path)}; do not use it")
    return folder / path


def _read_transformer_settings(transformer: Path, task: Task) -> tuple[str, dict[str, Any]]:
    """Return the name and content of the Transformer module's own file.

    The first file that is not empty counts, as in sentence-transformers.
    """
    for name in TRANSFORMER_FILES:
        found = read_optional_json(transformer / name)
        if found:
            check_keys(
                found, EMBEDDING_TRANSFORMER if task == "embedding" else RERANK_TRANSFORMER, transformer / name, REMEDY
            )
            return name, found
    return TRANSFORMER_FILES[0], {}


def _read_answers(path: Path) -> tuple[int, int]:
    found = read_json(path / "config.json")
    check_keys(found, LOGIT_SCORE, path / "config.json", REMEDY)
    answers = (found.get("true_token_id"), found.get("false_token_id"))
    if not all(type(number) is int and number >= 0 for number in answers):
        raise CheckpointError(
            f"{path / 'config.json'} has true_token_id {shown(answers[0])} and false_token_id {shown(answers[1])}; "
            "quoit scores by the difference of two tokens' logits, use a checkpoint that has both"
        )
    return int(answers[0] or 0), int(answers[1] or 0)


def _check_pooling(path: Path, folder: Path) -> None:
    """Check that the last token is pooled; as in sentence-transformers, `pooling_mode` overrides the older keys."""
    pooling = read_json(path / "config.json")
    named = pooling.get("pooling_mode")
    older = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value]
    lasttoken = named in ("lasttoken", ["lasttoken"]) if named is not None else older == ["pooling_mode_lasttoken"]
    if not lasttoken:
        raise CheckpointError(
            f"{folder} does not pool the last token ({shown(pooling)}); quoit exports last-token pooling only, "
            "use a checkpoint that has it"
        )
    check_keys(pooling, POOLING, path / "config.json", REMEDY)


def _check_normalize(paths: list[Path], folder: Path) -> None:
    for path in paths:
        if path != folder:
            check_keys(read_optional_json(path / "config.json"), NORMALIZE, path / "config.json", REMEDY)


def _check_pipeline(modules: Modules, *, normalized: bool) -> None:
    """Check that config_sentence_transformers.json agrees with the modules, and does not change vectors."""
    file, found = modules.folder / PIPELINE, modules.pipeline or {}
    if modules.task == "rerank":
        check_keys(found, RERANK_PIPELINE, file, REMEDY)
        _check_reranker(modules)
        return
    check_keys(found, EMBEDDING_PIPELINE, file, REMEDY)
    similarity, dim = found.get("similarity_fn_name"), found.get("truncate_dim")
    if similarity not in SIMILARITIES[normalized]:
        raise CheckpointError(
            f"{file} has similarity_fn_name {shown(similarity)}, which orders these vectors otherwise than their "
            "cosine; quoit compares by cosine: set it to 'cosine' if that is right"
        )
    if dim is not None:
        raise CheckpointError(
            f"{file} has truncate_dim {shown(dim)}; remove it, and give dim={shown(dim)} when you encode"
        )


def _check_reranker(modules: Modules) -> None:
    """Check that the Transformer module puts pairs into the chat template, and gives the logits for the score."""
    does = modules.settings.get("transformer_task")
    wanted = "sequence-classification" if modules.classifies else "text-generation"
    if does != wanted or "message" not in (modules.settings.get("modality_config") or {}):
        raise CheckpointError(
            f"{modules.transformer / modules.settings_name} has transformer_task {shown(does)} and modality_config "
            f"{shown(modules.settings.get('modality_config'))}; quoit exports rerankers with {wanted!r} and 'message', "
            "whose pairs go through a chat template: save it with Qwen3-Reranker's chat_template.jinja"
        )
