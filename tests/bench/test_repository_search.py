"""The questions about the repository can be answered, and an answer is a passage of the right file."""

import json
import re
from typing import Any

import pytest

from bench.record import ROOT
from bench.studies import repository_search
from bench.studies.repository_search import QUESTIONS, answers, ask
from bench.studies.tables import repository_table

WANTED: list[dict[str, Any]] = json.loads(QUESTIONS.read_text(encoding="utf-8"))["questions"]


@pytest.mark.parametrize("wanted", WANTED, ids=lambda wanted: str(wanted["question"]))
def test_every_file_that_answers_is_there_and_has_the_words(wanted: dict[str, Any]) -> None:
    for file in wanted["files"]:
        assert re.search(wanted["pattern"], (ROOT / file).read_text(encoding="utf-8"), re.IGNORECASE), file


def test_an_answer_is_of_the_right_file_and_has_the_words() -> None:
    wanted = {"files": ["a.md"], "pattern": "long|cut"}
    assert answers({"file": "a.md", "text": "Texts are CUT."}, wanted)
    assert not answers({"file": "b.md", "text": "Texts are cut."}, wanted)
    assert not answers({"file": "a.md", "text": "Texts are kept."}, wanted)


def test_the_place_of_the_first_answer_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    hits = [{"file": "b.md", "text": "cut"}, {"file": "a.md", "text": "cut"}, {"file": "a.md", "text": "cut"}]
    monkeypatch.setattr(repository_search, "search", lambda question, *_: hits if question == "known" else hits[:1])
    wanted = [{"question": name, "files": ["a.md"], "pattern": "cut"} for name in ("known", "unknown")]
    found = ask(wanted, 256, [])
    assert found == {"answered": 1, "questions": 2, "places": {"known": 2, "unknown": None}}
    ways = dict.fromkeys(("chunks", "chunks, reranker", "parts", "parts, reranker"), found)
    assert repository_table({"ways": ways})[-1] == "| paragraphs, blocks of code | 1 of 2 | 1 of 2 |"
