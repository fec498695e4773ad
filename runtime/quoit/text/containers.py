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
"""Pairs of query and document: lists, tuples, zip, arrays [n, 2] and whatever else holds tuples or lists of two."""

TABLE_ATTRIBUTES = ("columns", "column_names")
"""What the classes of tables have, and those of columns do not."""


def list_texts(texts: Iterable[str], name: str = "texts") -> list[str]:
    """All texts, checked, each as a plain str.

    Args:
        texts: what the caller gave.
        name: the name of the argument, for errors; without its "s" it names an item.

    Raises:
        TypeError: it does not hold texts in an order, or an item is no string; its index is named.
        InputError: a string cannot be encoded.
    """
    item = name.removesuffix("s")
    return [check_text(text, f"{item} {index}") for index, text in enumerate(each_text(texts, name))]


def each_text(texts: Iterable[str], name: str = "texts") -> Iterator[str]:
    """The items of texts one at a time, unchecked; what holds them is checked at once.

    Raises:
        TypeError: it does not hold texts in an order.
    """
    if isinstance(texts, str):
        raise TypeError(f"{name} is one string, {shown(texts)}; put it into a list")
    if isinstance(texts, np.ndarray) and texts.ndim != 1:
        step = "array[:, 0]" if texts.ndim else "array.item() for one text"
        raise TypeError(f"{name} is an array of shape {texts.shape}; pass one of a single dimension, or {step}")
    return each(texts, name, "texts")


def list_pairs(pairs: Pairs | Pair | list[str]) -> tuple[list[Pair], bool]:
    """All pairs, checked, as tuples of plain str, and whether it was one pair alone.

    As in the `CrossEncoder.predict` of sentence-transformers, two items of which the first is a string are one pair.

    Raises:
        TypeError: they are in no order, or an item is no pair of strings; its index is named.
        InputError: a string cannot be encoded.
    """
    items = list(each_pair(pairs))
    single = len(items) == PAIR and isinstance(items[0], str)
    found = [tuple(items)] if single else items
    return [check_pair(pair, index) for index, pair in enumerate(found)], single


def each_pair(pairs: Pairs | Pair | list[str]) -> Iterator[Any]:
    """The pairs one at a time, unchecked; what holds them is checked at once.

    Raises:
        TypeError: they are in no order, or an array is not of shape [n, 2].
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
    """A pair that is a value of numpy, Arrow or Polars as a list, anything else as it is."""
    if isinstance(pair, (tuple, list, str)):
        return pair
    if isinstance(pair, np.ndarray):
        return pair.tolist() if pair.ndim == 1 else pair
    for convert in ("as_py", "to_list"):
        if hasattr(type(pair), convert):
            return getattr(pair, convert)()
    return pair


def each(source: Iterable[Any], name: str, what: str) -> Iterator[Any]:
    """The items of whatever holds texts or pairs in an order.

    Raises:
        TypeError: it holds none, or not in an order.
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
    """Why the items of something are not the texts or pairs that it stands for, and what to pass; empty if they are."""
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
