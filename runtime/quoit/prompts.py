r"""The text that is put before a query or a document.

Qwen3-Embedding wants `Instruct: {task}\nQuery:{query}` for queries, with no space after `Query:`, and
documents as they are (model card, Qwen/Qwen3-Embedding-0.6B). The checkpoint's own
`config_sentence_transformers.json` decides where it has prompts. This module does not know about tokens.
"""

from collections.abc import Iterable, Iterator, Mapping

from quoit.errors import InputError

DEFAULT_TASK = "Given a web search query, retrieve relevant passages that answer the query"
INSTRUCTION_TEMPLATE = "Instruct: {instruction}\nQuery:"


def query_prompt(prompts: Mapping[str, str], instruction: str | None) -> str:
    """What precedes a query: `instruction` in the Qwen3 form, else the checkpoint's prompt, else the default."""
    if instruction is not None:
        return INSTRUCTION_TEMPLATE.format(instruction=check_text(instruction, "instruction"))
    return prompts.get("query", INSTRUCTION_TEMPLATE.format(instruction=DEFAULT_TASK))


def document_prompt(prompts: Mapping[str, str]) -> str:
    """What precedes a document: the checkpoint's prompt, else nothing."""
    return prompts.get("document", prompts.get("passage", ""))


def render(prompt: str, texts: Iterable[str]) -> Iterator[str]:
    """The texts behind a prompt.

    Raises:
        TypeError: an item is not a string; its index is named.
        InputError: a string has a lone surrogate, which no encoding can represent.
    """
    for index, text in enumerate(texts):
        yield prompt + check_text(text, f"text {index}")


def check_text(text: object, name: str) -> str:
    """The text itself, when it is a string that UTF-8 can represent."""
    if not isinstance(text, str):
        raise TypeError(f"{name} is {type(text).__name__} {text!r:.80}, not str; convert it to a string first")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} has the lone surrogate {text[error.start]!a} at position {error.start}; read it with "
            'errors="replace"'
        ) from error
    return text
