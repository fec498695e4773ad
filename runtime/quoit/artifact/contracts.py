"""What surrounds a text in the model's input: the contract of each task."""

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
    """What surrounds a text, and what its vector may be cut to.

    Attributes:
        prompts: by name, as in sentence-transformers; quoit knows `query` and `document`. Without `query`, the
            checkpoint has no file of prompts, and a query has the official one.
        end_token_id: the token that is appended to every text; its state is the embedding.
        min_dim: the smallest dimension of the Matryoshka range.
        default_prompt_name: the prompt of texts that are neither queries nor documents; None where they have none.
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
    """What surrounds a query and a document; special tokens count as such in `prefix` and `suffix` alone.

    Attributes:
        prefix: the text before the instruction, the query and the document.
        suffix: the text behind them; the state of its last token gives the score.
        instruction: the instruction where the caller gives none.
        yes_token_id, no_token_id: the score is the difference of these tokens' logits; None where the checkpoint has
            its score as one vector.
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
"""The task of each contract, and the class that serves it."""
