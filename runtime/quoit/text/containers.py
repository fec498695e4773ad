"""Turn containers of texts or pairs into lists of plain strings. Every public method calls this module first.

Lists, tuples, numpy arrays, columns of pandas, Arrow and Polars, iterators and views of dictionaries keep their order.
Containers without an order, and those whose items are not the texts, are refused; the error says what to pass. pandas,
Arrow and Polars are recognised by their attributes and never imported.
"""

from collections.abc import Iterable, Iterator, Mapping, MappingView, Set
from typing import Any

import numpy as np

from quoit.errors import shown
from quoit.text.prompts import PAIR, Pair, check_pair, check_text

Pairs = Iterable[tuple[str, str] | list[str]]
"""Pairs of query and document: lists, tuples, zip, arrays [n, 2], and any other iterable of tuples or lists of two."""

TABLE_ATTRIBUTES = ("columns", "column_names")
"""Attributes that classes of tables have and classes of columns do not have."""


def list_texts(texts: Iterable[str], name: str = "texts") -> list[str]:
    """Return all texts, checked, each as a plain str.

    Args:
        texts: the container that the caller gave.
        name: the name of the argument, for errors; without its final "s" it names one item.

    Raises:
        TypeError: `texts` does not hold texts in an order, or an item is not a string; the message names its index.
        InputError: a string cannot be encoded.
    """
    item = name.removesuffix("s")
    return [check_text(text, f"{item} {index}") for index, text in enumerate(each_text(texts, name))]


def each_text(texts: Iterable[str], name: str = "texts") -> Iterator[str]:
    """Return an iterator over the texts. The container is checked at once, the items are not checked.

    Raises:
        TypeError: `texts` does not hold texts in an order.
    """
    if isinstance(texts, str):
        raise TypeError(f"{name} is one string, {shown(texts)}; put it into a list")
    if isinstance(texts, np.ndarray) and texts.ndim != 1:
        step = "array[:, 0]" if texts.ndim else "array.item() for one text"
        raise TypeError(f"{name} is an array of shape {texts.shape}; pass one of a single dimension, or {step}")
    return each(texts, name, "texts")


def list_pairs(pairs: Pairs | Pair | list[str]) -> tuple[list[Pair], bool]:
    """Return all pairs, checked, as tuples of plain str, and whether the caller gave one single pair.

    Two items are one pair if the first is a string, as in `CrossEncoder.predict` of sentence-transformers.

    Raises:
        TypeError: `pairs` has no order, or an item is not a pair of strings; the message names its index.
        InputError: a string cannot be encoded.
    """
    items = list(each_pair(pairs))
    single = len(items) == PAIR and isinstance(items[0], str)
    found = [tuple(items)] if single else items
    return [check_pair(pair, index) for index, pair in enumerate(found)], single


def each_pair(pairs: Pairs | Pair | list[str]) -> Iterator[Any]:
    """Return an iterator over the pairs. The container is checked at once, the items are not checked.

    Raises:
        TypeError: `pairs` has no order, or is an array whose shape is not [n, 2].
    """
    if isinstance(pairs, str):
        raise TypeError(f"pairs is one string, {shown(pairs)}; make it [(query, document), ...]")
    if isinstance(pairs, np.ndarray):
        if pairs.ndim != 1 and (pairs.ndim != PAIR or pairs.shape[1] != PAIR):
            raise TypeError(
                f"pairs is an array of shape {pairs.shape}; make it [n, 2], with a query and a document in each row"
            )
        return iter(pairs.tolist())
    return map(plain_pair, each(pairs, "pairs", "pairs"))


def plain_pair(pair: Any) -> Any:
    """Return a pair that is a value of numpy, Arrow or Polars as a list, and anything else unchanged."""
    if isinstance(pair, (tuple, list, str)):
        return pair
    if isinstance(pair, np.ndarray):
        return pair.tolist() if pair.ndim == 1 else pair
    for convert in ("as_py", "to_list"):
        if hasattr(type(pair), convert):
            return getattr(pair, convert)()
    return pair


def each(source: Iterable[Any], name: str, what: str) -> Iterator[Any]:
    """Return an iterator over the items of a container of texts or pairs.

    Raises:
        TypeError: `source` cannot be iterated, has no order, or its items are not the texts or pairs.
    """
    remedy = remedy_for(source, name, what)
    if remedy:
        raise TypeError(f"{name} is {type(source).__name__}, {remedy}")
    try:
        return iter(source)
    except TypeError as error:
        raise TypeError(
            f"{name} is {type(source).__name__} {shown(source)}, which holds no {what}; pass a list of them"
        ) from error


def remedy_for(source: object, name: str, what: str) -> str:
    """Return why a container's items are not texts or pairs in an order, and what to pass; empty if they are."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"which holds numbers; decode it, and pass a list of {what}"
    if isinstance(source, Mapping):
        view = "items" if what == "pairs" else "values"
        return f"whose items are its keys; pass list({name}.{view}())"
    if isinstance(source, Set) and not isinstance(source, MappingView):
        return f"which has no order; pass a list, such as sorted({name})"
    if any(hasattr(type(source), attribute) for attribute in TABLE_ATTRIBUTES):
        columns = "zip(table['query'], table['document'])" if what == "pairs" else "table['text']"
        return f"whose items are its columns; pass what they hold, such as {columns}"
    return ""
