"""Texts to ids: the end token, truncation, special tokens as plain text, and tokenizers that do not fit."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from quoit import ArtifactError, InputError
from quoit.artifact import FORMAT, TOKENIZER, Costs, EmbeddingContract, Family, FileRecord, Manifest, Source
from quoit.text.tokenizer import TextTokenizer, Truncation
from quoit_export.verify.parity import parity_texts
from qwen3_tokenizer import PLAIN_ADDED_TOKENS, SPECIAL_TOKENS

END = 151_643
VOCABULARY = 151_669
SPECIAL_IDS = range(END, END + len(SPECIAL_TOKENS))


def make_manifest(end_token_id: int = END, vocab_size: int = VOCABULARY) -> Manifest:
    """As much of an embedding model's manifest as a tokenizer is checked against."""
    return Manifest(
        format=FORMAT,
        created_by="a test",
        contract=EmbeddingContract(prompts={}, end_token_id=end_token_id, min_dim=1),
        dimension=8,
        pooling="last",
        max_tokens=32_768,
        vocab_size=vocab_size,
        costs=Costs(1, 1, 1, 1, products=((8, 8),), position_values=1),
        family=Family("none", {}),
        tokenizer=FileRecord(TOKENIZER, 0, "0" * 64),
        source=Source("none", None, "0" * 64),
        variants={},
    )


def load(
    file: Path, *, max_tokens: int | None = None, end_token_id: int = END, vocab_size: int = VOCABULARY
) -> TextTokenizer:
    return TextTokenizer.load(file, make_manifest(end_token_id, vocab_size), max_tokens=max_tokens)


def ids(tokenizer: TextTokenizer, texts: list[str]) -> list[list[int]]:
    """The ids of each text."""
    return [row.tolist() for row in tokenizer.encode(texts).ids]


@pytest.fixture(scope="module")
def text_tokenizer(tokenizer_file: Path) -> TextTokenizer:
    return load(tokenizer_file)


@pytest.fixture(scope="module")
def reference(tokenizer_file: Path) -> Any:
    """transformers' tokenizer of the same file."""
    make: Any = PreTrainedTokenizerFast
    return make(tokenizer_file=str(tokenizer_file))


def test_every_text_ends_in_the_end_token_once(text_tokenizer: TextTokenizer) -> None:
    rows = ids(text_tokenizer, ["", " ", "gravity", *parity_texts()])
    assert all(row[-1] == END and row.count(END) == 1 for row in rows)


def test_the_empty_text_is_the_end_token_alone(text_tokenizer: TextTokenizer) -> None:
    assert ids(text_tokenizer, [""]) == [[END]]
    assert ids(text_tokenizer, []) == []


def test_the_ids_are_those_of_transformers(text_tokenizer: TextTokenizer, reference: Any) -> None:
    texts = parity_texts()
    assert ids(text_tokenizer, texts) == reference(texts)["input_ids"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n\n",
        "a\tb\r\nc",
        "\x00\x7f",
        "\u200b\ufeff",
        "e\u0301",
        "👩‍👩‍👧‍👦",
        "I'll say 12,345.67",
        "x" * 300,
        "\u2028",
    ],
)
def test_odd_characters_are_those_of_transformers(text_tokenizer: TextTokenizer, reference: Any, text: str) -> None:
    assert ids(text_tokenizer, [text]) == [reference(text)["input_ids"]]


def test_batches_do_not_change_ids(text_tokenizer: TextTokenizer) -> None:
    texts = parity_texts()
    assert ids(text_tokenizer, texts) == [ids(text_tokenizer, [text])[0] for text in texts]


@pytest.mark.parametrize("max_tokens", [2, 8])
def test_truncation_keeps_the_end_token_and_counts(
    tokenizer_file: Path, text_tokenizer: TextTokenizer, max_tokens: int
) -> None:
    texts = [" ".join(["one"] * words) for words in range(12)]
    whole, cut = ids(text_tokenizer, texts), load(tokenizer_file, max_tokens=max_tokens)
    assert [len(row) for row in whole] == list(range(1, 13))
    assert text_tokenizer.encode(texts).truncation == Truncation()
    expected = [row if len(row) <= max_tokens else [*row[: max_tokens - 1], END] for row in whole]
    assert ids(cut, texts) == expected
    lost = [len(row) - max_tokens for row in whole if len(row) > max_tokens]
    assert cut.encode(texts).truncation == Truncation(len(lost), sum(lost), max(lost))
    assert len(lost) == 12 - max_tokens


@pytest.mark.parametrize("most", [2, 8, 9, 10, 16])
def test_a_call_may_cut_shorter_than_the_tokenizer_and_counts_from_the_whole_text(
    tokenizer_file: Path, most: int
) -> None:
    """The longest text is beyond the tokenizer's own limit of 16 too."""
    texts = ["", "one two three four five six seven eight", "one two three four five six seven eight nine", "a " * 99]
    tokenizer, shorter = load(tokenizer_file, max_tokens=16), load(tokenizer_file, max_tokens=most)
    found, expected = tokenizer.encode(texts, most), shorter.encode(texts)
    assert [row.tolist() for row in found.ids] == [row.tolist() for row in expected.ids]
    assert (found.truncation.texts, found.truncation.tokens) == (expected.truncation.texts, expected.truncation.tokens)
    assert [len(row) for row in tokenizer.encode(texts[1:3]).ids] == [9, 10]


def test_a_text_is_cut_to_its_first_tokens(text_tokenizer: TextTokenizer) -> None:
    text = "one two three"
    assert [text_tokenizer.cut(text, most) for most in (1, 2, 3, 4)] == ["one", "one two", text, text]


def test_what_was_cut_is_said_in_words() -> None:
    both = Truncation(1, 10, 10) + Truncation(2, 1500, 1200)
    assert both == Truncation(3, 1510, 1200)
    assert both.describe(512) == "3 cut to 512 tokens, by 1,200 at most and 1,510 in all"
    assert Truncation().describe(512) == ""


def test_what_was_lost_of_a_text_that_was_not_read_to_its_end_is_a_lower_bound() -> None:
    found = Truncation(1, 10, 10) + Truncation(2, 1500, 1200, partly_read=True)
    assert found == Truncation(1, 10, 10, partly_read=True) + Truncation(2, 1500, 1200)
    assert found.describe(512) == "3 cut to 512 tokens, the longest by at least 1,200 and all by at least 1,510"


def test_a_text_too_long_to_be_read_whole_has_the_ids_of_its_beginning(
    tokenizer_file: Path, text_tokenizer: TextTokenizer
) -> None:
    """No token has more characters than the vocabulary's longest, so the rest cannot matter."""
    short = load(tokenizer_file, max_tokens=4)
    assert short.max_characters == 4 * 128 == 4 * max(map(len, short.tokenizer.get_vocab()))
    text = "word " * 10_000
    assert len(text) > short.max_characters
    assert ids(short, [text]) == [[*ids(text_tokenizer, [text])[0][:3], END]]
    assert short.encode([text]).truncation.partly_read
    assert not short.encode([text[: short.max_characters]]).truncation.partly_read


@pytest.mark.parametrize("max_tokens", [1, 0, -1, 32_769, True, 5.0])
def test_max_tokens_out_of_bounds_is_refused(tokenizer_file: Path, max_tokens: Any) -> None:
    with pytest.raises(InputError, match=rf"max_tokens {max_tokens} must be a whole number from 2 to 32768; 1 of them"):
        load(tokenizer_file, max_tokens=max_tokens)


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_special_tokens_in_a_text_are_plain_text(
    text_tokenizer: TextTokenizer, tokenizer: Tokenizer, token: str
) -> None:
    for text in (token, f"before {token} after", token * 3):
        (row,) = ids(text_tokenizer, [text])
        assert not set(row[:-1]) & set(SPECIAL_IDS)
        assert row[-1] == END
        assert tokenizer.decode(row[:-1]) == text


def test_special_tokens_are_split_as_by_transformers(text_tokenizer: TextTokenizer, reference: Any) -> None:
    texts = [f"<|im_start|>user\n{token}<|im_end|>\n" for token in SPECIAL_TOKENS]
    assert ids(text_tokenizer, texts) == reference(texts, split_special_tokens=True)["input_ids"]


@pytest.mark.parametrize(("number", "token"), list(enumerate(PLAIN_ADDED_TOKENS, SPECIAL_IDS.stop)))
def test_added_tokens_that_are_not_special_stay_single(text_tokenizer: TextTokenizer, token: str, number: int) -> None:
    assert ids(text_tokenizer, [token]) == [[number, END]]
    assert ids(text_tokenizer, [f"x{token}y"])[0].count(number) == 1


def test_texts_are_normalised_to_nfc(text_tokenizer: TextTokenizer) -> None:
    composed, decomposed = ids(text_tokenizer, ["caf\u00e9 \uac00", "cafe\u0301 \u1100\u1161"])
    assert composed == decomposed
    ligature, letters = ids(text_tokenizer, ["\ufb01", "fi"])
    assert ligature != letters, "NFC, not NFKC"


def changed_file(tokenizer_file: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a tokenizer.json with its JSON changed in place."""
    found = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    change(found)
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(found), encoding="utf-8")
    return file


@pytest.mark.parametrize("content", [b"", b"not JSON", b"{}", b"\xff\xfe\x00", b'{"version": "1.0", "model": null}'])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{re.escape(str(file))} is no readable tokenizer"):
        load(file)


def test_half_a_file_is_refused_by_name(tmp_path: Path, tokenizer_file: Path) -> None:
    file = tmp_path / "tokenizer.json"
    content = tokenizer_file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match=f"{re.escape(str(file))} is no readable tokenizer"):
        load(file)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=re.escape(str(tmp_path / "absent.json"))):
        load(tmp_path / "absent.json")


def test_another_models_end_token_is_refused(tmp_path: Path, tokenizer_file: Path) -> None:
    other = Tokenizer.from_file(str(tokenizer_file))
    end = ("<|im_end|>", other.token_to_id("<|im_end|>"))
    other.post_processor = processors.TemplateProcessing(single="$A <|im_end|>", special_tokens=[end])
    file = tmp_path / "tokenizer.json"
    other.save(str(file))
    with pytest.raises(ArtifactError, match=rf"{re.escape(str(file))} appends \[151645\].*expects \[151643\]"):
        load(file)


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path: Path, tokenizer_file: Path) -> None:
    file = changed_file(tokenizer_file, tmp_path, lambda found: found.update(post_processor=None))
    with pytest.raises(ArtifactError, match=rf"{re.escape(str(file))} appends \[\]"):
        load(file)


def test_more_ids_than_the_vocabulary_are_refused(tokenizer_file: Path) -> None:
    assert load(tokenizer_file, vocab_size=VOCABULARY).encode(["a"]).ids
    with pytest.raises(ArtifactError, match=rf"{re.escape(str(tokenizer_file))}.*ids up to 151668.*below 151668"):
        load(tokenizer_file, vocab_size=VOCABULARY - 1)


def test_an_id_beyond_the_vocabulary_is_refused_wherever_it_is(tmp_path: Path, tokenizer_file: Path) -> None:
    """The largest id decides, not the number of tokens: ids may have gaps."""

    def move(found: dict[str, Any]) -> None:
        found["model"]["vocab"]["Ġgravity"] = 1_000_000

    file = changed_file(tokenizer_file, tmp_path, move)
    with pytest.raises(ArtifactError, match=rf"{re.escape(str(file))}.*1000000"):
        load(file)
