r"""Build the text that surrounds a query or a document.

Qwen3-Embedding wants `Instruct: {task}\nQuery:{query}` for queries, with no space after `Query:`, and
documents as they are (model card, Qwen/Qwen3-Embedding-0.6B). The checkpoint's own
`config_sentence_transformers.json` decides if it has prompts. Qwen3-Reranker wants instruction, query and
document as three labelled fields, between a prefix and a suffix with special tokens (model card,
Qwen/Qwen3-Reranker-0.6B). This module does not know about tokens.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from quoit.errors import InputError, shown

DEFAULT_TASK = "Given a web search query, retrieve relevant passages that answer the query"
INSTRUCTION_TEMPLATE = "Instruct: {instruction}\nQuery:"

RERANK_PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
RERANK_SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"

Separator = Literal["\n", "\n\n"]
Pair = tuple[str, str]
PAIR = 2
MISSING_TYPES = ("NAType", "NaTType", "MaskedConstant")
"""Type names of pandas.NA, pandas.NaT and numpy.ma.masked."""


def check_text(text: object, name: str) -> str:
    """Return the text as a plain str. It must be a string that UTF-8 can represent, or an Arrow scalar that holds one.

    Raises:
        TypeError: `text` is not a string; the message says whether the value is missing or of a wrong type.
        InputError: `text` has a lone surrogate.
    """
    held = text
    if not isinstance(text, str) and hasattr(type(text), "as_py"):
        held = text.as_py()  # type: ignore[attr-defined]
    if not isinstance(held, str):
        step = "leave out missing values, or replace them by ''" if is_missing(held) else "convert it to a string first"
        raise TypeError(f"{name} is {type(text).__name__} {shown(text)}, not str; {step}")
    try:
        held.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} has the lone surrogate {held[error.start]!a} at position {error.start}; read it with "
            'errors="replace"'
        ) from error
    return str.__str__(held)  # makes a plain str of numpy.str_ and other subclasses


def is_missing(value: object) -> bool:
    """Return whether a value stands for a missing one: None, NaN, or a missing value of pandas or numpy.ma."""
    if isinstance(value, (float, np.floating)):
        return bool(np.isnan(value))
    return value is None or type(value).__name__ in MISSING_TYPES


@dataclass(frozen=True)
class Prompt:
    """A text that precedes every text of a call; it is checked at construction.

    Attributes:
        text: the prompt's text; empty for no prompt.

    Raises:
        TypeError: `text` is not a string.
        InputError: `text` has a lone surrogate.
    """

    text: str = ""

    def __post_init__(self) -> None:
        """Check the text."""
        object.__setattr__(self, "text", check_text(self.text, "prompt"))

    def render(self, texts: Iterable[str]) -> Iterator[str]:
        """Return the texts, which the caller has checked, each with the prompt before it."""
        return (self.text + text for text in texts)


NO_PROMPT = Prompt()


def query_prompt(prompts: Mapping[str, str], instruction: str | None) -> Prompt:
    """Return the prompt of a query: `instruction` in the Qwen3 form, else the checkpoint's prompt, else the default."""
    if instruction is not None:
        return Prompt(INSTRUCTION_TEMPLATE.format(instruction=check_text(instruction, "instruction")))
    return Prompt(prompts.get("query", INSTRUCTION_TEMPLATE.format(instruction=DEFAULT_TASK)))


def document_prompt(prompts: Mapping[str, str]) -> Prompt:
    """Return the prompt of a document: the checkpoint's prompt, else an empty one."""
    return Prompt(prompts.get("document", prompts.get("passage", "")))


def plain_prompt(prompts: Mapping[str, str], default_prompt_name: str | None) -> Prompt:
    """Return the prompt of a text that is neither query nor document: the checkpoint's default prompt, else empty."""
    return Prompt("" if default_prompt_name is None else prompts.get(default_prompt_name, ""))


def named_prompt(prompts: Mapping[str, str], name: str) -> Prompt:
    """Return the checkpoint's prompt of a name.

    Raises:
        InputError: it has none of this name.
    """
    if name not in prompts:
        have = f"it has {', '.join(prompts)}" if prompts else "it has none"
        raise InputError(f"the model has no prompt {shown(name)}; {have}, and prompt= takes the text itself")
    return Prompt(prompts[name])


def rerank_prompt(instruction: str, separator: Separator) -> Prompt:
    """Return the prompt of a pair; it ends just before the query.

    Raises:
        InputError: the separator is unknown.
    """
    check_separator(separator)
    return Prompt(f"<Instruct>: {check_text(instruction, 'instruction')}{separator}<Query>: ")


def check_separator(separator: object) -> None:
    """Refuse an unknown separator.

    Raises:
        InputError: the separator is not one of `Separator`.
    """
    if separator not in get_args(Separator):
        raise InputError(f"separator {shown(separator)} is unknown; choose one of {get_args(Separator)}")


def check_texts(texts: Iterable[object]) -> Iterator[str]:
    """Yield the texts as plain str.

    Raises:
        TypeError: an item is not a string; the message names its index.
        InputError: a string has a lone surrogate, which no encoding can represent.
    """
    return (check_text(text, f"text {index}") for index, text in enumerate(texts))


def join_pairs(pairs: Iterable[Pair], separator: Separator) -> Iterator[str]:
    """Yield the query and the document of each pair as one text, which follows `rerank_prompt`.

    Raises:
        TypeError: an item is not a pair of strings; the message names its index.
        InputError: the separator is unknown, or a string has a lone surrogate.
    """
    check_separator(separator)
    for index, pair in enumerate(pairs):
        query, document = check_pair(pair, index)
        yield f"{query}{separator}<Document>: {document}"


def render_pairs(pairs: Iterable[Pair], instruction: str, separator: Separator) -> Iterator[str]:
    """Yield the fields of each pair as one text, the document last; see `rerank_prompt` and `join_pairs` for errors."""
    yield from rerank_prompt(instruction, separator).render(join_pairs(pairs, separator))


def check_pair(pair: object, index: int) -> Pair:
    """Return a pair as a tuple of plain str. It must be a tuple or list of two texts.

    Raises:
        TypeError: `pair` is not a pair of strings; the message names its index.
        InputError: a string has a lone surrogate.
    """
    if not isinstance(pair, (tuple, list)) or len(pair) != PAIR:
        raise TypeError(f"pair {index} is {type(pair).__name__} {shown(pair)}; make it (query, document)")
    query, document = pair
    return check_text(query, f"the query of pair {index}"), check_text(document, f"the document of pair {index}")
