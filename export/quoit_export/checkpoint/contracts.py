"""Find the task of a checkpoint, and read the contract of that task: the prompts, template and tokens around a text.

The checkpoint's files decide the task if they name it. The caller's `task` decides if they leave it open. This module
does not know about tensors' values.
"""

import logging
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from quoit.artifact import TOKENIZER, Contract, EmbeddingContract, RerankContract, Task
from quoit.errors import shown
from quoit.text.prompts import render_pairs
from quoit_export.checkpoint.added_tokens import TOKENIZER_SETTINGS, check_plain, check_texts
from quoit_export.checkpoint.configuration import MAX_SIZE, is_classifier, is_generator, read_position_limit
from quoit_export.checkpoint.modules import MODULES, PIPELINE, Modules
from quoit_export.checkpoint.templates import OFFICIAL, TEMPLATE, Template, read_template
from quoit_export.checkpoint.tokenizer_files import (
    appended_tokens,
    read_answer_id,
    read_end_token_id,
    read_length_limit,
    read_tokenizer,
    read_tokenizer_settings,
)
from quoit_export.errors import CheckpointError
from quoit_export.families import find_family

MIN_MRL_DIM = 32
"""Minimum dimension of the Matryoshka range in the Qwen3-Embedding model cards."""
ANSWERS = ("yes", "no")
(FIELDS,) = render_pairs([("what", "that")], "Judge", "\n")
"""Rendered fields of one pair, used to check how a template's ends are tokenized."""

logger = logging.getLogger("quoit")


@dataclass(frozen=True)
class CheckpointFiles:
    """Contents of the files that decide a checkpoint's task; each file is read once.

    Attributes:
        modules: the content of sentence-transformers' files.
        config: the content of config.json.
        tokenizer: the tokenizer of tokenizer.json.
        settings: the content of tokenizer_config.json.
        template: the chat template if it renders a query and a document, else None; it is not read for a known
            embedding model.
    """

    modules: Modules
    config: dict[str, Any]
    tokenizer: Tokenizer
    settings: dict[str, Any]
    template: Template | None

    @property
    def classifies(self) -> bool:
        """True if a reranker's score comes from a classification head."""
        return self.modules.classifies or (self.modules.task is None and is_classifier(self.config))


def read_files(modules: Modules, config: dict[str, Any], asked: Task | None = None) -> CheckpointFiles:
    """Read the tokenizer, its settings and the chat template, and return them with the files already read.

    Args:
        modules: the content of sentence-transformers' files.
        config: the content of config.json, already checked.
        asked: the task that the caller gave, or None.

    Raises:
        CheckpointError: a file is missing or damaged, or the tokenizer is not the model's.
    """
    folder = modules.transformer
    rules = find_family(config, folder).tokenizer
    settings = read_tokenizer_settings(folder, rules)
    embeds = "embedding" in (modules.task, asked)
    return CheckpointFiles(
        modules=modules,
        config=config,
        tokenizer=read_tokenizer(folder, config["vocab_size"], settings, rules),
        settings=settings,
        template=None if embeds else read_template(folder, settings, modules.template_options),
    )


def recognise_task(files: CheckpointFiles, asked: Task | None) -> Task:
    """Return the task of a checkpoint, by its modules, else by the caller, its chat template, or its tokenizer.

    `architectures` alone does not tell the task: Qwen3-Embedding's config.json says Qwen3ForCausalLM, and so does every
    chat model's. A tokenizer that appends an end token belongs to an embedding model.

    Raises:
        CheckpointError: the files leave the task open and the caller gave none, or the caller contradicts modules.json.
    """
    modules = files.modules
    if modules.task is not None:
        if asked not in (None, modules.task):
            raise CheckpointError(
                f"{modules.folder / MODULES} makes this checkpoint one for {modules.task}, and --task {asked} was "
                "asked for; leave --task out, or use another checkpoint"
            )
        return modules.task
    if asked is not None:
        return asked
    template = files.template
    if template is not None and (files.classifies or (template.official and is_generator(files.config))):
        return "rerank"
    if appended_tokens(files.tokenizer, modules.folder) and not files.classifies:
        return "embedding"
    raise CheckpointError(
        f"{modules.folder} may be an embedding model, a reranker or a chat model (architectures "
        f"{shown(files.config.get('architectures'))}); use --task embedding, or --task rerank, and see in its "
        "warning which template and tokens were used"
    )


def read_contract(files: CheckpointFiles, task: Task, *, dimension: int, max_tokens: int) -> Contract:
    """Return the contract of a task, from the checkpoint's tokenizer, prompts and template.

    Raises:
        CheckpointError: the files ask for something that quoit cannot do.
    """
    if task == "embedding":
        contract: Contract = EmbeddingContract(
            prompts=files.modules.prompts,
            end_token_id=read_end_token_id(files.tokenizer, files.modules.transformer),
            min_dim=min(MIN_MRL_DIM, dimension),
            default_prompt_name=files.modules.default_prompt_name,
        )
    else:
        contract = _read_rerank_contract(files, max_tokens)
    _check_special(files, contract)
    return contract


def _read_rerank_contract(files: CheckpointFiles, max_tokens: int) -> RerankContract:
    modules = files.modules
    if files.template is None and modules.task is not None:
        raise CheckpointError(
            f"{modules.transformer} has no chat template that puts a query and a document into <Instruct>, <Query> and "
            f"<Document>; add the {TEMPLATE} of Qwen3-Reranker"
        )
    template = files.template or OFFICIAL
    yes, no = _read_answers(files)
    name = modules.default_prompt_name
    _check_template(files, template, max_tokens)
    return RerankContract(
        prefix=template.prefix,
        suffix=template.suffix,
        instruction=template.instruction if name is None else modules.prompts[name],
        yes_token_id=yes,
        no_token_id=no,
    )


def warn_how_it_reranks(files: CheckpointFiles, contract: RerankContract, asked: Task | None) -> None:
    """Log the template and tokens of a reranker if the caller gave the task, or the template is not the official one.

    Nothing is logged for a checkpoint whose modules.json makes it a reranker.
    """
    modules, template = files.modules, files.template
    if modules.task is not None or (asked is None and template is not None and template.official):
        return
    if template is None:
        has, source = "no rerank template of its own", "the official Qwen3-Reranker template"
    elif template.official:
        has, source = "Qwen3-Reranker's template", "it"
    else:
        has, source = "a template other than Qwen3-Reranker's", f"the template in {modules.transformer}"
    yes, no = contract.yes_token_id, contract.no_token_id
    head = "its classification head" if yes is None else f"the tokens yes ({yes}) and no ({no})"
    logger.warning("%s has %s: pairs use %s, scores come from %s", modules.folder, has, source, head)


def _read_answers(files: CheckpointFiles) -> tuple[int | None, int | None]:
    """Return the ids of "yes" and "no", whose logits' difference is the score.

    Both are None if a classification head gives the score.
    """
    if files.classifies:
        return None, None
    if files.modules.answers is None:
        yes, no = (read_answer_id(files.tokenizer, files.modules.transformer, word) for word in ANSWERS)
        return yes, no
    outside = [number for number in files.modules.answers if number >= files.config["vocab_size"]]
    if outside:
        raise CheckpointError(
            f"{files.modules.folder} scores by the tokens {files.modules.answers}, and the model has "
            f"{files.config['vocab_size']}; correct the LogitScore module's config.json"
        )
    return files.modules.answers


def _check_template(files: CheckpointFiles, template: Template, max_tokens: int) -> None:
    """Check that the template leaves room for a text, and that no token spans the template and a field."""
    parts = (template.prefix, FIELDS, template.suffix)
    prefix, fields, suffix = (files.tokenizer.encode(part, add_special_tokens=False).ids for part in parts)
    if files.tokenizer.encode("".join(parts), add_special_tokens=False).ids != prefix + fields + suffix:
        raise CheckpointError(
            f"{files.modules.transformer / TOKENIZER} makes one token from the end of the template's prefix (or the "
            "start of its suffix) and the text beside it; end the prefix and begin the suffix with a special token or "
            "a line break"
        )
    least = len(prefix) + len(suffix) + 1
    if max_tokens < least:
        raise CheckpointError(
            f"{files.modules.folder} limits pairs to {max_tokens} tokens, and the template alone has {least - 1}; "
            f"raise max_seq_length in {files.modules.settings_name}, or model_max_length in {TOKENIZER_SETTINGS}"
        )


def _check_special(files: CheckpointFiles, contract: Contract) -> None:
    """Check that tokenizer.json has the template's special tokens, and that prompts and instructions have none."""
    folder = files.modules.transformer
    plain: tuple[str, ...] = (contract.instruction,) if isinstance(contract, RerankContract) else ()
    around = (contract.prefix, contract.suffix) if isinstance(contract, RerankContract) else ()
    if isinstance(contract, EmbeddingContract):
        plain = tuple(contract.prompts.values())
    check_texts(files.tokenizer, files.settings, folder, (*plain, *around))
    check_plain(files.tokenizer, files.modules.folder / PIPELINE, plain)


def read_max_tokens(files: CheckpointFiles) -> int:
    """Return the maximum number of tokens of a text.

    As in sentence-transformers, it is `max_seq_length`, else the smallest of the other limits.

    Raises:
        CheckpointError: a limit is no number of tokens.
    """
    modules = files.modules
    positions = read_position_limit(files.config, modules.transformer)
    length = read_length_limit(files.settings, modules.transformer)
    found = modules.settings.get("max_seq_length")
    if found is None:
        return positions if length is None else int(min(length, positions))
    if type(found) is not int or not 2 <= found <= MAX_SIZE:
        raise CheckpointError(
            f"{modules.transformer / modules.settings_name} has max_seq_length {shown(found)}; set it to a number "
            "of tokens, or to null"
        )
    return found
