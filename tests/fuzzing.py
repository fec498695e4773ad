"""Property tests that say how many cases they have, and prove it; and hostile values for them.

`QUOIT_FUZZ_SEED=5 pytest tests/hostile` repeats the cases of seed 5.
"""

import copy
import functools
import json
import os
from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

SEED_VARIABLE = "QUOIT_FUZZ_SEED"

DECLARED: dict[tuple[str, str], int] = {}
"""The cases of every fuzz test that was imported, by its file and name."""

PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink)


def fuzz(cases: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Runs a test made by `hypothesis.given` on so many cases, and fails it when fewer were run to their end."""

    def decorate(given: Any) -> Callable[..., None]:
        inner = given.hypothesis.inner_test
        DECLARED[inner.__code__.co_filename, inner.__qualname__] = cases
        executed = 0

        @functools.wraps(inner)
        def counted(*arguments: Any, **keywords: Any) -> None:
            nonlocal executed
            inner(*arguments, **keywords)
            executed += 1

        given.hypothesis.inner_test = counted
        seed = os.environ.get(SEED_VARIABLE)
        seeded = given if seed is None else hypothesis.seed(int(seed))(given)
        configured = settings(
            max_examples=cases,
            deadline=None,
            database=None,
            derandomize=False,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
        )(seeded)

        @functools.wraps(given)
        def test(*arguments: Any, **keywords: Any) -> None:
            nonlocal executed
            executed = 0
            if seed is not None:
                print(f"{SEED_VARIABLE}={seed}")  # noqa: T201
            configured(*arguments, **keywords)
            assert executed >= cases, f"{executed} of {cases} cases were run: widen the strategy"

        return test

    return decorate


ODD_CHARACTERS = "\0\t\n\r\x0b\x1a\x1b\x7f\x85\xa0\xad\u0301\u200b\u200d\u202e\u2028\ufeff\ufffd\uffff😀🏳中가각ﬁßİıȺ"
SURROGATES = "\ud800\udbff\udc00\udfff"

TEXTS = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from(ODD_CHARACTERS)), max_size=30)
"""Any text that UTF-8 can represent."""

ANY_STRINGS = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from(ODD_CHARACTERS), st.sampled_from(SURROGATES)), max_size=30
)
"""Any string of Python, lone surrogates included."""

NO_STRINGS: st.SearchStrategy[object] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.binary(max_size=20),
    st.lists(ANY_STRINGS, max_size=3),
    st.tuples(TEXTS, TEXTS),
    st.dictionaries(TEXTS, st.integers(), max_size=3),
    st.sampled_from([object(), str, ..., bytearray(b"a"), range(3)]),
)
"""Anything that is no string."""

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([-1, 0, 1, 2**31, 2**63, 2**64, 10**400]),
        st.floats(),
        TEXTS,
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=6,
)
"""Anything that `json.loads` may give, NaN and infinity included."""


@st.composite
def mutated_json(draw: st.DrawFn, original: Any, values: st.SearchStrategy[Any] = JSON_VALUES) -> Any:
    """A JSON document with one to three of its values replaced, removed or moved to another key."""
    document = json.loads(json.dumps(original))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            return draw(values)
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.integers(0, 5)), holder:
            case 0, _:
                del holder[key]
            case 1, dict():
                holder[draw(TEXTS)] = holder.pop(key)
            case _:
                holder[key] = copy.deepcopy(draw(values))
    return document


def _places(document: Any) -> Any:
    """Every value in a JSON document, as what holds it and its key or index there."""
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(entries):
        yield document, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes with some bits flipped, cut short, grown, or with a part overwritten, lost or repeated; never the same."""
    found = bytearray(content)
    while bytes(found) == content:
        start = draw(st.integers(0, max(len(found) - 1, 0)))
        size = draw(st.integers(1, 32))
        match draw(st.sampled_from(["flip", "flip", "flips", "cut", "grow", "overwrite", "lose", "repeat"])):
            case "flip" if found:
                found[start] ^= 1 << draw(st.integers(0, 7))
            case "flips" if found:
                for place in draw(st.lists(st.integers(0, len(found) - 1), min_size=2, max_size=12)):
                    found[place] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del found[start:]
            case "lose":
                del found[start : start + size]
            case "repeat":
                found[start:start] = found[start : start + size]
            case "overwrite":
                found[start : start + size] = draw(st.binary(min_size=1, max_size=size))
            case _:
                found += draw(st.binary(min_size=1, max_size=size))
    return bytes(found)
