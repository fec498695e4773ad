"""Texts, prompts and pairs: what is a text passes unchanged, and what is none is refused by its name."""

import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import ANY_STRINGS, NO_STRINGS, TEXTS, fuzz
from quoit.errors import InputError
from quoit.text.prompts import Prompt, check_text, check_texts, query_prompt, render_pairs

ANYTHING = TEXTS | ANY_STRINGS | NO_STRINGS


def is_text(value: object) -> bool:
    """Whether something is a string without lone surrogates."""
    return isinstance(value, str) and not any(0xD800 <= ord(character) <= 0xDFFF for character in value)


def refusal_of(value: object) -> type[Exception]:
    """The error that something which is no text deserves."""
    return InputError if isinstance(value, str) else TypeError


@fuzz(4000)
@given(ANYTHING)
def test_a_text_is_itself_and_anything_else_is_refused_by_name(value: object) -> None:
    if is_text(value):
        assert check_text(value, "text 7") is value
        return
    with pytest.raises(refusal_of(value), match="text 7 ") as caught:
        check_text(value, "text 7")
    assert len(str(caught.value)) < 400


@fuzz(1500)
@given(TEXTS, st.lists(ANYTHING, max_size=6))
def test_texts_stand_behind_their_prompt_until_the_first_that_is_none(prompt: str, values: list[Any]) -> None:
    good = next((index for index, value in enumerate(values) if not is_text(value)), len(values))
    found: list[str] = []
    if good == len(values):
        found.extend(Prompt(prompt).render(check_texts(values)))
    else:
        with pytest.raises(refusal_of(values[good]), match=rf"text {good} "):
            found.extend(Prompt(prompt).render(check_texts(values)))
    assert found == [prompt + value for value in values[:good]]


@fuzz(1500)
@given(ANYTHING, st.lists(st.tuples(TEXTS, TEXTS) | st.tuples(ANYTHING, ANYTHING) | NO_STRINGS | TEXTS, max_size=4))
def test_pairs_are_three_labelled_fields_until_the_first_that_is_none(instruction: Any, values: list[Any]) -> None:
    def is_pair(value: object) -> bool:
        return isinstance(value, (tuple, list)) and len(value) == 2 and all(map(is_text, value))

    found: list[str] = []
    good = next((index for index, value in enumerate(values) if not is_pair(value)), len(values))
    if not is_text(instruction):
        with pytest.raises(refusal_of(instruction), match="instruction "):
            next(render_pairs(values, instruction, "\n"))
        return
    if good == len(values):
        found.extend(render_pairs(values, instruction, "\n"))
    else:
        with pytest.raises((TypeError, InputError), match=rf"pair {good} "):
            found.extend(render_pairs(values, instruction, "\n"))
    assert found == [f"<Instruct>: {instruction}\n<Query>: {pair[0]}\n<Document>: {pair[1]}" for pair in values[:good]]


@fuzz(1000)
@given(ANYTHING.filter(lambda value: value is not None))
def test_an_instruction_is_taken_to_the_letter_or_refused(instruction: Any) -> None:
    """Braces and percent signs mean nothing in it."""
    if is_text(instruction):
        assert query_prompt({}, instruction).text == "Instruct: " + instruction + "\nQuery:"
    else:
        with pytest.raises(refusal_of(instruction), match="instruction "):
            query_prompt({}, instruction)


@fuzz(300)
@given(ANYTHING)
def test_an_unknown_separator_is_refused(separator: Any) -> None:
    if isinstance(separator, str) and separator in ("\n", "\n\n"):
        known: Any = separator
        assert list(render_pairs([], "", known)) == []
    else:
        with pytest.raises(InputError, match="separator"):
            list(render_pairs([], "", separator))


@pytest.mark.parametrize("kind", ["long integer", "deep list"])
def test_what_python_cannot_show_is_refused_by_its_index_too(kind: str) -> None:
    """Some values have no `repr`."""
    deep: list[Any] = functools.reduce(lambda inner, _: [inner], range(100_000), [])
    texts: list[Any] = ["a", 10**5000 if kind == "long integer" else deep]
    with pytest.raises(TypeError, match="text 1 "):
        list(check_texts(texts))
    with pytest.raises(TypeError, match="pair 1 "):
        list(render_pairs([("a", "b"), texts[1]], "", "\n"))
