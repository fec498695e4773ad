"""Define the contract of each task: the text and tokens around a text in the model's input."""

from typing import TypeVar

import msgspec

from quoit.artifact.names import Positive, Task, TokenId


class EmbeddingContract(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="task",
    tag="embedding",
):
    """The prompts and end token of a text, and the smallest dimension of its vector.

    Attributes:
        prompts: prompts by name, as in sentence-transformers; quoit uses `query` and `document`. If `query` is missing,
            the checkpoint has no file of prompts, and queries get the official prompt.
        end_token_id: id of the token that is appended to every text; its state is the embedding.
        min_dim: smallest dimension of the Matryoshka range.
        default_prompt_name: name of the prompt of texts that are neither queries nor documents; None for no prompt.
    """

    prompts: dict[str, str]
    end_token_id: TokenId
    min_dim: Positive
    default_prompt_name: str | None = None


class RerankContract(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="task",
    tag="rerank",
):
    """The template around a query and a document. Only `prefix` and `suffix` may have special tokens.

    Attributes:
        prefix: text before the instruction, the query and the document.
        suffix: text after them; the state of its last token gives the score.
        instruction: instruction that is used if the caller gives none.
        yes_token_id, no_token_id: ids of the two tokens whose logits' difference is the score; None if the checkpoint
            has one vector that gives the score.
    """

    prefix: str
    suffix: str
    instruction: str
    yes_token_id: TokenId | None
    no_token_id: TokenId | None


Contract = EmbeddingContract | RerankContract
SomeContract = TypeVar("SomeContract", EmbeddingContract, RerankContract)
TASKS: dict[type[EmbeddingContract] | type[RerankContract], tuple[Task, str]] = {
    EmbeddingContract: ("embedding", "Embedder"),
    RerankContract: ("rerank", "Reranker"),
}
"""Task of each contract, and name of the class that serves it."""
