"""What is put before a text, and what is no text."""

from typing import Any

import pytest

from quoit import InputError
from quoit.prompts import DEFAULT_TASK, check_text, document_prompt, query_prompt, render

CHECKPOINTS_OWN = {"query": "search: ", "document": "passage: "}
OFFICIAL = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"  # no space after it
)


def test_the_default_query_prompt_is_the_model_cards() -> None:
    assert query_prompt({}, None) == OFFICIAL
    assert query_prompt({}, DEFAULT_TASK) == OFFICIAL


def test_the_checkpoints_query_prompt_comes_before_the_default() -> None:
    assert query_prompt(CHECKPOINTS_OWN, None) == "search: "
    assert query_prompt({"query": ""}, None) == "", "an empty prompt is a prompt"


def test_an_instruction_comes_before_the_checkpoints_prompt() -> None:
    assert query_prompt(CHECKPOINTS_OWN, "Find a rhyme") == "Instruct: Find a rhyme\nQuery:"
    assert query_prompt({}, "") == "Instruct: \nQuery:"


@pytest.mark.parametrize("instruction", ["{query}", "{", "100 %s {0}", "a\nb", "日本語"])
def test_an_instruction_is_taken_literally(instruction: str) -> None:
    assert query_prompt({}, instruction) == f"Instruct: {instruction}\nQuery:"


def test_an_instruction_that_is_no_text_is_refused() -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match="instruction is int 5, not str"):
        query_prompt({}, wrong)
    with pytest.raises(InputError, match=r"instruction has the lone surrogate '\\udfff' at position 1"):
        query_prompt({}, "x\udfff")


def test_documents_have_no_prompt_unless_the_checkpoint_has_one() -> None:
    assert document_prompt({}) == ""
    assert document_prompt({"query": "search: "}) == ""
    assert document_prompt(CHECKPOINTS_OWN) == "passage: "
    assert document_prompt({"passage": "p: "}) == "p: "
    assert document_prompt({"passage": "p: ", "document": "d: "}) == "d: "


def test_the_prompt_stands_before_each_text() -> None:
    assert list(render("Q:", ["a", "", " b"])) == ["Q:a", "Q:", "Q: b"]
    assert list(render("", iter(["a"]))) == ["a"]


def test_texts_are_rendered_one_at_a_time() -> None:
    texts = render("Q:", ["a", 5])  # type: ignore[list-item]
    assert next(texts) == "Q:a"
    with pytest.raises(TypeError, match="text 1 is int 5, not str; convert it to a string first"):
        next(texts)


def test_what_is_not_text_is_shown_shortened() -> None:
    with pytest.raises(TypeError) as caught:
        check_text(b"x" * 10_000, "text 3")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["", "\x00", "\ufffe", "😀", "\u2028"])
def test_every_text_that_utf8_can_represent_is_itself(text: str) -> None:
    assert check_text(text, "text 0") == text
