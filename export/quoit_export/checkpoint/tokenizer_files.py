"""Read tokenizer.json and tokenizer_config.json, and check that transformers reads texts in the same way.

Some tokenizer classes of transformers 5 take only vocabulary and merges from tokenizer.json, and have a normalizer and
a pre-tokenizer of their own. A family names these classes (`TokenizerRules`). A tokenizer.json that splits texts
differently from them is refused. This module does not know about prompts or templates.
"""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from quoit.artifact import TOKENIZER, is_file
from quoit.errors import brief, shown
from quoit.text.tokenizer import load_tokenizer, refusing
from quoit_export.checkpoint.added_tokens import TOKENIZER_SETTINGS, check_added_tokens
from quoit_export.checkpoint.json_files import read_json, read_optional_json
from quoit_export.checkpoint.missing_files import explain_missing_tokenizer
from quoit_export.errors import CheckpointError
from quoit_export.known_keys import TOKENIZER_CONFIG, check_keys, only
from quoit_export.tokenizer_rules import TokenizerRules

PROBES = (
    "It's 2024; they'LL pay 1,234.50 € for 12 items.",
    "  two  spaces\tand a tab\r\n\r\nnew line \n",
    "ﬁne Ångström e\u0301tude, Ⅷ x² ½",
    "北京是中国的首都。 Привет, мир! مرحبا हिन्दी ไทย",
    "def f(x):\n    return x*2  # 👩‍👩‍👧 CamelCase snake_case UPPER",
    "a\u00a0b\u200bc…—“quoted”",
)
"""Probe texts that different normalizers and pre-tokenizers split differently."""


def read_tokenizer(folder: Path, vocab_size: int, settings: dict[str, Any], rules: TokenizerRules) -> Tokenizer:
    """Return the tokenizer, after checks of its ids and of its agreement with transformers.

    The model must have an embedding for each token id, and transformers must read texts in the same way.

    Args:
        folder: the folder of tokenizer.json.
        vocab_size: the model's number of embeddings.
        settings: the content of tokenizer_config.json.
        rules: the rules by which transformers reads the family's tokenizers.

    Raises:
        CheckpointError: tokenizer.json is missing, is damaged, belongs to another model, or is read differently by
            transformers.
    """
    file = folder / TOKENIZER
    if not is_file(file):
        raise CheckpointError(explain_missing_tokenizer(folder))
    rebuilt = (settings.get("tokenizer_class") or rules.default_class) in rules.rebuilding
    _check_model(settings, folder, rules, rebuilt=rebuilt)
    with refusing(CheckpointError, f"{file} is no readable tokenizer", "fetch it again"):
        tokenizer = load_tokenizer(file)
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= vocab_size:
        raise CheckpointError(
            f"{file} has token ids up to {largest}, but the model has {vocab_size} embeddings; they belong to "
            "different models, fetch both again from one checkpoint"
        )
    check_added_tokens(tokenizer, settings, folder, rules, rebuilt=rebuilt)
    _check_side(settings, folder)
    if rebuilt:
        _check_split(tokenizer, file, rules)
    return tokenizer


def read_tokenizer_settings(folder: Path, rules: TokenizerRules) -> dict[str, Any]:
    """Return the content of tokenizer_config.json, after a check of its keys; empty if there is no such file."""
    found = read_optional_json(folder / TOKENIZER_SETTINGS)
    known = {**TOKENIZER_CONFIG, "tokenizer_class": only(None, *rules.classes)}
    check_keys(found, known, folder / TOKENIZER_SETTINGS, rules.remedy)
    return found


def read_length_limit(settings: dict[str, Any], folder: Path) -> int | float | None:
    """Return `model_max_length` of tokenizer_config.json; transformers writes 1e30 if there is no limit."""
    found = settings.get("model_max_length")
    if found is not None and (isinstance(found, bool) or not isinstance(found, (int, float)) or not found >= 2):
        raise CheckpointError(
            f"{folder / TOKENIZER_SETTINGS} has model_max_length {shown(found)}; set it to a number of tokens, "
            "or remove it"
        )
    return found


def appended_tokens(tokenizer: Tokenizer, folder: Path) -> list[int]:
    """Return the token ids of an empty text, which the tokenizer's own post-processor adds."""
    with refusing(CheckpointError, f"{folder / TOKENIZER} encodes nothing", "fetch it again"):
        found: list[int] = tokenizer.encode("").ids
    return found


def read_end_token_id(tokenizer: Tokenizer, folder: Path) -> int:
    """Return the token id that the tokenizer's own post-processor appends to every text.

    Raises:
        CheckpointError: the tokenizer does not append exactly one token.
    """
    ids = appended_tokens(tokenizer, folder)
    with refusing(CheckpointError, f"{folder / TOKENIZER} encodes nothing", "fetch it again"):
        some = tokenizer.encode("a").ids
    if len(ids) != 1 or some[-1:] != ids:
        raise CheckpointError(
            f"{folder / TOKENIZER} appends {len(ids)} tokens to a text instead of one end token behind it; "
            "Qwen3-Embedding pools the state of an appended <|endoftext|>: use its tokenizer.json"
        )
    return int(ids[0])


def read_answer_id(tokenizer: Tokenizer, folder: Path, word: str) -> int:
    """Return the token id of an answer, which must be a single token.

    Raises:
        CheckpointError: the answer is not a single token.
    """
    with refusing(CheckpointError, f"{folder / TOKENIZER} cannot encode {word!r}", "fetch it again"):
        ids = tokenizer.encode(word, add_special_tokens=False).ids
    if len(ids) != 1:
        raise CheckpointError(
            f"{folder / TOKENIZER} makes {len(ids)} tokens of {word!r}, and a reranker answers with one; use "
            "Qwen3-Reranker's tokenizer.json"
        )
    return int(ids[0])


def _check_model(settings: dict[str, Any], folder: Path, rules: TokenizerRules, *, rebuilt: bool) -> None:
    """Refuse options of the tokenizer's model that its class in transformers lacks, and `dropout`, which is random."""
    found = read_json(folder / TOKENIZER).get("model")
    model = found if isinstance(found, dict) else {}
    for key, value in model.items():
        if (key == "dropout" or (rebuilt and key in rules.default_options)) and value:
            raise CheckpointError(
                f"{folder / TOKENIZER} sets {key} of its model to {shown(value)}, which transformers' "
                f"{settings.get('tokenizer_class') or rules.default_class} does not have; {rules.remedy}"
            )


def _check_side(settings: dict[str, Any], folder: Path) -> None:
    """Refuse a tokenizer.json whose own truncation cuts the beginning of texts; quoit cuts their end."""
    truncation = read_json(folder / TOKENIZER).get("truncation")
    direction = truncation.get("direction") if isinstance(truncation, dict) else None
    if direction == "Left" and settings.get("truncation_side") is None:
        raise CheckpointError(
            f"{folder / TOKENIZER} cuts long texts at their beginning (truncation direction 'Left'); quoit cuts their "
            "end: set its truncation to null if that is right"
        )


def _check_split(tokenizer: Tokenizer, file: Path, rules: TokenizerRules) -> None:
    """Check that normalizer and pre-tokenizer read texts as those of the class in transformers do."""
    with refusing(CheckpointError, f"{file} cannot encode a text", "fetch it again"):
        found = [tokenizer.encode(text).ids for text in PROBES]
        own = tokenizer.normalizer, tokenizer.pre_tokenizer
        rules.rebuild(tokenizer)
        wanted = [tokenizer.encode(text).ids for text in PROBES]
        tokenizer.normalizer, tokenizer.pre_tokenizer = own
    for text, one, other in zip(PROBES, found, wanted, strict=True):
        if one != other:
            raise CheckpointError(
                f"{file} splits {brief(repr(text), 60)} otherwise than transformers' {rules.default_class}, which "
                f"reads it; use {rules.owner}'s tokenizer.json, or set tokenizer_class in {TOKENIZER_SETTINGS} to "
                "TokenizersBackend if this one is right"
            )
