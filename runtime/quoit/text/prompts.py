r"""The text that is put around a query or a document.

Qwen3-Embedding wants `Instruct: {task}\nQuery:{query}` for queries, with no space after `Query:`, and
documents as they are (model card, Qwen/Qwen3-Embedding-0.6B). The checkpoint's own
`config_sentence_transformers.json` decides where it has prompts. Qwen3-Reranker wants instruction, query and
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
"""The names of the types of pandas.NA, pandas.NaT and numpy.ma.masked."""


def check_text(text: object, name: str) -> str:
    """The text as a plain str, when it is a string that UTF-8 can represent, or an Arrow scalar that holds one.

    Raises:
        TypeError: it is no string; a missing value is told from a wrong one.
        InputError: it has a lone surrogate.
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
    return str.__str__(held)  # numpy.str_ and other subclasses too


def is_missing(value: object) -> bool:
    """Whether something stands for a value that is absent: None, NaN, or what pandas and numpy.ma have for it."""
    if isinstance(value, (float, np.floating)):
        return bool(np.isnan(value))
    return value is None or type(value).__name__ in MISSING_TYPES


@dataclass(frozen=True)
class Prompt:
    """The text before every text of a call, checked when it is made.

    Attributes:
        text: the text itself; empty for none.

    Raises:
        TypeError: it is no string.
        InputError: it has a lone surrogate.
    """

    text: str = ""

    def __post_init__(self) -> None:
        """Check the text."""
        object.__setattr__(self, "text", check_text(self.text, "prompt"))

    def render(self, texts: Iterable[str]) -> Iterator[str]:
        """Checked texts behind the prompt."""
        return (self.text + text for text in texts)


NO_PROMPT = Prompt()


def query_prompt(prompts: Mapping[str, str], instruction: str | None) -> Prompt:
    """The prompt of a query: `instruction` in the Qwen3 form, else the checkpoint's prompt, else the default."""
    if instruction is not None:
        return Prompt(INSTRUCTION_TEMPLATE.format(instruction=check_text(instruction, "instruction")))
    return Prompt(prompts.get("query", INSTRUCTION_TEMPLATE.format(instruction=DEFAULT_TASK)))


def document_prompt(prompts: Mapping[str, str]) -> Prompt:
    """The prompt of a document: the checkpoint's prompt, else none."""
    return Prompt(prompts.get("document", prompts.get("passage", "")))


def plain_prompt(prompts: Mapping[str, str], default_prompt_name: str | None) -> Prompt:
    """The prompt of a text that is neither: the checkpoint's default prompt, else none."""
    return Prompt("" if default_prompt_name is None else prompts.get(default_prompt_name, ""))


def rerank_prompt(instruction: str, separator: Separator) -> Prompt:
    """The prompt of a pair, which ends before its query.

    Raises:
        InputError: an unknown separator.
    """
    check_separator(separator)
    return Prompt(f"<Instruct>: {check_text(instruction, 'instruction')}{separator}<Query>: ")


def check_separator(separator: object) -> None:
    """Refuse an unknown separator.

    Raises:
        InputError: it is none of `Separator`.
    """
    if separator not in get_args(Separator):
        raise InputError(f"separator {shown(separator)} is unknown; choose one of {get_args(Separator)}")


def check_texts(texts: Iterable[object]) -> Iterator[str]:
    """The texts as plain str, one at a time.

    Raises:
        TypeError: an item is not a string; its index is named.
        InputError: a string has a lone surrogate, which no encoding can represent.
    """
    return (check_text(text, f"text {index}") for index, text in enumerate(texts))


def join_pairs(pairs: Iterable[Pair], separator: Separator) -> Iterator[str]:
    """The query and the document of each pair as one text, which stands behind `rerank_prompt`.

    Raises:
        TypeError: an item is no pair of strings; its index is named.
        InputError: an unknown separator, or a string with a lone surrogate.
    """
    check_separator(separator)
    for index, pair in enumerate(pairs):
        query, document = check_pair(pair, index)
        yield f"{query}{separator}<Document>: {document}"


def render_pairs(pairs: Iterable[Pair], instruction: str, separator: Separator) -> Iterator[str]:
    """The three fields of each pair as one text, the document last; raises as `rerank_prompt` and `join_pairs`."""
    yield from rerank_prompt(instruction, separator).render(join_pairs(pairs, separator))


def check_pair(pair: object, index: int) -> Pair:
    """A pair as a tuple of plain str, when it is a tuple or list of two texts.

    Raises:
        TypeError: it is no pair of strings; its index is named.
        InputError: a string has a lone surrogate.
    """
    if not isinstance(pair, (tuple, list)) or len(pair) != PAIR:
        raise TypeError(f"pair {index} is {type(pair).__name__} {shown(pair)}; make it (query, document)")
    query, document = pair
    return check_text(query, f"the query of pair {index}"), check_text(document, f"the document of pair {index}")
