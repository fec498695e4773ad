"""What a checkpoint is for, and what surrounds its texts: the contract of its task.

The checkpoint's files decide where they say it; the caller's `task` decides where they leave it open. This module does
not know about tensors' values.
"""

import logging
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from quoit.artifact import TOKENIZER, Contract, EmbeddingContract, RerankContract, Task
from quoit.errors import shown
from quoit_export.configuration import GENERATOR, is_classifier, read_position_limit
from quoit_export.errors import CheckpointError
from quoit_export.modules import MODULES, PIPELINE, SETTINGS, Modules
from quoit_export.templates import OFFICIAL, TEMPLATE, Template, read_template
from quoit_export.tokenizer_files import (
    appended_tokens,
    read_answer_id,
    read_end_token_id,
    read_length_limit,
    read_settings,
    special_tokens,
)

MIN_MRL_DIM = 32
"""The smallest dimension of the Matryoshka range that the Qwen3-Embedding model cards give."""
MOST_TOKENS = 1 << 24
ANSWERS = ("yes", "no")
FIELDS = "<Instruct>: Judge\n<Query>: what\n<Document>: that"

logger = logging.getLogger("quoit")


@dataclass(frozen=True)
class Papers:
    """The files of a checkpoint that say what it is for.

    Attributes:
        modules: sentence-transformers' files.
        config: config.json.
        tokenizer: tokenizer.json.
    """

    modules: Modules
    config: dict[str, Any]
    tokenizer: Tokenizer

    @property
    def classifies(self) -> bool:
        """Whether a reranker's score comes from a classification head."""
        return self.modules.classifies or (self.modules.task is None and is_classifier(self.config))

    def template(self) -> Template | None:
        """The chat template in the folder, where it renders a query and a document."""
        processing = self.modules.settings.get("processing_kwargs") or {}
        options = processing.get("chat_template") or {}
        return read_template(self.modules.transformer, options if isinstance(options, dict) else {})


def recognise_task(papers: Papers, asked: Task | None) -> Task:
    """What a checkpoint is for, by its modules, else by the caller, its tokenizer, or its chat template.

    `architectures` alone does not tell: Qwen3-Embedding's config.json says Qwen3ForCausalLM, and so does every chat
    model's. A tokenizer that appends an end token is that of an embedding model.

    Raises:
        CheckpointError: the files leave it open and the caller did not say, or says otherwise than modules.json.
    """
    modules = papers.modules
    if modules.task is not None:
        if asked not in (None, modules.task):
            raise CheckpointError(
                f"{modules.folder / MODULES} makes this checkpoint one for {modules.task}, and --task {asked} was "
                "asked for; leave --task out, or use another checkpoint"
            )
        return modules.task
    if asked is not None:
        return asked
    template = papers.template()
    if template is not None and (papers.classifies or (template.official and _generates(papers.config))):
        return "rerank"
    if appended_tokens(papers.tokenizer, modules.folder) and not papers.classifies:
        return "embedding"
    raise CheckpointError(
        f"{modules.folder} may be an embedding model, a reranker or a chat model (architectures "
        f"{shown(papers.config.get('architectures'))}); use --task rerank, which takes the official Qwen3-Reranker "
        "template and the tokens yes and no, or --task embedding"
    )


def _generates(config: dict[str, Any]) -> bool:
    return GENERATOR in (config.get("architectures") or [])


def read_contract(papers: Papers, task: Task, *, hidden_size: int, max_tokens: int) -> Contract:
    """What surrounds a text, by the checkpoint's tokenizer, prompts and template.

    Raises:
        CheckpointError: quoit cannot do what the files say.
    """
    if task == "embedding":
        contract: Contract = EmbeddingContract(
            prompts=papers.modules.prompts,
            end_token_id=read_end_token_id(papers.tokenizer, papers.modules.transformer),
            min_dim=min(MIN_MRL_DIM, hidden_size),
            default_prompt_name=papers.modules.default_prompt_name,
        )
    else:
        contract = _read_rerank_contract(papers, max_tokens)
    _check_special(papers, contract)
    return contract


def _read_rerank_contract(papers: Papers, max_tokens: int) -> RerankContract:
    modules, found = papers.modules, papers.template()
    if found is None and modules.task is not None:
        raise CheckpointError(
            f"{modules.transformer} has no chat template that puts a query and a document into <Instruct>, <Query> and "
            f"<Document>; add the {TEMPLATE} of Qwen3-Reranker"
        )
    template = found or OFFICIAL
    yes, no = _read_answers(papers)
    name = modules.default_prompt_name
    _check_template(papers, template, max_tokens)
    if found is None or (modules.task is None and not template.official):
        source = "the official Qwen3-Reranker template" if found is None else f"the template in {modules.transformer}"
        head = "its classification head" if yes is None else f"the tokens yes ({yes}) and no ({no})"
        logger.warning(
            "%s does not say how it reranks: pairs go into %s, scores come from %s", modules.folder, source, head
        )
    return RerankContract(
        prefix=template.prefix,
        suffix=template.suffix,
        instruction=template.instruction if name is None else modules.prompts[name],
        yes_token_id=yes,
        no_token_id=no,
    )


def _read_answers(papers: Papers) -> tuple[int | None, int | None]:
    """The tokens whose logits the score is the difference of; none where a head gives the score."""
    if papers.classifies:
        return None, None
    if papers.modules.answers is None:
        yes, no = (read_answer_id(papers.tokenizer, papers.modules.transformer, word) for word in ANSWERS)
        return yes, no
    outside = [number for number in papers.modules.answers if number >= papers.config["vocab_size"]]
    if outside:
        raise CheckpointError(
            f"{papers.modules.folder} scores by the tokens {papers.modules.answers}, and the model has "
            f"{papers.config['vocab_size']}; correct the LogitScore module's config.json"
        )
    return papers.modules.answers


def _check_template(papers: Papers, template: Template, max_tokens: int) -> None:
    """The template leaves room for a text, and its ends do not melt into the fields' tokens."""
    parts = (template.prefix, FIELDS, template.suffix)
    prefix, fields, suffix = (papers.tokenizer.encode(part, add_special_tokens=False).ids for part in parts)
    if papers.tokenizer.encode("".join(parts), add_special_tokens=False).ids != prefix + fields + suffix:
        raise CheckpointError(
            f"{papers.modules.transformer / TOKENIZER} joins the chat template's ends with the text between them into "
            "one token; use a template whose prefix and suffix end and begin with a special token or a line"
        )
    least = len(prefix) + len(suffix) + 1
    if max_tokens < least:
        raise CheckpointError(
            f"{papers.modules.folder} limits pairs to {max_tokens} tokens, and the template alone has {least - 1}; "
            f"raise max_seq_length in {SETTINGS[0]}, or model_max_length in tokenizer_config.json"
        )


def _check_special(papers: Papers, contract: Contract) -> None:
    """No special token that a prompt or template writes is missing from tokenizer.json; transformers would add it."""
    folder = papers.modules.transformer
    if isinstance(contract, EmbeddingContract):
        texts = tuple(contract.prompts.values())
    else:
        texts = (contract.prefix, contract.suffix, contract.instruction)
    for role, token in special_tokens(read_settings(folder)).items():
        if token and papers.tokenizer.token_to_id(token) is None and any(token in text for text in texts):
            raise CheckpointError(
                f"{folder / TOKENIZER} lacks {shown(token)}, which tokenizer_config.json names as {role} and "
                f"{PIPELINE if isinstance(contract, EmbeddingContract) else 'the template'} writes; save the tokenizer "
                "again with transformers' save_pretrained"
            )


def read_max_tokens(papers: Papers) -> int:
    """The most tokens of a text: as in sentence-transformers, `max_seq_length`, else the least of the other limits.

    Raises:
        CheckpointError: a limit is no number of tokens.
    """
    modules = papers.modules
    positions = read_position_limit(papers.config, modules.transformer)
    length = read_length_limit(read_settings(modules.transformer), modules.transformer)
    found = modules.settings.get("max_seq_length")
    if found is None:
        return positions if length is None else int(min(length, positions))
    if type(found) is not int or not 2 <= found <= MOST_TOKENS:
        raise CheckpointError(
            f"{modules.transformer / SETTINGS[0]} has max_seq_length {shown(found)}; set it to a number of tokens, or "
            "to null"
        )
    return found
