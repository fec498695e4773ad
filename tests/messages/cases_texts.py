"""Errors of texts and pairs that are passed in Python."""

from typing import Any, cast

import numpy as np
import pyarrow

from messages.harness import LONG, Case
from messages.triggers import encode, predict
from quoit import InputError


class Nameless:
    """Something whose repr is Python's own."""


CASES = [
    Case(
        "documents that are one string",
        lambda world: world.reranker().rank("query", "one string"),
        TypeError,
        "'one string'",
        "put it into a list",
    ),
    Case("a text that is a number", encode(["a", 5]), TypeError, "text 1 is int 5", "convert it to a string"),
    Case("a text that is long bytes", encode([LONG.encode()]), TypeError, "text 0 is bytes b'xxx", "convert it"),
    Case("a text that is a matrix", encode([np.eye(3)]), TypeError, "text 0 is ndarray array(", "convert it"),
    Case("a text that is an object", encode([Nameless()]), TypeError, "text 0 is Nameless", "convert it to a string"),
    Case("a text with half a character", encode("a\ud800"), InputError, "'\\ud800' at position 1", 'errors="replace"'),
    Case("an unknown separator", predict(("a", "b"), separator=" "), InputError, "separator ' '", "choose one of"),
    Case("a pair that is one string", predict("alone"), TypeError, "str 'alone'", "make it (query, document)"),
    Case("a pair of three", predict(("a", "b"), ("a", "b", "c")), TypeError, "pair 1", "make it (query, document)"),
    Case("a pair that is a matrix", predict(np.eye(3)), TypeError, "pair 0 is ndarray", "make it (query, document)"),
    Case(
        "a document without a text",
        lambda world: world.reranker().rank("query", ["a", None]),  # type: ignore[list-item]
        TypeError,
        "document 1 is NoneType None",
        "leave out missing values",
    ),
    Case("a document that is None", predict(("a", None)), TypeError, "document of pair 0 is NoneType", "leave out"),
    Case("a text that is NaN", encode(["a", np.nan]), TypeError, "text 1 is float nan", "leave out missing values"),
    Case("a mapping of texts", encode({"id": "a"}), TypeError, "texts is dict", "pass list(texts.values())"),
    Case("a set of texts", encode({"a"}), TypeError, "texts is set", "pass a list, such as sorted(texts)"),
    Case("a table of texts", encode(pyarrow.table({"text": ["a"]})), TypeError, "texts is Table", "table['text']"),
    Case("texts that are bytes", encode(b"a"), TypeError, "texts is bytes", "decode it"),
    Case("texts that are a number", encode(5), TypeError, "texts is int 5", "pass a list of them"),
    Case("a matrix of texts", encode(np.array([["a"]])), TypeError, "shape (1, 1)", "array[:, 0]"),
    Case("a text in an array of none", encode(np.array("a")), TypeError, "shape ()", "array.item() for one text"),
    Case(
        "a stream of one string",
        lambda world: world.embedder().encode_stream("abc"),
        TypeError,
        "texts is one string, 'abc'",
        "put it into a list",
    ),
    Case(
        "pairs that are one string",
        lambda world: world.reranker().predict(cast("Any", "query")),
        TypeError,
        "pairs is one string, 'query'",
        "make it [(query, document), ...]",
    ),
    Case(
        "pairs that are triples",
        lambda world: world.reranker().predict(np.full((4, 3), "a")),
        TypeError,
        "shape (4, 3)",
        "make it [n, 2]",
    ),
]
