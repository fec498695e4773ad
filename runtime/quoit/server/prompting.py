"""Decide which prompt the texts of a request follow: every dialect has another word for "this is a query"."""

import logging
from collections.abc import Mapping
from typing import Literal

import msgspec

from quoit.artifact import EmbeddingContract
from quoit.server.refusals import wrong
from quoit.server.settings import DefaultPrompt
from quoit.text.prompts import Prompt, document_prompt, plain_prompt, query_prompt

QUERY = ("query", "search_query", "retrieval.query", "code.query")
DOCUMENT = ("document", "passage", "search_document", "retrieval.passage", "code.passage")
INSTRUCTED = "Instruct: "
"""Beginning of a text that already carries a query's prompt."""
Role = Literal["query", "document"]

logger = logging.getLogger("quoit.server")


class PromptFields(msgspec.Struct, kw_only=True):
    r"""Fields of a request that decide its prompt; the first that is given counts, in this order.

    Attributes:
        prompt: the prompt itself, verbatim.
        instruction: a task, which becomes `Instruct: {instruction}\nQuery:`.
        instruct: another name of `instruction`.
        prompt_name: name of a prompt of the checkpoint, or one of the words for query and document.
        input_type: one of these words.
        task: one of these words.
    """

    prompt: str | None = None
    instruction: str | None = None
    instruct: str | None = None
    prompt_name: str | None = None
    input_type: str | None = None
    task: str | None = None


class Prompts:
    """The prompts of a model, and the one that is used where a request names none."""

    def __init__(self, contract: EmbeddingContract, default: DefaultPrompt) -> None:
        self._named: Mapping[str, str] = contract.prompts
        self._plain = plain_prompt(contract.prompts, contract.default_prompt_name)
        self._default = default
        self._warned = False

    def choose(self, fields: PromptFields, header: str | None, alias: Role | None) -> Prompt:
        """Return the prompt of a request.

        Args:
            fields: the fields of its body.
            header: its header `x-quoit-prompt`.
            alias: what the name of the model says: `NAME:query` or `NAME:document`.

        Raises:
            RequestError: a name is not known.
            InputError: a prompt cannot be encoded.
        """
        if fields.prompt is not None:
            return Prompt(fields.prompt)
        instruction = fields.instruct if fields.instruction is None else fields.instruction
        if instruction is not None:
            return query_prompt(self._named, instruction)
        names = {name: getattr(fields, name) for name in ("prompt_name", "input_type", "task")}
        names |= {"x-quoit-prompt": header, "model": alias}
        if self._default != "none":
            names["--default-prompt"] = self._default
        for param, name in names.items():
            if name is not None:
                return self.named(name, param)
        self._warn()
        return self._plain

    def named(self, name: str, param: str) -> Prompt:
        """Return the prompt of a name.

        Raises:
            RequestError: the name is not known; the message lists those that are.
        """
        if name in self._named:
            return Prompt(self._named[name])
        if name in QUERY:
            return query_prompt(self._named, None)
        if name in DOCUMENT:
            return document_prompt(self._named)
        known = ", ".join(dict.fromkeys((*self._named, *QUERY, *DOCUMENT)))
        raise wrong(f"{param} {name[:80]!r} is unknown; use one of {known}, or a free text as instruction", param)

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "texts came without a word on whether they are queries, and are embedded as documents; queries need "
                '"input_type": "query" in the body, the header x-quoit-prompt: query, or the model name with :query'
            )


def prompted_twice(prompt: Prompt, texts: list[str]) -> int:
    """Return the number of texts that begin with a query's prompt although one is put before them."""
    return sum(text.startswith(INSTRUCTED) for text in texts) if prompt.text.startswith(INSTRUCTED) else 0
