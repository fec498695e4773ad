"""Real texts: 1,000 of sixteen languages, held-out pairs, and documents cut to the token.

`collect_texts.py` says where texts.jsonl.gz comes from, `models/train/splits.py` how the held-out pairs were
chosen. Lengths in tokens are those of the checkpoint's own tokenizer, end token included.
"""

import gzip
import json
from itertools import cycle, islice
from pathlib import Path

from tokenizers import Tokenizer

FILE = Path(__file__).parent / "texts.jsonl.gz"
HELD_OUT = Path(__file__).parent / "heldout"


def read_texts() -> list[dict[str, str]]:
    """The records of texts.jsonl.gz: language, query and text."""
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_held_out(name: str) -> list[dict[str, str]]:
    """The pairs of a held-out set, each a query and its document: `debian`, `docstrings` or `wordnet`."""
    with gzip.open(HELD_OUT / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def long_texts() -> list[str]:
    """The held-out docstrings, longest first."""
    return sorted((pair["document"] for pair in read_held_out("docstrings")), key=len, reverse=True)


def count(tokenizer: Tokenizer, text: str) -> int:
    """The tokens of a text, end token included."""
    return len(tokenizer.encode(text).ids)


def cut(tokenizer: Tokenizer, text: str, tokens: int) -> str:
    """The beginning of a text that has exactly `tokens` tokens with the end token, or the most below that.

    The end of a cut text may be tokenized otherwise than before, so the result is encoded again.
    """
    offsets = tokenizer.encode(text).offsets
    last = min(tokens, len(offsets)) - 1
    while last > 0 and count(tokenizer, text[: offsets[last - 1][1]]) > tokens:
        last -= 1
    return text[: offsets[last - 1][1]]


def cut_documents(tokenizer: Tokenizer, number: int, tokens: int) -> list[str]:
    """`number` different texts cut to `tokens` tokens; docstrings are joined where one is shorter."""
    source = islice(cycle(long_texts()), None)
    documents = []
    for _ in range(number):
        text = next(source)
        while count(tokenizer, text) < tokens:
            text = f"{text} {next(source)}"
        documents.append(cut(tokenizer, text, tokens))
    return documents
