"""Values that differ have another hash, and the same values have the same one in every process."""

import os
import re
import subprocess
import sys
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quoit.fingerprint import digest

APART: list[tuple[object, ...]] = [
    (),
    (None,),
    ([],),
    ({},),
    ("",),
    (b"",),
    (0,),
    (False,),
    (0.0,),
    (-0.0,),
    ("0",),
    (1,),
    (True,),
    (1.0,),
    ("1",),
    (b"1",),
    ("None",),
    ("True",),
    (float("nan"),),
    (float("inf"),),
    (float("-inf"),),
    ("nan",),
    (0.1,),
    (np.nextafter(0.1, 1).item(),),
    ("a", 1),
    ("a", "1"),
    ("a1",),
    (["a", 1],),
    (1, "a"),
    ("a", 1, None),
    ("a", [1]),
    ([["a"], 1],),
    ([["a", 1]],),
    ("ab", "c"),
    ("a", "bc"),
    ("a', 'b",),
    ("a", "b"),
    ({"a": 1},),
    ({"a": "1"},),
    ({"a": None},),
    ({"a": {}},),
    ([["a", 1]], 0),
    ({"a": 1, "b": 2},),
    ({"a": 2, "b": 1},),
    (["a", 1, "b", 2],),
]

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def typed(value: Any) -> Any:
    """The value with the types of all that is in it, so that `==` tells 1, 1.0 and True apart."""
    if isinstance(value, list | tuple):
        return "list", [typed(one) for one in value]
    if isinstance(value, dict):
        return "dict", {key: typed(one) for key, one in value.items()}
    return type(value).__name__, value.hex() if isinstance(value, float) else value


def test_values_of_another_type_grouping_or_order_are_told_apart() -> None:
    for one, other in combinations(APART, 2):
        assert digest(*one) != digest(*other), (one, other)


@given(PLAIN, PLAIN)
def test_a_digest_is_the_same_only_for_the_same_values(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) == (typed(one) == typed(other))


def test_a_digest_is_a_sha256() -> None:
    assert re.fullmatch("[0-9a-f]{64}", digest())


def test_the_order_of_keys_does_not_count() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})


def test_a_tuple_is_as_good_as_a_list() -> None:
    assert digest(("a", (1, 2))) == digest(["a", [1, 2]])


def test_a_digest_does_not_depend_on_the_process() -> None:
    """As a hash of strings does, or the order of a set."""
    values = '"a", {"b": [1, 2.5, None], "a": b"c"}'
    code = f"from quoit.fingerprint import digest; print(digest({values}))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {digest("a", {"b": [1, 2.5, None], "a": b"c"}) + "\n"}


@pytest.mark.parametrize("value", [np.zeros(3), np.float32(1), np.int64(1), {1: 2}, object(), digest])
def test_what_has_no_encoding_is_refused(value: object) -> None:
    """An array's repr leaves its middle out."""
    with pytest.raises(TypeError):
        digest(value)


def test_a_large_array_as_lists_counts_with_every_value() -> None:
    array = np.zeros((2, 4096), np.float32)
    changed = array.copy()
    changed[0, 2048] = 1e-30
    assert repr(array) == repr(changed)
    assert digest(array.tolist()) != digest(changed.tolist())
