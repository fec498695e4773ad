"""What is put before a text, and what is no text."""

from typing import Any

import pytest

from quoit import InputError
from quoit.text.prompts import (
    DEFAULT_TASK,
    RERANK_PREFIX,
    RERANK_SUFFIX,
    Prompt,
    check_text,
    check_texts,
    document_prompt,
    plain_prompt,
    query_prompt,
    render_pairs,
)

CHECKPOINTS_OWN = {"query": "search: ", "document": "passage: "}
OFFICIAL = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"  # no space after it
)


def test_the_default_query_prompt_is_the_model_cards() -> None:
    assert query_prompt({}, None).text == OFFICIAL
    assert query_prompt({}, DEFAULT_TASK).text == OFFICIAL


def test_the_checkpoints_query_prompt_comes_before_the_default() -> None:
    assert query_prompt(CHECKPOINTS_OWN, None).text == "search: "
    assert query_prompt({"query": ""}, None).text == "", "an empty prompt is a prompt"


def test_an_instruction_comes_before_the_checkpoints_prompt() -> None:
    assert query_prompt(CHECKPOINTS_OWN, "Find a rhyme").text == "Instruct: Find a rhyme\nQuery:"
    assert query_prompt({}, "").text == "Instruct: \nQuery:"


@pytest.mark.parametrize("instruction", ["{query}", "{", "100 %s {0}", "a\nb", "日本語"])
def test_an_instruction_is_taken_literally(instruction: str) -> None:
    assert query_prompt({}, instruction).text == f"Instruct: {instruction}\nQuery:"


def test_an_instruction_that_is_no_text_is_refused() -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match="instruction is int 5, not str"):
        query_prompt({}, wrong)
    with pytest.raises(InputError, match=r"instruction has the lone surrogate '\\udfff' at position 1"):
        query_prompt({}, "x\udfff")


def test_other_texts_have_no_prompt_unless_the_checkpoint_names_a_default() -> None:
    assert plain_prompt({}, None).text == ""
    assert plain_prompt(CHECKPOINTS_OWN, None).text == ""
    assert plain_prompt(CHECKPOINTS_OWN, "document").text == "passage: "
    assert plain_prompt(CHECKPOINTS_OWN, "lost").text == "", "as sentence-transformers' own look-up"


def test_documents_have_no_prompt_unless_the_checkpoint_has_one() -> None:
    assert document_prompt({}).text == ""
    assert document_prompt({"query": "search: "}).text == ""
    assert document_prompt(CHECKPOINTS_OWN).text == "passage: "
    assert document_prompt({"passage": "p: "}).text == "p: "
    assert document_prompt({"passage": "p: ", "document": "d: "}).text == "d: "


def test_the_prompt_stands_before_each_text() -> None:
    assert list(Prompt("Q:").render(["a", "", " b"])) == ["Q:a", "Q:", "Q: b"]
    assert list(Prompt().render(iter(["a"]))) == ["a"]


def test_texts_are_checked_one_at_a_time() -> None:
    texts = check_texts(["a", 5])
    assert next(texts) == "a"
    with pytest.raises(TypeError, match="text 1 is int 5, not str; convert it to a string first"):
        next(texts)


def test_the_rerank_template_is_the_model_cards() -> None:
    """Model card, Qwen/Qwen3-Reranker-0.6B."""
    assert RERANK_PREFIX == (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    )
    assert RERANK_SUFFIX == "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def test_a_pair_is_three_labelled_fields_the_document_last() -> None:
    (found,) = render_pairs([("a query", "a document")], "judge", "\n")
    assert found == "<Instruct>: judge\n<Query>: a query\n<Document>: a document"
    (found,) = render_pairs([("a query", "a document")], "judge", "\n\n")
    assert found == "<Instruct>: judge\n\n<Query>: a query\n\n<Document>: a document"
    assert list(render_pairs([("", "")], "", "\n")) == ["<Instruct>: \n<Query>: \n<Document>: "]


def test_a_pairs_texts_are_taken_literally() -> None:
    (found,) = render_pairs([("{query}", "%s {0} <Query>: ")], "{", "\n")
    assert found == "<Instruct>: {\n<Query>: {query}\n<Document>: %s {0} <Query>: "


def test_pairs_are_rendered_one_at_a_time() -> None:
    texts = render_pairs([("a", "b"), ("a", 5)], "judge", "\n")  # type: ignore[list-item]
    assert next(texts) == "<Instruct>: judge\n<Query>: a\n<Document>: b"
    with pytest.raises(TypeError, match="the document of pair 1 is int 5, not str"):
        next(texts)


@pytest.mark.parametrize("pair", ["ab", ("a",), ("a", "b", "c"), 5, None, {"a", "b"}])
def test_what_is_no_pair_is_named_by_its_index(pair: Any) -> None:
    """A string of two letters is no pair of letters."""
    texts = render_pairs([("a", "b"), pair], "judge", "\n")
    next(texts)
    with pytest.raises(TypeError, match=r"pair 1 is \w+ .*; make it \(query, document\)"):
        next(texts)


def test_a_pair_may_be_a_list() -> None:
    assert list(render_pairs([["a", "b"]], "", "\n")) == list(render_pairs([("a", "b")], "", "\n"))  # type: ignore[list-item]


def test_a_lone_surrogate_in_a_pair_names_its_field() -> None:
    for pair, name in ((("x\ud800", "b"), "query"), (("a", "x\ud800"), "document")):
        with pytest.raises(InputError, match=rf"the {name} of pair 0 has the lone surrogate '\\ud800' at position 1"):
            next(render_pairs([pair], "judge", "\n"))
    with pytest.raises(InputError, match="instruction has the lone surrogate"):
        next(render_pairs([("a", "b")], "\udfff", "\n"))


def test_an_unknown_separator_is_refused() -> None:
    wrong: Any = "\t"
    with pytest.raises(InputError, match=r"separator '\\t' is unknown; choose one of"):
        next(render_pairs([("a", "b")], "judge", wrong))


def test_what_is_not_text_is_shown_shortened() -> None:
    with pytest.raises(TypeError) as caught:
        check_text(b"x" * 10_000, "text 3")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["", "\x00", "\ufffe", "😀", "\u2028"])
def test_every_text_that_utf8_can_represent_is_itself(text: str) -> None:
    assert check_text(text, "text 0") == text
